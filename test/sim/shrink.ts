// Makes a failing run smaller: less time, fewer nodes, groups and clients, fewer faults, as long as an invariant of the same kind is
// violated (delta debugging, after Zeller). Any change makes another run of it, so each is tried with a few seeds.

import type { Struck } from "./actions.ts";
import type { SimOptions } from "./options.ts";

/** A run: everything that its seed does not decide. */
export type Run = { readonly options: SimOptions; readonly schedule: readonly Struck[] };
type Change = { readonly options?: Partial<SimOptions>; readonly schedule?: readonly Struck[] };

export type ShrinkSettings = {
  /** The invariant that the run violates; "" = none. */
  readonly violated: (run: Run) => Promise<string>;
  /** Runs after which it is left as it is. */
  readonly runsMax: number;
  /** Seeds that each step is tried with. */
  readonly seedsPerStep: number;
  readonly tell: (line: string) => void;
};

/** `invariant`: what the smallest run violates. */
export type Shrunk = Run & { readonly invariant: string; readonly runs: number };

/** The invariant of a failure's message. */
export function invariantOf(message: string): string {
  return /^(\w+):/.exec(message)?.[1] ?? "bug";
}

/** `run`: of a seed that failed, with the schedule that it left. */
export async function shrink(run: Run, invariant: string, settings: ShrinkSettings): Promise<Shrunk> {
  const shrinking = new Shrinking(run, invariant, settings);
  await shrinking.run();
  return { ...shrinking.smallest, invariant: shrinking.invariant, runs: shrinking.runs };
}

class Shrinking {
  smallest: Run;
  runs = 0;
  invariant: string;
  private readonly settings: ShrinkSettings;

  constructor(run: Run, invariant: string, settings: ShrinkSettings) {
    this.smallest = run;
    this.invariant = invariant;
    this.settings = settings;
  }

  async run(): Promise<void> {
    // Size first: every later run takes less time.
    await this.simpler();
    await this.fewerFaults();
    while (await this.simpler());
    await this.fewerFaults();
  }

  private async simpler(): Promise<boolean> {
    let isSimpler = false;
    for (const change of smaller(() => this.smallest)) if (await this.try(change)) isSimpler = true;
    return isSimpler;
  }

  /** Takes the change over if the run fails as before. */
  private async try(change: Change): Promise<boolean> {
    const { violated, runsMax, seedsPerStep, tell } = this.settings;
    const { options, schedule } = this.smallest;
    const changed = { ...options, ...change.options };
    if (change.schedule === undefined && isSame(options, changed)) return false;
    for (let again = 0; again < seedsPerStep && this.runs < runsMax; again++) {
      const tried = { options: { ...changed, seed: (options.seed + again) >>> 0 }, schedule: change.schedule ?? schedule };
      this.runs += 1;
      const invariant = await violated(tried);
      if (!isAlike(invariant, this.invariant)) continue;
      this.smallest = tried;
      this.invariant = invariant;
      const { nodes, groups, producers, readers, storms, seconds } = tried.options;
      tell(
        `run ${this.runs}: ${tried.schedule.length} faults, ${nodes} nodes, ${groups} groups, ${producers}+${readers} clients each, ${storms} x ${seconds} s`,
      );
      return true;
    }
    return false;
  }

  /** None at all, else without ever smaller parts of them. */
  private async fewerFaults(): Promise<void> {
    if (await this.try({ schedule: [] })) return;
    for (let size = Math.ceil(this.schedule.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = 0; at < this.schedule.length;) {
        const rest: Struck[] = [...this.schedule.slice(0, at), ...this.schedule.slice(at + size)];
        if (this.schedule.length <= 1 || !(await this.try({ schedule: rest }))) at += size;
      }
    }
  }

  private get schedule(): readonly Struck[] {
    return this.smallest.schedule;
  }
}

/** Steps that make a run simpler, the largest first; each from where the one before has led. */
function* smaller(current: () => Run): Generator<Change> {
  const { storms, seconds, calmSeconds } = current().options;
  const last = Math.ceil((current().schedule.at(-1)?.atUs ?? 0) / 1_000_000);
  // Faults keep their times: one storm takes the place of several and of the calm between them.
  if (storms > 1 || calmSeconds > 0)
    yield { options: { storms: 1, calmSeconds: 0, seconds: Math.min(last + 5, storms * (seconds + calmSeconds)) } };
  yield* fewer(current, "groups", [1, 2, 4]);
  if (current().options.nodes > 3)
    yield { options: { nodes: 3 }, schedule: current().schedule.filter(({ action }) => action.node <= 3 && action.peer <= 3) };
  yield* fewer(current, "producers", [1, 2]);
  yield* fewer(current, "readers", [0, 1]);
  if (current().options.storms === 1) yield* fewer(current, "seconds", [last + 1, Math.ceil(seconds / 2), Math.ceil(seconds * 0.75)]);
  const simplest: Partial<SimOptions> = {
    steadyPercent: 0,
    recordBytesMax: 20,
    retentionBytes: 0,
    splitPercent: 0,
    jitterUs: 10,
    endsDark: false,
    floods: false,
  };
  for (const [name, value] of Object.entries(simplest)) yield { options: { [name]: value } };
}

/** One bug shows to clients (L) now in this way and now in that, and so in replicas (R); that something never ends is another matter. */
function isAlike(a: string, b: string): boolean {
  return a === b || (a[0] === b[0] && !["R9", "bug"].includes(a) && !["R9", "bug"].includes(b));
}

function isSame(a: SimOptions, b: SimOptions): boolean {
  return (Object.keys(a) as (keyof SimOptions)[]).every((name) => a[name] === b[name]);
}

/** The smallest of these that still fails. */
function* fewer(current: () => Run, name: "groups" | "producers" | "readers" | "seconds", values: readonly number[]): Generator<Change> {
  for (const value of values) if (value < current().options[name]) yield { options: { [name]: value } };
}
