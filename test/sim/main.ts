// npm run sim: seeds of the simulator, over all cores.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Command, InvalidArgumentError } from "commander";
import { FAULTS, type Fault, type GivenOptions } from "./options.ts";
import { PLANTED } from "./planted.ts";
import { plantedOf, searchPlanted } from "./planted-search.ts";
import { PLANTED_HEAD, plantedLines, plantedProgress, plantedSummary } from "./planted-table.ts";
import { describeFailure, ProgressPace, Tally } from "./report.ts";
import { runScript, shrinkSeed } from "./run-script.ts";
import { seedFailure, type Outcome, type Task } from "./run-seed.ts";
import { parseScript, printScript } from "./script.ts";
import { runSwarm, seedOfCommit } from "./swarm.ts";

/** One of so many seeds is run twice. */
const TWICE_ONE_IN = 20;

/** In what a planted bug is looked for: many short and small runs find more than few long ones. A flood costs as much as ten others. */
const PLANTED_RUN = { seconds: 12, groups: 4, queues: 0, transactions: 0, floods: false };

type Flags = {
  seed?: number;
  seeds: [number, number];
  commitSeeds?: number;
  swarm?: number;
  commit?: string;
  jobs: number;
  seconds?: number;
  nodes?: number;
  groups?: number;
  queues?: number;
  transactions?: number;
  faults?: Fault[];
  hopeless: boolean;
  twice: boolean;
  planted?: string;
  shrink?: string;
  replay?: string;
  verbose: boolean;
  failures: number;
  json?: string;
};

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("must be a whole number of at least 0");
  return value;
};

const minutes = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError("must be a number of minutes above 0");
  return value;
};

/** "200" is 1..200. */
const range = (text: string): [number, number] => {
  const match = /^(\d+)(?:\.\.(\d+))?$/.exec(text);
  if (match === null) throw new InvalidArgumentError("must be N or A..B");
  return match[2] === undefined ? [1, Number(match[1])] : [Number(match[1]), Number(match[2])];
};

const faultList = (text: string): Fault[] => {
  const names = text === "none" ? [] : text === "all" ? [...FAULTS] : text.split(",");
  for (const name of names)
    if (!(FAULTS as readonly string[]).includes(name))
      throw new InvalidArgumentError(`${name} is not one of none, all, ${FAULTS.join(", ")}`);
  return names as Fault[];
};

const program = new Command("sim")
  .description("Runs whole clusters in virtual time, with faults drawn from a seed, and checks what they do.")
  .option("--seed <n>", "one seed", count)
  .option("--seeds <range>", "seeds A..B, or N for 1..N", range, [1, 50] as [number, number])
  .option("--commit-seeds <n>", "so many seeds that follow from the commit alone: new ones with each commit", count)
  .option("--swarm <minutes>", "seeds that follow from the commit, for so long", minutes)
  .option("--commit <hash>", "the commit whose seeds to run; otherwise what is checked out")
  .option("--jobs <n>", "processes; otherwise one per core", count, availableParallelism())
  .option("--seconds <n>", "one storm of so many virtual seconds, and no calm", count)
  .option("--nodes <n>", "nodes (otherwise drawn from the seed)", count)
  .option("--groups <n>", "partitions of the topic", count)
  .option("--queues <n>", "queues beside it (otherwise drawn from the seed)", count)
  .option("--transactions <n>", "clients that run transactions over queues of their own (otherwise drawn from the seed)", count)
  .option("--faults <list>", "these classes instead of those drawn from the seed", faultList)
  .option("--hopeless", "damage strikes a majority: the cluster may refuse, and must not be wrong", false)
  .option("--twice", `each seed two times, not only one in ${TWICE_ONE_IN}; their traces must be the same`, false)
  .option(
    "--planted <name>",
    `bugs planted on purpose, by name, all, or rotating:K (by the commit): is each found in time? ${PLANTED.map(({ name }) => name).join(", ")}`,
  )
  .option("--shrink <file>", "with --seed, and --planted if it takes one: writes down the smallest run that fails in the same way")
  .option("--replay <file>", "runs what was written down")
  .option("--failures <n>", "seeds that may fail before no new one is begun", count, 20)
  .option("--json <file>", "writes the figures and the failures there, or what was found of the planted bugs")
  .option("--verbose", "one line per seed", false);

function write(text: string): void {
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
  process.stdout.write(`${text}\n`);
}

/** On a terminal each line takes the place of the one before. */
function writeProgress(line: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r\u001b[2K${line}` : `${line}\n`);
}

function givenIn({ nodes, groups, queues, transactions, seconds, faults, hopeless }: Flags): Omit<GivenOptions, "seed"> {
  return {
    ...(nodes === undefined ? {} : { nodes }),
    ...(groups === undefined ? {} : { groups }),
    ...(queues === undefined ? {} : { queues }),
    ...(transactions === undefined ? {} : { transactions }),
    ...(seconds === undefined ? {} : { seconds }),
    ...(faults === undefined ? {} : { faults }),
    ...(hopeless ? { hopeless } : {}),
  };
}

function replayOf(flags: Flags, seed: number): string {
  const parts = [`npm run sim -- --seed ${seed}`];
  for (const name of ["seconds", "nodes", "groups", "queues", "transactions"] as const)
    if (flags[name] !== undefined) parts.push(`--${name} ${flags[name]}`);
  if (flags.faults !== undefined) parts.push(`--faults ${flags.faults.length === 0 ? "none" : flags.faults.join(",")}`);
  if (flags.hopeless) parts.push("--hopeless");
  return parts.join(" ");
}

/** What is checked out; a tree that differs from it is told apart. */
function currentCommit(): string {
  try {
    const git = (...words: string[]): string =>
      execFileSync("git", words, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    return git("rev-parse", "HEAD") + (git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+changes");
  } catch {
    return "unknown";
  }
}

/** The seeds in their order, and how many there are. */
function seedsOf(flags: Flags, commit: string): { readonly seedAt: (at: number) => number; readonly count: number } {
  if (flags.seed !== undefined) return { seedAt: () => flags.seed!, count: 1 };
  if (flags.commitSeeds !== undefined || flags.swarm !== undefined) {
    const name = commit.split("+")[0]!;
    return { seedAt: (at) => seedOfCommit(name, at), count: flags.commitSeeds ?? Number.POSITIVE_INFINITY };
  }
  const [first, last] = flags.seeds;
  return { seedAt: (at) => first + at, count: last - first + 1 };
}

function lineOf(outcome: Outcome): string {
  const { seed, hash, nodes, events, virtualMs, spent, healedMs, counts } = outcome;
  return (
    `seed ${seed}: ${seedFailure(outcome)} ${hash} ${nodes} nodes, ${events} events, ${(virtualMs / 1_000).toFixed(1)} virtual s in ` +
    `${spent.realMs.toFixed(0)} ms (${spent.cpuMs.toFixed(0)} of CPU), healed in ${(healedMs / 1_000).toFixed(1)} s, ${JSON.stringify(counts)}`
  );
}

async function runSeeds(flags: Flags): Promise<number> {
  const commit = flags.commit ?? currentCommit();
  const { seedAt, count: seeds } = seedsOf(flags, commit);
  const endMs = flags.swarm === undefined ? Number.POSITIVE_INFINITY : performance.now() + flags.swarm * 60_000;
  const tally = new Tally({ commit, seeds, endMs });
  const given = givenIn(flags);
  let at = 0;
  const next = (): Task | null => {
    // One that cannot come to its end in time would only be given up.
    if (at >= seeds || tally.failed.length >= flags.failures || performance.now() + tally.usualMs >= endMs) return null;
    const twice = flags.twice || at % TWICE_ONE_IN === TWICE_ONE_IN - 1;
    return { given: { ...given, seed: seedAt(at++) }, twice, planted: "" };
  };
  await runSwarm(Math.min(flags.jobs, seeds), {
    next,
    endMs,
    givenUp: ({ given: { seed } }) => void tally.givenUp.push(seed),
    done: (_task, outcome) => {
      tally.add(outcome);
      if (flags.verbose) write(lineOf(outcome));
      if (outcome.failure !== null) write(describeFailure(outcome, commit, replayOf(flags, outcome.seed)));
      const progress = tally.progress(process.stderr.isTTY);
      if (progress !== null) writeProgress(progress);
    },
  });
  for (const line of tally.summary()) write(line);
  if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(tally.toJson(), null, 2)}\n`);
  return tally.failed.length === 0 && tally.count > 0 ? 0 : 1;
}

/** Exit code 0: every planted bug was found within the seeds stated for it, or within those asked for. */
async function findPlanted(flags: Flags, text: string): Promise<number> {
  const commit = flags.commit ?? currentCommit();
  const bugs = plantedOf(text, commit.split("+")[0]!);
  if (bugs.length === 0) throw new InvalidArgumentError(`there is no planted bug ${text}`);
  const isStated = flags.seed === undefined && program.getOptionValueSource("seeds") === "default";
  const [first, last] = flags.seed === undefined ? flags.seeds : [flags.seed, flags.seed];
  const seeds = isStated ? null : last - first + 1;
  const beganMs = performance.now();
  const seconds = (): number => (performance.now() - beganMs) / 1_000;
  const pace = new ProgressPace();
  write(PLANTED_HEAD);
  const verdicts = await searchPlanted(
    { bugs, first, seeds, base: PLANTED_RUN, given: givenIn(flags), jobs: flags.jobs },
    {
      decided: (verdict) => {
        for (const line of plantedLines(verdict)) write(line);
      },
      ran: (state) => {
        if (pace.isDue(process.stderr.isTTY)) writeProgress(plantedProgress(state, seconds()));
      },
    },
  );
  write(plantedSummary(verdicts, seconds()));
  if (flags.json !== undefined)
    writeFileSync(flags.json, `${JSON.stringify({ commit, seconds: seconds(), planted: verdicts }, null, 2)}\n`);
  return verdicts.every(({ found }) => found !== null) ? 0 : 1;
}

/** Exit code 0: the seed failed, and a smaller run that fails is in the file. */
async function shrinkTo(flags: Flags, file: string): Promise<number> {
  const { seed, planted = "", commit = currentCommit() } = flags;
  if (seed === undefined) throw new InvalidArgumentError("--shrink needs a --seed");
  const script = await shrinkSeed({ given: { ...givenIn(flags), seed }, planted, commit }, write);
  if (script === null) {
    write(`seed ${seed} does not fail`);
    return 1;
  }
  writeFileSync(file, printScript(script));
  write(`${script.schedule.length} faults are left; run it with: npm run sim -- --replay ${file}`);
  return 0;
}

/** Exit code 0: nothing is violated, without the bug that it may name. */
async function replay(file: string): Promise<number> {
  const script = parseScript(readFileSync(file, "utf8"));
  for (const planted of new Set([script.planted, ""])) {
    const { failure, notes, trace } = await runScript(script, planted);
    if (planted !== "") write(`with ${planted} planted: ${failure?.message ?? "nothing is violated"}`);
    else if (failure === null) write("nothing is violated");
    else {
      write([...notes, "---", ...trace, "---", failure.stack ?? failure.message].join("\n"));
      return 1;
    }
  }
  return 0;
}

function run(flags: Flags): Promise<number> {
  if (flags.replay !== undefined) return replay(flags.replay);
  if (flags.shrink !== undefined) return shrinkTo(flags, flags.shrink);
  return flags.planted === undefined ? runSeeds(flags) : findPlanted(flags, flags.planted);
}

process.exitCode = await run(program.parse().opts<Flags>());
