// Three nodes of Flotilla as real processes on loopback: started, killed and started again by number, 1 to 3.

import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { end, freePorts, run, until, type Running } from "./processes.ts";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const BUILT_MAIN = fileURLToPath(new URL("../dist/src/cli/main.js", import.meta.url));
export const NODES = [1, 2, 3] as const;

/** Collects and compacts when told to by SIGUSR2, so that a measurement of memory does not depend on when V8 last did. */
const SETTLE_MODULE = `data:text/javascript,import{setFlagsFromString as set}from"node:v8";process.on("SIGUSR2",()=>{set("--compact-on-every-full-gc");gc();gc();set("--no-compact-on-every-full-gc")})`;

/** Memory that falls by less in this time no longer falls. */
const SETTLE_MS = 500;
const SETTLED_BYTES = 1024 * 1024;

export type NodesOptions = {
  /** They take `settledBytes`. */
  readonly settles?: boolean;
  /** Flags of Node for every process. */
  readonly execArgv?: readonly string[];
  /** Extra settings of every node, as FLOTILLA_* variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** Called with each node's data directory, which need not be there yet, before it starts for the first time. */
  readonly prepare?: (node: number, directory: string) => void;
};

export class Nodes {
  private readonly directory: string;
  private readonly ports: readonly number[];
  private readonly flags: readonly string[];
  private readonly env: Readonly<Record<string, string>>;
  private readonly running = new Map<number, Running>();

  private constructor(directory: string, ports: readonly number[], { settles = false, env = {}, execArgv = [] }: NodesOptions) {
    this.directory = directory;
    this.ports = ports;
    this.flags = [...execArgv, ...(settles ? ["--expose-gc", "--import", SETTLE_MODULE] : [])];
    this.env = env;
  }

  /** Starts all three and waits until they serve. */
  static async start(directory: string, options: NodesOptions = {}): Promise<Nodes> {
    const nodes = new Nodes(directory, await freePorts(9), options);
    for (const node of NODES) options.prepare?.(node, nodes.dataDir(node));
    for (const node of NODES) nodes.launch(node);
    for (const node of NODES) await nodes.ready(node);
    return nodes;
  }

  get endpoints(): string[] {
    return NODES.map((node) => this.endpoint(node));
  }

  get pids(): number[] {
    return [...this.running.values()].map(({ pid }) => pid);
  }

  endpoint(node: number): string {
    return `127.0.0.1:${this.ports[node * 3 - 3]}`;
  }

  pid(node: number): number {
    return this.running.get(node)!.pid;
  }

  dataDir(node: number): string {
    return join(this.directory, `node-${node}`);
  }

  launch(node: number): void {
    // From the sources (in tests) the built program stands elsewhere than beside this file.
    const main = MAIN.includes("/dist/") ? MAIN : BUILT_MAIN;
    mkdirSync(this.dataDir(node), { recursive: true });
    const running = run(process.execPath, [...this.flags, main, "serve"], {
      FLOTILLA_NODE_ID: String(node),
      FLOTILLA_CLUSTER_ID: "bench",
      FLOTILLA_DATA_DIR: this.dataDir(node),
      FLOTILLA_API_PORT: String(this.ports[node * 3 - 3]),
      FLOTILLA_PEER_PORT: String(this.ports[node * 3 - 2]),
      FLOTILLA_HTTP_PORT: String(this.ports[node * 3 - 1]),
      FLOTILLA_PEERS: NODES.map((peer) => `${peer}=127.0.0.1:${this.ports[peer * 3 - 2]}`).join(","),
      FLOTILLA_LOG_LEVEL: "warn",
      ...this.env,
    });
    this.running.set(node, running);
  }

  async ready(node: number): Promise<void> {
    await until(`flotilla node ${node} ready`, async () => (await this.get(node, "readyz")).ok, [this.running.get(node)!]);
  }

  signal(node: number, signal: NodeJS.Signals): void {
    this.running.get(node)!.child.kill(signal);
  }

  kill(node: number): void {
    this.signal(node, "SIGKILL");
  }

  /** Resolves when the process is gone. */
  async gone(node: number): Promise<void> {
    const { child } = this.running.get(node)!;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  /** Ends the node with SIGTERM, and waits for its end. */
  async end(node: number, graceMs?: number): Promise<void> {
    await end(this.running.get(node)!, "SIGTERM", graceMs);
  }

  isRunning(node: number): boolean {
    const { child } = this.running.get(node)!;
    return child.exitCode === null && child.signalCode === null;
  }

  outputOf(node: number): string {
    return this.running.get(node)!.output();
  }

  /** The value of a metric; NaN when the node does not tell it now. `labels` as they stand there: `{log="data"}`. */
  async metric(node: number, name: string, labels = ""): Promise<number> {
    const page = await (await this.get(node, "metrics")).text();
    const start = `${name}${labels} `;
    const line = page.split("\n").find((text) => text.startsWith(start));
    return line === undefined ? Number.NaN : Number(line.slice(start.length));
  }

  get(node: number, page: "metrics" | "readyz"): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.ports[node * 3 - 1]}/${page}`);
  }

  /** Bytes of resident memory; 0 when the process is gone. */
  residentBytes(node: number): number {
    if (!this.isRunning(node)) return 0;
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid(node)}/status`, "utf8"))?.[1] ?? 0) * 1024;
  }

  /** Bytes of resident memory after all garbage was collected. */
  async settledBytes(node: number): Promise<number> {
    this.running.get(node)!.child.kill("SIGUSR2");
    // The page comes once the loop turns again, behind the collection; V8 gives pages back in the background after that.
    await this.get(node, "readyz");
    for (let bytes = this.residentBytes(node); ;) {
      await delay(SETTLE_MS);
      const now = this.residentBytes(node);
      if (now > bytes - SETTLED_BYTES) return now;
      bytes = now;
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.running.values()].map((node) => end(node)));
  }
}
