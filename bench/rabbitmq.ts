// Three RabbitMQ nodes from Debian's package, on ports and in folders of their own: quorum queues, publisher confirms.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import amqp, { type ChannelModel, type ConfirmChannel } from "amqplib";
import { end, freePorts, run, until, versionOf, type Running } from "./processes.ts";
import { payload, UNBATCHED_INFLIGHT, type PublishRequest, type System, type Target } from "./system.ts";

const SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CTL = "/usr/lib/rabbitmq/bin/rabbitmqctl";
const DIAGNOSTICS = "/usr/lib/rabbitmq/bin/rabbitmq-diagnostics";
/** Unconfirmed messages per queue, and their bytes: beyond it RabbitMQ gets slower, not faster. */
const INFLIGHT_MESSAGES = 2_000;
const INFLIGHT_BYTES = 4 * 1024 * 1024;
const CONNECTIONS = 2;

export class RabbitmqSystem implements System {
  readonly name = "rabbitmq";
  readonly version: string;
  readonly settings = `3 nodes, quorum queues, publisher confirms, up to ${INFLIGHT_MESSAGES} unconfirmed per queue, ${CONNECTIONS} connections`;
  private readonly nodes: Running[];
  private readonly epmd: Running;
  private readonly connections: ChannelModel[];
  private next = 1;

  /** Undefined when RabbitMQ is not installed. */
  static async start(directory: string): Promise<RabbitmqSystem | undefined> {
    const version = await versionOf("dpkg-query", ["-W", "-f", "${Version}\\n", "rabbitmq-server"]);
    if (version === undefined) return undefined;
    const ports = await freePorts(7);
    const home = join(directory, "home");
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, ".erlang.cookie"), "FLOTILLABENCHCOOKIE", { mode: 0o400 });
    const epmdPort = String(ports[6]);
    const epmd = run("epmd", ["-port", epmdPort, "-address", "127.0.0.1"], { ERL_EPMD_PORT: epmdPort });
    const envOf = (at: number): Record<string, string> => ({
      HOME: home,
      ERL_EPMD_PORT: epmdPort,
      RABBITMQ_NODENAME: `bench${at + 1}@localhost`,
      RABBITMQ_NODE_PORT: String(ports[at]),
      RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
      RABBITMQ_DIST_PORT: String(ports[at + 3]),
      RABBITMQ_MNESIA_BASE: join(directory, `data-${at + 1}`),
      RABBITMQ_LOG_BASE: join(directory, `log-${at + 1}`),
      RABBITMQ_PID_FILE: join(directory, `pid-${at + 1}`),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, "plugins"),
      RABBITMQ_CONFIG_FILE: join(directory, "rabbitmq"),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(directory, "advanced"),
      RABBITMQ_CONF_ENV_FILE: join(directory, "env"),
      LANG: "C.UTF-8",
    });
    writeFileSync(join(directory, "plugins"), "[].");
    writeFileSync(join(directory, "env"), "");
    writeFileSync(
      join(directory, "rabbitmq.conf"),
      "loopback_users = none\nvm_memory_high_watermark.absolute = 2GB\ndisk_free_limit.absolute = 100MB\n",
    );
    const control = async (at: number, program: string, ...args: string[]): Promise<boolean> => {
      const running = run(program, args, envOf(at));
      return new Promise((resolve) => running.child.once("exit", (code) => resolve(code === 0)));
    };
    const nodes: Running[] = [];
    for (const at of [0, 1, 2]) nodes.push(run(SERVER, [], envOf(at)));
    for (const at of [0, 1, 2])
      await until(`rabbitmq node ${at + 1} up`, () => control(at, DIAGNOSTICS, "-q", "check_running"), nodes, 120_000);
    for (const at of [1, 2]) {
      for (const step of [["stop_app"], ["reset"], ["join_cluster", "bench1@localhost"], ["start_app"]])
        if (!(await control(at, CTL, "-q", ...step)))
          throw new Error(`rabbitmqctl ${step.join(" ")} failed on node ${at + 1}:\n${nodes[at]!.output()}`);
    }
    const connections = await Promise.all(
      Array.from({ length: CONNECTIONS }, (_, at) => amqp.connect(`amqp://guest:guest@127.0.0.1:${ports[at % 3]}`)),
    );
    return new RabbitmqSystem(version, nodes, epmd, connections);
  }

  private constructor(version: string, nodes: Running[], epmd: Running, connections: ChannelModel[]) {
    this.version = version;
    this.nodes = nodes;
    this.epmd = epmd;
    this.connections = connections;
  }

  get pids(): readonly number[] {
    return this.nodes.map(({ pid }) => pid);
  }

  async createTarget(partitions: number): Promise<Target> {
    const name = `bench-${this.next++}`;
    const channel = await this.connections[0]!.createChannel();
    for (let at = 0; at < partitions; at++)
      await channel.assertQueue(`${name}-${at}`, {
        durable: true,
        arguments: { "x-queue-type": "quorum", "x-quorum-initial-group-size": 3 },
      });
    await channel.close();
    return { name, partitions };
  }

  async deleteTarget(target: Target): Promise<void> {
    const channel = await this.connections[0]!.createChannel();
    for (let at = 0; at < target.partitions; at++) await channel.deleteQueue(`${target.name}-${at}`);
    await channel.close();
  }

  async publish({ target, bytes, seconds, unbatched, acked }: PublishRequest): Promise<void> {
    const body = payload(bytes);
    const most = unbatched === true ? UNBATCHED_INFLIGHT : INFLIGHT_MESSAGES;
    const inflightMax = Math.max(50, Math.min(most, Math.floor(INFLIGHT_BYTES / bytes)));
    const until = Date.now() + seconds * 1000;
    await Promise.all(
      Array.from({ length: target.partitions }, async (_, at) => {
        const channel = await this.connections[at % this.connections.length]!.createConfirmChannel();
        await flood(channel, `${target.name}-${at}`, body, inflightMax, until, acked);
        await channel.close();
      }),
    );
  }

  async sequential({ target, bytes, seconds }: { target: Target; bytes: number; seconds: number }): Promise<number[]> {
    const channel = await this.connections[0]!.createConfirmChannel();
    const body = payload(bytes);
    const latencies: number[] = [];
    const until = Date.now() + seconds * 1000;
    while (Date.now() < until) {
      const start = performance.now();
      await new Promise<void>((resolve, reject) =>
        channel.sendToQueue(`${target.name}-0`, body, { persistent: true }, (error) =>
          error === null ? resolve() : reject(error as Error),
        ),
      );
      latencies.push(performance.now() - start);
    }
    await channel.close();
    return latencies;
  }

  async stop(): Promise<void> {
    for (const connection of this.connections) await connection.close().catch(() => {});
    await Promise.all(this.nodes.map((node) => end(node, "SIGTERM", 10_000)));
    await end(this.epmd);
  }
}

/** Keeps `inflightMax` messages unconfirmed until time is up, then waits for the rest. */
function flood(
  channel: ConfirmChannel,
  queue: string,
  body: Buffer,
  inflightMax: number,
  until: number,
  acked: (count: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let inflight = 0;
    const fill = (): void => {
      if (Date.now() >= until) {
        if (inflight === 0) resolve();
        return;
      }
      while (inflight < inflightMax) {
        inflight += 1;
        channel.sendToQueue(queue, body, { persistent: true }, (error) => {
          if (error !== null) {
            reject(error as Error);
            return;
          }
          inflight -= 1;
          acked(1);
          if (inflight <= inflightMax / 2) fill();
        });
      }
    };
    fill();
  });
}
