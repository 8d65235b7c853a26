// One seed, run once or twice, with its outcome as plain data: it may have run in another process.

import { optionsOf, describeOptions, type GivenOptions, type SimOptions } from "./options.ts";
import { PLANTED } from "./planted.ts";
import { Simulation, type SimResult } from "./simulation.ts";
import { NOTHING_SPENT, type Spent } from "./spent.ts";

export type Task = {
  readonly given: GivenOptions;
  /** The second run must leave the same trace. */
  readonly twice: boolean;
  /** A bug that is planted for the run; "" = none. */
  readonly planted: string;
};

export type SeedFailure = {
  readonly message: string;
  readonly stack: string;
  readonly options: string;
  /** The newest of what nodes and faults said, and the last events. */
  readonly notes: readonly string[];
  readonly trace: readonly string[];
};

export type Outcome = {
  readonly seed: number;
  readonly failure: SeedFailure | null;
  readonly hash: string;
  readonly nodes: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly spent: Spent;
  readonly storms: { readonly virtualMs: number; readonly spent: Spent };
  readonly healedMs: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly said: Readonly<Record<string, number>>;
  /** Of the process that ran it: at its end, and after cleaning up. */
  readonly memoryBytes: number;
  readonly memoryLeftBytes: number;
};

export async function runSeed({ given, twice, planted }: Task): Promise<Outcome> {
  const undo = planted === "" ? null : plantedBug(planted).plant();
  try {
    return await run(given, twice);
  } finally {
    undo?.();
  }
}

export function plantedBug(name: string): (typeof PLANTED)[number] {
  const bug = PLANTED.find((one) => one.name === name);
  if (bug === undefined) throw new Error(`there is no planted bug ${name}`);
  return bug;
}

async function run(given: GivenOptions, twice: boolean): Promise<Outcome> {
  const options = optionsOf(given);
  const result = await new Simulation(options).run();
  let failure = result.failure;
  if (twice && failure === null) {
    const again = await new Simulation(options).run();
    if (again.hash !== result.hash) failure = new Error(`determinism: two runs left the traces ${result.hash} and ${again.hash}`);
  }
  const { seed, hash, nodes, events, virtualMs, spent, storms, healedMs, counts } = result;
  return {
    seed,
    failure: failure === null ? null : describe(failure, options, result),
    hash,
    nodes,
    events,
    virtualMs,
    spent,
    storms,
    healedMs,
    counts,
    faults: Object.fromEntries(result.faults),
    said: Object.fromEntries(result.said),
    memoryBytes: process.memoryUsage.rss(),
    memoryLeftBytes: 0,
  };
}

function describe({ message, stack = message }: Error, options: SimOptions, { notes, trace }: SimResult): SeedFailure {
  return { message, stack, options: describeOptions(options), notes, trace };
}

/** Of a seed whose process ended, or did not come to an end. */
export function lostOutcome(given: GivenOptions, message: string): Outcome {
  const options = optionsOf(given);
  return {
    seed: given.seed,
    failure: { message, stack: message, options: describeOptions(options), notes: [], trace: [] },
    hash: "",
    nodes: options.nodes,
    events: 0,
    virtualMs: 0,
    spent: NOTHING_SPENT,
    storms: { virtualMs: 0, spent: NOTHING_SPENT },
    healedMs: -1,
    counts: {},
    faults: {},
    said: {},
    memoryBytes: 0,
    memoryLeftBytes: 0,
  };
}

/** In one line. */
export function seedFailure({ failure }: Outcome): string {
  return failure === null ? "ok" : failure.message.split("\n")[0]!.slice(0, 160);
}
