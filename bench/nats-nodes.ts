// Three NATS servers from Debian's package as real processes, with JetStream: killed, stopped and started again one by one,
// 1 to 3.

import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { connect, StorageType, type NatsConnection } from "nats";
import { freePorts } from "./ports.ts";
import { end, run, until, versionOf, type Running } from "./processes.ts";

export const NATS_NODES = [1, 2, 3] as const;

export class NatsNodes {
  readonly version: string;
  private readonly directory: string;
  private readonly ports: readonly number[];
  private readonly running = new Map<number, Running>();

  /** Undefined when NATS is not installed. Resolves when the cluster makes streams. */
  static async start(directory: string): Promise<NatsNodes | undefined> {
    const version = await versionOf("dpkg-query", ["-W", "-f", "${Version}\\n", "nats-server"]);
    if (version === undefined) return undefined;
    const nodes = new NatsNodes(resolve(directory), version, await freePorts(6));
    for (const node of NATS_NODES) nodes.launch(node);
    let connection: NatsConnection | undefined;
    await until(
      "nats cluster up",
      async () => {
        connection ??= await connect({ servers: nodes.servers });
        const manager = await connection.jetstreamManager();
        await manager.streams.add({ name: "probe", subjects: ["probe"], num_replicas: 3, storage: StorageType.File });
        return manager.streams.delete("probe");
      },
      [...nodes.running.values()],
    );
    await connection!.close();
    return nodes;
  }

  private constructor(directory: string, version: string, ports: readonly number[]) {
    this.directory = directory;
    this.version = version;
    this.ports = ports;
    const routes = NATS_NODES.map((node) => `nats://127.0.0.1:${ports[node + 2]}`).join(", ");
    for (const node of NATS_NODES) {
      mkdirSync(this.dataDir(node), { recursive: true });
      writeFileSync(
        this.file(node),
        `server_name: n${node}\nlisten: 127.0.0.1:${ports[node - 1]}\njetstream { store_dir: "${this.dataDir(node)}", max_file_store: 20GB, max_memory_store: 1GB }\ncluster { name: bench, listen: 127.0.0.1:${ports[node + 2]}, routes: [${routes}] }\n`,
      );
    }
  }

  get pids(): number[] {
    return [...this.running.values()].map(({ pid }) => pid);
  }

  get servers(): string[] {
    return NATS_NODES.map((node) => this.server(node));
  }

  server(node: number): string {
    return `127.0.0.1:${this.ports[node - 1]}`;
  }

  launch(node: number): void {
    this.running.set(node, run("nats-server", ["-c", this.file(node)], {}, this.directory));
  }

  signal(node: number, signal: NodeJS.Signals): void {
    this.running.get(node)!.child.kill(signal);
  }

  async gone(node: number): Promise<void> {
    const { child } = this.running.get(node)!;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  async end(node: number, graceMs: number): Promise<void> {
    await end(this.running.get(node)!, "SIGTERM", graceMs);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.running.values()].map((node) => end(node)));
  }

  private file(node: number): string {
    return join(this.directory, `nats-${node}.conf`);
  }

  private dataDir(node: number): string {
    return join(this.directory, `data-${node}`);
  }
}
