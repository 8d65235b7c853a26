// How much the machine itself got in the way of a measurement: time that the hypervisor took, and the delay of this
// process's own event loop.

import { readFileSync } from "node:fs";
import { monitorEventLoopDelay, type IntervalHistogram } from "node:perf_hooks";

export type Disturbance = {
  /** Of all processor time; null where the system does not tell. */
  readonly stealPercent: number | null;
  readonly loopDelayMs: number;
};

export class MachineWatch {
  private readonly delay: IntervalHistogram = monitorEventLoopDelay({ resolution: 2 });
  private before = cpuTicks();

  constructor() {
    this.delay.enable();
  }

  /** A new measurement begins. */
  begin(): void {
    this.delay.reset();
    this.before = cpuTicks();
  }

  /** Since then. */
  end(): Disturbance {
    const after = cpuTicks();
    const { before } = this;
    const total = after === null || before === null ? 0 : after.total - before.total;
    return {
      stealPercent: total === 0 ? null : (100 * (after!.steal - before!.steal)) / total,
      // It holds nothing at all when the loop was late all the time.
      loopDelayMs: this.delay.max > 1e15 || this.delay.max === 0 ? 0 : this.delay.max / 1e6,
    };
  }

  stop(): void {
    this.delay.disable();
  }
}

/** Of all processors, since the machine's start. The fields are user, nice, system, idle, iowait, irq, softirq, steal. */
function cpuTicks(): { readonly total: number; readonly steal: number } | null {
  try {
    const fields = /^cpu +(.*)$/m.exec(readFileSync("/proc/stat", "utf8"))![1]!.split(" ").slice(0, 8).map(Number);
    return { total: fields.reduce((sum, ticks) => sum + ticks, 0), steal: fields[7]! };
  } catch {
    return null;
  }
}
