// Where messages of a work subscription are, beyond what consumers hold: they wait for a consumer, their time or their turn, are dead, or are
// settled and known no more. Who says that one is to go from here to there is `work.ts`.

import type { Dues } from "./dues.ts";
import { OVERFLOW_REJECT } from "./config.ts";
import type { Run } from "./lanes.ts";
import { NOWHERE } from "./run-map.ts";
import { DEAD_EXPIRED, DEAD_LIMIT, DEAD_OVERFLOW, eachOf, EXPIRY, PRIORITY, type DeadReason, type WorkState } from "./state.ts";

export class Places {
  private readonly state: WorkState;
  private readonly dues: Dues;

  constructor(state: WorkState, dues: Dues) {
    this.state = state;
    this.dues = dues;
  }

  delay(from: number, end: number, dueMs: number): void {
    this.state.delayed.assign(from, end, dueMs);
    this.dues.delays.push(dueMs, from, end);
  }

  /** Back to their places, each in the lane of its priority. */
  ready(from: number, end: number): void {
    const { lanes, facts } = this.state;
    let at = from;
    eachOf(facts, { from, end }, (run, place) => {
      if (run.from > at) lanes.add(0, at, run.from);
      lanes.add(facts.value(place, PRIORITY), run.from, run.end);
      at = run.end;
    });
    if (at < end) lanes.add(0, at, end);
  }

  /** Back from a consumer: what has expired meanwhile is dead, the rest waits, for a while or not. */
  back(from: number, end: number, waitMs: number, nowMs: number): void {
    const { facts } = this.state;
    const expired: Run[] = [];
    eachOf(facts, { from, end }, (run, place) => {
      const expiryMs = facts.value(place, EXPIRY);
      if (expiryMs > 0 && expiryMs <= nowMs) expired.push(run);
    });
    let at = from;
    for (const run of [...expired, { from: end, end }]) {
      if (at < run.from && waitMs > 0) this.delay(at, run.from, nowMs + waitMs);
      else if (at < run.from) this.ready(at, run.from);
      at = run.end;
    }
    for (const run of expired) this.kill(run.from, run.end, DEAD_EXPIRED);
  }

  /**
   * A delayed message waits for so long from now on, and has this priority (-1: the one that it has). Returns 1; 0 when it is not delayed,
   * and -1 when its priority is not the one that is asked for (-1: any).
   */
  expedite(offset: number, delayMs: number, priority: number, whilePriority: number, nowMs: number): number {
    const { delayed, facts } = this.state;
    const place = delayed.find(offset);
    if (place === NOWHERE) return 0;
    const dueMs = delayed.value(place, 0);
    const [before, expiryMs] = [facts.get(offset, PRIORITY, 0), facts.get(offset, EXPIRY, 0)];
    if (whilePriority >= 0 && before !== whilePriority) return -1;
    // It lives for as long as it would have from when it may be delivered.
    const expiresMs = expiryMs === 0 ? 0 : Math.max(nowMs, expiryMs + nowMs + delayMs - dueMs);
    const after = priority < 0 ? before : priority;
    if (after > 0 || expiresMs > 0) facts.assign(offset, offset + 1, after, expiresMs);
    else facts.clear(offset, offset + 1);
    if (expiresMs > 0) this.dues.expiries.push(expiresMs, offset, offset + 1);
    delayed.clear(offset, offset + 1);
    if (delayMs > 0) this.delay(offset, offset + 1, nowMs + delayMs);
    else this.ready(offset, offset + 1);
    return 1;
  }

  takeBack(from: number, end: number): number {
    let taken = 0;
    for (const run of this.takeWaiting(from, end)) {
      this.forget(run.from, run.end);
      taken += run.end - run.from;
    }
    return taken;
  }

  /** Takes out those of the offsets that wait for a consumer, their time or their turn, and tells which they were. */
  private takeWaiting(from: number, end: number): Run[] {
    const { lanes, delayed, keys } = this.state;
    const found = lanes.takeOut(from, end);
    eachOf(delayed, { from, end }, (run) => {
      delayed.clear(run.from, run.end);
      found.push(run);
    });
    found.push(...keys.takeOut(from, end));
    return found;
  }

  /** Those that wait; one that a consumer holds does not expire, and when it comes back it does. */
  expire(due: Run, nowMs: number): void {
    const { facts } = this.state;
    const expired: Run[] = [];
    eachOf(facts, due, (run, place) => {
      const expiryMs = facts.value(place, EXPIRY);
      if (expiryMs > 0 && expiryMs <= nowMs) expired.push(run);
    });
    for (const run of expired) for (const part of this.takeWaiting(run.from, run.end)) this.kill(part.from, part.end, DEAD_EXPIRED);
  }

  kill(from: number, end: number, reason: DeadReason): void {
    // Nobody said that it is of no use, so it is kept for whoever looks into it.
    if (!this.state.config.deadLetters && reason !== DEAD_LIMIT) {
      this.forget(from, end);
      return;
    }
    this.passKeys(from, end);
    this.state.sizes.forget(from, end);
    this.state.dead.assign(from, end, reason);
  }

  /** Nothing is known of them any more: they are settled. */
  forget(from: number, end: number): void {
    const { deliveries, facts, sizes } = this.state;
    this.passKeys(from, end);
    deliveries.clear(from, end);
    facts.clear(from, end);
    sizes.forget(from, end);
  }

  private passKeys(from: number, end: number): void {
    const { keys } = this.state;
    for (const offset of keys.keyed(from, end)) {
      const next = keys.done(offset);
      if (next >= 0) this.ready(next, next + 1);
    }
  }

  /** Where what comes is refused, nothing that was taken goes. */
  bound(): void {
    const { config, lanes, sizes } = this.state;
    const { maxMessages, maxBytes } = config;
    if (config.overflow === OVERFLOW_REJECT) return;
    while (maxMessages > 0 && lanes.size > 0 && this.state.waiting > maxMessages) this.overflow(this.state.waiting - maxMessages);
    while (maxBytes > 0 && lanes.size > 0 && sizes.total > maxBytes) this.overflow(1);
  }

  private overflow(messages: number): void {
    const run = this.state.lanes.takeLeast(messages)!;
    this.kill(run.from, run.end, DEAD_OVERFLOW);
  }
}
