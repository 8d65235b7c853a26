// An open-loop load: records fall due at a steady rate, whatever becomes of those before, and a latency counts from when its
// record was due. Idempotent producers, each with connections of its own, to all partitions.

import { setTimeout as delay } from "node:timers/promises";
import { Flotilla, type FlotillaError, type Producer } from "../../src/client/index.ts";
import type { Content } from "./content.ts";
import type { Ledger } from "./ledger.ts";
import type { Timeline } from "./timeline.ts";
import type { Verdict } from "./verdict.ts";

const TICK_MS = 2;
/** Encoded bytes that one producer holds. Beyond it what falls due is not offered. */
const BUFFER_BYTES_MAX = 96 * 1024 * 1024;
/** Longer than any fault: only a cluster that does not come back makes a producer give up. */
const DELIVERY_TIMEOUT_MS = 600_000;
const REOPEN_MS = 500;
const CLOSE_MS_MAX = 2_000;
/** Producers in a row that ended at once. */
const PRODUCERS_MAX = 1_000;

export type LoadParts = {
  readonly endpoints: readonly string[];
  readonly topic: string;
  readonly partitions: number;
  readonly content: Content;
  readonly ledger: Ledger;
  readonly verdict: Verdict;
  readonly timeline: Timeline;
  /** Ms since the start of the run. */
  readonly now: () => number;
};

export class Load {
  /** Records that fell due and had no room. */
  notOffered = 0;
  private readonly parts: LoadParts;
  private readonly rate: number;
  private readonly slots: Slot[];
  private timer: NodeJS.Timeout | null = null;
  private startedMs = 0;
  private due = 0;

  /** `rate` records a second from so many producers together. */
  constructor(parts: LoadParts, { rate, producers }: { readonly rate: number; readonly producers: number }) {
    this.parts = parts;
    this.rate = rate;
    this.slots = Array.from({ length: producers }, (_, at) => new Slot(at, parts));
  }

  async start(): Promise<void> {
    await Promise.all(this.slots.map((slot) => slot.open()));
    this.startedMs = this.parts.now();
    this.parts.timeline.expect(this.parts.partitions);
    this.timer = setInterval(() => this.tick(), TICK_MS);
  }

  /** Nothing new; resolves with whether every record had its outcome within the time. */
  async stop(timeoutMs: number): Promise<boolean> {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    const ended = await Promise.race([
      Promise.all(this.slots.map((slot) => slot.flush())).then(() => true),
      delay(timeoutMs, false, { ref: false }),
    ]);
    this.parts.timeline.rest();
    return ended;
  }

  async close(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    await Promise.all(this.slots.map((slot) => slot.close()));
  }

  private tick(): void {
    const { now, ledger, partitions, timeline } = this.parts;
    // Nothing more is sent in this round, and so nothing expected.
    if (ledger.isFull) timeline.rest();
    const until = Math.floor(((now() - this.startedMs) / 1_000) * this.rate);
    for (; this.due < until; this.due++) {
      const dueMs = this.startedMs + (this.due / this.rate) * 1_000;
      const slot = this.slots[this.due % this.slots.length]!;
      const partition = Math.floor(this.due / this.slots.length) % partitions;
      if (ledger.isFull || !slot.offer(partition, dueMs)) this.notOffered += 1;
    }
  }
}

/** One producer after the other: a new one takes the place of one that gave up. */
class Slot {
  private readonly id: number;
  private readonly parts: LoadParts;
  private client: Flotilla | null = null;
  private producer: Producer | null = null;
  private lanes: number[] = [];
  private isFull = false;
  private isClosing = false;
  private opened = 0;

  constructor(id: number, parts: LoadParts) {
    this.id = id;
    this.parts = parts;
  }

  async open(): Promise<void> {
    const { endpoints, topic, ledger, partitions } = this.parts;
    // Each begins at another node.
    const turn = (this.id + this.opened) % endpoints.length;
    this.client ??= await Flotilla.connect({ endpoints: [...endpoints.slice(turn), ...endpoints.slice(0, turn)] });
    const producer = await this.client.producer(topic, {
      lingerMs: 2,
      bufferBytesMax: BUFFER_BYTES_MAX,
      deliveryTimeoutMs: DELIVERY_TIMEOUT_MS,
    });
    this.opened += 1;
    this.lanes = Array.from({ length: partitions }, (_, partition) => ledger.openLane(this.id, partition));
    this.isFull = false;
    this.producer = producer;
  }

  /** False when it cannot be taken now. */
  offer(partition: number, dueMs: number): boolean {
    const { producer } = this;
    if (producer === null || this.isFull) return false;
    const { content, ledger, timeline, now } = this.parts;
    const lane = this.lanes[partition]!;
    const id = { lane, number: ledger.sending(lane) };
    timeline.offer();
    const hasRoom = producer.append({ key: content.key(partition, id), body: content.body(id) }, (error, where, offset) => {
      if (error !== null) {
        this.failed(producer, error);
        return;
      }
      ledger.acknowledged(id, where, offset);
      timeline.ack(where, now() - dueMs);
    });
    if (!hasRoom) {
      this.isFull = true;
      void producer.ready().then(() => (this.isFull = false));
    }
    return true;
  }

  async flush(): Promise<void> {
    // Of a producer that failed `failed` has told.
    await this.producer?.flush().catch(() => {});
  }

  async close(): Promise<void> {
    this.isClosing = true;
    this.producer = null;
    // It would wait for what a lost cluster never answers.
    const closed = this.client?.close().catch(() => {});
    await Promise.race([closed, delay(CLOSE_MS_MAX, undefined, { ref: false })]);
  }

  /** What it had not been told may or may not be stored: its lanes end here. */
  private failed(producer: Producer, error: FlotillaError): void {
    if (this.producer !== producer) return;
    this.producer = null;
    if (this.isClosing) return;
    const { verdict } = this.parts;
    // An idempotent producer can always go on: a refusal means that the cluster has forgotten what it had told.
    if (error.code === "TIMEOUT") verdict.report("R9", `producer ${this.id} gave up: ${error.message}`);
    else verdict.report("L0", `producer ${this.id} was refused: ${error.code}: ${error.message}`);
    if (this.opened < PRODUCERS_MAX) void this.reopen();
  }

  private async reopen(): Promise<void> {
    while (!this.isClosing && this.producer === null) {
      await this.open().catch(() => {});
      if (this.producer === null) await delay(REOPEN_MS);
    }
  }
}
