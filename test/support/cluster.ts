// A real cluster for tests: node processes on loopback with data in a temporary folder.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePorts } from "../../bench/ports.ts";
import { Flotilla } from "../../src/client/index.ts";

const MAIN = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const READY_TIMEOUT_MS = 30_000;

export type ClusterOptions = {
  readonly nodes: number;
  /** Extra settings of every node, as FLOTILLA_* variables. */ readonly env?: Readonly<Record<string, string>>;
  /** Nodes that the settings name and that are not started. */ readonly absent?: readonly number[];
  /** Called with each node's data directory, which is not there yet, before it starts. */
  readonly prepare?: (node: number, directory: string) => Promise<void>;
};

type Ports = { readonly api: number; readonly peer: number; readonly http: number };

/** With FLOTILLA_TEST_LOGS naming a folder, everything that the nodes print is kept there. */
export class TestCluster {
  readonly directory: string;
  readonly endpoints: readonly string[];
  private readonly ports: readonly Ports[];
  private readonly env: Readonly<Record<string, string>>;
  private readonly children = new Map<number, ChildProcess>();
  private readonly output = new Map<number, string[]>();

  constructor(directory: string, ports: readonly Ports[], env: Readonly<Record<string, string>>) {
    this.directory = directory;
    this.ports = ports;
    this.env = env;
    this.endpoints = ports.map(({ api }) => `127.0.0.1:${api}`);
  }

  get nodeIds(): number[] {
    return this.ports.map((_, at) => at + 1);
  }

  dataDir(node: number): string {
    return join(this.directory, `node-${node}`);
  }

  peerPort(node: number): number {
    return this.ports[node - 1]!.peer;
  }

  /** A metric of the node, all its labels added up. */
  async metric(node: number, name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.ports[node - 1]!.http}/metrics`)).text();
    let sum = 0;
    for (const [, value] of text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, "gm"))) sum += Number(value);
    return sum;
  }

  pid(node: number): number {
    return this.children.get(node)!.pid!;
  }

  isRunning(node: number): boolean {
    const { exitCode, signalCode } = this.children.get(node)!;
    return exitCode === null && signalCode === null;
  }

  /** What the node printed last, for a failing test's message. */
  outputOf(node: number): string {
    return (this.output.get(node) ?? []).join("").slice(-4_000);
  }

  /** The events that the node logged since then. */
  loggedSince(node: number, sinceMs: number): string[] {
    const lines = (this.output.get(node) ?? []).join("").split("\n");
    return lines.filter((line) => Date.parse(/"time":"([^"]+)"/.exec(line)?.[1] ?? "") >= sinceMs);
  }

  start(node: number): void {
    const { api, peer, http } = this.ports[node - 1]!;
    const child = spawn(process.execPath, [MAIN, "serve"], {
      env: {
        ...process.env,
        FLOTILLA_NODE_ID: String(node),
        FLOTILLA_CLUSTER_ID: "test",
        FLOTILLA_DATA_DIR: this.dataDir(node),
        FLOTILLA_API_PORT: String(api),
        FLOTILLA_PEER_PORT: String(peer),
        FLOTILLA_HTTP_PORT: String(http),
        FLOTILLA_PEERS: this.ports.map((ports, at) => `${at + 1}=127.0.0.1:${ports.peer}`).join(","),
        FLOTILLA_LOG_LEVEL: "info",
        ...this.env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const lines: string[] = [];
    this.output.set(node, lines);
    const { FLOTILLA_TEST_LOGS: folder } = process.env;
    const keep = (chunk: Buffer): void => {
      lines.push(chunk.toString());
      if (lines.length > 500) lines.shift();
      if (folder !== undefined) appendFileSync(join(folder, `${basename(this.directory)}-${node}.log`), chunk);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    this.children.set(node, child);
  }

  /** Resolves when the node serves calls; rejects with its output when it ended or is too slow. */
  async ready(node: number, timeoutMs = READY_TIMEOUT_MS): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const response = await fetch(`http://127.0.0.1:${this.ports[node - 1]!.http}/readyz`).catch(() => null);
      if (response?.ok === true) return;
      const child = this.children.get(node)!;
      if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline)
        throw new Error(`node ${node} is not ready:\n${this.outputOf(node)}`);
      await delay(20);
    }
  }

  /** Prometheus text. */
  async metrics(node: number): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.ports[node - 1]!.http}/metrics`)).text();
  }

  /** SIGKILL, and waits until the process is gone. */
  async kill(node: number): Promise<void> {
    await this.end(node, "SIGKILL");
  }

  /** SIGTERM, and waits for the graceful end; resolves with the exit code. */
  async stop(node: number): Promise<number | null> {
    return this.end(node, "SIGTERM");
  }

  signal(node: number, signal: NodeJS.Signals): void {
    this.children.get(node)!.kill(signal);
  }

  async exited(node: number): Promise<number | null> {
    const child = this.children.get(node)!;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    return child.exitCode;
  }

  async leaderOf(topic: string, partition: number): Promise<number> {
    for (const endpoint of this.endpoints) {
      try {
        await using client = await Flotilla.connect({ endpoints: [endpoint] });
        const topology = await client.cluster.resolve(topic);
        const leader = topology.partitions[partition]?.leader ?? 0;
        if (leader !== 0) return leader;
      } catch {
        // That node may be the one that is down.
      }
    }
    throw new Error(`no node knows a leader of ${topic}/${partition}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.children.keys()].map((node) => this.end(node, "SIGKILL")));
    await rm(this.directory, { recursive: true, force: true });
  }

  private async end(node: number, signal: NodeJS.Signals): Promise<number | null> {
    const child = this.children.get(node)!;
    if (child.exitCode === null && child.signalCode === null) {
      const exit = once(child, "exit");
      child.kill(signal);
      await exit;
    }
    return child.exitCode;
  }
}

/** Starts the nodes and waits until all of them serve. */
export async function startCluster(options: ClusterOptions): Promise<TestCluster> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-cluster-"));
  const free = await freePorts(options.nodes * 3);
  const ports = Array.from({ length: options.nodes }, (_, at) => ({
    api: free[at * 3]!,
    peer: free[at * 3 + 1]!,
    http: free[at * 3 + 2]!,
  }));
  const cluster = new TestCluster(directory, ports, options.env ?? {});
  try {
    for (const node of cluster.nodeIds) await options.prepare?.(node, cluster.dataDir(node));
    const started = cluster.nodeIds.filter((node) => options.absent?.includes(node) !== true);
    for (const node of started) cluster.start(node);
    await Promise.all(started.map((node) => cluster.ready(node)));
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}
