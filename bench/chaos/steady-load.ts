// Records that fall due at a steady rate, whatever becomes of those before; without books, so that it takes as little of the
// machine as a load can: what is measured are the nodes.

import type { Producer } from "../../src/client/index.ts";
import { payload } from "../system.ts";
import type { Timeline } from "./timeline.ts";

const TICK_MS = 2;
/** Of those that did not succeed; the others are counted. */
const ERRORS_MAX = 20;

export class SteadyLoad {
  offered = 0;
  acked = 0;
  /** Fell due while the producer's buffer was full. */
  notOffered = 0;
  errors = 0;
  readonly errorTexts: string[] = [];
  private readonly producer: Producer;
  private readonly timeline: Timeline;
  private readonly now: () => number;
  private readonly body: Buffer;
  private readonly rate: number;
  private timer: NodeJS.Timeout | null = null;
  private startedMs = 0;
  private due = 0;
  private isFull = false;

  /** `rate` records a second of so many bytes; `now`: ms, the timeline's own. */
  constructor(
    producer: Producer,
    plan: { readonly rate: number; readonly bytes: number; readonly timeline: Timeline; readonly now: () => number },
  ) {
    this.producer = producer;
    this.timeline = plan.timeline;
    this.now = plan.now;
    this.rate = plan.rate;
    this.body = payload(plan.bytes);
  }

  start(): void {
    this.startedMs = this.now();
    this.timeline.expect(this.producer.partitions);
    this.timer = setInterval(() => this.tick(), TICK_MS);
  }

  /** Resolves when all has its outcome. */
  async stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    // What failed was told record by record.
    await this.producer.flush().catch(() => {});
    this.timeline.rest();
  }

  private tick(): void {
    const until = Math.floor(((this.now() - this.startedMs) / 1_000) * this.rate);
    for (; this.due < until; this.due++) {
      if (this.isFull) this.notOffered += 1;
      else this.offer(this.startedMs + (this.due / this.rate) * 1_000);
    }
  }

  private offer(dueMs: number): void {
    this.offered += 1;
    this.timeline.offer();
    const hasRoom = this.producer.append({ body: this.body }, (error, partition) => {
      if (error === null) {
        this.acked += 1;
        this.timeline.ack(partition, this.now() - dueMs);
        return;
      }
      this.errors += 1;
      if (this.errorTexts.length < ERRORS_MAX) this.errorTexts.push(`${error.code}: ${error.message}`);
    });
    if (hasRoom) return;
    this.isFull = true;
    void this.producer.ready().then(
      () => (this.isFull = false),
      () => {},
    );
  }
}
