// What a run of many seeds has to say: a line of progress, what failed and how to see it again, a summary, a file for other programs.

import { PROBES } from "./probes.ts";
import type { Outcome } from "./run-seed.ts";
import type { Spent } from "./spent.ts";

const MS_PER_HOUR = 3_600_000;
/** On a terminal, and where lines add up. */
const PROGRESS_MS = { terminal: 1_000, file: 30_000 };

/** When a line of progress is due: once a second on a terminal, seldom in a file. */
export class ProgressPace {
  private saidMs = performance.now();

  isDue(isTerminal: boolean): boolean {
    const now = performance.now();
    if (now - this.saidMs < (isTerminal ? PROGRESS_MS.terminal : PROGRESS_MS.file)) return false;
    this.saidMs = now;
    return true;
  }
}

export type TallySettings = {
  readonly commit: string;
  /** How many seeds there will be, and when it is over by `performance.now`; infinity where that is not known. */
  readonly seeds: number;
  readonly endMs: number;
};

export class Tally {
  private readonly settings: TallySettings;
  private readonly beganMs = performance.now();
  private readonly pace = new ProgressPace();
  private seeds = 0;
  private events = 0;
  private virtualMs = 0;
  /** By one job. */
  private readonly all = new Speed();
  private readonly storms = new Speed();
  /** Those of clusters with so many nodes. */
  private readonly byNodes = new Map<number, Speed>();
  private largestBytes = 0;
  private slowestHealMs = 0;
  private slowestSeed = { seed: 0, realMs: 0 };
  private readonly counts = new Map<string, number>();
  private readonly faults = new Map<string, number>();
  private readonly said = new Map<string, number>();
  readonly failed: Outcome[] = [];
  /** Seeds that were under way when the time was over: nothing is known of them. */
  readonly givenUp: number[] = [];

  constructor(settings: TallySettings) {
    this.settings = settings;
  }

  add(outcome: Outcome): void {
    this.seeds += 1;
    this.events += outcome.events;
    this.virtualMs += outcome.virtualMs;
    this.all.add(outcome);
    this.storms.add(outcome.storms);
    let ofNodes = this.byNodes.get(outcome.nodes);
    if (ofNodes === undefined) this.byNodes.set(outcome.nodes, (ofNodes = new Speed()));
    ofNodes.add(outcome);
    this.largestBytes = Math.max(this.largestBytes, outcome.memoryBytes);
    this.slowestHealMs = Math.max(this.slowestHealMs, outcome.healedMs);
    const { realMs } = outcome.spent;
    if (realMs > this.slowestSeed.realMs) this.slowestSeed = { seed: outcome.seed, realMs };
    for (const [name, value] of Object.entries(outcome.counts)) add(this.counts, name, value);
    for (const [name, value] of Object.entries(outcome.faults)) add(this.faults, name, value);
    for (const [name, value] of Object.entries(outcome.said)) add(this.said, name, value);
    if (outcome.failure !== null) this.failed.push(outcome);
  }

  /** Seeds that came to an end. Without any nothing was shown. */
  get count(): number {
    return this.seeds;
  }

  /** Real milliseconds that a seed takes one job, as far as is known. */
  get usualMs(): number {
    return this.seeds === 0 ? 0 : this.all.realMs / this.seeds;
  }

  /** A line for the terminal, or null when the last one is fresh. */
  progress(isTerminal: boolean): string | null {
    if (!this.pace.isDue(isTerminal)) return null;
    const now = performance.now();
    const of = Number.isFinite(this.settings.seeds) ? ` of ${this.settings.seeds}` : "";
    return `${this.seeds}${of} seeds, ${this.hours.toFixed(1)} cluster-hours, ${this.speed}, ${this.failed.length} failed, ${minutes(this.leftMs(now))} to go`;
  }

  summary(): string[] {
    const hours = this.hours;
    const { storms } = this;
    const failures =
      this.failed.length === 0 ? "0 failed" : `${this.failed.length} failed (${this.failed.map(({ seed }) => seed).join(", ")})`;
    return [
      `faults: ${listOf(this.faults)}`,
      `counts: ${listOf(this.counts)}`,
      this.probes,
      `load: ${rate(this.counts.get("acked") ?? 0, this.virtualMs)} batches acknowledged and ${rate(this.counts.get("records") ?? 0, this.virtualMs)} records ` +
        `a virtual second; ${(this.faultCount / Math.max(hours, 1e-9)).toFixed(0)} faults a cluster-hour; slowest to heal ` +
        `${(this.slowestHealMs / 1_000).toFixed(1)} virtual s`,
      `speed per core, by its CPU time: ${this.all.perCore}; ${this.sortedNodes.map(([nodes, speed]) => `${speed.perCore} with ${nodes} nodes`).join(", ")}; ` +
        `${storms.perCore} in storms, which are ${percent(storms.virtualMs, this.virtualMs)} of the time; ` +
        `a job held at most ${(this.largestBytes / 2 ** 20).toFixed(0)} MiB`,
      ...(this.givenUp.length === 0 ? [] : [`given up as the time was over: ${this.givenUp.join(", ")}`]),
      `${this.seeds} seeds of commit ${this.settings.commit.slice(0, 12)}, ${failures}; ${hours.toFixed(2)} cluster-hours in ` +
        `${((performance.now() - this.beganMs) / 1_000).toFixed(1)} s: ${this.speed}; ${this.faultCount} faults of ${this.kinds} kinds`,
    ];
  }

  /** For other programs. */
  toJson(): object {
    return {
      commit: this.settings.commit,
      seeds: this.seeds,
      clusterHours: this.hours,
      seconds: (performance.now() - this.beganMs) / 1_000,
      timesRealTime: this.virtualMs / (performance.now() - this.beganMs),
      ofOneJob: this.all.toJson(),
      ofOneJobByNodes: Object.fromEntries(this.sortedNodes.map(([nodes, speed]) => [nodes, speed.toJson()])),
      ofOneJobInStorms: this.storms.toJson(),
      events: this.events,
      largestBytes: this.largestBytes,
      givenUp: this.givenUp,
      slowestToHealMs: this.slowestHealMs,
      slowestSeed: this.slowestSeed,
      faults: Object.fromEntries(sorted(this.faults)),
      counts: Object.fromEntries(this.counts),
      probes: Object.fromEntries(PROBES.map((probe) => [probe, this.said.get(probe) ?? 0])),
      failed: this.failed.map(({ seed, failure }) => ({ seed, ...failure })),
    };
  }

  private get probes(): string {
    const missing = PROBES.filter((probe) => !this.said.has(probe));
    const rest = missing.length === 0 ? "" : `; not reached: ${missing.join(" | ")}`;
    return `probes: ${PROBES.length - missing.length} of ${PROBES.length} reached${rest}`;
  }

  private get hours(): number {
    return this.virtualMs / MS_PER_HOUR;
  }

  private get faultEntries(): [string, number][] {
    return [...this.faults].filter(([name]) => !name.startsWith("felt"));
  }

  private get faultCount(): number {
    return this.faultEntries.reduce((sum, [, times]) => sum + times, 0);
  }

  private get kinds(): number {
    return this.faultEntries.length;
  }

  /** Of all jobs together, and of one. */
  private get speed(): string {
    const wallMs = performance.now() - this.beganMs;
    const { all } = this;
    return (
      `${(this.virtualMs / wallMs).toFixed(0)} times real time (${all.perCore} per core of CPU time, ` +
      `${((this.events / Math.max(all.cpuMs, 1)) * 1_000).toFixed(0)} events/s)`
    );
  }

  private get sortedNodes(): [number, Speed][] {
    return [...this.byNodes].sort(([a], [b]) => a - b);
  }

  private leftMs(now: number): number {
    const byTime = this.settings.endMs - now;
    const bySeeds = this.seeds === 0 ? Number.POSITIVE_INFINITY : ((now - this.beganMs) / this.seeds) * (this.settings.seeds - this.seeds);
    return Math.min(byTime, bySeeds);
  }
}

/** Virtual time against real time, summed up over seeds. */
class Speed {
  virtualMs = 0;
  realMs = 0;
  cpuMs = 0;

  add({ virtualMs, spent }: { readonly virtualMs: number; readonly spent: Spent }): void {
    this.virtualMs += virtualMs;
    this.realMs += spent.realMs;
    this.cpuMs += spent.cpuMs;
  }

  get perCore(): string {
    return (this.virtualMs / Math.max(this.cpuMs, 1)).toFixed(0);
  }

  toJson(): object {
    const { virtualMs, realMs, cpuMs } = this;
    return {
      hours: virtualMs / MS_PER_HOUR,
      timesRealTime: virtualMs / Math.max(realMs, 1),
      timesRealTimeByCpu: virtualMs / Math.max(cpuMs, 1),
    };
  }
}

/** All there is to say of a seed that failed. */
export function describeFailure({ seed, failure }: Outcome, commit: string, replay: string): string {
  const { message, stack, options, notes, trace } = failure!;
  return [
    `seed ${seed} failed: ${message}`,
    `commit: ${commit}`,
    `options: ${options}`,
    `--- the newest of what nodes and faults said`,
    ...notes,
    `--- the last events`,
    ...trace,
    `---`,
    `seed ${seed} failed: ${stack}`,
    `replay: ${replay}`,
  ].join("\n");
}

function add(map: Map<string, number>, name: string, value: number): void {
  map.set(name, (map.get(name) ?? 0) + value);
}

function sorted(map: ReadonlyMap<string, number>): [string, number][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1));
}

function listOf(map: ReadonlyMap<string, number>): string {
  return (
    sorted(map)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ") || "none"
  );
}

function rate(count: number, virtualMs: number): string {
  return (count / Math.max(virtualMs / 1_000, 1e-9)).toFixed(1);
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / Math.max(whole, 1)).toFixed(0)} %`;
}

function minutes(ms: number): string {
  return Number.isFinite(ms) ? `${(ms / 60_000).toFixed(1)} min` : "?";
}
