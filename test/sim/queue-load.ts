// The queues of a simulated cluster: made at the beginning, worked on throughout, emptied and judged at the end.

import type { Broker } from "../../src/broker/types.ts";
import { STATE_LEASED } from "../../src/machine/work/state.ts";
import type { DeclaredSettings } from "../../src/broker/work/types.ts";
import { ask, type ClientParts } from "./clients.ts";
import { HeldWatch } from "./held-watch.ts";
import type { SimOptions } from "./options.ts";
import { idsIn, LEASE_MS, QueueConsumer, QueueProducer } from "./queue-clients.ts";
import { QueueHistory } from "./queue-history.ts";
import { pick } from "./world.ts";

const CONSUMERS = 2;
const THINK_MS_MIN = 200;
const CALL_MS = 20_000;
/** What is held is free again so soon after its lease has ended: Q6. */
const HELD_LATE_MS = 5_000;
const BROWSED_MAX = 1_000;

type Load = {
  readonly history: QueueHistory;
  readonly held: HeldWatch;
  readonly settings: DeclaredSettings;
  readonly dead: string;
  readonly producer: QueueProducer;
  readonly consumers: readonly QueueConsumer[];
};

export class QueueLoad {
  private readonly clients: ClientParts;
  private readonly loads: Load[];
  /** Names of queues that are made. */
  private readonly made = new Set<string>();
  private asking = false;
  private isEmpty = false;
  private isJudged = false;
  /** What is missing at the end. */
  lacking = "";

  constructor(options: SimOptions, clients: ClientParts) {
    this.clients = clients;
    const { random } = clients;
    this.loads = Array.from({ length: options.queues }, (_, at) => {
      const [name, dead] = [`q${at + 1}`, `q${at + 1}.dead`];
      const deliveryLimit = pick(random, [0, 3, 20]);
      const settings: DeclaredSettings = {
        deliveryLimit,
        deadLetterExchange: "",
        deadLetterKey: dead,
        singleActive: pick(random, [false, false, true]),
        backOffMs: pick(random, [0, 50]),
      };
      const history = new QueueHistory(name, deliveryLimit, options.faults.has("clock"));
      const knobs = {
        thinkMs: Math.max(THINK_MS_MIN, options.thinkMs),
        bytesMax: Math.min(options.recordBytesMax, 4_000),
        usesTtl: pick(random, [false, true]),
      };
      const producer = new QueueProducer(1, clients, history, knobs);
      return {
        history,
        held: new HeldWatch(name, LEASE_MS + HELD_LATE_MS),
        settings,
        dead,
        producer,
        consumers: Array.from({ length: CONSUMERS }, (_, id) => new QueueConsumer(id + 1, clients, history)),
      };
    });
  }

  get names(): string[] {
    return this.loads.map(({ history }) => history.queue);
  }

  /** True once all queues are there; to be asked again until then. */
  create(): boolean {
    const next = this.loads
      .flatMap(({ history, settings, dead }) => [
        { name: dead, settings: {} },
        { name: history.queue, settings },
      ])
      .find(({ name }) => !this.made.has(name));
    if (next === undefined) return true;
    this.once(
      (broker, signal) =>
        broker.queues.create({ vhost: "", replicas: Math.min(3, this.clients.machines.length), durability: 0, ...next }, signal),
      () => void this.made.add(next.name),
    );
    return false;
  }

  start(): void {
    for (const { producer, consumers } of this.loads) {
      producer.start();
      for (const consumer of consumers) consumer.start();
    }
  }

  stop(): void {
    for (const { producer } of this.loads) producer.stop();
  }

  /** A message that nobody has acknowledged yet; "" when there is none. */
  get waiting(): string {
    const waiting = this.loads.find(({ producer }) => !producer.isIdle);
    return waiting === undefined ? "" : `a message for ${waiting.history.queue} has no answer: ${waiting.producer.lastFailure}`;
  }

  /** From now on consumers acknowledge everything. True once every queue is empty and what was in it is accounted for. */
  drained(): boolean {
    for (const { consumers } of this.loads) for (const consumer of consumers) consumer.isDiligent = true;
    if (!this.isEmpty)
      this.once(
        (broker, signal) => this.look(broker, signal),
        (lacking) => {
          this.lacking = lacking;
          this.isEmpty = lacking === "";
        },
      );
    else if (!this.isJudged)
      this.once(
        (broker, signal) => this.judge(broker, signal),
        () => (this.isJudged = true),
      );
    return this.isJudged || this.loads.length === 0;
  }

  end(): void {
    for (const { consumers } of this.loads) for (const consumer of consumers) consumer.stop();
  }

  counts(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (const { history } of this.loads) for (const [name, count] of Object.entries(history.counts)) sum[name] = (sum[name] ?? 0) + count;
    return sum;
  }

  private async look(broker: Broker, signal: AbortSignal): Promise<string> {
    for (const { history, held } of this.loads) {
      const { queue, startOffset, endOffset } = await broker.queues.describe("", history.queue, signal);
      const { ready, leased, delayed, parked, dead } = queue.counts!;
      if (leased > 0) {
        const place = {
          vhost: "",
          queue: history.queue,
          subscription: "",
          partition: 0,
          fromOffset: startOffset,
          maxMessages: BROWSED_MAX,
        };
        const { messages } = await broker.queues.browse(place, signal);
        held.look(
          messages.filter(({ state }) => state === STATE_LEASED),
          this.clients.world.nowMs,
        );
      }
      if (ready + leased + delayed + parked + dead > 0 || startOffset !== endOffset)
        return `${history.queue} has ${ready} ready, ${leased} leased, ${delayed} delayed, ${parked} parked and ${dead} dead messages, from ${startOffset} to ${endOffset}`;
    }
    return "";
  }

  private async judge(broker: Broker, signal: AbortSignal): Promise<void> {
    for (const { history, dead } of this.loads) history.complete(await idsIn(broker, dead, signal));
  }

  /** Asks some node, one question at a time; what fails is asked again by whoever asks for the condition. */
  private once<T>(work: (broker: Broker, signal: AbortSignal) => Promise<T>, done: (value: T) => void): void {
    if (this.asking) return;
    this.asking = true;
    const { machines, random } = this.clients;
    ask(this.clients, pick(random, machines), CALL_MS, work, (error, value) => {
      this.asking = false;
      if (error === null) done(value!);
      else if (error.name === "Violation") throw error;
      else this.lacking = error.message;
    });
  }
}
