// The queues of a round: made beside its topic, loaded and worked on throughout, emptied by diligent consumers once the weather is over,
// and judged.

import { setTimeout as delay } from "node:timers/promises";
import { Prng } from "../../src/base/prng.ts";
import { Flotilla, FlotillaError, type QueueDescription } from "../../src/client/index.ts";
import { patiently } from "./judge.ts";
import { QueueSender, StreamConsumer, Taker, type QueueParts } from "./queue-clients.ts";
import { QueueContent } from "./queue-content.ts";
import { QueueLedger, sumOf, type QueueCounts } from "./queue-ledger.ts";
import type { Verdict } from "./verdict.ts";

/** Messages a second of one queue. */
export const QUEUE_RATE = 100;
/** A queue, and that of its dead letters. */
export const GROUPS_PER_QUEUE = 2;
const CONSUMERS = 3;
const TICK_MS = 10;
const LOOK_MS = 250;
const CALL_MS = 10_000;
/** Looks in a row that find a queue empty: whoever is asked may have been the leader. */
const LOOKS_EMPTY = 2;
const BROWSE_MAX = 1_000;

export type QueueLoadOptions = {
  /** Of the topic; their names begin with it. */
  readonly topic: string;
  readonly queues: number;
  readonly replicas: number;
  /** Draws how each treats its messages, and what consumers do. */
  readonly seed: number;
  readonly run: number;
  readonly bytesMax: number;
};
export type QueueLoadParts = {
  readonly client: Flotilla;
  readonly endpoints: readonly string[];
  readonly verdict: Verdict;
  /** Ms since the start of the run. */
  readonly now: () => number;
  readonly progress: (text: string) => void;
};

type Load = {
  readonly parts: QueueParts;
  readonly dead: string;
  readonly settings: { readonly deliveryLimit: number; readonly singleActive: boolean; readonly backOffMs: number };
  readonly sender: QueueSender;
  readonly consumers: readonly (StreamConsumer | Taker)[];
};

export class QueueLoad {
  private readonly parts: QueueLoadParts;
  private readonly replicas: number;
  private readonly loads: readonly Load[];
  private timer: NodeJS.Timeout | null = null;
  private startedMs = 0;
  private due = 0;

  constructor(parts: QueueLoadParts, { topic, queues, replicas, seed, run, bytesMax }: QueueLoadOptions) {
    this.parts = parts;
    this.replicas = replicas;
    const { endpoints, verdict } = parts;
    const random = new Prng(seed);
    this.loads = Array.from({ length: queues }, (_, at): Load => {
      const queue = `${topic}-q${at + 1}`;
      const settings = {
        deliveryLimit: [3, 5, 20][random.below(3)]!,
        singleActive: random.below(4) === 0,
        backOffMs: [0, 50][random.below(2)]!,
      };
      const content = new QueueContent(run, at, bytesMax);
      const ledger = new QueueLedger(queue, { content, deliveryLimit: settings.deliveryLimit }, verdict);
      const own: QueueParts = { endpoints, queue, content, ledger, verdict };
      const chance = (): Prng => new Prng(random.nextUint32());
      const streams = Array.from({ length: CONSUMERS }, (__, id) => new StreamConsumer(own, id + 1, chance()));
      const consumers = [...streams, new Taker(own, CONSUMERS + 1, chance())];
      return { parts: own, dead: `${queue}-dead`, settings, sender: new QueueSender(own), consumers };
    });
  }

  get counts(): QueueCounts {
    return sumOf(this.loads.map(({ parts: { ledger } }) => ledger.counts));
  }

  async create(): Promise<void> {
    const { queues } = this.parts.client;
    const { replicas } = this;
    for (const { parts, dead, settings } of this.loads) {
      await queues.createQueue({ name: dead, replicas });
      await queues.createQueue({
        name: parts.queue,
        replicas,
        settings: { ...settings, deadLetterExchange: "", deadLetterKey: dead },
      });
    }
  }

  async start(): Promise<void> {
    for (const load of this.loads) {
      await load.sender.open();
      await this.spread(load);
    }
    if (this.loads.length === 0) return;
    this.startedMs = this.parts.now();
    this.timer = setInterval(() => this.tick(), TICK_MS);
  }

  /** Nothing new; every message is to have its outcome within the time. */
  async stop(timeoutMs: number): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    const ended = await Promise.race([
      Promise.all(this.loads.map(({ sender }) => sender.flush())).then(() => true),
      delay(timeoutMs, false, { ref: false }),
    ]);
    if (ended) return;
    const missing = this.loads.reduce((sum, { parts: { ledger } }) => sum + ledger.sent - ledger.counts.queued, 0);
    this.parts.verdict.report("R9", `${missing} messages had no outcome ${timeoutMs / 1_000} s after the last fault`);
  }

  /** Has every queue emptied, holds what came of its messages against the books, and ends the clients. */
  async judge(timeoutMs: number): Promise<void> {
    const { verdict, progress } = this.parts;
    for (const { consumers } of this.loads) for (const consumer of consumers) consumer.isDiligent = true;
    const until = this.parts.now() + timeoutMs;
    const lefts = await Promise.all(this.loads.map(({ parts: { queue } }) => this.drained(queue, until)));
    for (const [at, { parts, dead }] of this.loads.entries()) {
      const { queue, ledger } = parts;
      const left = lefts[at]!;
      if (left === "") {
        await this.readDead(dead, ledger);
        ledger.complete();
      } else verdict.report("R9", `${queue} is not empty ${timeoutMs / 1_000} s after the last fault: ${left}`);
      const { queued, delivered, settled, returned, dead: letters } = ledger.counts;
      progress(
        `judging: ${queue}: ${queued} messages, delivered ${delivered} times, ${settled} settled, ${returned} returned, ${letters} dead`,
      );
    }
    await this.close();
  }

  async delete(signal: AbortSignal): Promise<void> {
    const { queues } = this.parts.client;
    for (const { parts, dead } of this.loads) for (const name of [parts.queue, dead]) await queues.deleteQueue(name, { signal });
  }

  async close(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    await Promise.all(this.loads.flatMap(({ sender, consumers }) => [sender, ...consumers].map((client) => client.close())));
  }

  private tick(): void {
    const until = Math.floor(((this.parts.now() - this.startedMs) / 1_000) * QUEUE_RATE);
    for (; this.due < until; this.due++) for (const { sender } of this.loads) sender.offer();
  }

  /** A consumer opens its stream to whoever leads the queue: so each replica leads it once, while nothing has struck yet. */
  private async spread({ parts: { queue }, consumers }: Load): Promise<void> {
    const { cluster } = this.parts.client;
    const { partitions } = await patiently(() => cluster.resolve(queue));
    const replicas = partitions[0]?.replicas ?? [];
    for (const [at, consumer] of consumers.entries()) {
      const toNode = replicas[at % Math.max(1, replicas.length)];
      if (toNode !== undefined) await cluster.transferLeader({ topic: queue, partition: 0, toNode }).catch(ignoreRefusal);
      consumer.start();
      await Promise.race([consumer.opened, delay(CALL_MS, undefined, { ref: false })]);
    }
  }

  /** Resolves with "" once nothing is in the queue; with what is, when the time is up. */
  private async drained(queue: string, until: number): Promise<string> {
    const { client, now } = this.parts;
    let last = "nobody says what is in it";
    for (let empty = 0; now() < until; await delay(LOOK_MS)) {
      try {
        last = lackOf(await client.queues.describeQueue(queue, "", { signal: AbortSignal.timeout(CALL_MS) }));
      } catch (error) {
        ignoreRefusal(error);
        last = (error as FlotillaError).message;
      }
      empty = last === "" ? empty + 1 : 0;
      if (empty === LOOKS_EMPTY) return "";
    }
    return last === "" ? "it has just become so" : last;
  }

  private async readDead(dead: string, ledger: QueueLedger): Promise<void> {
    let from: number | undefined = 0;
    while (from !== undefined) {
      const fromOffset: number = from;
      const page = await patiently(() => this.parts.client.browse(dead, { fromOffset, maxMessages: BROWSE_MAX }));
      for (const { key, priority, body, headers } of page.messages) {
        const said = (name: string): string => Buffer.from(headers.find((one) => one.name === name)?.value ?? "").toString();
        ledger.buried({ key, priority, body, reason: said("x-death-reason"), attempts: Number(said("x-death-attempts")) });
      }
      from = page.next;
    }
  }
}

function lackOf({ queue: { counts } }: QueueDescription): string {
  if (counts === null) return "nobody leads it";
  const { ready, leased, delayed, waitingForKey, dead } = counts;
  if (ready + leased + delayed + waitingForKey + dead === 0) return "";
  return `${ready} ready, ${leased} leased, ${delayed} delayed, ${waitingForKey} waiting for their key, ${dead} dead`;
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof FlotillaError)) throw error;
}
