// Is each planted bug found within the seeds that are stated for it? All jobs search for one bug, then for the next.

import type { GivenOptions } from "./options.ts";
import { PLANTED } from "./planted.ts";
import type { Planted } from "./planted/swap.ts";
import { seedFailure, type Outcome, type Task } from "./run-seed.ts";
import { runSwarm, seedOfCommit } from "./swarm.ts";

type Search = {
  readonly bug: Planted;
  readonly seeds: number;
  begun: number;
  ended: number;
  readonly failed: Outcome[];
  isTold: boolean;
};

export type SearchSettings = {
  readonly bugs: readonly Planted[];
  /** The first seed, and how many at most; null: as many as are stated for each bug. */
  readonly first: number;
  readonly seeds: number | null;
  readonly given: Omit<GivenOptions, "seed">;
  readonly jobs: number;
};

/** How many bugs are promised to be found, and of how many that is not yet so; how many of each were. */
export type Found = { readonly promised: number; readonly found: number; readonly open: number; readonly openFound: number };

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

/** Tells of each bug once it is decided. */
export async function searchPlanted(settings: SearchSettings, tell: (line: string) => void): Promise<Found> {
  const search = new PlantedSearch(settings, tell);
  tell(`${"bug".padEnd(24)} ${"within".padStart(6)} ${"found".padStart(6)} ${"check".padEnd(6)} the first line of the failure`);
  await runSwarm(settings.jobs, search);
  return search.end();
}

/** A seed that fails without the bug as well says nothing about it: each that fails is run again as the product is. */
class PlantedSearch {
  private readonly settings: SearchSettings;
  private readonly tell: (line: string) => void;
  private readonly searches: readonly Search[];
  /** By seed, without any bug; null: it is to be run, or runs. All bugs share them, as all runs have the same options. */
  private readonly plainFails = new Map<number, boolean | null>();
  private readonly plainDue: number[] = [];

  constructor(settings: SearchSettings, tell: (line: string) => void) {
    this.settings = settings;
    this.tell = tell;
    const { bugs, seeds } = settings;
    this.searches = bugs.map((bug) => ({ bug, seeds: seeds ?? bug.within, begun: 0, ended: 0, failed: [], isTold: false }));
  }

  readonly next = (): Task | null => {
    const { given, first } = this.settings;
    const plain = this.plainDue.shift();
    if (plain !== undefined) return { given: { ...given, seed: plain }, twice: false, planted: "" };
    const search = this.searches.find((one) => this.isOpen(one));
    if (search === undefined) return null;
    search.begun += 1;
    return { given: { ...given, seed: first + search.begun - 1 }, twice: false, planted: search.bug.name };
  };

  readonly done = ({ planted }: Task, outcome: Outcome): void => {
    const { seed, failure } = outcome;
    const search = this.searches.find(({ bug }) => bug.name === planted);
    if (search === undefined) this.plainFails.set(seed, failure !== null);
    else {
      search.ended += 1;
      if (failure !== null) search.failed.push(outcome);
      if (failure !== null && !this.plainFails.has(seed)) {
        this.plainFails.set(seed, null);
        this.plainDue.push(seed);
      }
    }
    for (const one of this.searches) this.tellDecided(one);
  };

  end(): Found {
    for (const { bug, begun } of this.searches.filter((one) => this.isNotYetFound(one)))
      this.tell(`not found yet: ${bug.name}, in ${begun} seeds: ${bug.open}`);
    const isFound = (one: Search): boolean => this.foundOf(one) !== undefined;
    const promised = this.searches.filter(({ bug }) => bug.open === undefined);
    const open = this.searches.filter(({ bug }) => bug.open !== undefined);
    return {
      promised: promised.length,
      found: promised.filter(isFound).length,
      open: open.length,
      openFound: open.filter(isFound).length,
    };
  }

  private isOpen(search: Search): boolean {
    return search.begun < search.seeds && this.foundOf(search) === undefined;
  }

  private isNotYetFound(search: Search): boolean {
    return search.bug.open !== undefined && this.foundOf(search) === undefined;
  }

  /** Seeds are begun in their order, not finished in it. */
  private foundOf({ failed }: Search): Outcome | undefined {
    return failed.filter(({ seed }) => this.plainFails.get(seed) === false).sort((a, b) => a.seed - b.seed)[0];
  }

  private tellDecided(search: Search): void {
    const isUnderWay = search.ended < search.begun || search.failed.some(({ seed }) => this.plainFails.get(seed) === null);
    if (search.isTold || search.begun === 0 || isUnderWay || this.isOpen(search)) return;
    search.isTold = true;
    if (!this.isNotYetFound(search)) this.tell(this.verdictOf(search));
  }

  private verdictOf(search: Search): string {
    const { bug, begun, seeds } = search;
    const start = `${bug.name.padEnd(24)} ${String(seeds).padStart(6)}`;
    const found = this.foundOf(search);
    const spoiled = search.failed.filter(({ seed }) => this.plainFails.get(seed) === true).length;
    const besides = spoiled === 0 ? "" : ` (${spoiled} seeds fail without it as well, and do not count)`;
    if (found === undefined) return `${start} ${"-".padStart(6)} ${"-".padEnd(6)} not found in ${begun}: ${bug.what}${besides}`;
    const message = seedFailure(found);
    const check = /^([A-Za-z]+\d?): /.exec(message)?.[1] ?? "other";
    const at = String(found.seed - this.settings.first + 1).padStart(6);
    return `${start} ${at} ${check.padEnd(6)} ${message.slice(message.indexOf(": ") + 2)}${besides}`;
  }
}
