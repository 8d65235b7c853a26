// The slow round through all that a node keeps, again and again, so that damage is found while others can make up for it.

import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";

/** What a small read counts for: many groups with little in them must not cost more than a few with much. */
const READ_COST_BYTES = 64 * 1024;
/** What was read is slept off once it comes to so much: a timer for each small read costs more than the read. */
const SLEEP_MS_MIN = 100;

/** Told of bytes that were read; resolves when more may be. */
export type Pace = (bytes: number) => Promise<void>;
export type ScrubTask = (pace: Pace) => Promise<void>;

export type ScrubbingSettings = {
  /** 0: never. */
  readonly bytesPerSecond: number;
  /** Between the end of one round and the start of the next. */
  readonly pauseMs: number;
};

export type ScrubbingComponents = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tasks: readonly ScrubTask[];
  /** Everything was read once more. */
  readonly ended: () => void;
  readonly fatal: (error: Error) => void;
};

class StoppedError extends Error {
  override readonly name = "StoppedError";
}

export class Scrubbing {
  private readonly settings: ScrubbingSettings;
  private readonly components: ScrubbingComponents;
  private stopped = false;
  private wake: () => void = () => {};
  private round: Promise<void> = Promise.resolve();

  constructor(settings: ScrubbingSettings, components: ScrubbingComponents) {
    this.settings = settings;
    this.components = components;
  }

  start(): void {
    if (this.settings.bytesPerSecond > 0) this.round = this.run();
  }

  /** Resolves when nothing is read any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.wake();
    await this.round;
  }

  private async run(): Promise<void> {
    try {
      for (;;) {
        await this.sleep(this.settings.pauseMs);
        let bytes = 0;
        let owedMs = 0;
        const pace: Pace = async (count) => {
          bytes += count;
          owedMs += (Math.max(count, READ_COST_BYTES) * 1_000) / this.settings.bytesPerSecond;
          if (owedMs < SLEEP_MS_MIN && !this.stopped) return;
          const delayMs = owedMs;
          owedMs = 0;
          await this.sleep(delayMs);
        };
        for (const task of this.components.tasks) await task(pace);
        this.components.logger.debug({ bytes }, "everything was read once");
        this.components.ended();
      }
    } catch (error) {
      if (!(error instanceof StoppedError)) this.components.fatal(error as Error);
    }
  }

  private sleep(delayMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        timer.cancel();
        if (this.stopped) reject(new StoppedError());
        else resolve();
      };
      const timer = this.components.clock.schedule(delayMs, done);
      this.wake = done;
      if (this.stopped) done();
    });
  }
}
