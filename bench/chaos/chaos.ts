// A whole run: the cluster, its rounds, and what they came to.

import { cpus } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { join } from "node:path";
import { Prng } from "../../src/base/prng.ts";
import { Flotilla } from "../../src/client/index.ts";
import { foreignField, ownField, type FieldOptions } from "./battlefields.ts";
import { ChaosCluster } from "./cluster.ts";
import { commandKinds, type CommandFaults } from "./commands.ts";
import type { FaultKind } from "./fault.ts";
import { familyOf } from "./faults/all.ts";
import type { Battlefield, FaultRecord } from "./nemesis.ts";
import { sumOf } from "./queue-ledger.ts";
import { GROUPS_PER_QUEUE, QUEUE_RATE } from "./queue-load.ts";
import { summariesOf, type ChaosReport, type Skipped } from "./report.ts";
import { runRound, type RoundParts, type RoundResult } from "./round.ts";
import { Schedule } from "./schedule.ts";
import { Timeline } from "./timeline.ts";
import { findTools, type Tools } from "./tools.ts";
import { Verdict } from "./verdict.ts";

export type ChaosOptions = {
  readonly seconds: number;
  readonly seed: number;
  /** Of our own cluster. */
  readonly nodes: number;
  /** Of somebody's cluster; empty: our own. */
  readonly endpoints: readonly string[];
  readonly commands: CommandFaults;
  readonly kinds: readonly FaultKind[];
  readonly partitions: number;
  readonly rate: number;
  readonly bytesMax: number;
  /** Of each round, beside the topic; none if absent. */
  readonly queues?: number;
  readonly scale: number;
  readonly recoverySeconds: number;
  /** A round, from its first record to its judgement, takes no longer. */
  readonly roundSeconds: number;
  /** Where everything of this run stands, and is left if it fails. */
  readonly directory: string;
  readonly command: string;
  readonly progress: (text: string) => void;
  readonly signal: AbortSignal;
  readonly beforeJudge?: RoundParts["beforeJudge"];
};

const REPLICAS = 3;
const CLIENT_DEADLINE_MS = 10_000;
const SAMPLE_MS = 500;
/** Bodies of one round on our own volumes, and what each record takes beside its own. */
const ROUND_BYTES_MAX = 200 * 1024 * 1024;
const RECORD_OVERHEAD_BYTES = 60;

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { progress, endpoints } = options;
  const verdict = new Verdict((invariant, text) => progress(`VIOLATED ${invariant}: ${text}`));
  if (endpoints.length > 0) return new Run(options, verdict).foreign();
  const tools = findTools();
  const { kinds, skipped } = possible(options.kinds, tools, options.nodes);
  for (const { kind, why } of skipped) progress(`SKIPPED ${kind}: ${why}`);
  if (tools.missing.has("mount")) progress("the nodes keep their data in ordinary folders: file systems of their own need root on Linux");
  progress(`starting ${options.nodes} nodes`);
  const cluster = await ChaosCluster.start({
    directory: options.directory,
    logs: join(options.directory, "logs"),
    nodes: options.nodes,
    tools,
    verdict,
    movesClocks: kinds.some(({ needs }) => needs.includes("faketime")),
  });
  try {
    return await new Run(options, verdict).own(cluster, kinds, skipped);
  } finally {
    await cluster.close();
  }
}

/** What this machine and this cluster allow; why not stands with the others. */
export function possible(
  wanted: readonly FaultKind[],
  tools: Tools,
  nodes: number,
): { readonly kinds: FaultKind[]; readonly skipped: Skipped[] } {
  const kinds: FaultKind[] = [];
  const skipped: Skipped[] = [];
  for (const kind of wanted) {
    const { name, needs, nodesMin = 1 } = kind;
    const missing = needs.map((need) => tools.missing.get(need)).find((why) => why !== undefined);
    if (missing !== undefined) skipped.push({ kind: name, why: missing });
    else if (nodes < nodesMin) skipped.push({ kind: name, why: `it needs ${nodesMin} nodes (--nodes 5)` });
    else kinds.push(kind);
  }
  return { kinds, skipped };
}

class Run {
  private readonly options: ChaosOptions;
  private readonly verdict: Verdict;
  private readonly startedMs = performance.now();
  private readonly started = new Date().toISOString();
  private readonly timeline: Timeline;
  private readonly stalls = monitorEventLoopDelay({ resolution: 10 });
  private readonly now = (): number => performance.now() - this.startedMs;
  private readonly results: RoundResult[] = [];
  private peakRssBytes = 0;

  constructor(options: ChaosOptions, verdict: Verdict) {
    this.options = options;
    this.verdict = verdict;
    this.timeline = new Timeline(this.now);
    this.stalls.enable();
  }

  async own(cluster: ChaosCluster, kinds: readonly FaultKind[], skipped: readonly Skipped[]): Promise<ChaosReport> {
    const { endpoints } = cluster.nodes;
    await using client = await Flotilla.connect({ endpoints, deadlineMs: CLIENT_DEADLINE_MS });
    const sampler = setInterval(() => (this.peakRssBytes = Math.max(this.peakRssBytes, cluster.residentBytes)), SAMPLE_MS);
    try {
      await this.rounds({
        client,
        endpoints,
        kinds,
        nodes: cluster.ids,
        field: (field) => ownField(cluster, this.verdict, { client, ...field }),
      });
    } finally {
      clearInterval(sampler);
    }
    return this.report("own", cluster.ids.length, kinds, skipped);
  }

  async foreign(): Promise<ChaosReport> {
    const { endpoints, commands } = this.options;
    await using client = await Flotilla.connect({ endpoints, deadlineMs: CLIENT_DEADLINE_MS });
    const { nodes } = await client.cluster.describe();
    const kinds = commandKinds(commands, nodes);
    if (kinds.length === 0) this.options.progress("no --fault-command: load and judgement only");
    const ids = nodes.map(({ id }) => id);
    await this.rounds({ client, endpoints, kinds, nodes: ids, field: (field) => foreignField({ client, ...field }) });
    return this.report("foreign", nodes.length, kinds, []);
  }

  private async rounds(arena: {
    readonly client: Flotilla;
    readonly endpoints: readonly string[];
    readonly kinds: readonly FaultKind[];
    readonly nodes: readonly number[];
    readonly field: (options: Omit<FieldOptions, "client">) => Battlefield;
  }): Promise<void> {
    const { options, verdict, timeline, now } = this;
    const { seconds, seed, partitions, scale, rate, bytesMax, queues = 0, recoverySeconds, progress, signal } = options;
    const bytesPerSecond = (rate + queues * QUEUE_RATE) * (bytesMax / 2 + RECORD_OVERHEAD_BYTES);
    const roundSeconds =
      options.endpoints.length > 0 ? options.roundSeconds : Math.min(options.roundSeconds, ROUND_BYTES_MAX / bytesPerSecond);
    const { client, endpoints, kinds, nodes } = arena;
    const replicas = Math.min(REPLICAS, nodes.length);
    const schedule = kinds.length === 0 ? null : new Schedule({ seed, kinds, nodes, partitions, scale });
    // Two runs of the same seed on the same cluster must not take each other's records for their own.
    const chance = new Prng((seed ^ Date.now()) >>> 0);
    for (let number = 1; number === 1 || (now() < seconds * 1_000 && !signal.aborted); number++) {
      const left = Math.max(1, seconds - now() / 1_000);
      const run = chance.nextUint32();
      const topic = `chaos-${seed}-${number}-${run.toString(36)}`;
      const round = {
        number,
        topic,
        run,
        partitions,
        replicas,
        rate,
        bytesMax,
        queues,
        queueSeed: (seed + number) >>> 0,
        recoverySeconds,
        seconds: Math.min(left, roundSeconds),
      };
      const otherGroups = queues * GROUPS_PER_QUEUE;
      const result = await runRound(round, {
        client,
        endpoints,
        schedule,
        field: (name) => arena.field({ topic: name, partitions, otherGroups, replicas, recoverySeconds }),
        timeline,
        verdict,
        now,
        progress,
        signal,
        beforeJudge: options.beforeJudge,
      });
      this.results.push(result);
      // What was found is looked at before more is done to it.
      if (result.isLost || verdict.violations > 0) return;
    }
  }

  private report(cluster: "own" | "foreign", nodes: number, kinds: readonly FaultKind[], skipped: readonly Skipped[]): ChaosReport {
    const { options, results, timeline, verdict } = this;
    timeline.finish();
    this.stalls.disable();
    const sum = (pick: (result: RoundResult) => number): number => results.reduce((all, result) => all + pick(result), 0);
    const faults = results.flatMap((result): readonly FaultRecord[] => result.faults);
    const { model } = cpus()[0] ?? { model: "?" };
    return {
      started: this.started,
      command: options.command,
      seed: options.seed,
      seconds: this.now() / 1_000,
      cluster,
      nodes,
      partitions: options.partitions,
      replicas: Math.min(REPLICAS, nodes),
      rate: options.rate,
      machine: `${cpus().length} x ${model}, ${process.platform}, Node ${process.version}`,
      rounds: results.length,
      sent: sum(({ sent }) => sent),
      acked: sum(({ acked }) => acked),
      notOffered: sum(({ notOffered }) => notOffered),
      readLive: sum(({ readLive }) => readLive),
      readByJudge: sum(({ readByJudge }) => readByJudge),
      commits: sum(({ commits }) => commits),
      ...(options.queues === undefined || options.queues === 0
        ? {}
        : { queues: { count: options.queues, ...sumOf(results.map(({ queues }) => queues)) } }),
      kinds: summariesOf(faults, kinds, familyOf),
      skipped,
      faults,
      timeline: timeline.seconds,
      gaps: timeline.gaps,
      gapsLeftOut: timeline.gapsLeftOut,
      downMs: timeline.downMs(),
      longestGapMs: Math.round(Math.max(0, ...timeline.gaps.map(({ fromMs, toMs }) => toMs - fromMs))),
      peakRssBytes: this.peakRssBytes,
      harnessStallMs: Math.round(this.stalls.max / 1e6),
      violations: verdict.violations,
      findings: verdict.findings(),
    };
  }
}
