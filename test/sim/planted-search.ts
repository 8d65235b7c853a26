// Is each planted bug found within the seeds that are stated for it? All jobs search for one bug, then for the next.

import type { GivenOptions } from "./options.ts";
import { PLANTED } from "./planted.ts";
import type { Planted } from "./planted/swap.ts";
import { seedFailure, type Outcome, type Task } from "./run-seed.ts";
import { runSwarm, seedOfCommit } from "./swarm.ts";

type Search = { readonly bug: Planted; readonly seeds: number; begun: number; ended: number; found: Outcome | null };

export type SearchSettings = {
  readonly bugs: readonly Planted[];
  /** The first seed, and how many at most; null: as many as are stated for each bug. */
  readonly first: number;
  readonly seeds: number | null;
  readonly given: Omit<GivenOptions, "seed">;
  readonly jobs: number;
};

/** `all`, one name or several with commas, or `rotating:K`: K that the commit chooses. Empty when a name is not known. */
export function plantedOf(text: string, commit: string): readonly Planted[] {
  if (text === "all") return PLANTED;
  const rotating = /^rotating:(\d+)$/.exec(text);
  if (rotating === null) {
    const names = text.split(",");
    const bugs = PLANTED.filter(({ name }) => names.includes(name));
    return bugs.length === names.length ? bugs : [];
  }
  const left = [...PLANTED];
  const chosen: Planted[] = [];
  for (let at = 0; at < Number(rotating[1]) && left.length > 0; at++)
    chosen.push(...left.splice(seedOfCommit(commit, at) % left.length, 1));
  return chosen;
}

/** Tells of each bug once it is decided; resolves with how many were found. */
export async function searchPlanted({ bugs, first, seeds, given, jobs }: SearchSettings, tell: (line: string) => void): Promise<number> {
  const searches: Search[] = bugs.map((bug) => ({ bug, seeds: seeds ?? bug.within, begun: 0, ended: 0, found: null }));
  const isOpen = ({ begun, found, seeds: most }: Search): boolean => found === null && begun < most;
  const next = (): Task | null => {
    const search = searches.find(isOpen);
    if (search === undefined) return null;
    search.begun += 1;
    return { given: { ...given, seed: first + search.begun - 1 }, twice: false, planted: search.bug.name };
  };
  tell(`${"bug".padEnd(24)} ${"within".padStart(6)} ${"found".padStart(6)} ${"check".padEnd(6)} the first line of the failure`);
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

function verdictOf({ bug, begun, seeds, found }: Search, first: number): string {
  const start = `${bug.name.padEnd(24)} ${String(seeds).padStart(6)}`;
  if (found === null) return `${start} ${"-".padStart(6)} ${"-".padEnd(6)} not found in ${begun}: ${bug.what}`;
  const message = seedFailure(found);
  const check = /^([A-Za-z]+\d?): /.exec(message)?.[1] ?? "other";
  return `${start} ${String(found.seed - first + 1).padStart(6)} ${check.padEnd(6)} ${message.slice(message.indexOf(": ") + 2)}`;
}
