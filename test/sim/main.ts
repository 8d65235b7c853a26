// npm run sim: seeds of the simulator, one after the other.

import { Command, InvalidArgumentError } from "commander";
import { describeOptions, FAULTS, optionsOf, type Fault, type GivenOptions } from "./options.ts";
import { PLANTED } from "./planted.ts";
import { Simulation, type SimResult } from "./simulation.ts";

type Flags = {
  seed?: number;
  seeds: [number, number];
  seconds?: number;
  nodes?: number;
  groups?: number;
  faults?: Fault[];
  hopeless: boolean;
  twice: boolean;
  planted?: string;
  verbose: boolean;
  keepGoing: boolean;
};

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("must be a whole number of at least 0");
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
  .option("--seconds <n>", "virtual seconds of faults", count)
  .option("--nodes <n>", "nodes (otherwise drawn from the seed)", count)
  .option("--groups <n>", "partitions of the topic", count)
  .option("--faults <list>", "these classes instead of those drawn from the seed", faultList)
  .option("--hopeless", "damage strikes a majority: the cluster may refuse, and must not be wrong", false)
  .option("--twice", "each seed two times; their traces must be the same", false)
  .option(
    "--planted <name>",
    `a bug planted on purpose, or all: in how many seeds is it found? ${PLANTED.map(({ name }) => name).join(", ")}`,
  )
  .option("--verbose", "one line per seed", false)
  .option("--keep-going", "go on after a failure", false);

function write(text: string): void {
  process.stdout.write(`${text}\n`);
}

function given(flags: Flags, seed: number): GivenOptions {
  const { nodes, groups, seconds, faults, hopeless } = flags;
  return {
    seed,
    ...(nodes === undefined ? {} : { nodes }),
    ...(groups === undefined ? {} : { groups }),
    ...(seconds === undefined ? {} : { seconds }),
    ...(faults === undefined ? {} : { faults }),
    ...(hopeless ? { hopeless } : {}),
  };
}

function replayOf(flags: Flags, seed: number): string {
  const parts = [`npm run sim -- --seed ${seed}`];
  for (const name of ["seconds", "nodes", "groups"] as const) if (flags[name] !== undefined) parts.push(`--${name} ${flags[name]}`);
  if (flags.faults !== undefined) parts.push(`--faults ${flags.faults.length === 0 ? "none" : flags.faults.join(",")}`);
  if (flags.hopeless) parts.push("--hopeless");
  return parts.join(" ");
}

function report(flags: Flags, result: SimResult): void {
  write(`seed ${result.seed} failed: ${result.failure!.message}`);
  write(`options: ${describeOptions(optionsOf(given(flags, result.seed)))}`);
  write(`--- the newest of what nodes and faults said\n${result.notes.join("\n")}`);
  write(`--- the last events\n${result.trace.join("\n")}`);
  write(`seed ${result.seed} failed: ${result.failure!.stack ?? result.failure!.message}`);
  write(`replay: ${replayOf(flags, result.seed)}`);
}

/** Exit code 0: every planted bug was found within the seeds. */
async function findPlanted(flags: Flags, name: string, [first, last]: readonly [number, number]): Promise<number> {
  const chosen = PLANTED.filter((one) => name === "all" || one.name === name);
  if (chosen.length === 0) throw new InvalidArgumentError(`there is no planted bug ${name}`);
  let found = 0;
  for (const { name: bug, what, plant } of chosen) {
    const undo = plant();
    let failure: Error | null = null;
    let seed = first;
    for (; seed <= last && failure === null; seed++) failure = (await new Simulation(optionsOf(given(flags, seed))).run()).failure;
    undo();
    if (failure !== null) found += 1;
    write(
      `${bug.padEnd(22)} ${failure === null ? `not found in ${seed - first}` : `seed ${seed - first}: ${failure.message.split("\n")[0]!.slice(0, 100)}`}  (${what})`,
    );
  }
  write(`${found} of ${chosen.length} planted bugs found`);
  return found === chosen.length ? 0 : 1;
}

async function main(): Promise<number> {
  const flags = program.parse().opts<Flags>();
  const [first, last] = flags.seed === undefined ? flags.seeds : [flags.seed, flags.seed];
  if (flags.planted !== undefined) return findPlanted(flags, flags.planted, [first, last]);
  const beganMs = performance.now();
  const total = { seeds: 0, virtualMs: 0, events: 0, failed: [] as number[], slowestHealMs: 0 };
  const counts: Record<string, number> = {};
  const faults = new Map<string, number>();
  for (let seed = first; seed <= last; seed++) {
    const options = optionsOf(given(flags, seed));
    const seedBeganMs = performance.now();
    const result = await new Simulation(options).run();
    const tookMs = performance.now() - seedBeganMs;
    total.seeds += 1;
    total.virtualMs += result.virtualMs;
    total.events += result.events;
    total.slowestHealMs = Math.max(total.slowestHealMs, result.healedMs);
    for (const [name, value] of Object.entries(result.counts)) counts[name] = (counts[name] ?? 0) + value;
    for (const [name, value] of result.faults) faults.set(name, (faults.get(name) ?? 0) + value);
    if (flags.verbose)
      write(
        `seed ${seed}: ${result.failure === null ? "ok" : result.failure.message.split("\n")[0]} ${result.hash} ${result.nodes} nodes, ${result.events} events, ` +
          `${(result.virtualMs / 1_000).toFixed(1)} virtual s in ${tookMs.toFixed(0)} ms, healed in ${(result.healedMs / 1_000).toFixed(1)} s, ${JSON.stringify(result.counts)}`,
      );
    if (result.failure !== null) {
      total.failed.push(seed);
      if (!flags.keepGoing) {
        report(flags, result);
        break;
      }
    }
    if (flags.twice) {
      const again = await new Simulation(options).run();
      if (again.hash !== result.hash) {
        write(`seed ${seed}: two runs differ: ${result.hash} and ${again.hash}`);
        total.failed.push(seed);
        break;
      }
    }
  }
  const seconds = (performance.now() - beganMs) / 1_000;
  write(
    `faults: ${
      [...faults]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, times]) => `${name} ${times}`)
        .join(", ") || "none"
    }`,
  );
  write(
    `counts: ${Object.entries(counts)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ")}`,
  );
  write(
    `${total.seeds} seeds, ${total.failed.length} failed${total.failed.length === 0 ? "" : ` (${total.failed.join(", ")})`}; ` +
      `${(total.virtualMs / 3_600_000).toFixed(2)} cluster-hours in ${seconds.toFixed(1)} s: ${(total.virtualMs / 1_000 / seconds).toFixed(0)} times real time, ` +
      `${(total.seeds / seconds).toFixed(2)} seeds/s, ${(total.events / seconds).toFixed(0)} events/s; slowest to heal ${(total.slowestHealMs / 1_000).toFixed(1)} virtual s`,
  );
  return total.failed.length === 0 ? 0 : 1;
}

process.exitCode = await main();
