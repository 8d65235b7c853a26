// What stands in a message is a function of its queue and number, as that of a record is of its lane and number (content.ts): its body,
// whether it has a key, its priority, and how long it is delayed.

import type { OutgoingRecord } from "../../src/client/index.ts";
import { Content, mix, type RecordId } from "./content.ts";

const KEYS = 16;
const BYTES_MIN = 24;
/** Each as likely as the others. */
const PRIORITIES = [0, 0, 0, 5, 31] as const;
const DELAYS_MS = [0, 0, 0, 0, 0, 0, 0, 500, 1_000, 2_000] as const;
const KEYED_PERCENT = 40;

/** As somebody was given it. */
export type ReceivedBody = { readonly key: Uint8Array | null; readonly priority: number; readonly body: Uint8Array };

export class QueueContent {
  private readonly content: Content;
  private readonly queue: number;
  private readonly seed: number;

  /** `run`: 32 bits that no other load has; `queue`: which one of its queues. */
  constructor(run: number, queue: number, bytesMax: number) {
    // A record of the topic is none of these.
    const own = ~run >>> 0;
    this.content = new Content(own, 1, KEYS, { bytesMin: BYTES_MIN, bytesMax });
    this.queue = queue;
    this.seed = mix(own, queue);
  }

  /** Null: it has none. */
  key(number: number): string | null {
    return this.drawn(number, 1) % 100 < KEYED_PERCENT ? this.content.key(0, this.id(number)) : null;
  }

  priority(number: number): number {
    return PRIORITIES[this.drawn(number, 2) % PRIORITIES.length]!;
  }

  delayMs(number: number): number {
    return DELAYS_MS[this.drawn(number, 3) % DELAYS_MS.length]!;
  }

  /** The memory of its body is used again by the next call. */
  record(number: number): OutgoingRecord {
    const key = this.key(number);
    const body = this.content.body(this.id(number));
    return { body, priority: this.priority(number), delayMs: this.delayMs(number), ...(key === null ? {} : { key }) };
  }

  /** Which message it says that it is; null when it is none of this queue's. */
  numberOf(body: Uint8Array): number | null {
    const id = this.content.idOf(body);
    return id?.lane === this.queue ? id.number : null;
  }

  isExact(number: number, { key, priority, body }: ReceivedBody): boolean {
    if (this.content.body(this.id(number)).compare(body) !== 0 || priority !== this.priority(number)) return false;
    return (key === null ? null : Buffer.from(key).toString()) === this.key(number);
  }

  private id(number: number): RecordId {
    return { lane: this.queue, number };
  }

  private drawn(number: number, what: number): number {
    return mix(this.seed ^ what, number);
  }
}
