// The clients of one queue: a producer whose messages fall due at a steady rate, and consumers that do with a message whatever chance
// wants. Those with a stream stay with the node that they opened it to, wherever the queue is led since; a taker asks one node.

import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "../../src/base/prng.ts";
import { Flotilla, FlotillaError, type Message, type Producer, type QueueConsumer } from "../../src/client/index.ts";
import type { QueueContent } from "./queue-content.ts";
import type { Held, QueueLedger, QueueOutcome } from "./queue-ledger.ts";
import type { Verdict } from "./verdict.ts";

const DEADLINE_MS = 10_000;
const RETRY_MS = 200;
const CLOSE_MS_MAX = 2_000;
const BUFFER_BYTES_MAX = 8 * 1024 * 1024;
/** Longer than any fault. */
const DELIVERY_TIMEOUT_MS = 600_000;
/** Producers in a row that ended. */
const PRODUCERS_MAX = 1_000;
const LEASE_MS = 2_000;
const PREFETCH = 20;
const TAKEN_MAX = 8;
const TAKE_WAIT_MS = 500;
/** A consumer goes after so many messages, or twice as many, with what it holds, and comes again. */
const LIFE_MESSAGES = 150;
/** Of a hundred messages; the others are acknowledged. */
const NACKED = 5;
const REJECTED = 3;
const FORGOTTEN = 3;
const NACK_DELAY_MS = 700;
/** After the lease: the same consumer may have been given it again by then, under another token. */
const LATE_MS_MAX = 150;
const THINK_MS = [0, 0, 0, 5, 50, 200] as const;
/** What a consumer is told that asks for something that is not there, or was wrong itself. */
const NEVER = new Set(["UNKNOWN_QUEUE", "UNKNOWN_SUBSCRIPTION", "INVALID_ARGUMENT", "INTERNAL", "MALFORMED_BATCH"]);

export type QueueParts = {
  readonly endpoints: readonly string[];
  readonly queue: string;
  readonly content: QueueContent;
  readonly ledger: QueueLedger;
  readonly verdict: Verdict;
};

/** From this node on. */
function turned(endpoints: readonly string[], at: number): string[] {
  const turn = at % endpoints.length;
  return [...endpoints.slice(turn), ...endpoints.slice(0, turn)];
}

/** It would wait for what a lost cluster never answers. */
async function closeSoon(part: { close(): Promise<void> } | null): Promise<void> {
  const closed = part?.close().catch(() => {});
  await Promise.race([closed, delay(CLOSE_MS_MAX, undefined, { ref: false })]);
}

/** One idempotent producer after the other: a new one takes the place of one that gave up. */
export class QueueSender {
  private readonly parts: QueueParts;
  private client: Flotilla | null = null;
  private producer: Producer | null = null;
  private isFull = false;
  private isClosing = false;
  private opened = 0;

  constructor(parts: QueueParts) {
    this.parts = parts;
  }

  async open(): Promise<void> {
    const { endpoints, queue } = this.parts;
    this.client ??= await Flotilla.connect({ endpoints: turned(endpoints, this.opened), deadlineMs: DEADLINE_MS });
    const options = { lingerMs: 2, bufferBytesMax: BUFFER_BYTES_MAX, deliveryTimeoutMs: DELIVERY_TIMEOUT_MS };
    this.producer = await this.client.producer(queue, options);
    this.opened += 1;
    this.isFull = false;
  }

  /** A message is due. */
  offer(): void {
    const { content, ledger } = this.parts;
    const { producer } = this;
    if (producer === null || this.isFull || ledger.isFull) {
      ledger.notOffered();
      return;
    }
    const number = ledger.sending();
    const hasRoom = producer.append(content.record(number), (error, _partition, offset) => {
      if (error === null) ledger.acknowledged(number, offset);
      else this.failed(producer, error);
    });
    if (hasRoom) return;
    this.isFull = true;
    void producer.ready().then(() => (this.isFull = false));
  }

  async flush(): Promise<void> {
    // Of a producer that failed `failed` has told.
    await this.producer?.flush().catch(() => {});
  }

  async close(): Promise<void> {
    this.isClosing = true;
    this.producer = null;
    await closeSoon(this.client);
  }

  /** What it had not been told may or may not be in the queue. */
  private failed(producer: Producer, error: FlotillaError): void {
    if (this.producer !== producer) return;
    this.producer = null;
    if (this.isClosing) return;
    const { verdict, queue } = this.parts;
    if (error.code === "TIMEOUT") verdict.report("R9", `the producer of ${queue} gave up: ${error.message}`);
    else verdict.report("L0", `the producer of ${queue} was refused: ${error.code}: ${error.message}`);
    if (this.opened < PRODUCERS_MAX) void this.reopen();
  }

  private async reopen(): Promise<void> {
    while (!this.isClosing && this.producer === null) {
      await this.open().catch(() => {});
      if (this.producer === null) await delay(RETRY_MS);
    }
  }
}

/** What all kinds of consumers do with messages. */
abstract class Consuming {
  /** From now on it acknowledges everything, and stays. */
  isDiligent = false;
  protected readonly parts: QueueParts;
  protected readonly id: number;
  protected readonly random: Random;
  protected isStopped = false;
  protected client: Flotilla | null = null;
  /** It has come for the first time. */
  readonly opened: Promise<void>;
  protected didOpen = (): void => {};
  private running: Promise<void> = Promise.resolve();

  constructor(parts: QueueParts, id: number, random: Random) {
    this.opened = new Promise((resolve) => (this.didOpen = resolve));
    this.parts = parts;
    this.id = id;
    this.random = random;
  }

  start(): void {
    this.running = this.run();
  }

  async close(): Promise<void> {
    this.isStopped = true;
    this.leave();
    await closeSoon(this.client);
    await Promise.race([this.running, delay(CLOSE_MS_MAX, undefined, { ref: false })]);
  }

  /** Comes, takes messages, and goes; rejects when it could not. */
  protected abstract live(client: Flotilla): Promise<void>;
  /** Ends whatever it waits for. */
  protected abstract leave(): void;

  /** `isGone`: whoever took the message has no say any more. */
  protected took(message: Message, isGone: () => boolean): void {
    const held = this.parts.ledger.given(message, { leaseMs: LEASE_MS, consumer: this.id });
    if (held !== null) void this.decide(message, held, isGone);
  }

  private async run(): Promise<void> {
    const { endpoints, queue, verdict } = this.parts;
    while (!this.isStopped) {
      try {
        this.client ??= await Flotilla.connect({ endpoints: turned(endpoints, this.id), deadlineMs: DEADLINE_MS });
        await this.live(this.client);
      } catch (error) {
        if (!(error instanceof FlotillaError)) throw error;
        if (NEVER.has(error.code) && !this.isStopped)
          verdict.report("R9", `consumer ${this.id} of ${queue} was refused: ${error.code}: ${error.message}`);
        await delay(RETRY_MS);
      }
    }
  }

  private async decide(message: Message, held: Held, isGone: () => boolean): Promise<void> {
    const { random } = this;
    await delay(this.isDiligent ? 0 : THINK_MS[random.below(THINK_MS.length)]!);
    const roll = this.isDiligent ? 100 : random.below(100);
    if (roll < NACKED) await this.say(message, held, "nack", isGone, random.below(2) * NACK_DELAY_MS);
    else if (roll < NACKED + REJECTED) await this.say(message, held, "reject", isGone);
    else if (roll >= NACKED + REJECTED + FORGOTTEN) await this.say(message, held, "ack", isGone);
    else if (random.below(2) === 0) {
      // It is late, and somebody else's by then: to be refused, or the last word.
      await delay(LEASE_MS + random.below(LATE_MS_MAX));
      await this.say(message, held, "ack", isGone);
    }
  }

  private async say(message: Message, held: Held, outcome: QueueOutcome, isGone: () => boolean, delayMs = 0): Promise<void> {
    if (isGone()) return;
    const { ledger } = this.parts;
    const saying = ledger.saying(held, outcome, delayMs);
    try {
      if (outcome === "ack") await message.ack();
      else if (outcome === "reject") await message.reject();
      // Without a time it goes by the back-off of the queue.
      else await message.nack(delayMs > 0 ? { delayMs } : {});
      ledger.confirmed(saying);
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
      ledger.unconfirmed();
    }
  }
}

/** Has a stream, to whoever leads the queue when it comes. */
export class StreamConsumer extends Consuming {
  private consumer: QueueConsumer | null = null;

  protected async live(client: Flotilla): Promise<void> {
    const consumer = await client.queueConsumer(this.parts.queue, { prefetch: PREFETCH, leaseMs: LEASE_MS, extendMsMax: 0 });
    this.consumer = consumer;
    this.didOpen();
    let left = LIFE_MESSAGES + this.random.below(LIFE_MESSAGES);
    const isGone = (): boolean => this.consumer !== consumer;
    try {
      while (!this.isStopped && (left > 0 || this.isDiligent)) {
        const message = await consumer.next();
        if (message === null) return;
        left -= 1;
        this.took(message, isGone);
      }
    } finally {
      this.consumer = null;
      await consumer.close({ timeoutMs: 0 });
    }
  }

  protected leave(): void {
    void this.consumer?.close({ timeoutMs: 0 });
  }
}

/** Asks for some messages at a time, through one node, or another one while that does not answer. */
export class Taker extends Consuming {
  private readonly stop = new AbortController();

  protected async live(client: Flotilla): Promise<void> {
    const { queue } = this.parts;
    const { signal } = this.stop;
    this.didOpen();
    const messages = await client.receive(queue, { maxMessages: TAKEN_MAX, maxWaitMs: TAKE_WAIT_MS, leaseMs: LEASE_MS, signal });
    for (const message of messages) this.took(message, () => this.isStopped);
    // It is slower than those that have a stream.
    if (!this.isDiligent) await delay(RETRY_MS);
  }

  protected leave(): void {
    this.stop.abort();
  }
}
