// Runs what is written down, and writes down what failed, made smaller.

import type { Script } from "./script.ts";
import { plantedBug } from "./run-seed.ts";
import { optionsOf, type GivenOptions } from "./options.ts";
import { invariantOf, shrink, type Run } from "./shrink.ts";
import { Simulation, type SimResult } from "./simulation.ts";

/** Runs of a shrinking, and seeds that each of its steps is tried with. */
const RUNS_MAX = 150;
const SEEDS_PER_STEP = 2;

/** `planted`: a bug that is planted meanwhile; "" = none. */
export async function runScript({ options, schedule }: Run, planted: string): Promise<SimResult> {
  const undo = planted === "" ? null : plantedBug(planted).plant();
  try {
    return await new Simulation(options, schedule).run();
  } finally {
    undo?.();
  }
}

export type ShrinkSeed = { readonly given: GivenOptions; readonly planted: string; readonly commit: string };

/** The smallest run found that fails as the seed does; null when the seed does not fail. */
export async function shrinkSeed({ given, planted, commit }: ShrinkSeed, tell: (line: string) => void): Promise<Script | null> {
  const options = optionsOf(given);
  const undo = planted === "" ? null : plantedBug(planted).plant();
  try {
    const { failure, schedule } = await new Simulation(options).run();
    if (failure === null) return null;
    const expects = invariantOf(failure.message);
    tell(`seed ${given.seed} fails with ${schedule.length} faults: ${failure.message.split("\n")[0]}`);
    const violated = async (run: Run): Promise<string> => {
      const { failure: again } = await new Simulation(run.options, run.schedule).run();
      return again === null ? "" : invariantOf(again.message);
    };
    const small = await shrink({ options, schedule }, expects, { violated, runsMax: RUNS_MAX, seedsPerStep: SEEDS_PER_STEP, tell });
    const about = [failure.message.split("\n")[0]!, `Made from seed ${given.seed} of commit ${commit.slice(0, 12)} in ${small.runs} runs.`];
    return { about, planted, expects: small.invariant, options: small.options, schedule: small.schedule };
  } finally {
    undo?.();
  }
}
