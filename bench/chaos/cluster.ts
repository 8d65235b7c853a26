// The cluster that is tormented: real processes, each with a volume of its own, links that pass through proxies, and a clock
// that can be moved. A node whose process ends is started again, as a supervisor would; that it ended without anybody's doing
// is a finding.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Nodes } from "../nodes.ts";
import { Firewall } from "./firewall.ts";
import { Network } from "./network.ts";
import type { Tools } from "./tools.ts";
import type { Verdict } from "./verdict.ts";
import { Volume } from "./volume.ts";

const MIB = 1024 * 1024;
/** Of each node's file system; sparse, so that only what is written takes space. */
const VOLUME_BYTES = 768 * MIB;
const SUPERVISE_MS = 50;
/** Between two starts of a node by the supervisor. */
const RESTART_MS_MIN = 500;
const STOP_GRACE_MS = 25_000;
const SETTINGS = {
  FLOTILLA_CLUSTER_ID: "chaos",
  FLOTILLA_SEGMENT_BYTES: String(2 * MIB),
  FLOTILLA_DISK_WATERMARK_BYTES: String(48 * MIB),
  FLOTILLA_DISK_RESERVE_BYTES: String(8 * MIB),
  // Damage that nobody reads is to be found within a fault's time.
  FLOTILLA_SCRUB_BYTES_PER_SECOND: String(32 * MIB),
  FLOTILLA_SCRUB_PAUSE_MS: "500",
  FLOTILLA_LOG_LEVEL: "info",
};

export type ClusterOptions = {
  readonly directory: string;
  /** Of what the nodes print. */
  readonly logs: string;
  readonly nodes: number;
  readonly tools: Tools;
  readonly verdict: Verdict;
  /** Clocks can be moved: costs every look at the clock something. */
  readonly movesClocks: boolean;
};

export class ChaosCluster {
  readonly nodes: Nodes;
  readonly network: Network;
  readonly firewall = new Firewall();
  readonly volumes: ReadonlyMap<number, Volume>;
  readonly directory: string;
  private readonly verdict: Verdict;
  /** Nodes that are to run. */
  private readonly wanted = new Set<number>();
  /** Nodes whose process may end by what is done to it now. */
  private readonly mayEnd = new Set<number>();
  private readonly stopSupervisor = new AbortController();
  private supervisor: Promise<void> = Promise.resolve();
  private readonly clockFile: (node: number) => string;
  private readonly launchedMs = new Map<number, number>();
  /** Ends that the supervisor made up for. */
  restarts = 0;

  static async start(options: ClusterOptions): Promise<ChaosCluster> {
    const { directory, logs, nodes: count, tools, movesClocks } = options;
    const volumes = new Map<number, Volume>();
    const clockFile = (node: number): string => join(directory, `clock-${node}`);
    mkdirSync(logs, { recursive: true });
    for (let node = 1; node <= count; node++) {
      volumes.set(node, new Volume(directory, `node-${node}`, tools.missing.has("mount") ? 0 : VOLUME_BYTES));
      writeFileSync(clockFile(node), "+0\n");
    }
    let network: Network | null = null;
    const nodes = await Nodes.make(directory, {
      count,
      env: SETTINGS,
      logs,
      dataDir: (node) => volumes.get(node)!.dataDir,
      nodeEnv: (node, { peer }) => ({
        FLOTILLA_PEERS: Array.from({ length: count }, (_, at) => at + 1)
          .map((other) => `${other}=127.0.0.1:${other === node ? peer : network!.port(node, other)}`)
          .join(","),
        ...(movesClocks && tools.faketime !== "" ? faketimeOf(tools.faketime, clockFile(node)) : {}),
      }),
    });
    network = await Network.between(nodes.ids, (node) => nodes.portsOf(node).peer);
    const cluster = new ChaosCluster(nodes, network, volumes, clockFile, options);
    try {
      for (const node of nodes.ids) cluster.launch(node);
      for (const node of nodes.ids) await nodes.ready(node);
    } catch (error) {
      await cluster.close();
      throw error;
    }
    cluster.supervisor = cluster.supervise();
    return cluster;
  }

  private constructor(
    nodes: Nodes,
    network: Network,
    volumes: ReadonlyMap<number, Volume>,
    clockFile: (node: number) => string,
    { directory, verdict }: ClusterOptions,
  ) {
    this.nodes = nodes;
    this.network = network;
    this.volumes = volumes;
    this.clockFile = clockFile;
    this.directory = directory;
    this.verdict = verdict;
  }

  get ids(): readonly number[] {
    return this.nodes.ids;
  }

  launch(node: number): void {
    this.nodes.launch(node);
    this.launchedMs.set(node, performance.now());
    this.wanted.add(node);
    this.mayEnd.delete(node);
  }

  /** SIGKILL; resolves when the process is gone. It stays down until it is launched. */
  async kill(node: number): Promise<void> {
    this.wanted.delete(node);
    this.nodes.kill(node);
    await this.nodes.gone(node);
  }

  /** SIGTERM; resolves with the exit code, null if it had to be killed, and the time that it took. */
  async stop(node: number): Promise<{ readonly code: number | null; readonly ms: number }> {
    this.wanted.delete(node);
    const began = performance.now();
    await this.nodes.end(node, STOP_GRACE_MS);
    const ms = performance.now() - began;
    const { code } = this.nodes.endOf(node);
    if (code !== 0)
      this.verdict.report(
        "crash",
        `node ${node} was asked to stop and ${code === null ? "had to be killed" : `ended with exit code ${code}`} after ${ms.toFixed(0)} ms:\n${this.nodes.outputOf(node)}`,
      );
    return { code, ms };
  }

  /** Its process may end by what happens to it now, and is then started again at once. Until its next start, or `spare`. */
  endanger(node: number): void {
    this.mayEnd.add(node);
  }

  /** If its process ends it stays down until it is launched. */
  abandon(node: number): void {
    this.wanted.delete(node);
  }

  spare(node: number): void {
    this.mayEnd.delete(node);
  }

  isDown(node: number): boolean {
    return !this.wanted.has(node);
  }

  /** `offset` as libfaketime has it: "+3600", "-120". */
  moveClock(node: number, offset: string): void {
    writeFileSync(this.clockFile(node), `${offset}\n`);
  }

  /** How far the node's clock is off ours, in ms, to the second. */
  async clockOffsetMs(node: number): Promise<number> {
    const { headers } = await this.nodes.get(node, "readyz");
    return Date.parse(headers.get("date") ?? "") - Math.floor(Date.now() / 1_000) * 1_000;
  }

  /** The process's state as the kernel has it: R, S, D, T (stopped). */
  stateOf(node: number): string {
    return /^State:\s+(\S)/m.exec(readFileSync(`/proc/${this.nodes.pid(node)}/status`, "utf8"))?.[1] ?? "?";
  }

  /** A metric of the node, all its labels added up; NaN when it does not answer. */
  async metric(node: number, name: string): Promise<number> {
    const response = await this.nodes.get(node, "metrics").catch(() => null);
    if (response === null) return Number.NaN;
    let sum = 0;
    for (const [, value] of (await response.text()).matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, "gm"))) sum += Number(value);
    return sum;
  }

  /** The most that any node holds in memory now. */
  get residentBytes(): number {
    return Math.max(0, ...this.ids.map((node) => this.nodes.residentBytes(node)));
  }

  async close(): Promise<void> {
    this.stopSupervisor.abort();
    await this.supervisor;
    await this.firewall.off();
    for (const node of this.ids) {
      if (!this.nodes.isRunning(node)) continue;
      // What is stopped would not hear of its end.
      this.nodes.signal(node, "SIGCONT");
      this.nodes.kill(node);
      await this.nodes.gone(node);
    }
    await this.network.close();
    for (const volume of this.volumes.values()) await volume.close();
  }

  private async supervise(): Promise<void> {
    const { signal } = this.stopSupervisor;
    while (!signal.aborted) {
      for (const node of [...this.wanted]) {
        if (this.nodes.isRunning(node) || performance.now() - this.launchedMs.get(node)! < RESTART_MS_MIN) continue;
        const { code, signal: by } = this.nodes.endOf(node);
        if (!this.mayEnd.has(node))
          this.verdict.report("crash", `node ${node} ended by itself (${by ?? `exit code ${code}`}):\n${this.nodes.outputOf(node)}`);
        this.restarts += 1;
        this.launch(node);
      }
      await delay(SUPERVISE_MS);
    }
  }
}

/** The file is read again each second. Monotonic clocks are left alone: no machine moves them. */
function faketimeOf(library: string, file: string): Record<string, string> {
  return {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_CACHE_DURATION: "1",
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    NO_FAKE_STAT: "1",
  };
}
