// Three RabbitMQ nodes from Debian's package: quorum queues, publisher confirms.

import amqp, { type ChannelModel, type ConfirmChannel } from "amqplib";
import { RABBITMQ_NODES, RabbitmqNodes } from "./rabbitmq-nodes.ts";
import { payload, UNBATCHED_INFLIGHT, type PublishRequest, type System, type Target } from "./system.ts";

/** Unconfirmed messages per queue, and their bytes: beyond it RabbitMQ gets slower, not faster. */
const INFLIGHT_MESSAGES = 2_000;
const INFLIGHT_BYTES = 4 * 1024 * 1024;
const CONNECTIONS = 2;

export class RabbitmqSystem implements System {
  readonly name = "rabbitmq";
  readonly version: string;
  readonly settings = `3 nodes, quorum queues, publisher confirms, up to ${INFLIGHT_MESSAGES} unconfirmed per queue, ${CONNECTIONS} connections`;
  private readonly nodes: RabbitmqNodes;
  private readonly connections: ChannelModel[];
  private next = 1;

  /** Undefined when RabbitMQ is not installed. */
  static async start(directory: string): Promise<RabbitmqSystem | undefined> {
    const nodes = await RabbitmqNodes.start(directory);
    if (nodes === undefined) return undefined;
    const connections = await Promise.all(
      Array.from({ length: CONNECTIONS }, (_, at) => amqp.connect(nodes.url(RABBITMQ_NODES[at % RABBITMQ_NODES.length]!))),
    );
    return new RabbitmqSystem(nodes, connections);
  }

  private constructor(nodes: RabbitmqNodes, connections: ChannelModel[]) {
    this.version = nodes.version;
    this.nodes = nodes;
    this.connections = connections;
  }

  get pids(): readonly number[] {
    return this.nodes.pids;
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
    await this.nodes.stop();
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
