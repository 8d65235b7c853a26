// What a run of many seeds has to say: a line of progress, what failed and how to see it again, a summary, a file for other programs.

import type { Outcome } from "./run-seed.ts";

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
  private realMs = 0;
  private readonly storms = { virtualMs: 0, realMs: 0 };
  private slowestHealMs = 0;
  private slowestSeed = { seed: 0, realMs: 0 };
  private readonly counts = new Map<string, number>();
  private readonly faults = new Map<string, number>();
  readonly failed: Outcome[] = [];

  constructor(settings: TallySettings) {
    this.settings = settings;
  }

  add(outcome: Outcome): void {
    this.seeds += 1;
    this.events += outcome.events;
    this.virtualMs += outcome.virtualMs;
    this.realMs += outcome.realMs;
    this.storms.virtualMs += outcome.storms.virtualMs;
    this.storms.realMs += outcome.storms.realMs;
    this.slowestHealMs = Math.max(this.slowestHealMs, outcome.healedMs);
    if (outcome.realMs > this.slowestSeed.realMs) this.slowestSeed = { seed: outcome.seed, realMs: outcome.realMs };
    for (const [name, value] of Object.entries(outcome.counts)) add(this.counts, name, value);
    for (const [name, value] of Object.entries(outcome.faults)) add(this.faults, name, value);
    if (outcome.failure !== null) this.failed.push(outcome);
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
    const storms = this.storms.virtualMs;
    const failures =
      this.failed.length === 0 ? "0 failed" : `${this.failed.length} failed (${this.failed.map(({ seed }) => seed).join(", ")})`;
    return [
      `faults: ${listOf(this.faults)}`,
      `counts: ${listOf(this.counts)}`,
      `load: ${rate(this.counts.get("acked") ?? 0, this.virtualMs)} batches acknowledged and ${rate(this.counts.get("records") ?? 0, this.virtualMs)} records ` +
        `a virtual second; ${(this.faultCount / Math.max(hours, 1e-9)).toFixed(0)} faults a cluster-hour; ${percent(storms, this.virtualMs)} of the time are storms, ` +
        `run at ${factor(this.storms)} times real time by one job; slowest to heal ${(this.slowestHealMs / 1_000).toFixed(1)} virtual s`,
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
      timesRealTimeOfOneJob: this.virtualMs / Math.max(this.realMs, 1),
      storms: {
        hours: this.storms.virtualMs / MS_PER_HOUR,
        timesRealTimeOfOneJob: this.storms.virtualMs / Math.max(this.storms.realMs, 1),
      },
      events: this.events,
      slowestToHealMs: this.slowestHealMs,
      slowestSeed: this.slowestSeed,
      faults: Object.fromEntries(sorted(this.faults)),
      counts: Object.fromEntries(this.counts),
      failed: this.failed.map(({ seed, failure }) => ({ seed, ...failure })),
    };
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
    return `${(this.virtualMs / wallMs).toFixed(0)} times real time (${factor({ virtualMs: this.virtualMs, realMs: this.realMs })} by one job, ${((this.events / Math.max(this.realMs, 1)) * 1_000).toFixed(0)} events/s)`;
  }

  private leftMs(now: number): number {
    const byTime = this.settings.endMs - now;
    const bySeeds = this.seeds === 0 ? Number.POSITIVE_INFINITY : ((now - this.beganMs) / this.seeds) * (this.settings.seeds - this.seeds);
    return Math.min(byTime, bySeeds);
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

function factor({ virtualMs, realMs }: { readonly virtualMs: number; readonly realMs: number }): string {
  return (virtualMs / Math.max(realMs, 1)).toFixed(0);
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
