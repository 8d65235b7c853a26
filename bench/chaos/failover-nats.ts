// NATS JetStream's R3 streams under the failover series. Its client connects again by itself, and finds out that a server is
// silent by pings, here quick ones.

import { connect, RetentionPolicy, StorageType, type JetStreamClient, type NatsConnection, type NatsError } from "nats";
import { NATS_NODES, NatsNodes } from "../nats-nodes.ts";
import { payload } from "../system.ts";
import type { Outcome } from "./failover-probes.ts";
import { PROCESS_KINDS, type FailoverKind, type FailoverTarget } from "./failover-target.ts";

const BODY = payload(128);
const PING_MS = 500;
const PINGS_OUT_MAX = 2;
const RECONNECT_MS = 20;
/** Of one publish. */
const ANSWER_MS_MAX = 2_000;
const STOP_GRACE_MS = 30_000;
const READY_MS_MAX = 60_000;
const POLL_MS = 100;

type Sender = { readonly connection: NatsConnection; readonly stream: JetStreamClient };

export class NatsFailover implements FailoverTarget {
  readonly name = "nats";
  readonly version: string;
  readonly settings = `JetStream file streams R3, default sync interval (no fsync before the ack); client with pings each ${PING_MS} ms and ${RECONNECT_MS} ms between tries to connect`;
  readonly partitions: number;
  readonly kinds: ReadonlySet<FailoverKind> = PROCESS_KINDS;
  readonly sendOnce = null;
  private readonly nodes: NatsNodes;
  private readonly client: NatsConnection;
  private readonly senders: readonly Sender[];

  /** Undefined when NATS is not installed. */
  static async start(directory: string, partitions: number): Promise<NatsFailover | undefined> {
    const nodes = await NatsNodes.start(directory);
    if (nodes === undefined) return undefined;
    const client = await connectTo(nodes, 0);
    const manager = await client.jetstreamManager();
    const senders: Sender[] = [];
    for (let at = 0; at < partitions; at++) {
      await manager.streams.add({
        name: streamOf(at),
        subjects: [streamOf(at)],
        num_replicas: 3,
        storage: StorageType.File,
        retention: RetentionPolicy.Limits,
        max_msgs: 1_000,
      });
      const connection = await connectTo(nodes, at);
      senders.push({ connection, stream: connection.jetstream() });
    }
    return new NatsFailover(nodes, client, senders);
  }

  private constructor(nodes: NatsNodes, client: NatsConnection, senders: readonly Sender[]) {
    this.version = nodes.version;
    this.nodes = nodes;
    this.client = client;
    this.senders = senders;
    this.partitions = senders.length;
  }

  readonly send = (partition: number, done: Outcome): void => {
    this.senders[partition]!.stream.publish(streamOf(partition), BODY, { timeout: ANSWER_MS_MAX }).then(
      () => done(null),
      (error: unknown) => done((error as NatsError).code ?? "ERROR"),
    );
  };

  async leaders(): Promise<readonly number[]> {
    const manager = await this.client.jetstreamManager();
    return Promise.all(
      this.senders.map(async (_, at) => Number(/^n(\d)$/.exec((await manager.streams.info(streamOf(at))).cluster?.leader ?? "")?.[1] ?? 0)),
    );
  }

  /** Every replica of every stream is up to date. */
  async settle(): Promise<void> {
    const deadline = performance.now() + READY_MS_MAX;
    for (;;) {
      if (await this.isSettled().catch(() => false)) return;
      if (performance.now() > deadline) throw new Error("nats: the streams' replicas did not come up to date");
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  strike(kind: FailoverKind, node: number): { readonly over: Promise<void> } {
    if (kind === "term") return { over: this.nodes.end(node, STOP_GRACE_MS) };
    this.nodes.signal(node, kind === "kill" ? "SIGKILL" : "SIGSTOP");
    return { over: kind === "kill" ? this.nodes.gone(node) : Promise.resolve() };
  }

  heal(kind: FailoverKind, node: number): Promise<void> {
    if (kind === "stop") this.nodes.signal(node, "SIGCONT");
    else this.nodes.launch(node);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    for (const { connection } of this.senders) await connection.close().catch(() => {});
    await this.client.close().catch(() => {});
    await this.nodes.stop();
  }

  private async isSettled(): Promise<boolean> {
    const manager = await this.client.jetstreamManager();
    const infos = await Promise.all(this.senders.map((_, at) => manager.streams.info(streamOf(at))));
    return infos.every(({ cluster }) => {
      const replicas = cluster?.replicas ?? [];
      return (
        cluster?.leader !== undefined &&
        replicas.length === NATS_NODES.length - 1 &&
        replicas.every(({ current, offline }) => current && offline !== true)
      );
    });
  }
}

/** To this one of the servers first, by chance to any of the others after it. */
function connectTo(nodes: NatsNodes, at: number): Promise<NatsConnection> {
  const servers = nodes.servers.map((_, offset) => nodes.server(NATS_NODES[(at + offset) % NATS_NODES.length]!));
  return connect({
    servers,
    noRandomize: true,
    pingInterval: PING_MS,
    maxPingOut: PINGS_OUT_MAX,
    reconnectTimeWait: RECONNECT_MS,
    reconnectJitter: RECONNECT_MS,
    maxReconnectAttempts: -1,
    timeout: ANSWER_MS_MAX,
  });
}

function streamOf(partition: number): string {
  return `failover-${partition}`;
}
