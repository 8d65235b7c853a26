// Producers and consumers of queues in the simulated cluster. A consumer is connected to one node at a time; what it says and hears goes
// over a wire that dies with the node.

import { BrokerError } from "../../src/base/errors.ts";
import { ProtoReader, ProtoWriter } from "../../src/base/protobuf.ts";
import type { Broker } from "../../src/broker/types.ts";
import {
  OUTCOME_ACK,
  OUTCOME_EXTEND,
  OUTCOME_NACK,
  OUTCOME_REJECT,
  OUTCOME_RELEASE,
  type ConsumeHandle,
  type Delivered,
  type SettleOutcome,
} from "../../src/broker/work/types.ts";
import { ask, type ClientParts } from "./clients.ts";
import { Violation } from "./history.ts";
import type { QueueHistory, SentMessage } from "./queue-history.ts";
import type { SimLife } from "./sim-node.ts";
import { between, pick } from "./world.ts";

const WIRE_US = 100;
const RETRY_MS = 100;
const CALL_MS = 5_000;
const KEYS = ["", "", "a", "b", "c"];
export const LEASE_MS = 2_000;
/** In the end a consumer stays with its node for longer than a lease may last (Q6). */
const PATIENT_MS = 10_000;

export type QueueKnobs = { readonly thinkMs: number; readonly bytesMax: number; readonly usesTtl: boolean };

/** One idempotent producer: one batch at a time, sent again until it is acknowledged. */
export class QueueProducer {
  private readonly id: number;
  private readonly parts: ClientParts;
  private readonly history: QueueHistory;
  private readonly knobs: QueueKnobs;
  private sequence = 0;
  private isStopping = false;
  private batch: { readonly messages: SentMessage[]; readonly records: Uint8Array } | null = null;
  lastFailure = "";

  constructor(id: number, parts: ClientParts, history: QueueHistory, knobs: QueueKnobs) {
    this.id = id;
    this.parts = parts;
    this.history = history;
    this.knobs = knobs;
  }

  get isIdle(): boolean {
    return this.batch === null;
  }

  start(): void {
    this.later(between(this.parts.random, 0, this.knobs.thinkMs * 2), () => this.next());
  }

  stop(): void {
    this.isStopping = true;
  }

  private later(delayMs: number, callback: () => void): void {
    this.parts.world.after(delayMs * 1_000, this.parts.owner, "queue producer", callback);
  }

  private next(): void {
    if (this.isStopping) return;
    const { random, pace } = this.parts;
    if (pace?.isCalm === true) {
      this.later(2_000, () => this.next());
      return;
    }
    const count = between(random, 1, 3);
    const messages = Array.from({ length: count }, (_, at): SentMessage => ({
      id: `${this.history.queue}/${this.id}/${this.sequence + at}`,
      key: pick(random, KEYS),
      priority: pick(random, [0, 0, 0, 3, 31]),
      delayMs: pick(random, [0, 0, 0, 0, 500, 2_000]),
      ttlMs: this.knobs.usesTtl ? pick(random, [0, 0, 1_500]) : 0,
      isAcked: false,
      offset: -1,
    }));
    for (const message of messages) this.history.sending(message);
    this.batch = { messages, records: encode(messages, random.below(this.knobs.bytesMax)) };
    this.send();
  }

  private send(): void {
    const batch = this.batch!;
    const { machines, random } = this.parts;
    const { sequence } = this;
    ask(
      this.parts,
      pick(random, machines),
      pick(random, [300, 2_000, CALL_MS]),
      (broker) => this.publish(broker, batch.records, batch.messages.length, sequence),
      (error, offset) => {
        if (this.batch !== batch) return;
        if (error !== null) {
          check(error, "a publish to a queue");
          this.lastFailure = error.message;
          this.later(between(random, RETRY_MS >> 1, RETRY_MS * 2), () => this.send());
          return;
        }
        batch.messages.forEach((message, at) => this.history.acknowledged(message, offset! + at));
        this.sequence += batch.messages.length;
        this.batch = null;
        this.later(between(random, 0, this.knobs.thinkMs * 2), () => this.next());
      },
    );
  }

  private publish(broker: Broker, records: Uint8Array, count: number, sequence: number): Promise<number> {
    const call = { vhost: "", topic: this.history.queue, partition: 0, partitionKey: null, direct: false, exchange: null, routingKey: "" };
    return new Promise((resolve, reject) =>
      broker.publish({ ...call, records, count, producerId: this.id, producerEpoch: 0, sequence }, (error, _partition, offset) => {
        if (error === null) resolve(offset);
        else reject(error);
      }),
    );
  }
}

type Held = { readonly id: string; readonly offset: number; readonly token: number };

/** Takes messages and does with each whatever chance wants; in the end it acknowledges all. */
export class QueueConsumer {
  private readonly name: string;
  private readonly parts: ClientParts;
  private readonly history: QueueHistory;
  private handle: ConsumeHandle | null = null;
  /** Tells what the present connection says from what an earlier one does. */
  private connection = 0;
  private isStopped = false;
  /** From now on everything is acknowledged, but for the first one: nobody speaks of that any more, so its lease has to end by itself. */
  isDiligent = false;
  private hasForgotten = false;
  private isPatient = false;

  constructor(id: number, parts: ClientParts, history: QueueHistory) {
    this.name = `${history.queue} consumer ${id}`;
    this.parts = parts;
    this.history = history;
  }

  start(): void {
    this.later(between(this.parts.random, 0, 500), () => this.connect());
  }

  stop(): void {
    this.isStopped = true;
    this.handle = null;
  }

  private later(delayMs: number, callback: () => void): void {
    const { world, owner } = this.parts;
    world.after(delayMs * 1_000, owner, "queue consumer", () => {
      if (!this.isStopped) callback();
    });
  }

  /** What a node says to a client: lost when the node is dead, or cut off from its clients. */
  private hear(life: SimLife, connection: number, callback: () => void): void {
    const { world, owner } = this.parts;
    if (life.isDead || life.machine.clientCuts > 0) return;
    world.after(WIRE_US, owner, "to consumer", () => {
      if (!this.isStopped && this.connection === connection) callback();
    });
  }

  private connect(): void {
    const { machines, random, world } = this.parts;
    const connection = ++this.connection;
    const machine = pick(random, machines);
    const { life } = machine;
    this.handle = null;
    this.later(between(random, 3_000, this.isDiligent ? 6_000 : 15_000), () => this.moveOn(life, connection));
    if (life === null || machine.broker === null || machine.clientCuts > 0) {
      this.later(RETRY_MS * 3, () => this.connect());
      return;
    }
    world.after(WIRE_US, life, "consume", () => {
      const { broker } = machine;
      if (broker === null) return;
      const open = { vhost: "", queue: this.history.queue, subscription: "" };
      broker.queues.sure(open).then(
        () => this.open(broker, life, connection),
        (error: unknown) => this.hear(life, connection, () => this.failed(error as Error)),
      );
    });
  }

  private open(broker: Broker, life: SimLife, connection: number): void {
    const { random } = this.parts;
    const call = { vhost: "", queue: this.history.queue, subscription: "", autoAck: false, leaseMs: LEASE_MS, priority: 0, direct: false };
    try {
      const handle = broker.queues.consume(call, {
        opened: () => {},
        deliver: (delivered) => {
          this.hear(life, connection, () => this.given(delivered, life, connection));
          return true;
        },
        revoked: () => {},
        drained: () => {},
        failed: (error) => this.hear(life, connection, () => this.failed(error)),
      });
      handle.credit(between(random, 1, 6), 0);
      // One whose client has gone meanwhile is closed as a broken connection is.
      if (this.connection === connection && !this.isStopped) this.handle = handle;
      else handle.close();
    } catch (error) {
      this.hear(life, connection, () => this.failed(error as Error));
    }
  }

  /** Whatever comes of it: one that hears nothing for long goes elsewhere; in a calm it stays. */
  private moveOn(life: SimLife | null, connection: number): void {
    if (this.connection !== connection) return;
    if (this.parts.pace?.isCalm === true && this.handle !== null && life?.isDead === false)
      this.later(2_000, () => this.moveOn(life, connection));
    else if (this.isDiligent && !this.isPatient) {
      this.isPatient = true;
      this.later(PATIENT_MS, () => this.moveOn(life, connection));
    } else this.leave(life, connection);
  }

  /** Goes to another node; the one it leaves hears that its connection is gone. */
  private leave(life: SimLife | null, connection: number): void {
    const { handle } = this;
    if (handle !== null && life !== null && !life.isDead && this.connection === connection)
      this.parts.world.after(WIRE_US, life, "consumer gone", () => handle.close());
    this.connect();
  }

  private failed(error: Error): void {
    check(error, "a consumer");
    this.later(RETRY_MS, () => this.connect());
  }

  private given(delivered: readonly Delivered[], life: SimLife, connection: number): void {
    const { random } = this.parts;
    for (const { firstOffset, count, timeMs, records, token, deadlineMs, deliveries } of delivered) {
      const ids = idsOf(records);
      if (ids.length !== count) throw new Violation("L1", `${this.name}: ${count} messages were given with ${ids.length} records`);
      ids.forEach((id, at) => {
        const offset = firstOffset + at;
        this.history.given({
          id,
          offset,
          token,
          attempt: deliveries,
          storedMs: timeMs,
          givenMs: deadlineMs - LEASE_MS,
          consumer: `${this.name}.${connection}`,
        });
        const thinkMs = this.isDiligent ? 1 : pick(random, [1, 10, 100, 400]);
        this.later(thinkMs, () => this.decide({ id, offset, token }, life, connection));
      });
    }
  }

  private decide(message: Held, life: SimLife, connection: number): void {
    const { random } = this.parts;
    if (this.isDiligent && !this.hasForgotten) {
      this.hasForgotten = true;
      return;
    }
    const roll = this.isDiligent ? 0 : random.below(100);
    // Some forget what they were given: the lease ends by itself.
    if (roll >= 95) this.later(LEASE_MS, () => this.regain(life, connection));
    else if (roll < 60) this.settle(message, OUTCOME_ACK, "ack", life, connection);
    else if (roll < 75) this.settle(message, OUTCOME_NACK, "nack", life, connection);
    else if (roll < 82) this.settle(message, OUTCOME_REJECT, "reject", life, connection);
    else if (roll < 88) this.settle(message, OUTCOME_RELEASE, "release", life, connection);
    else {
      this.settle(message, OUTCOME_EXTEND, "extend", life, connection);
      this.later(300, () => this.decide(message, life, connection));
    }
  }

  private settle(message: Held, outcome: SettleOutcome, name: string, life: SimLife, connection: number): void {
    const { handle, history } = this;
    const { random, world } = this.parts;
    if (handle === null || this.connection !== connection || life.isDead || life.machine.clientCuts > 0) {
      if (name !== "extend") history.unknown(message.id);
      return;
    }
    const { id, offset, token } = message;
    const wasSuperseded = history.isSuperseded(id, token);
    const delayMs = name === "nack" ? pick(random, [-1, 0, 300]) : -1;
    const settlement = { partition: 0, firstOffset: offset, count: 1, token, outcome, delayMs, leaseMs: LEASE_MS, consumer: 0 };
    // Until it is answered nobody knows.
    if (name !== "extend") history.unknown(id);
    world.after(WIRE_US, life, "settle", () =>
      handle.settle(settlement, (error, messages) =>
        this.hear(life, connection, () => {
          if (error !== null) {
            check(error, "a settlement");
            if (error.code === "LEASE_LOST") history.refused();
          } else if (messages === 1) history.settled(id, token, name, wasSuperseded);
          if (name !== "extend") this.regain(life, connection);
        }),
      ),
    );
  }

  /** Room for another one. */
  private regain(life: SimLife, connection: number): void {
    const { handle } = this;
    if (handle === null || this.connection !== connection || life.isDead) return;
    this.parts.world.after(WIRE_US, life, "credit", () => handle.credit(1, 0));
  }
}

/** What is in a queue, page by page; for the end. */
export async function idsIn(broker: Broker, queue: string, signal: AbortSignal): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (let from = 0; from >= 0;) {
    const page = await broker.queues.browse(
      { vhost: "", queue, subscription: "", partition: 0, fromOffset: from, maxMessages: 1_000 },
      signal,
    );
    for (const { records } of page.messages) for (const id of idsOf(records)) found.set(id, (found.get(id) ?? 0) + 1);
    from = page.next;
  }
  return found;
}

function check(error: Error, what: string): void {
  if (error instanceof BrokerError ? error.code === "INTERNAL" || error.code === "UNKNOWN_QUEUE" : error.message !== "no answer")
    throw new Violation("bug", `${what} ended with ${error.stack ?? error.message}`);
}

function encode(messages: readonly SentMessage[], padding: number): Uint8Array {
  const writer = new ProtoWriter(256);
  for (const { id, key, priority, delayMs, ttlMs } of messages) {
    const mark = writer.open(1);
    if (key !== "") writer.string(1, key);
    writer
      .string(2, `${id} ${"x".repeat(padding)}`)
      .uint(8, priority)
      .uint(10, delayMs)
      .uint(11, ttlMs)
      .close(mark);
  }
  return writer.finish();
}

function idsOf(records: Uint8Array): string[] {
  const ids: string[] = [];
  const reader = new ProtoReader(records);
  while (reader.next()) {
    if (reader.field !== 1) {
      reader.skip();
      continue;
    }
    const record = reader.message();
    while (record.next())
      if (record.field === 2) ids.push(record.string().split(" ", 1)[0]!);
      else record.skip();
  }
  return ids;
}
