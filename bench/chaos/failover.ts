// `npm run chaos -- --failover`: n faults of each kind, and for each the time that partitions were without service; on
// request with the same probe on RabbitMQ and NATS, in the same run. What was measured is kept after every part, whatever
// becomes of the next one.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Prng } from "../../src/base/prng.ts";
import { FIGURE_HEAD, figureRow, isMet, type Figure } from "../figures.ts";
import { table } from "../table.ts";
import { Agenda, type AgendaPart } from "./failover-agenda.ts";
import { FlotillaFailover } from "./failover-flotilla.ts";
import { runMany, type ManyRun } from "./failover-many.ts";
import { failoverFigures, serviceFigures, renderFailover, type FailoverReport, type SystemInfo } from "./failover-report.ts";
import { runSeries, type FailoverRun } from "./failover-series.ts";
import { FAILOVER_KINDS, LINK_KINDS, PROCESS_KINDS, type FailoverKind, type FailoverTarget } from "./failover-target.ts";
import { failoverPage } from "./failover-page.ts";

export type FailoverOptions = {
  /** Of each kind of fault. */
  readonly runs: number;
  /** Names of FAILOVER_KINDS, and "many": all partitions of a killed node. Default: all. */
  readonly kinds?: readonly string[];
  /** rabbitmq, nats. */
  readonly against?: readonly string[];
  /** Runs of each kind on these, which take far longer to come back; default: a tenth, at least five. */
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
const PEER_RUNS_PART = 10;
const PEER_RUNS_MIN = 5;
const CALM_MS = 500;
/** No fault begins later than so long after a system's first one, whatever it does: the series ends, and says how far it came. */
const OWN_MINUTES_MAX = 120;
const PEER_MINUTES_MAX = 20;
/** Their clients are packages that an installation does not have. */
const PEERS = {
  rabbitmq: async () => (await import("./failover-rabbitmq.ts")).RabbitmqFailover,
  nats: async () => (await import("./failover-nats.ts")).NatsFailover,
} as const;
type Peer = keyof typeof PEERS;
const ALL_KINDS = [...(Object.keys(FAILOVER_KINDS) as FailoverKind[]), "many"] as const;

/** Resolves with the exit code: 1 when a figure is missed. */
export async function runFailover(directory: string, options: FailoverOptions): Promise<number> {
  const { isTiny = false, progress } = options;
  const beganMs = performance.now();
  const failover = new Failover(directory, options);
  await failover.run();
  const { report } = failover;
  const { figures } = failover;
  process.stdout.write(`${renderFailover(report)}\n${table([FIGURE_HEAD, ...figures.map(figureRow)])}\n`);
  failover.save();
  const missed = figures.filter((figure) => !isMet(figure)).length;
  const faults = report.runs.length + report.many.length;
  process.stdout.write(
    `failover: ${faults} faults in ${((performance.now() - beganMs) / 60_000).toFixed(0)} min, ${figures.length - missed} of ${figures.length} figures met\n`,
  );
  progress(`seed ${report.seed}`);
  return missed === 0 || isTiny ? 0 : 1;
}

class Failover {
  private readonly directory: string;
  private readonly options: FailoverOptions;
  private readonly kinds: readonly FailoverKind[];
  private readonly hasMany: boolean;
  private readonly peers: readonly Peer[];
  private readonly peerRuns: number;
  private readonly partitions: number;
  private readonly manyRuns: number;
  private readonly seed: number;
  private readonly random: Prng;
  private readonly agenda: Agenda;
  private readonly systems: SystemInfo[] = [];
  private readonly runs: FailoverRun[] = [];
  private many: readonly ManyRun[] = [];
  private readonly notes: string[] = [];

  constructor(directory: string, options: FailoverOptions) {
    const { runs, against = [], peerRuns, partitions = PARTITIONS, manyRuns, seed = Date.now() % 0x7fff_ffff } = options;
    const asked = chosen(options.kinds, ALL_KINDS, "kinds");
    this.directory = directory;
    this.options = options;
    this.kinds = asked.filter((kind) => kind !== "many");
    this.hasMany = asked.includes("many");
    this.peers = this.kinds.length === 0 ? [] : chosen(against, Object.keys(PEERS) as Peer[], "--against");
    this.peerRuns = peerRuns ?? Math.min(runs, Math.max(PEER_RUNS_MIN, Math.ceil(runs / PEER_RUNS_PART)));
    this.partitions = partitions;
    this.manyRuns = manyRuns ?? Math.min(runs, MANY_RUNS_MAX);
    this.seed = seed;
    this.random = new Prng(seed);
    const parts: AgendaPart[] = [{ name: "flotilla", faults: this.kinds.length * runs }];
    if (this.hasMany) parts.push({ name: "many", faults: this.manyRuns });
    for (const peer of this.peers)
      parts.push({
        name: peer,
        faults: this.peerRuns * this.kinds.filter((kind) => PROCESS_KINDS.has(kind)).length,
        secondsMax: PEER_MINUTES_MAX * 60,
      });
    this.agenda = new Agenda(parts);
    if (this.peers.length > 0 && this.peerRuns < runs)
      this.notes.push(`${this.peers.join(", ")}: ${this.peerRuns} runs of each kind, as they take far longer to come back`);
  }

  get report(): FailoverReport {
    const { systems, partitions, seed, runs, many, notes } = this;
    return { systems, partitions, seed, runs, many, notes };
  }

  async run(): Promise<void> {
    this.options.progress(`seed ${this.seed}`);
    // Where links need not be cut the nodes talk to each other without anything in between.
    await this.own(false);
    await this.own(true);
    if (this.hasMany) await this.ownMany();
    for (const peer of this.peers) await this.peer(peer);
  }

  get figures(): Figure[] {
    const { withinMs } = this.options;
    return withinMs === undefined ? failoverFigures(this.report) : serviceFigures(this.report, withinMs);
  }

  /** What was measured so far. */
  save(): void {
    const { json, html } = this.options;
    const { report, figures } = this;
    if (json !== undefined) writeFileSync(json, `${JSON.stringify({ ...report, figures }, null, 1)}\n`);
    if (html !== undefined) writeFileSync(html, failoverPage(report));
  }

  private async own(hasProxies: boolean): Promise<void> {
    const kinds = this.kinds.filter((kind) => LINK_KINDS.has(kind) === hasProxies);
    if (kinds.length === 0) return;
    const target = await FlotillaFailover.start(this.folder(hasProxies ? "flotilla-links" : "flotilla"), {
      partitions: this.partitions,
      hasProxies,
    });
    await this.series(target, kinds, { runs: this.options.runs, minutesMax: OWN_MINUTES_MAX });
  }

  private async ownMany(): Promise<void> {
    const { options, agenda } = this;
    agenda.begin();
    this.many = await runMany(this.folder("many"), {
      perNode: options.many ?? MANY,
      runs: this.manyRuns,
      progress: (text) => options.progress(`${text}; ${agenda.fault("many")}`),
    });
    this.save();
  }

  /** One that cannot be measured is no reason to lose what was measured of the others. */
  private async peer(peer: Peer): Promise<void> {
    const { notes, agenda, options } = this;
    try {
      options.progress(`starting ${peer}`);
      const target = await (await PEERS[peer]()).start(this.folder(peer), this.partitions);
      if (target === undefined) notes.push(`left out: ${peer} is not installed (Debian: apt-get install ${peer}-server)`);
      else {
        for (const kind of this.kinds) if (!target.kinds.has(kind)) notes.push(`left out: ${FAILOVER_KINDS[kind].what} of ${peer}`);
        const kinds = this.kinds.filter((kind) => target.kinds.has(kind));
        await this.series(target, kinds, { runs: this.peerRuns, minutesMax: PEER_MINUTES_MAX });
      }
    } catch (error) {
      notes.push(`${peer}: the series broke off: ${(error as Error).message.split("\n")[0]}`);
      options.progress(`${peer}: ${(error as Error).message}`);
    }
    agenda.end(peer);
    this.save();
  }

  private async series(
    target: FailoverTarget,
    kinds: readonly FailoverKind[],
    { runs, minutesMax }: { readonly runs: number; readonly minutesMax: number },
  ): Promise<void> {
    const { name, version, settings } = target;
    const { agenda, options, random } = this;
    if (!this.systems.some((system) => system.name === name)) this.systems.push({ name, version, settings });
    let made = 0;
    const done = (run: FailoverRun): void => {
      made += 1;
      this.runs.push(run);
    };
    const progress = (text: string): void => options.progress(`${text}; ${agenda.fault(name)}`);
    agenda.begin();
    try {
      await runSeries(target, { kinds, runs, calmMs: options.calmMs ?? CALM_MS, random, minutesMax, progress }, done);
      if (made < kinds.length * runs)
        this.notes.push(`${name}: ended after ${minutesMax} min, with ${made} of ${kinds.length * runs} faults`);
    } finally {
      await target.stop();
      this.save();
    }
  }

  private folder(name: string): string {
    const path = join(this.directory, name);
    mkdirSync(path, { recursive: true });
    return path;
  }
}

/** All without any. */
function chosen<Name extends string>(given: readonly string[] | undefined, known: readonly Name[], option: string): Name[] {
  const unknown = given?.find((name) => !(known as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`${option} knows ${known.join(", ")}, not ${unknown}`);
  return given === undefined ? [...known] : known.filter((name) => given.includes(name));
}
