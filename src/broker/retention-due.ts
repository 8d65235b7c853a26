// When retention is due by its schedule. Whoever leads a partition decides it anew, from the schedule and the clock alone: trimming twice
// what was too old at one time does no harm, so nobody has to know what the leader before did.

import { RETENTION_LATE_MS_MAX } from "../base/limits.ts";
import { lastRun, nextRun, safely, type CronSpec } from "./schedule-times.ts";

/** `lastMs`: the last time at or before `fromMs`, and the same until `nextMs`; 0 = there is none. */
type Known = { readonly fromMs: number; readonly lastMs: number; readonly nextMs: number };

/** Thousands of partitions share a few schedules, so each is looked up once, and again when it is due next. */
export class RetentionDue {
  private known = new Map<string, Known>();
  /** Of the round before: what nobody asks for any more is forgotten. */
  private before = new Map<string, Known>();

  /** A look at all partitions begins. */
  round(): void {
    this.before = this.known;
    this.known = new Map();
  }

  /**
   * The last time that the schedule was due: after `sinceMs`, which is what is done or was not yet wanted, and no longer ago than is made up
   * for. 0 = there is none.
   */
  dueMs(spec: CronSpec, sinceMs: number, nowMs: number): number {
    const { lastMs } = this.timesOf(spec, nowMs);
    return lastMs > Math.max(sinceMs, nowMs - RETENTION_LATE_MS_MAX) ? lastMs : 0;
  }

  private timesOf(spec: CronSpec, nowMs: number): Known {
    const key = `${spec.timeZone} ${spec.cron}`;
    let known = this.known.get(key) ?? this.before.get(key);
    if (known === undefined || nowMs < known.fromMs || (known.nextMs > 0 && nowMs >= known.nextMs))
      known = {
        fromMs: nowMs,
        lastMs: safely(() => lastRun(spec, nowMs - RETENTION_LATE_MS_MAX, nowMs)),
        nextMs: safely(() => nextRun(spec, nowMs)),
      };
    this.known.set(key, known);
    return known;
  }
}
