// RabbitMQ's quorum queues under the bench.

import amqp, { type Channel, type ChannelModel, type ConfirmChannel, type ConsumeMessage } from "amqplib";
import { byTheClock, dueBody, PREFETCH, type Flood, type Pacing, type QueueSystem, type Taking } from "./queue-system.ts";
import { RABBITMQ_NODES, RabbitmqNodes } from "./rabbitmq-nodes.ts";
import { payload } from "./system.ts";

/** Unconfirmed messages per queue: beyond it RabbitMQ gets slower, not faster. */
const INFLIGHT_MESSAGES = 2_000;
const CONNECTIONS = 2;

export class RabbitmqQueues implements QueueSystem {
  readonly name = "rabbitmq";
  readonly version: string;
  readonly settings = `quorum queues of 3 replicas, publisher confirms, up to ${INFLIGHT_MESSAGES} unconfirmed per queue, ${CONNECTIONS} connections for producers and as many for consumers; prefetch ${PREFETCH}, acknowledgements of a turn as one (multiple), not answered`;
  private readonly nodes: RabbitmqNodes;
  private readonly publishing: readonly ChannelModel[];
  private readonly consuming: readonly ChannelModel[];
  private next = 1;

  /** Undefined when RabbitMQ is not installed. */
  static async start(directory: string): Promise<RabbitmqQueues | undefined> {
    const nodes = await RabbitmqNodes.start(directory);
    if (nodes === undefined) return undefined;
    const connect = (): Promise<ChannelModel[]> =>
      Promise.all(Array.from({ length: CONNECTIONS }, (_, at) => amqp.connect(nodes.url(RABBITMQ_NODES[at % RABBITMQ_NODES.length]!))));
    return new RabbitmqQueues(nodes, await connect(), await connect());
  }

  private constructor(nodes: RabbitmqNodes, publishing: readonly ChannelModel[], consuming: readonly ChannelModel[]) {
    this.version = nodes.version;
    this.nodes = nodes;
    this.publishing = publishing;
    this.consuming = consuming;
  }

  get pids(): readonly number[] {
    return this.nodes.pids;
  }

  async create(queues: number): Promise<readonly string[]> {
    const names = Array.from({ length: queues }, () => `bench-${this.next++}`);
    const channel = await this.publishing[0]!.createChannel();
    for (const name of names)
      await channel.assertQueue(name, { durable: true, arguments: { "x-queue-type": "quorum", "x-quorum-initial-group-size": 3 } });
    await channel.close();
    return names;
  }

  async remove(queues: readonly string[]): Promise<void> {
    const channel = await this.publishing[0]!.createChannel();
    for (const name of queues) await channel.deleteQueue(name);
    await channel.close();
  }

  async flood({ queues, bytes, isOver, acked }: Flood): Promise<void> {
    const body = payload(bytes);
    const fill = async (queue: string, at: number): Promise<void> => {
      const channel = await this.publishing[at % CONNECTIONS]!.createConfirmChannel();
      await keepUnconfirmed(channel, queue, body, isOver, acked);
      await channel.close();
    };
    await Promise.all(queues.map(fill));
  }

  async pace(pacing: Pacing): Promise<void> {
    const template = payload(pacing.bytes);
    const { queues } = pacing;
    const channels = await Promise.all(queues.map((_, at) => this.publishing[at % CONNECTIONS]!.createConfirmChannel()));
    await byTheClock(pacing, (at, dueMs) => {
      const place = at % queues.length;
      channels[place]!.sendToQueue(queues[place]!, dueBody(template, dueMs), { persistent: true });
    });
    for (const channel of channels) {
      await channel.waitForConfirms();
      await channel.close();
    }
  }

  async take({ queues, taken, settled }: Taking): Promise<() => Promise<void>> {
    const channels = await Promise.all(queues.map((_, at) => this.consuming[at % CONNECTIONS]!.createChannel()));
    const tags = await Promise.all(
      channels.map(async (channel, at) => {
        await channel.prefetch(PREFETCH);
        const { consumerTag } = await channel.consume(queues[at]!, acknowledging(channel, taken, settled));
        return consumerTag;
      }),
    );
    return async () => {
      await Promise.all(channels.map((channel, at) => channel.cancel(tags[at]!)));
      await new Promise((resolve) => setImmediate(resolve));
      await Promise.all(channels.map((channel) => channel.close()));
    };
  }

  async stop(): Promise<void> {
    for (const connection of [...this.publishing, ...this.consuming]) await connection.close().catch(() => {});
    await this.nodes.stop();
  }
}

/** All messages of a turn with one acknowledgement. */
function acknowledging(channel: Channel, taken: (body: Uint8Array) => void, settled: () => void): (message: ConsumeMessage | null) => void {
  let last: ConsumeMessage | null = null;
  let count = 0;
  return (message) => {
    if (message === null) return;
    taken(message.content);
    count += 1;
    if (last === null)
      setImmediate(() => {
        channel.ack(last!, true);
        last = null;
        for (; count > 0; count--) settled();
      });
    last = message;
  };
}

function keepUnconfirmed(channel: ConfirmChannel, queue: string, body: Buffer, isOver: () => boolean, acked: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let inflight = 0;
    const confirmed = (error: unknown): void => {
      if (error !== null) {
        reject(error as Error);
        return;
      }
      inflight -= 1;
      acked();
      if (inflight <= INFLIGHT_MESSAGES / 2) fill();
    };
    const fill = (): void => {
      if (isOver()) {
        if (inflight === 0) resolve();
        return;
      }
      for (; inflight < INFLIGHT_MESSAGES; inflight++) channel.sendToQueue(queue, body, { persistent: true }, confirmed);
    };
    fill();
  });
}
