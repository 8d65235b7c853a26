// Clients of the simulated cluster. They talk to what a node's API is given, over a wire of their own that loses the answer
// of a node that dies; every call has a deadline, and one without an answer has an unknown outcome.

import type { Broker } from "../../src/broker/types.ts";
import { BrokerError } from "../../src/base/errors.ts";
import type { Random } from "../../src/base/prng.ts";
import { History, Violation, type SentBatch } from "./history.ts";
import type { SimMachine } from "./sim-node.ts";
import { between, chance, pick, type Owner, type World } from "./world.ts";

const WIRE_US = 100;
const RETRY_MS = 100;
const CALL_MS = 5_000;
export const TOPIC = "t";

export type ClientParts = {
  readonly world: World;
  readonly machines: readonly SimMachine[];
  readonly history: History;
  /** Whose events those of clients are. */
  readonly owner: Owner;
  readonly random: Random;
  /** What all clients do at the time: in a calm only the steady ones go on. */
  readonly pace?: Pace;
  readonly note: (who: string, what: string, fields: object) => void;
};

export type Pace = { isCalm: boolean };
/** Least mean pause, in ms, of a steady client in a calm. */
const CALM_MS = 1_000;

/** Calls `done` once: with the answer, or with an error; one without a code is a lost answer. */
export function ask<T>(
  { world, owner }: ClientParts,
  machine: SimMachine,
  timeoutMs: number,
  work: (broker: Broker, signal: AbortSignal) => Promise<T>,
  done: (error: Error | null, value: T | null) => void,
): void {
  const life = machine.life;
  let isOver = false;
  const finish = (error: Error | null, value: T | null): void => {
    if (isOver) return;
    isOver = true;
    timer.cancel();
    done(error, value);
  };
  const ended = new AbortController();
  const timer = world.after(timeoutMs * 1_000, owner, "call timeout", () => {
    if (life !== null) world.after(1, life, "call ends", () => ended.abort());
    finish(new Error("no answer"), null);
  });
  const answer = (error: Error | null, value: T | null): void => {
    life?.effect("answer", "before");
    if (life?.isDead === true) return;
    if (machine.clientCuts > 0) machine.felt("answer lost");
    else world.after(WIRE_US, owner, "answer", () => finish(error, value));
    life?.effect("answer", "after");
  };
  if (machine.clientCuts > 0) {
    machine.felt("call lost");
    return;
  }
  if (life === null || machine.broker === null) {
    world.after(WIRE_US, owner, "refused", () => finish(new BrokerError("NODE_UNREACHABLE", "the node takes no calls"), null));
    return;
  }
  world.after(WIRE_US, life, "call", () => {
    const { broker } = machine;
    if (broker === null) {
      answer(new BrokerError("STOPPING", "the node takes no calls any more"), null);
      return;
    }
    work(broker, ended.signal).then(
      (value) => answer(null, value),
      (error: unknown) => answer(error as Error, null),
    );
  });
}

function check(error: Error, what: string): void {
  // The topic of the load is there all the time.
  if (error instanceof BrokerError && (error.code === "UNKNOWN_TOPIC" || error.code === "UNKNOWN_PARTITION"))
    throw new Violation("bug", `${what} was told: ${error.message}`);
  if (error instanceof BrokerError ? error.code === "INTERNAL" : error.message !== "no answer")
    throw new Violation("bug", `${what} ended with ${error.stack ?? error.message}`);
}

/** After so many batches, on average, a producer begins anew with its next epoch, as one that was replaced does. */
const EPOCH_BATCHES = 60;
/** What a producer that was replaced still sends begins with this, so that nobody else's bytes are the same. */
const LATE_SEQUENCE = 2 ** 31;

/** One idempotent producer on one partition: one batch at a time, sent again until it is acknowledged. */
export class Producer {
  readonly id: number;
  readonly partition: number;
  private readonly isSteady: boolean;
  private isResting = false;
  private readonly parts: ClientParts;
  private readonly thinkMs: number;
  private readonly bytesMax: number;
  /** Of the next batch: how many records were sent before it, and before the epoch began. */
  private sequence = 0;
  private epoch = 0;
  private epochStart = 0;
  /** The epoch before ended with so many records. */
  private lateSequence = 0;
  private batch: SentBatch | null = null;
  private records: Uint8Array = new Uint8Array(0);
  private isStopping = false;
  /** One batch is all. */
  readonly once: boolean;
  acked = 0;
  /** Why the last try failed. */
  lastFailure = "";

  constructor(
    id: number,
    partition: number,
    parts: ClientParts,
    knobs: { readonly thinkMs: number; readonly bytesMax: number; readonly isSteady?: boolean; readonly once?: boolean },
  ) {
    this.id = id;
    this.partition = partition;
    this.isSteady = knobs.isSteady ?? true;
    this.once = knobs.once ?? false;
    this.parts = parts;
    this.thinkMs = knobs.thinkMs;
    this.bytesMax = knobs.bytesMax;
  }

  get isIdle(): boolean {
    return this.batch === null;
  }

  start(): void {
    this.later(between(this.parts.random, 0, this.thinkMs * 2), () => this.next());
  }

  /** The calm is over. */
  resume(): void {
    if (!this.isResting) return;
    this.isResting = false;
    this.start();
  }

  /** What is under way is brought to its end, nothing new begun. */
  stop(): void {
    this.isStopping = true;
  }

  private later(delayMs: number, callback: () => void): void {
    this.parts.world.after(delayMs * 1_000, this.parts.owner, "producer", callback);
  }

  private next(): void {
    if (this.isStopping) return;
    const { random, history, pace } = this.parts;
    this.isResting = pace?.isCalm === true && !this.isSteady;
    if (this.isResting) return;
    const count = between(random, 1, 4);
    this.records = recordBatch(random, { id: this.id, partition: this.partition, sequence: this.sequence, count, bytesMax: this.bytesMax });
    this.batch = history.sending(
      { producer: this.id, topic: TOPIC, partition: this.partition, sequence: this.sequence, count },
      this.records,
    );
    this.send(this.batch);
  }

  private send(batch: SentBatch): void {
    const { machines, random, history, world, pace } = this.parts;
    // As it is now: a node that stands still may take the call when the producer is in another epoch.
    const call = { records: this.records, count: batch.count, producerEpoch: this.epoch, sequence: batch.sequence - this.epochStart };
    ask(
      this.parts,
      pick(random, machines),
      pick(random, [300, 2_000, CALL_MS]),
      (broker) => this.publish(broker, call),
      (error, answer) => {
        if (this.batch !== batch) return;
        if (error !== null) {
          world.trace.note(world.nowUs, "client", error instanceof BrokerError ? error.code : "unknown", batch.sequence, this.partition);
          this.failed(batch, error);
          return;
        }
        world.trace.note(world.nowUs, "client", "acked", answer!.offset, this.partition);
        history.acknowledged(batch, answer!.offset, answer!.isDuplicate);
        this.batch = null;
        this.acked += 1;
        if (this.once) this.isStopping = true;
        if (this.epoch > 0 && batch.sequence === this.epochStart) this.sendLate();
        this.sequence += batch.count;
        if (random.below(EPOCH_BATCHES) === 0) this.beginEpoch();
        const thinkMs = pace?.isCalm === true ? Math.max(CALM_MS, this.thinkMs) : this.thinkMs;
        this.later(between(random, 0, thinkMs * 2), () => this.next());
      },
    );
  }

  private publish(
    broker: Broker,
    batch: { readonly records: Uint8Array; readonly count: number; readonly producerEpoch: number; readonly sequence: number },
  ): Promise<{ offset: number; isDuplicate: boolean }> {
    const call = {
      vhost: "",
      topic: TOPIC,
      partition: this.partition,
      partitionKey: null,
      producerId: this.id,
      direct: false,
      exchange: null,
      routingKey: "",
      ...batch,
    };
    return new Promise((resolve, reject) => {
      broker.publish(call, (error, _partition, offset, _count, isDuplicate) => {
        if (error === null) resolve({ offset, isDuplicate });
        else reject(error);
      });
    });
  }

  /** Another process took its place: it numbers from 0 again. */
  private beginEpoch(): void {
    this.epoch += 1;
    this.lateSequence = this.sequence - this.epochStart;
    this.epochStart = this.sequence;
  }

  /** The process that was replaced sends once more. Its successor was heard of, so that must not be taken. */
  private sendLate(): void {
    const { machines, random, history } = this.parts;
    const batch = { id: this.id, partition: this.partition, sequence: LATE_SEQUENCE + this.epoch, count: 1, bytesMax: this.bytesMax };
    const late = { records: recordBatch(random, batch), count: 1, producerEpoch: this.epoch - 1, sequence: this.lateSequence };
    ask(
      this.parts,
      pick(random, machines),
      CALL_MS,
      (broker) => this.publish(broker, late),
      (error, answer) => {
        if (error === null) {
          const where = `producer ${this.id} in ${TOPIC}/${this.partition}`;
          throw new Violation("L3", `epoch ${late.producerEpoch} of ${where} is over, and a batch of it was taken at ${answer!.offset}`);
        }
        check(error, "a late publish");
        if (error instanceof BrokerError && error.code === "FENCED_PRODUCER") history.counts.fenced += 1;
      },
    );
  }

  private failed(batch: SentBatch, error: Error): void {
    check(error, "a publish");
    this.lastFailure = error.message;
    this.parts.history.counts.unknown += 1;
    if (error instanceof BrokerError && ["OUT_OF_SEQUENCE", "PRODUCER_UNKNOWN", "FENCED_PRODUCER"].includes(error.code))
      this.parts.history.refused(batch, error.code);
    this.later(between(this.parts.random, RETRY_MS >> 1, RETRY_MS * 2), () => this.send(batch));
  }
}

/** Of the commits of a reader, per hundred. */
const LATE_COMMIT_PERCENT = 10;

/** Reads one partition from its start on, from any node, and commits how far it came. */
export class Reader {
  readonly partition: number;
  position = 0;
  /** First offsets of the batches that it met. */
  readonly seen = new Set<number>();
  private readonly name: string;
  private readonly parts: ClientParts;
  private readonly commits: boolean;
  private readonly isSteady: boolean;
  private isResting = false;
  private isStopped = false;

  constructor(id: number, partition: number, parts: ClientParts, commits: boolean, isSteady = true) {
    this.name = `s${id}`;
    this.partition = partition;
    this.parts = parts;
    this.commits = commits;
    this.isSteady = isSteady;
  }

  start(): void {
    this.later(between(this.parts.random, 0, 500));
  }

  stop(): void {
    this.isStopped = true;
  }

  /** The calm is over. */
  resume(): void {
    if (!this.isResting) return;
    this.isResting = false;
    this.start();
  }

  private later(delayMs: number): void {
    if (!this.isStopped) this.parts.world.after(delayMs * 1_000, this.parts.owner, "reader", () => this.next());
  }

  private next(): void {
    const { random, pace } = this.parts;
    this.isResting = pace?.isCalm === true && !this.isSteady;
    if (this.isResting || this.isStopped) return;
    const what = random.below(10);
    if (what < 7 || !this.commits) this.fetch();
    else if (what < 9 && !chance(random, LATE_COMMIT_PERCENT)) this.commit();
    else if (what < 9) this.commitLate();
    else this.look();
  }

  private fetch(): void {
    const { machines, random, history } = this.parts;
    const offset = this.position;
    const maxWaitMs = chance(random, 50) ? 0 : 300;
    const call = {
      vhost: "",
      topic: TOPIC,
      positions: [{ partition: this.partition, from: 0 as const, value: offset }],
      maxBytes: pick(random, [1, 10_000, 1_000_000]),
      maxWaitMs,
      direct: false,
    };
    ask(
      this.parts,
      pick(random, machines),
      CALL_MS,
      (broker, signal) => broker.fetch(call, signal),
      (error, answer) => {
        if (this.isStopped) return;
        if (error !== null) {
          check(error, "a fetch");
          this.later(RETRY_MS);
          return;
        }
        const part = answer![0]!;
        if (part.error !== null) {
          this.fetchFailed(part.error, part.startOffset, part.endOffset);
          return;
        }
        history.fetched({ topic: TOPIC, partition: this.partition, offset }, part);
        for (const batch of part.batches) this.seen.add(batch.baseOffset);
        this.position = Math.max(this.position, part.nextOffset);
        this.later(part.batches.length > 0 ? 5 : this.parts.pace?.isCalm === true ? CALM_MS : 100);
      },
    );
  }

  private fetchFailed(error: BrokerError, startOffset: number, endOffset: number): void {
    check(error, "a fetch");
    if (error.code === "OFFSET_OUT_OF_RANGE") {
      if (startOffset <= this.position)
        throw new Violation(
          "L5",
          `${TOPIC}/${this.partition}: a reader is at ${this.position}, the node knows ${startOffset}..${endOffset}`,
        );
      this.position = startOffset;
    }
    this.later(RETRY_MS);
  }

  private commit(): void {
    const { history } = this.parts;
    const { key, position } = this;
    history.committing(key, position);
    this.askToCommit(position, (failure) => {
      if (failure === null) history.committed(key, position);
      else if (failure instanceof BrokerError && failure.code === "OFFSET_WOULD_GO_BACK")
        throw new Violation("L7", `${key}: ${position} would go back: ${failure.message}`);
    });
  }

  /** As a reader that was replaced does, or a retry that was held up. More was confirmed before, so that must not be taken. */
  private commitLate(): void {
    const { history, random } = this.parts;
    const { key } = this;
    const confirmed = history.confirmedCommit(key);
    const offset = random.below(Math.max(1, confirmed));
    this.askToCommit(offset, (failure) => {
      if (failure === null && offset < confirmed)
        throw new Violation("L7", `${key}: ${confirmed} was confirmed, and ${offset} was taken after it`);
    });
  }

  private get key(): string {
    return `${this.name} of ${this.partition}`;
  }

  private askToCommit(offset: number, done: (failure: Error | null) => void): void {
    const { machines, random } = this.parts;
    const call = {
      vhost: "",
      topic: TOPIC,
      subscription: this.name,
      offsets: [{ partition: this.partition, offset, metadata: "", reset: false }],
      generation: 0,
      direct: false,
    };
    ask(
      this.parts,
      pick(random, machines),
      CALL_MS,
      (broker, signal) => broker.commitOffsets(call, signal),
      (error, answer) => {
        const failure = error ?? answer![0]!.error;
        if (failure !== null) check(failure, "a commit");
        done(failure);
        this.later(50);
      },
    );
  }

  private look(): void {
    const { machines, random, history } = this.parts;
    const { key } = this;
    const confirmed = history.confirmedCommit(key);
    const atLeast = history.endKnown(TOPIC, this.partition);
    const call = { vhost: "", topic: TOPIC, subscription: this.name, partitions: [this.partition], timeMs: -1, direct: false };
    ask(
      this.parts,
      pick(random, machines),
      CALL_MS,
      (broker, signal) => broker.getOffsets(call, signal),
      (error, answer) => {
        const failure = error ?? answer![0]!.error;
        if (failure !== null) check(failure, "a look at offsets");
        else {
          history.commitSeen(key, answer![0]!.committedOffset, confirmed);
          history.endSeen({ topic: TOPIC, partition: this.partition }, answer![0]!.endOffset, atLeast);
        }
        this.later(50);
      },
    );
  }
}

/** A RecordBatch whose bytes no other batch of the simulation has. */
function recordBatch(
  random: Random,
  { id, partition, sequence, count, bytesMax }: { id: number; partition: number; sequence: number; count: number; bytesMax: number },
): Uint8Array {
  const bodies = Array.from({ length: count }, () => ({ bytes: 16 + random.below(bytesMax), fill: random.below(256) }));
  const batch = Buffer.allocUnsafe(bodies.reduce((sum, { bytes }) => sum + fieldBytes(fieldBytes(bytes)), 0));
  let at = 0;
  for (const [place, { bytes, fill }] of bodies.entries()) {
    at = putHead(batch, at, 0x0a, fieldBytes(bytes));
    // Field 2 of a record; the broker does not look into it.
    at = putHead(batch, at, 0x12, bytes);
    batch.fill(fill, at, at + bytes);
    batch.writeUInt32LE(id, at);
    batch.writeUInt32LE(partition, at + 4);
    batch.writeUInt32LE(sequence + place, at + 8);
    at += bytes;
  }
  return batch;
}

/** Bytes of a length-delimited field with so many bytes in it. */
function fieldBytes(bytes: number): number {
  let head = 2;
  for (let rest = bytes; rest >= 0x80; rest = Math.floor(rest / 0x80)) head += 1;
  return head + bytes;
}

/** The tag and the length of such a field; returns where its content begins. */
function putHead(target: Buffer, start: number, tag: number, bytes: number): number {
  let at = start;
  target[at++] = tag;
  let rest = bytes;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) target[at++] = (rest % 0x80) | 0x80;
  target[at++] = rest;
  return at;
}
