// How late the event loop is: a timer that measures its own delay. Everything that the node does for others waits so long,
// heartbeats included, so a long stall is written down together with what held the loop.

import type { Clock, Timer } from "../base/clock.ts";
import { Histogram } from "../base/histogram.ts";
import type { Logger } from "../base/logger.ts";
import type { LongestWork } from "../base/work.ts";

const SAMPLE_MS = 20;
/** The time over which `p99Ms` looks back. */
const WINDOW_MS = 5_000;
const WINDOW_SAMPLES = WINDOW_MS / SAMPLE_MS;
/** Seconds. */
const DELAY_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5] as const;
/** One warning in so long; the next one says how many stalls went by in between. */
const WARN_EVERY_MS = 5_000;

export type LoopWatchSettings = {
  /** Stalls of at least so many milliseconds are counted, by each of these. */
  readonly stallMs: readonly number[];
  /** And one of so many is written down. */
  readonly warnMs: number;
};

export type LoopWatchComponents = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly longest: LongestWork;
  /** CPU milliseconds that this process has used so far: tells work of its own from a machine that did not let it run. */
  readonly cpuMs: () => number;
};

export class LoopWatch {
  private readonly settings: LoopWatchSettings;
  private readonly components: LoopWatchComponents;
  readonly delaySeconds = new Histogram(DELAY_BOUNDS);
  private readonly stalls: Float64Array;
  /** The newest delays, and when they were measured; a ring. */
  private readonly delays = new Float64Array(WINDOW_SAMPLES);
  private readonly times = new Float64Array(WINDOW_SAMPLES).fill(Number.NEGATIVE_INFINITY);
  private at = 0;
  private dueMs = 0;
  private cpuMs = 0;
  private warnedMs = Number.NEGATIVE_INFINITY;
  private unsaid = 0;
  private timer: Timer | null = null;

  constructor(settings: LoopWatchSettings, components: LoopWatchComponents) {
    this.settings = settings;
    this.components = components;
    this.stalls = new Float64Array(settings.stallMs.length);
  }

  start(): void {
    const { clock, cpuMs } = this.components;
    this.cpuMs = cpuMs();
    this.dueMs = clock.monotonicMs() + SAMPLE_MS;
    this.timer = clock.schedule(SAMPLE_MS, () => this.sample());
  }

  stop(): void {
    this.timer?.cancel();
  }

  /** The delay that 99 of 100 samples of the last seconds stayed below, in ms. One stall alone, however long, does not raise it. */
  get p99Ms(): number {
    const since = this.components.clock.monotonicMs() - WINDOW_MS;
    const recent = this.delays.filter((_, at) => this.times[at]! >= since).sort();
    return recent[Math.min(recent.length - 2, Math.ceil(recent.length * 0.99) - 1)] ?? 0;
  }

  /** Stalls since the start, by their least length in ms. */
  stallCounts(): readonly (readonly [atLeastMs: number, count: number])[] {
    return this.settings.stallMs.map((ms, at) => [ms, this.stalls[at]!]);
  }

  private sample(): void {
    const { clock, longest, cpuMs } = this.components;
    const nowMs = clock.monotonicMs();
    const delayMs = Math.max(0, nowMs - this.dueMs);
    const usedMs = cpuMs();
    const work = longest.take();
    this.note(nowMs, delayMs);
    if (delayMs >= this.settings.warnMs) this.warn(nowMs, delayMs, usedMs - this.cpuMs, work);
    this.cpuMs = usedMs;
    this.dueMs = nowMs + SAMPLE_MS;
    this.timer = clock.schedule(SAMPLE_MS, () => this.sample());
  }

  private note(nowMs: number, delayMs: number): void {
    this.delaySeconds.add(delayMs / 1_000);
    this.settings.stallMs.forEach((ms, at) => {
      if (delayMs >= ms) this.stalls[at]! += 1;
    });
    this.delays[this.at] = delayMs;
    this.times[this.at] = nowMs;
    this.at = (this.at + 1) % WINDOW_SAMPLES;
  }

  private warn(nowMs: number, delayMs: number, usedMs: number, work: { readonly what: string; readonly ms: number }): void {
    if (nowMs - this.warnedMs < WARN_EVERY_MS) {
      this.unsaid += 1;
      return;
    }
    const fields = {
      delayMs: Math.round(delayMs),
      cpuMs: Math.round(usedMs),
      longestWork: work.what,
      longestWorkMs: Math.round(work.ms),
      othersSinceLastWarning: this.unsaid,
    };
    this.components.logger.warn(fields, "the event loop stalled");
    this.warnedMs = nowMs;
    this.unsaid = 0;
  }
}
