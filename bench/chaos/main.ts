// `npm run chaos`, `flotilla chaos`: torments a cluster under load and decides whether it kept its promises.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { letHeapGrow } from "../../src/cli/heap.ts";
import { finishFigures, isMet } from "../figures.ts";
import { endAll } from "../processes.ts";
import { runCalm } from "./calm.ts";
import { runChaos } from "./chaos.ts";
import type { FaultKind } from "./fault.ts";
import { EXTRA_FAMILIES, FAMILIES, FAULTS } from "./faults/all.ts";
import { canIsolate, isIsolated, runIsolated } from "./isolation.ts";
import { page } from "./page.ts";
import { reportText } from "./report.ts";

/** The exit code then. */
const INTERRUPTED = 130;

type Flags = {
  minutes: number;
  seed: number;
  nodes: number;
  faults: FaultKind[];
  endpoints: string[];
  faultCommand: string[];
  healCommand: string[];
  faultSeconds: [number, number];
  rate: number;
  partitions: number;
  bytes: number;
  queues: number;
  scale: number;
  recoverySeconds: number;
  roundMinutes: number;
  calm?: number;
  load: number;
  failover?: number;
  kinds?: string[];
  against: string[];
  within?: number;
  json?: string;
  html?: string;
  directory: string;
  keep: boolean;
};

const number =
  (low: number, high: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!(value >= low && value <= high)) throw new InvalidArgumentError(`must be ${low}..${high}`);
    return value;
  };
const whole =
  (low: number, high: number) =>
  (text: string): number => {
    const value = number(low, high)(text);
    if (!Number.isInteger(value)) throw new InvalidArgumentError(`must be a whole number of ${low}..${high}`);
    return value;
  };

/** Names of kinds and of families; with a minus, all but these. */
const faultList = (text: string): FaultKind[] => {
  if (text === "all") return [...FAULTS];
  if (text === "none") return [];
  const families = { ...FAMILIES, ...EXTRA_FAMILIES };
  const every = Object.values(families).flat();
  const kindsOf = (name: string): readonly FaultKind[] => {
    const kinds = families[name] ?? every.filter((kind) => kind.name === name);
    if (kinds.length > 0) return kinds;
    const names = every.map((kind) => kind.name).join(", ");
    throw new InvalidArgumentError(`${name} is none of all, none, ${Object.keys(families).join(", ")}, ${names}`);
  };
  const names = text.split(",").map((name) => name.trim());
  const removed = new Set(names.filter((name) => name.startsWith("-")).flatMap((name) => kindsOf(name.slice(1))));
  const added = names.filter((name) => !name.startsWith("-")).flatMap(kindsOf);
  const chosen = new Set(added.length === 0 ? FAULTS : added);
  return every.filter((kind) => chosen.has(kind) && !removed.has(kind));
};

const range = (text: string): [number, number] => {
  const match = /^(\d+)(?:\.\.(\d+))?$/.exec(text);
  if (match === null) throw new InvalidArgumentError("must be N or A..B");
  return [Number(match[1]), Number(match[2] ?? match[1])];
};
const nameList = (text: string): string[] =>
  text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
const collect = (text: string, before: string[]): string[] => [...before, text];

function describeFaults(): string {
  return Object.entries({ ...FAMILIES, ...EXTRA_FAMILIES })
    .map(([family, kinds]) => `  ${family}:\n${kinds.map(({ name, what }) => `    ${name.padEnd(22)}${what}`).join("\n")}`)
    .join("\n");
}

const program = new Command("chaos")
  .description("torments a cluster of real processes under load, reads everything back, and decides whether it kept its promises")
  .option("--minutes <n>", "how long", number(0.05, 10_080), 10)
  .option("--seed <n>", "draws the faults; the same seed draws the same ones", whole(0, 0xffff_ffff), Math.floor(Math.random() * 1_000_000))
  .addOption(new Option("--nodes <n>", "of the cluster that is started").choices(["3", "5"]).default("3"))
  .addOption(
    new Option("--faults <list>", "kinds or families, comma-separated; -name leaves one out")
      .argParser(faultList)
      .default([...FAULTS], "all but bits"),
  )
  .option(
    "--calm <minutes>",
    "instead: no fault at all, but load, then the most expensive requests: is anybody elected?",
    number(0.01, 10_080),
  )
  .option("--load <percent>", "of --calm: of the measured peak", number(1, 100), 80)
  .option("--failover <runs>", "instead: so many faults of each kind, and the time without service of each partition", whole(1, 100_000))
  .option("--kinds <list>", "of --failover: kill,stop,cut,mute,deaf,term,many", nameList)
  .option("--against <list>", "of --failover: the same on rabbitmq,nats, if they are installed", nameList, [])
  .option("--within <seconds>", "of --failover: judge only that all are served again so soon, on a busy machine", number(0.1, 3_600))
  .option("--json <file>", "write the report there")
  .option("--html <file>", "write it there as one page with a timeline")
  .option(
    "--endpoints <list>",
    "instead: host:port of nodes of your own cluster, which must not hold other topics of these names",
    nameList,
    [],
  )
  .option(
    "--fault-command <command>",
    "of your own cluster: does something to {node} (its id), {index} (id less 1) or {host}; may be given again",
    collect,
    [],
  )
  .option("--heal-command <command>", "ends what the fault command in the same place began", collect, [])
  .option("--fault-seconds <range>", "between the two", range, [5, 20] as [number, number])
  .option("--rate <n>", "records a second", whole(1, 50_000), 600)
  .option("--partitions <n>", "of the topic", whole(1, 100), 6)
  .option("--bytes <n>", "of the largest record", whole(24, 1_000_000), 400)
  .option(
    "--queues <n>",
    "beside the topic, each with another one for its dead letters, 100 messages a second and four consumers",
    whole(0, 16),
    2,
  )
  .option("--scale <x>", "lengths of faults are multiplied by it", number(0.05, 20), 1)
  .option("--recovery-seconds <n>", "in which the cluster must be whole again after a fault", whole(1, 3_600), 90)
  .option("--round-minutes <n>", "everything is read back and judged at the latest after so many", number(0.05, 60), 4)
  .option("--directory <dir>", "where nodes keep their data (a new folder in it)", tmpdir())
  .option("--keep", "leave data, logs and report there even if all is well", false)
  .showHelpAfterError("(--help shows how it is used)")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .addHelpText(
    "after",
    `
Faults:
${describeFaults()}

All of them strike unless --faults says otherwise, but for bits, which has to be asked for.
What a fault needs and this machine has not (root, a Debian package) is named, and the fault skipped. As root the harness
lives in network and mount namespaces of its own, which go with it.

Exit codes: 0 nothing was violated, 1 something was, or the run failed, 2 wrong usage, 130 interrupted.

Examples:
  chaos --minutes 10 --html chaos.html
  chaos --minutes 3 --seed 7 --faults power,pause,isolate
  chaos --minutes 5 --faults links,-packet-loss --nodes 5
  chaos --minutes 5 --faults bits
  chaos --minutes 10 --queues 8 --rate 200
  chaos --calm 10
  chaos --failover 60 --against rabbitmq,nats --html failover.html
  chaos --minutes 20 --endpoints a:7440,b:7440,c:7440 --fault-command 'kubectl delete pod flotilla-{index}'
  chaos --minutes 5 --endpoints a:7440 --fault-command 'ssh {host} systemctl stop flotilla' --heal-command 'ssh {host} systemctl start flotilla'`,
  );

// Connections to a cluster that is gone must not keep it alive.
process.exit(await main());

async function main(): Promise<number> {
  const flags = program.parse().opts<Flags>();
  if (flags.calm !== undefined) return calm(flags, flags.calm);
  if (flags.failover !== undefined) return failover(flags, flags.failover);
  if (flags.endpoints.length === 0 && !isIsolated() && canIsolate()) return runIsolated();
  letHeapGrow();
  return torment({ ...flags, nodes: Number(flags.nodes) });
}

async function calm({ directory: parent, endpoints, load: loadPercent, json, keep }: Flags, minutes: number): Promise<number> {
  if (endpoints.length > 0) program.error("error: --calm takes no --endpoints: it would send the most expensive requests to your cluster");
  letHeapGrow();
  const directory = mkdtempSync(join(parent, "flotilla-calm-"));
  let isPassed = false;
  process.on("exit", (code) => {
    // What the nodes said explains an election; what they stored does not.
    const gone = keep ? [] : [isPassed || code === INTERRUPTED ? directory : join(directory, "nodes")];
    for (const path of gone) rmSync(path, { recursive: true, force: true, maxRetries: 5 });
  });
  const progress = (text: string): void => void process.stderr.write(`${text}\n`);
  try {
    const run = await runCalm(directory, { minutes, loadPercent, progress });
    isPassed = run.figures.every(isMet);
    if (!isPassed) progress(`what the nodes said is in ${resolve(directory)}`);
    finishFigures(run, { json, isTiny: false });
    return isPassed ? 0 : 1;
  } finally {
    await endAll();
  }
}

async function failover({ directory: parent, kinds, against, within, json, html, seed }: Flags, runs: number): Promise<number> {
  const directory = mkdtempSync(join(parent, "flotilla-failover-"));
  const progress = (text: string): void => void process.stderr.write(`${text}\n`);
  process.on("exit", () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  // Its peers' clients are packages that an installation does not have.
  const { runFailover } = await import("./failover.ts");
  try {
    const withinMs = within === undefined ? undefined : within * 1_000;
    return await runFailover(directory, { runs, ...(kinds === undefined ? {} : { kinds }), against, json, html, seed, withinMs, progress });
  } finally {
    await endAll();
  }
}

async function torment(flags: Flags): Promise<number> {
  const directory = mkdtempSync(join(flags.directory, "flotilla-chaos-"));
  const { endpoints, seed, nodes, rate, partitions, queues, scale, recoverySeconds } = flags;
  const [secondsMin, secondsMax] = flags.faultSeconds;
  let hasFailed = true;
  process.on("exit", (code) => {
    // Whoever interrupts it has seen enough.
    if (!flags.keep && (!hasFailed || code === INTERRUPTED)) rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  });
  const progress = (text: string): void => void process.stderr.write(`${text}\n`);
  progress(`seed ${seed}; data and logs in ${directory}`);
  try {
    const report = await runChaos({
      seconds: flags.minutes * 60,
      seed,
      nodes,
      endpoints,
      commands: { begin: flags.faultCommand, end: flags.healCommand, secondsMin, secondsMax },
      kinds: flags.faults,
      partitions,
      rate,
      bytesMax: flags.bytes,
      queues,
      scale,
      recoverySeconds,
      roundSeconds: flags.roundMinutes * 60,
      directory,
      command: commandOf(seed),
      progress,
      signal: new AbortController().signal,
    });
    hasFailed = report.violations > 0;
    const json = flags.json ?? (hasFailed ? join(directory, "report.json") : undefined);
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 1)}\n`);
    const html = flags.html ?? (hasFailed ? join(directory, "report.html") : undefined);
    if (html !== undefined) writeFileSync(html, page(report));
    if (hasFailed) progress(`everything that can be looked at is in ${resolve(directory)}; the same faults again: ${report.command}`);
    process.stdout.write(reportText(report));
    return hasFailed ? 1 : 0;
  } catch (error) {
    progress(`chaos: the run failed: ${(error as Error).stack ?? String(error)}\nits data and logs are in ${resolve(directory)}`);
    process.stdout.write(`chaos: seed ${seed}, the run failed: ${(error as Error).message}\n`);
    return 1;
  } finally {
    await endAll();
  }
}

/** What was typed, with the seed that was drawn. */
function commandOf(seed: number): string {
  const given = process.argv.slice(2).map((one) => (/^[\w./:,=@{}-]+$/.test(one) ? one : `'${one.replaceAll("'", "'\\''")}'`));
  const isSeeded = given.some((one) => one.startsWith("--seed"));
  return ["npm run chaos --", ...given, ...(isSeeded ? [] : ["--seed", String(seed)])].join(" ");
}
