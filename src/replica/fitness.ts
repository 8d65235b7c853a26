// Whether this node is fit to lead. Near the end of its disk nothing more is taken in, so that what frees space can still
// run; a disk that does not finish its writes, or a process that gets to nothing, makes everybody wait for a leader who need
// not be here.

import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";

/** `stopping`: it is about to go; no watch says so, the node itself does. */
export type Fitness = "fit" | "full" | "slow" | "stalled" | "stopping";

const EVERY_MS = 500;
/** A node is slow until its writes, and stalled until its event loop, were quick for so long. */
const QUICK_AGAIN_MS = 10_000;
/** Space is there again only well above the watermark, or a node would swing to and fro. */
const SPACE_AGAIN = 1.25;

const REASONS = {
  full: "the disk is nearly full",
  slow: "the disk does not finish its writes in time",
  stalled: "the event loop is late, again and again",
} as const;

export type FitnessSettings = {
  /** Free bytes of the disk below which it counts as full; 0: never. */
  readonly watermarkBytes: number;
  /** A write that takes longer makes the disk a slow one. */
  readonly slowWriteMs: number;
  /** A node whose event loop is later than this, again and again, is stalled: near an election timeout others replace it. */
  readonly stallMs: number;
};

export type FitnessComponents = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly freeBytes: () => Promise<number>;
  /** How long the longest write under way has taken so far; 0 = none is. */
  readonly oldestWriteMs: () => number;
  /** The 99th percentile of the event loop's delay over the last seconds. */
  readonly loopDelayMs: () => number;
  readonly changed: (fitness: Fitness) => void;
};

export class FitnessWatch {
  private readonly settings: FitnessSettings;
  private readonly components: FitnessComponents;
  private current: Fitness = "fit";
  private isFull = false;
  private slowUntilMs = 0;
  private stalledUntilMs = 0;
  private timer: Timer | null = null;
  private roundMs = 0;
  private looking = false;
  private stopped = false;

  constructor(settings: FitnessSettings, components: FitnessComponents) {
    this.settings = settings;
    this.components = components;
  }

  /** Resolves after the first look at the disk: a node must not begin as a fit one that is not. */
  async start(): Promise<void> {
    await this.look();
    this.roundMs = this.components.clock.monotonicMs();
    const round = (): void => {
      const { clock, oldestWriteMs, loopDelayMs } = this.components;
      const { slowWriteMs, stallMs } = this.settings;
      const nowMs = clock.monotonicMs();
      // After a stall of the process a write may have ended long ago without its knowing: the next round tells.
      const isLate = nowMs - this.roundMs > 2 * EVERY_MS;
      this.roundMs = nowMs;
      if (!isLate && oldestWriteMs() > slowWriteMs) this.slowUntilMs = nowMs + QUICK_AGAIN_MS;
      if (loopDelayMs() > stallMs) this.stalledUntilMs = nowMs + QUICK_AGAIN_MS;
      this.judge();
      // A file system that does not answer says nothing, and must not keep the time of writes from being looked at.
      if (!this.looking) void this.look();
      if (!this.stopped) this.timer = clock.schedule(EVERY_MS, round);
    };
    this.timer = this.components.clock.schedule(EVERY_MS, round);
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private async look(): Promise<void> {
    this.looking = true;
    try {
      const free = await this.components.freeBytes();
      this.isFull = free < this.settings.watermarkBytes * (this.isFull ? SPACE_AGAIN : 1);
    } catch (error) {
      this.components.logger.warn({ error: (error as Error).message }, "the free space of the disk is not known");
    } finally {
      this.looking = false;
    }
    this.judge();
  }

  private judge(): void {
    const { clock, logger, changed } = this.components;
    const nowMs = clock.monotonicMs();
    const next = this.isFull ? "full" : nowMs < this.slowUntilMs ? "slow" : nowMs < this.stalledUntilMs ? "stalled" : "fit";
    if (next === this.current || this.stopped) return;
    this.current = next;
    if (next === "fit") logger.info({}, "the node is fit again: it may lead");
    else logger.warn({ fitness: next, reason: REASONS[next] }, "the node is not fit to lead: leaders move away");
    changed(next);
  }
}
