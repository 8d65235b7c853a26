// Is each planted bug found within the seeds that are stated for it? All jobs search for one bug, then for the next.

import type { GivenOptions } from "./options.ts";
import { PLANTED } from "./planted.ts";
import type { Planted } from "./planted/swap.ts";
import { seedFailure, type Outcome, type Task } from "./run-seed.ts";
import { runSwarm, seedOfCommit } from "./swarm.ts";

export type SearchSettings = {
  readonly bugs: readonly Planted[];
  /** The first seed, and how many at most; null: as many as are stated for each bug. */
  readonly first: number;
  readonly seeds: number | null;
  /** The options of all runs, and what of them goes before what a bug asks for. */
  readonly base: Omit<GivenOptions, "seed">;
  readonly given: Omit<GivenOptions, "seed">;
  readonly jobs: number;
};

/** What came of the search for one bug. */
export type Verdict = {
  readonly name: string;
  readonly what: string;
  /** What its runs have instead of what a seed draws. */
  readonly run: Omit<GivenOptions, "seed">;
  /** Seeds that it was to be found in, and those that were run. */
  readonly within: number;
  readonly tried: number;
  /** The first seed that told, by which check, in which words; null: none did. */
  readonly found: { readonly seed: number; readonly check: string; readonly message: string } | null;
  /** Seeds that fail without the bug as well: they say nothing about it. */
  readonly spoiled: number;
  /** Real time that its seeds took, of all jobs together. */
  readonly seconds: number;
};

export type SearchEvents = {
  /** Of each bug, once it is decided. */
  readonly decided: (verdict: Verdict) => void;
  /** After each seed. */
  readonly ran: (state: SearchState) => void;
};

export type SearchState = {
  readonly bugs: number;
  readonly decided: number;
  readonly seeds: number;
  /** The bug that is being looked for, and how many seeds of how many were begun. */
  readonly name: string;
  readonly begun: number;
  readonly of: number;
};

type Search = {
  readonly bug: Planted;
  readonly seeds: number;
  /** The options of its runs, and a name for them: runs without a bug are shared by those that have the same. */
  readonly given: Omit<GivenOptions, "seed">;
  readonly key: string;
  begun: number;
  ended: number;
  realMs: number;
  readonly failed: Outcome[];
  verdict: Verdict | null;
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

/** Resolves with all verdicts, in the order of the bugs. */
export async function searchPlanted(settings: SearchSettings, events: SearchEvents): Promise<readonly Verdict[]> {
  const search = new PlantedSearch(settings, events);
  await runSwarm(settings.jobs, search);
  return search.verdicts;
}

/** A seed that fails without the bug as well says nothing about it: each that fails is run again as the product is. */
class PlantedSearch {
  private readonly settings: SearchSettings;
  private readonly events: SearchEvents;
  private readonly searches: readonly Search[];
  /** By options and seed, without any bug; null: it is to be run, or runs. */
  private readonly plainFails = new Map<string, boolean | null>();
  private readonly plainDue: Task[] = [];
  private seedsRun = 0;

  constructor(settings: SearchSettings, events: SearchEvents) {
    this.settings = settings;
    this.events = events;
    this.searches = settings.bugs.map((bug) => {
      const given = { ...settings.base, ...bug.run, ...settings.given };
      const seeds = settings.seeds ?? bug.within;
      return { bug, seeds, given, key: JSON.stringify(given), begun: 0, ended: 0, realMs: 0, failed: [], verdict: null };
    });
    for (const search of this.searches) this.decide(search);
  }

  get verdicts(): readonly Verdict[] {
    return this.searches.map(({ verdict }) => verdict!);
  }

  readonly next = (): Task | null => {
    const plain = this.plainDue.shift();
    if (plain !== undefined) return plain;
    const search = this.searches.find((one) => this.isOpen(one));
    if (search === undefined) return null;
    search.begun += 1;
    return { given: { ...search.given, seed: this.settings.first + search.begun - 1 }, twice: false, planted: search.bug.name };
  };

  readonly done = (task: Task, outcome: Outcome): void => {
    const { seed: _, ...given } = task.given;
    const plainKey = `${JSON.stringify(given)} ${outcome.seed}`;
    const isFailed = outcome.failure !== null;
    const search = this.searches.find(({ bug }) => bug.name === task.planted);
    this.seedsRun += 1;
    if (search === undefined) this.plainFails.set(plainKey, isFailed);
    else {
      search.ended += 1;
      search.realMs += outcome.spent.realMs;
      if (isFailed) search.failed.push(outcome);
      if (isFailed && !this.plainFails.has(plainKey)) {
        this.plainFails.set(plainKey, null);
        this.plainDue.push({ ...task, planted: "" });
      }
    }
    for (const one of this.searches) this.decide(one);
    this.events.ran(this.state);
  };

  private get state(): SearchState {
    const decided = this.searches.filter(({ verdict }) => verdict !== null).length;
    const { bug, begun, seeds } = this.searches.find(({ verdict }) => verdict === null) ?? this.searches[this.searches.length - 1]!;
    return { bugs: this.searches.length, decided, seeds: this.seedsRun, name: bug.name, begun, of: seeds };
  }

  private isOpen(search: Search): boolean {
    return search.begun < search.seeds && this.foundOf(search) === undefined;
  }

  /** Seeds are begun in their order, not finished in it. */
  private foundOf(search: Search): Outcome | undefined {
    return search.failed.filter((outcome) => this.plainOf(search, outcome) === false).sort((a, b) => a.seed - b.seed)[0];
  }

  private plainOf({ key }: Search, { seed }: Outcome): boolean | null | undefined {
    return this.plainFails.get(`${key} ${seed}`);
  }

  private decide(search: Search): void {
    if (search.verdict !== null || search.ended < search.begun || this.isOpen(search)) return;
    if (search.failed.some((outcome) => this.plainOf(search, outcome) === null)) return;
    search.verdict = this.verdictOf(search);
    this.events.decided(search.verdict);
  }

  private verdictOf(search: Search): Verdict {
    const { bug, begun, seeds, failed, realMs } = search;
    const outcome = this.foundOf(search);
    const message = outcome === undefined ? "" : seedFailure(outcome);
    const check = /^([A-Za-z]+\d?): /.exec(message)?.[1] ?? "other";
    return {
      name: bug.name,
      what: bug.what,
      run: bug.run ?? {},
      within: seeds,
      tried: outcome === undefined ? begun : outcome.seed - this.settings.first + 1,
      found: outcome === undefined ? null : { seed: outcome.seed, check, message: message.replace(/^[A-Za-z]+\d?: /, "") },
      spoiled: failed.filter((one) => this.plainOf(search, one) === true).length,
      seconds: realMs / 1_000,
    };
  }
}
