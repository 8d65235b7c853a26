// `npm run chaos -- --failover`: n faults of each kind, and for each the time that partitions were without service; on
// request with the same probe on RabbitMQ and NATS, in the same run.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Prng } from "../../src/base/prng.ts";
import { FIGURE_HEAD, figureRow, isMet } from "../figures.ts";
import { table } from "../table.ts";
import { FlotillaFailover } from "./failover-flotilla.ts";
import { runMany, type ManyRun } from "./failover-many.ts";
import { failoverFigures, serviceFigures, renderFailover, type FailoverReport, type SystemInfo } from "./failover-report.ts";
import { runSeries, type FailoverRun } from "./failover-series.ts";
import { FAILOVER_KINDS, LINK_KINDS, type FailoverKind, type FailoverTarget } from "./failover-target.ts";
import { failoverPage } from "./failover-page.ts";

export type FailoverOptions = {
  /** Of each kind of fault. */
  readonly runs: number;
  /** Names of FAILOVER_KINDS, and "many": all partitions of a killed node. Default: all. */
  readonly kinds?: readonly string[];
  /** rabbitmq, nats. */
  readonly against?: readonly string[];
  /** Runs of each kind on these, which take far longer to come back; default: as many, at most 20. */
  readonly peerRuns?: number;
  /** Of the topic; a third is led by each node. */
  readonly partitions?: number;
  /** Led by the node that is killed, for "many", and how often. */
  readonly many?: number;
  readonly manyRuns?: number;
  readonly calmMs?: number;
  /** Of the order and the victims; default: the clock. */
  readonly seed?: number;
  /** A file for all that was measured. */
  readonly json?: string | undefined;
  /** A file for a page with the distributions. */
  readonly html?: string | undefined;
  /** Nothing is judged but that all are served again so soon: for a machine of which nobody knows what else it does. */
  readonly withinMs?: number | undefined;
  /** Nothing is judged. */
  readonly isTiny?: boolean;
  readonly progress: (text: string) => void;
};

const PARTITIONS = 6;
const MANY = 1_000;
const MANY_RUNS_MAX = 5;
const PEER_RUNS_MAX = 20;
const CALM_MS = 500;
/** Their clients are packages that an installation does not have. */
const PEERS = {
  rabbitmq: async () => (await import("./failover-rabbitmq.ts")).RabbitmqFailover,
  nats: async () => (await import("./failover-nats.ts")).NatsFailover,
} as const;
const ALL_KINDS = [...(Object.keys(FAILOVER_KINDS) as FailoverKind[]), "many"] as const;

/** Resolves with the exit code: 1 when a figure is missed. */
export async function runFailover(directory: string, options: FailoverOptions): Promise<number> {
  const { runs, against = [], peerRuns = Math.min(runs, PEER_RUNS_MAX), partitions = PARTITIONS, calmMs = CALM_MS, progress } = options;
  const { seed = Date.now() % 0x7fff_ffff, isTiny = false } = options;
  const asked = chosen(options.kinds, ALL_KINDS, "kinds");
  const peers = chosen(against, ["rabbitmq", "nats"] as const, "--against");
  const kinds = asked.filter((kind) => kind !== "many");
  const random = new Prng(seed);
  const systems: SystemInfo[] = [];
  const all: FailoverRun[] = [];
  const skipped: FailoverReport["skipped"][number][] = [];
  const folder = (name: string): string => {
    const path = join(directory, name);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const series = async (target: FailoverTarget, of: readonly FailoverKind[], count: number): Promise<void> => {
    const { name, version, settings } = target;
    if (!systems.some((system) => system.name === name)) systems.push({ name, version, settings });
    try {
      all.push(...(await runSeries(target, { kinds: of, runs: count, calmMs, random, progress })));
    } finally {
      await target.stop();
    }
  };
  progress(`seed ${seed}`);
  // Where links need not be cut the nodes talk to each other without anything in between.
  for (const hasProxies of [false, true]) {
    const of = kinds.filter((kind) => LINK_KINDS.has(kind) === hasProxies);
    if (of.length > 0)
      await series(await FlotillaFailover.start(folder(hasProxies ? "flotilla-links" : "flotilla"), { partitions, hasProxies }), of, runs);
  }
  for (const peer of peers) {
    if (kinds.length === 0) break;
    const target = await (await PEERS[peer]()).start(folder(peer), partitions);
    if (target === undefined) {
      progress(`${peer} is not installed (Debian: apt-get install ${peer}-server): left out`);
      continue;
    }
    for (const kind of kinds) if (!target.kinds.has(kind)) skipped.push({ system: peer, kind });
    await series(target, kinds, peerRuns);
  }
  let many: ManyRun[] = [];
  if (asked.includes("many"))
    many = await runMany(folder("many"), {
      perNode: options.many ?? MANY,
      runs: options.manyRuns ?? Math.min(runs, MANY_RUNS_MAX),
      progress,
    });
  const report: FailoverReport = { systems, partitions, seed, runs: all, many, skipped };
  const figures = options.withinMs === undefined ? failoverFigures(report) : serviceFigures(report, options.withinMs);
  process.stdout.write(`${renderFailover(report)}\n${table([FIGURE_HEAD, ...figures.map(figureRow)])}\n`);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ ...report, figures }, null, 1)}\n`);
  if (options.html !== undefined) writeFileSync(options.html, failoverPage(report));
  const missed = figures.filter((figure) => !isMet(figure)).length;
  process.stdout.write(`failover: ${all.length + many.length} faults, ${figures.length - missed} of ${figures.length} figures met\n`);
  return missed === 0 || isTiny ? 0 : 1;
}

/** All without any. */
function chosen<Name extends string>(given: readonly string[] | undefined, known: readonly Name[], option: string): Name[] {
  const unknown = given?.find((name) => !(known as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`${option} knows ${known.join(", ")}, not ${unknown}`);
  return given === undefined ? [...known] : known.filter((name) => given.includes(name));
}
