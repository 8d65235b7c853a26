// In how many seeds is each planted bug found? All jobs search for one bug, then for the next.

import { seedFailure, type Outcome, type Task } from "./run-seed.ts";
import type { GivenOptions } from "./options.ts";
import type { PLANTED } from "./planted.ts";
import { runSwarm } from "./swarm.ts";

type Planted = (typeof PLANTED)[number];
type Search = { readonly bug: Planted; begun: number; ended: number; found: Outcome | null };

export type SearchSettings = {
  readonly bugs: readonly Planted[];
  readonly seeds: readonly [first: number, last: number];
  readonly given: Omit<GivenOptions, "seed">;
  readonly jobs: number;
};

/** Tells of each bug once it is decided; resolves with how many were found. */
export async function searchPlanted({ bugs, seeds, given, jobs }: SearchSettings, tell: (line: string) => void): Promise<number> {
  const [first, last] = seeds;
  const searches: Search[] = bugs.map((bug) => ({ bug, begun: 0, ended: 0, found: null }));
  const isOpen = ({ begun, found }: Search): boolean => found === null && first + begun <= last;
  const next = (): Task | null => {
    const search = searches.find(isOpen);
    if (search === undefined) return null;
    search.begun += 1;
    return { given: { ...given, seed: first + search.begun - 1 }, twice: false, planted: search.bug.name };
  };
  await runSwarm(jobs, {
    next,
    done: ({ planted }, outcome) => {
      const search = searches.find(({ bug }) => bug.name === planted)!;
      // Seeds are begun in their order, not finished in it.
      if (outcome.failure !== null && (search.found === null || outcome.seed < search.found.seed)) search.found = outcome;
      search.ended += 1;
      if (!isOpen(search) && search.ended === search.begun) tell(verdictOf(search, first));
    },
  });
  return searches.filter(({ found }) => found !== null).length;
}

function verdictOf({ bug, begun, found }: Search, first: number): string {
  const verdict = found === null ? `not found in ${begun}` : `seed ${found.seed - first + 1}: ${seedFailure(found)}`;
  return `${bug.name.padEnd(22)} ${verdict}  (${bug.what})`;
}
