import type { Clock, Timer } from "../../src/base/clock.ts";

/** An event loop of our own: time stands still until the test moves it, and a turn runs what was put off to it. */
export class FakeLoop implements Clock {
  nowMs = 1_000;
  private deferred: (() => void)[] = [];
  private timers: { readonly atMs: number; readonly callback: () => void }[] = [];

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return this.nowMs;
  }

  schedule(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.timers.push(timer);
    return { cancel: () => void (this.timers = this.timers.filter((other) => other !== timer)) };
  }

  defer(callback: () => void): void {
    this.deferred.push(callback);
  }

  /** Timers that are due, in their order, then what was deferred until now. */
  turn(): void {
    const due = this.timers.filter(({ atMs }) => atMs <= this.nowMs).sort((a, b) => a.atMs - b.atMs);
    this.timers = this.timers.filter(({ atMs }) => atMs > this.nowMs);
    for (const { callback } of due) callback();
    const deferred = this.deferred;
    this.deferred = [];
    for (const callback of deferred) callback();
  }
}
