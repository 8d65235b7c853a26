// Shares the event loop between the calls of clients and everything else. Calls start, and long ones go on, for a slice of
// each turn of the loop; whoever finds the slice used up waits in line for the next one. So heartbeats and elections never
// wait for more than a slice and the one step that overran it, however many calls there are.

import { BrokerError } from "./errors.ts";
import type { Clock } from "./clock.ts";

export type PacerSettings = {
  readonly sliceMs: number;
  /** Callers in line. */
  readonly waitingMax: number;
};

export class Pacer {
  private readonly settings: PacerSettings;
  private readonly clock: Clock;
  /** When the slice of this turn of the loop ends; -1: nobody has asked in this turn. */
  private sliceEndMs = -1;
  private waiting: (() => void)[] = [];
  private served = 0;

  constructor(settings: PacerSettings, clock: Clock) {
    this.settings = settings;
    this.clock = clock;
  }

  /**
   * Null: go on, there is time. Otherwise wait for the promise, then go on; it rejects with OVERLOADED when too many wait. To
   * be asked before each step of a few milliseconds at most.
   */
  turn(): Promise<void> | null {
    if (this.waiting.length === 0 && this.hasTime()) return null;
    if (this.waiting.length - this.served >= this.settings.waitingMax)
      return Promise.reject(new BrokerError("OVERLOADED", `${this.settings.waitingMax} calls wait on this node already; slow down`));
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private hasTime(): boolean {
    const nowMs = this.clock.monotonicMs();
    if (this.sliceEndMs < 0) this.open(nowMs);
    return nowMs < this.sliceEndMs;
  }

  private open(nowMs: number): void {
    this.sliceEndMs = nowMs + this.settings.sliceMs;
    this.clock.defer(() => {
      this.sliceEndMs = -1;
      if (this.waiting.length > 0) this.serve();
    });
  }

  /** One after the other, each only when what the one before did is done. */
  private serve(): void {
    if (this.waiting.length === 0 || !this.hasTime()) return;
    const next = this.waiting[this.served++]!;
    if (this.served === this.waiting.length) {
      this.waiting = [];
      this.served = 0;
    }
    next();
    // After the caller's own continuation, which `next` put in line just now.
    void Promise.resolve().then(() => this.serve());
  }
}
