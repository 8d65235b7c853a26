// `npm run bench`: measures a real three-node cluster, and on request the peers beside it, in the same run. Options that
// begin with "instead" choose another measurement. What has a wanted figure is held against it: exit code 1 when one is missed.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { letHeapGrow } from "../src/cli/heap.ts";
import { runBacklog } from "./backlog.ts";
import { runBindings } from "./bindings.ts";
import { measureBudget, renderBudget } from "./budget.ts";
import { measureCeiling } from "./ceiling.ts";
import { runFailover } from "./chaos/failover.ts";
import { runDue } from "./due.ts";
import { runEndurance } from "./endurance.ts";
import { chosenParts, isPassed, measureParts, PARTS, renderParts } from "./every-figure.ts";
import { finishFigures, type FigureRun } from "./figures.ts";
import { FlotillaSystem } from "./flotilla.ts";
import { runGroups } from "./groups.ts";
import { runLaggard } from "./laggard.ts";
import { measureAll } from "./measure.ts";
import { NatsSystem } from "./nats.ts";
import { runPinned } from "./pinned.ts";
import { endAll } from "./processes.ts";
import { publishFigures } from "./publish-figures.ts";
import { runQueues } from "./queues.ts";
import { RabbitmqSystem } from "./rabbitmq.ts";
import { render, reportOf } from "./report.ts";
import { runRestart } from "./restart.ts";
import { measureStalls } from "./stalls.ts";
import type { System } from "./system.ts";
import { runUnsettled } from "./unsettled.ts";

type Options = {
  against?: string;
  seconds: string;
  rounds: string;
  sizes: string;
  partitions: string;
  json?: string;
  tiny?: boolean;
  failover?: string;
  kinds?: string;
  html?: string;
  budget?: boolean;
  figures?: boolean;
  only?: string;
  groups?: string;
  laggard?: string;
  stalls?: string;
  wide: string;
  pinned?: string;
  restart?: string;
  endurance?: string;
  queues?: boolean;
  backlog?: string;
  due?: string;
  bindings?: string;
  unsettled?: string;
  directory?: string;
};
type Run = { readonly directory: string; readonly options: Options; readonly isTiny: boolean; readonly progress: (text: string) => void };

const program = new Command("bench")
  .description("publish, sequential latency and replay on a real three-node cluster; with --against the same on its peers")
  .option("--against <list>", "rabbitmq,nats: three-node clusters of Debian's packages, measured in turn")
  .option("--seconds <n>", "length of one measurement", "4")
  .option("--rounds <n>", "rounds over all systems; the median counts", "3")
  .option("--sizes <list>", "message sizes in bytes", "128,1024,16384")
  .option("--partitions <list>", "numbers of partitions (queues, streams)", "1,10")
  .option("--failover <runs>", "instead: so many faults of each kind under load, and the time without acks of each partition")
  .option("--kinds <list>", "of --failover: kill,stop,cut,mute,deaf,term,many")
  .option("--html <file>", "of --failover: a page with the distributions")
  .option("--budget", "instead: where the time of a published batch goes, by V8's profiler in every process")
  .option("--groups <n>", "instead: what so many groups cost, from making them to deleting them")
  .option("--laggard <seconds>", "instead: SIGSTOP a follower under full load for so long: memory of the leaders, cost of its coming back")
  .option("--stalls <seconds>", "instead: send each of the most expensive requests for so long, and print what it does to the nodes")
  .option("--wide <n>", "partitions of the widest topic among these requests' targets", "100")
  .option("--pinned <gb>", "instead: one record that stays and so many GB that are trimmed behind it; what is left on disk")
  .option("--restart <gb>", "instead: how long a node with so many GB takes to come back, stopped and killed")
  .option("--endurance <minutes>", "instead: steady load while disks fill, processes stop and nodes are wiped; judges what is left")
  .option("--queues", "instead: queues: publish, consume, both, end to end; with --against rabbitmq beside its quorum queues")
  .option("--backlog <millions>", "instead: so many million messages in one queue: memory, publish rate, and a node that comes back")
  .option("--due <n>", "instead: so many delayed messages that are due at once: when the first and the last one come")
  .option("--bindings <n>", "instead: how long a message takes through a topic exchange with so many bindings")
  .option("--unsettled <gb>", "instead: one message that stays unsettled and so many GB that pass behind it; what is left on disk")
  .option("--figures", "instead: all of these that have a wanted figure, one after the other, and one table (most of an hour)")
  .option("--only <list>", `parts of --figures: ${PARTS.map(({ name }) => name).join(",")}`)
  .option("--json <file>", "write the results there as well")
  .option("--directory <dir>", "where the systems keep their data (a new folder in it)", tmpdir())
  .option("--tiny", "a second or two of everything, to see that it works")
  .parse();

letHeapGrow();
await main(program.opts<Options>());

async function main(options: Options): Promise<void> {
  const directory = mkdtempSync(join(options.directory ?? tmpdir(), "flotilla-bench-"));
  const clean = (): void => rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  // Killed, too, it leaves nothing behind: a full load fills a disk within minutes.
  process.on("exit", clean);
  const progress = (text: string): void => void process.stderr.write(`${text}\n`);
  try {
    await run({ directory, options, isTiny: options.tiny === true, progress });
  } finally {
    await endAll();
    clean();
  }
}

async function run(given: Run): Promise<void> {
  const { directory, options, isTiny, progress } = given;
  if (options.failover !== undefined) process.exitCode = await failover(given);
  else if (options.stalls !== undefined) print(await measureStalls(directory, Number(options.stalls), Number(options.wide), progress));
  else if (options.budget === true) await budget(given);
  else if (options.figures === true) await everyFigure(given);
  else finishFigures(await figures(given), { json: options.json, isTiny });
}

/** Whatever is held against what is wanted. */
async function figures(given: Run): Promise<FigureRun> {
  const { directory, options, isTiny, progress } = given;
  if (options.laggard !== undefined) {
    const [warmUpSeconds, beforeSeconds] = isTiny ? [0.5, 0.5] : [5, 10];
    return runLaggard(directory, { stopSeconds: Number(options.laggard), warmUpSeconds, beforeSeconds, progress });
  }
  if (options.groups !== undefined) return runGroups(directory, { groups: Number(options.groups), restSeconds: isTiny ? 1 : 30, progress });
  if (options.pinned !== undefined) return runPinned(directory, Number(options.pinned), isTiny, progress);
  if (options.restart !== undefined) return runRestart(directory, Number(options.restart), progress);
  if (options.endurance !== undefined) return runEndurance(directory, Number(options.endurance), isTiny, progress);
  if (options.backlog !== undefined) return runBacklog(directory, Number(options.backlog) * 1e6, progress);
  if (options.due !== undefined) return runDue(directory, Number(options.due), isTiny, progress);
  if (options.bindings !== undefined) return runBindings(Number(options.bindings), isTiny);
  if (options.unsettled !== undefined) return runUnsettled(directory, Number(options.unsettled), isTiny, progress);
  if (options.queues === true) {
    const withRabbitmq = options.against?.split(",").includes("rabbitmq") === true;
    const [seconds, rounds, leadInSeconds] = isTiny ? [0.3, 1, 0.1] : [Number(options.seconds), Number(options.rounds), 5];
    return runQueues(directory, { seconds, rounds, leadInSeconds, withRabbitmq, progress });
  }
  return throughput(given);
}

function failover({ directory, options, isTiny, progress }: Run): Promise<number> {
  const { failover: runs, kinds, against, json, html } = options;
  return runFailover(directory, {
    runs: Number(runs),
    ...(kinds === undefined ? {} : { kinds: list(kinds, String) }),
    against: against === undefined ? [] : list(against, String),
    json,
    html,
    isTiny,
    ...(isTiny ? { many: 20, manyRuns: 1, calmMs: 100 } : {}),
    progress,
  });
}

async function budget({ directory, options, isTiny, progress }: Run): Promise<void> {
  const sizes = list(options.sizes, Number);
  const budgets = await measureBudget(directory, { sizes, seconds: isTiny ? 1 : Number(options.seconds), progress });
  print(renderBudget(budgets), budgets, options);
}

async function everyFigure({ directory, options, isTiny, progress }: Run): Promise<void> {
  const parts = await measureParts(chosenParts(options.only), { directory, isTiny, progress });
  print(renderParts(parts), { parts }, options);
  if (!isPassed(parts, isTiny)) process.exitCode = 1;
}

async function throughput({ directory, options, isTiny, progress }: Run): Promise<FigureRun> {
  const plan = isTiny
    ? { seconds: 0.3, rounds: 1, sizes: [128, 16_384], partitions: [1, 3], progress }
    : {
        seconds: Number(options.seconds),
        rounds: Number(options.rounds),
        sizes: list(options.sizes, Number),
        partitions: list(options.partitions, Number),
        progress,
      };
  const against = options.against?.split(",") ?? [];
  const ceiling = await measureCeiling(directory, isTiny ? 0.2 : 2);
  const systems = await startAll(directory, against, progress);
  try {
    const report = reportOf(systems, ceiling, await measureAll(systems, plan));
    return { report, figures: publishFigures(report, against), head: `\n${render(report)}\n` };
  } finally {
    for (const system of systems) await system.stop();
  }
}

function print(text: string, report?: object, options: { readonly json?: string } = {}): void {
  process.stdout.write(text);
  if (options.json !== undefined && report !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
}

async function startAll(directory: string, against: readonly string[], progress: (text: string) => void): Promise<System[]> {
  const starters: Readonly<Record<string, (folder: string) => Promise<System | undefined>>> = {
    flotilla: (folder) => FlotillaSystem.start(folder),
    rabbitmq: (folder) => RabbitmqSystem.start(folder),
    nats: (folder) => NatsSystem.start(folder),
  };
  const chosen = ["flotilla", ...against].map((name) => {
    const start = starters[name];
    if (start === undefined) throw new Error(`--against knows rabbitmq and nats, not ${name}`);
    return { name, start };
  });
  const systems: System[] = [];
  for (const { name, start } of chosen) {
    progress(`starting ${name}`);
    const folder = join(directory, name);
    mkdirSync(folder);
    const system = await start(folder);
    if (system === undefined) progress(`${name} is not installed (Debian: apt-get install ${name}-server): left out`);
    else systems.push(system);
  }
  return systems;
}

function list<Value>(text: string, of: (part: string) => Value): Value[] {
  return text.split(",").map(of);
}
