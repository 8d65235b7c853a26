// Q6: what a consumer holds is settled, or waits again, soon after its lease has ended, whoever has led the queue meanwhile. Looked at once
// the weather is over and consumers settle what they are given: nothing may stay as it is.

import { Violation } from "./history.ts";

/** What browsing a queue says of one run of leased messages. */
export type HeldRun = { readonly firstOffset: number; readonly count: number; readonly deliveries: number; readonly untilMs: number };

export class HeldWatch {
  private readonly queue: string;
  private readonly withinMs: number;
  /** By offset: the lease under which it was seen, and when first. */
  private seen = new Map<number, { readonly lease: string; readonly sinceMs: number }>();

  /** `withinMs`: a lease, and how late it may end. */
  constructor(queue: string, withinMs: number) {
    this.queue = queue;
    this.withinMs = withinMs;
  }

  /** All that is held now. */
  look(runs: readonly HeldRun[], nowMs: number): void {
    const { seen } = this;
    this.seen = new Map();
    for (const { firstOffset, count, deliveries, untilMs } of runs)
      for (let offset = firstOffset; offset < firstOffset + count; offset++) {
        const lease = `${deliveries} until ${untilMs}`;
        const before = seen.get(offset);
        const sinceMs = before?.lease === lease ? before.sinceMs : nowMs;
        this.seen.set(offset, { lease, sinceMs });
        if (nowMs - sinceMs > this.withinMs)
          throw new Violation(
            "Q6",
            `${this.queue}: the message at ${offset} has been held for ${Math.round(nowMs - sinceMs)} ms under one lease, by nobody`,
          );
      }
  }
}
