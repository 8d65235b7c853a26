// Three NATS servers from Debian's package with JetStream: file streams with three replicas, at their default settings
// (acknowledged before they are synced to disk).

import { connect, RetentionPolicy, StorageType, type JetStreamClient, type NatsConnection } from "nats";
import { NatsNodes } from "./nats-nodes.ts";
import { payload, UNBATCHED_INFLIGHT, type PublishRequest, type System, type Target } from "./system.ts";

const INFLIGHT_MESSAGES = 2_000;
const INFLIGHT_BYTES = 4 * 1024 * 1024;

export class NatsSystem implements System {
  readonly name = "nats";
  readonly version: string;
  readonly settings = `3 servers, JetStream file streams R3, default sync interval (no fsync before the ack), up to ${INFLIGHT_MESSAGES} unacknowledged per stream`;
  private readonly nodes: NatsNodes;
  private readonly connection: NatsConnection;
  private readonly stream: JetStreamClient;
  private next = 1;

  /** Undefined when NATS is not installed. */
  static async start(directory: string): Promise<NatsSystem | undefined> {
    const nodes = await NatsNodes.start(directory);
    return nodes === undefined ? undefined : new NatsSystem(nodes, await connect({ servers: nodes.servers }));
  }

  private constructor(nodes: NatsNodes, connection: NatsConnection) {
    this.version = nodes.version;
    this.nodes = nodes;
    this.connection = connection;
    this.stream = connection.jetstream();
  }

  get pids(): readonly number[] {
    return this.nodes.pids;
  }

  async createTarget(partitions: number): Promise<Target> {
    const name = `bench-${this.next++}`;
    const manager = await this.connection.jetstreamManager();
    for (let at = 0; at < partitions; at++)
      await manager.streams.add({
        name: `${name}-${at}`,
        subjects: [`${name}.${at}`],
        num_replicas: 3,
        storage: StorageType.File,
        retention: RetentionPolicy.Limits,
      });
    return { name, partitions };
  }

  async deleteTarget(target: Target): Promise<void> {
    const manager = await this.connection.jetstreamManager();
    for (let at = 0; at < target.partitions; at++) await manager.streams.delete(`${target.name}-${at}`);
  }

  async publish({ target, bytes, seconds, unbatched, acked }: PublishRequest): Promise<void> {
    const body = payload(bytes);
    const most = unbatched === true ? UNBATCHED_INFLIGHT : INFLIGHT_MESSAGES;
    const inflightMax = Math.max(50, Math.min(most, Math.floor(INFLIGHT_BYTES / bytes)));
    const until = Date.now() + seconds * 1000;
    await Promise.all(
      Array.from({ length: target.partitions }, (_, at) => this.flood(`${target.name}.${at}`, body, inflightMax, until, acked)),
    );
  }

  async sequential({ target, bytes, seconds }: { target: Target; bytes: number; seconds: number }): Promise<number[]> {
    const body = payload(bytes);
    const latencies: number[] = [];
    const until = Date.now() + seconds * 1000;
    while (Date.now() < until) {
      const start = performance.now();
      await this.stream.publish(`${target.name}.0`, body);
      latencies.push(performance.now() - start);
    }
    return latencies;
  }

  async stop(): Promise<void> {
    await this.connection.close().catch(() => {});
    await this.nodes.stop();
  }

  private flood(subject: string, body: Buffer, inflightMax: number, until: number, acked: (count: number) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      let inflight = 0;
      const fill = (): void => {
        if (Date.now() >= until) {
          if (inflight === 0) resolve();
          return;
        }
        while (inflight < inflightMax) {
          inflight += 1;
          this.stream.publish(subject, body, { timeout: 20_000 }).then(() => {
            inflight -= 1;
            acked(1);
            if (inflight <= inflightMax / 2) fill();
          }, reject);
        }
      };
      fill();
    });
  }
}
