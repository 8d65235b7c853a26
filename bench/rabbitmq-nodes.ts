// Three RabbitMQ nodes from Debian's package as real processes, on ports and in folders of their own: a cluster that can be
// killed, stopped and started again node by node, 1 to 3.

import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { withDescendants } from "./accounting.ts";
import { freePorts } from "./ports.ts";
import { end, run, until, versionOf, type Running } from "./processes.ts";

const SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CTL = "/usr/lib/rabbitmq/bin/rabbitmqctl";
const DIAGNOSTICS = "/usr/lib/rabbitmq/bin/rabbitmq-diagnostics";
const UPGRADE = "/usr/lib/rabbitmq/bin/rabbitmq-upgrade";
const START_MS_MAX = 120_000;
const STOP_MS_MAX = 10_000;
export const RABBITMQ_NODES = [1, 2, 3] as const;

export class RabbitmqNodes {
  readonly version: string;
  private readonly directory: string;
  private readonly home: string;
  private readonly ports: readonly number[];
  private readonly epmd: Running;
  private readonly running = new Map<number, Running>();

  /** Undefined when RabbitMQ is not installed. Resolves when the three are one cluster. */
  static async start(directory: string): Promise<RabbitmqNodes | undefined> {
    const version = await versionOf("dpkg-query", ["-W", "-f", "${Version}\\n", "rabbitmq-server"]);
    if (version === undefined) return undefined;
    const nodes = new RabbitmqNodes(resolve(directory), version, await freePorts(7));
    for (const node of RABBITMQ_NODES) nodes.launch(node);
    for (const node of RABBITMQ_NODES) await nodes.ready(node);
    for (const node of RABBITMQ_NODES.slice(1))
      for (const step of [["stop_app"], ["reset"], ["join_cluster", "bench1@localhost"], ["start_app"]])
        await nodes.control(node, CTL, "-q", ...step);
    return nodes;
  }

  private constructor(directory: string, version: string, ports: readonly number[]) {
    this.directory = directory;
    this.version = version;
    this.ports = ports;
    this.home = join(directory, "home");
    mkdirSync(this.home, { recursive: true });
    writeFileSync(join(this.home, ".erlang.cookie"), "FLOTILLABENCHCOOKIE", { mode: 0o400 });
    writeFileSync(join(directory, "plugins"), "[].");
    writeFileSync(join(directory, "env"), "");
    writeFileSync(
      join(directory, "rabbitmq.conf"),
      "loopback_users = none\nvm_memory_high_watermark.absolute = 2GB\ndisk_free_limit.absolute = 100MB\n",
    );
    this.epmd = run("epmd", ["-port", String(ports[6]), "-address", "127.0.0.1"], { ERL_EPMD_PORT: String(ports[6]) });
  }

  get pids(): number[] {
    return [...this.running.values()].map(({ pid }) => pid);
  }

  url(node: number): string {
    return `amqp://guest:guest@127.0.0.1:${this.ports[node - 1]}`;
  }

  launch(node: number): void {
    this.running.set(node, run(SERVER, [], this.envOf(node), this.directory));
  }

  async ready(node: number): Promise<void> {
    const up = (): Promise<boolean> =>
      this.control(node, DIAGNOSTICS, "-q", "check_running").then(
        () => true,
        () => false,
      );
    await until(`rabbitmq node ${node} up`, up, [this.running.get(node)!], START_MS_MAX);
  }

  /** Resolves when all nodes run and every quorum queue may lose any of them; rejects when that takes too long. */
  async settled(): Promise<void> {
    for (const node of RABBITMQ_NODES) await this.ready(node);
    for (const node of RABBITMQ_NODES)
      await this.control(node, UPGRADE, "-q", "await_online_quorum_plus_one", "--timeout", String(START_MS_MAX / 1_000));
  }

  /** To the start script and all that it has started: the broker is a child of it. */
  signal(node: number, signal: NodeJS.Signals): void {
    for (const pid of withDescendants([this.running.get(node)!.pid])) {
      try {
        process.kill(pid, signal);
      } catch {
        // Gone meanwhile.
      }
    }
  }

  /** Resolves when the start script is gone, which waits for the broker. */
  async gone(node: number): Promise<void> {
    const { child } = this.running.get(node)!;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  /** A graceful stop. */
  async end(node: number, graceMs: number): Promise<void> {
    await end(this.running.get(node)!, "SIGTERM", graceMs);
  }

  /** What the command prints; rejects when it fails. */
  async ctl(node: number, ...args: string[]): Promise<string> {
    return this.control(node, CTL, "-q", ...args);
  }

  async stop(): Promise<void> {
    await Promise.all(RABBITMQ_NODES.map((node) => this.end(node, STOP_MS_MAX)));
    await end(this.epmd);
  }

  private async control(node: number, program: string, ...args: string[]): Promise<string> {
    const running = run(program, args, this.envOf(node), this.directory);
    const [code] = (await once(running.child, "close")) as [number | null];
    if (code !== 0) throw new Error(`${program} ${args.join(" ")} failed on node ${node}:\n${running.output()}`);
    return running.output();
  }

  private envOf(node: number): Record<string, string> {
    const { directory, ports } = this;
    return {
      HOME: this.home,
      ERL_EPMD_PORT: String(ports[6]),
      RABBITMQ_NODENAME: `bench${node}@localhost`,
      RABBITMQ_NODE_PORT: String(ports[node - 1]),
      RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
      RABBITMQ_DIST_PORT: String(ports[node + 2]),
      RABBITMQ_MNESIA_BASE: join(directory, `data-${node}`),
      RABBITMQ_LOG_BASE: join(directory, `log-${node}`),
      RABBITMQ_PID_FILE: join(directory, `pid-${node}`),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, "plugins"),
      RABBITMQ_CONFIG_FILE: join(directory, "rabbitmq"),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(directory, "advanced"),
      RABBITMQ_CONF_ENV_FILE: join(directory, "env"),
      LANG: "C.UTF-8",
    };
  }
}
