// Nodes of Flotilla as real processes on loopback, three unless told otherwise: started, killed and started again by number.

import { once } from "node:events";
import { appendFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePorts } from "./ports.ts";
import { end, run, until, type Running } from "./processes.ts";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const BUILT_MAIN = fileURLToPath(new URL("../dist/src/cli/main.js", import.meta.url));
export const NODES = [1, 2, 3] as const;

/** Collects and compacts when told to by SIGUSR2, so that a measurement of memory does not depend on when V8 last did. */
const SETTLE_MODULE = `data:text/javascript,import{setFlagsFromString as set}from"node:v8";process.on("SIGUSR2",()=>{set("--compact-on-every-full-gc");gc();gc();set("--no-compact-on-every-full-gc")})`;

/** Memory that falls by less in this time no longer falls. */
const SETTLE_MS = 500;
const SETTLED_BYTES = 1024 * 1024;

/** Of a page of a node. */
const PAGE_MS_MAX = 10_000;

/** What one node prints is kept up to so many bytes. */
const LOG_BYTES_MAX = 256 * 1024 * 1024;

export type NodesOptions = {
  /** How many there are. */
  readonly count?: number;
  /** They take `settledBytes`. */
  readonly settles?: boolean;
  /** Flags of Node for every process. */
  readonly execArgv?: readonly string[];
  /** Extra settings of every node, as FLOTILLA_* variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** Called with each node's data directory, which need not be there yet, before it starts for the first time. */
  readonly prepare?: (node: number, directory: string) => void;
  /** Settings of one node, asked for whenever it is launched. */
  readonly nodeEnv?: (node: number, ports: NodePorts) => Readonly<Record<string, string>>;
  /** Where a node keeps its data, if not in a folder of the nodes'. */
  readonly dataDir?: (node: number) => string;
  /** A folder where all that the nodes print is kept. */
  readonly logs?: string;
};
export type NodePorts = { readonly api: number; readonly peer: number; readonly http: number };

export class Nodes {
  private readonly directory: string;
  private readonly ports: readonly number[];
  private readonly flags: readonly string[];
  private readonly options: NodesOptions;
  readonly ids: readonly number[];
  private readonly running = new Map<number, Running>();

  private constructor(directory: string, ports: readonly number[], options: NodesOptions) {
    const { settles = false, execArgv = [], count = NODES.length } = options;
    this.directory = directory;
    this.ports = ports;
    this.flags = [...execArgv, ...(settles ? ["--expose-gc", "--import", SETTLE_MODULE] : [])];
    this.options = options;
    this.ids = Array.from({ length: count }, (_, at) => at + 1);
  }

  /** Starts all of them and waits until they serve. */
  static async start(directory: string, options: NodesOptions = {}): Promise<Nodes> {
    const nodes = await Nodes.make(directory, options);
    for (const node of nodes.ids) nodes.launch(node);
    for (const node of nodes.ids) await nodes.ready(node);
    return nodes;
  }

  /** Everything but started. */
  static async make(directory: string, options: NodesOptions = {}): Promise<Nodes> {
    const nodes = new Nodes(directory, await freePorts((options.count ?? NODES.length) * 3), options);
    for (const node of nodes.ids) options.prepare?.(node, nodes.dataDir(node));
    return nodes;
  }

  get endpoints(): string[] {
    return this.ids.map((node) => this.endpoint(node));
  }

  portsOf(node: number): NodePorts {
    return { api: this.ports[node * 3 - 3]!, peer: this.ports[node * 3 - 2]!, http: this.ports[node * 3 - 1]! };
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
    return this.options.dataDir?.(node) ?? join(this.directory, `node-${node}`);
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
      FLOTILLA_PEERS: this.ids.map((peer) => `${peer}=127.0.0.1:${this.ports[peer * 3 - 2]}`).join(","),
      FLOTILLA_LOG_LEVEL: "warn",
      ...this.options.env,
      ...this.options.nodeEnv?.(node, this.portsOf(node)),
    });
    this.running.set(node, running);
    const { logs } = this.options;
    if (logs === undefined) return;
    let kept = 0;
    const keep = (chunk: Buffer): void => {
      kept += chunk.length;
      if (kept <= LOG_BYTES_MAX) appendFileSync(join(logs, `node-${node}.log`), chunk);
    };
    running.child.stdout?.on("data", keep);
    running.child.stderr?.on("data", keep);
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

  /** How its last process ended; nulls while it runs. */
  endOf(node: number): { readonly code: number | null; readonly signal: NodeJS.Signals | null } {
    const { exitCode, signalCode } = this.running.get(node)!.child;
    return { code: exitCode, signal: signalCode };
  }

  isRunning(node: number): boolean {
    const child = this.running.get(node)?.child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
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
    // A process that is stopped takes connections and never answers.
    return fetch(`http://127.0.0.1:${this.ports[node * 3 - 1]}/${page}`, { signal: AbortSignal.timeout(PAGE_MS_MAX) });
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
