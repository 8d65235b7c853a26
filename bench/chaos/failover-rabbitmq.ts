// RabbitMQ's quorum queues under the failover series.

import amqp from "amqplib";
import { RABBITMQ_NODES, RabbitmqNodes } from "../rabbitmq-nodes.ts";
import type { Outcome } from "./failover-probes.ts";
import { HEARTBEAT_S, QueueSender, REFUSED_MS } from "./failover-queue-sender.ts";
import { PROCESS_KINDS, type FailoverKind, type FailoverTarget } from "./failover-target.ts";

const STOP_GRACE_MS = 60_000;

export class RabbitmqFailover implements FailoverTarget {
  readonly name = "rabbitmq";
  readonly version: string;
  readonly settings = `defaults; quorum queues of 3, publisher confirms, heartbeats each ${HEARTBEAT_S} s. The client is connected to a node that does not lead its queue, so it keeps its channel when the leader goes (a new one waits for the metadata, of a silent node until net_ticktime is over); it goes on to the next node at once when its connection is lost or everything is refused for ${REFUSED_MS} ms`;
  readonly partitions: number;
  readonly kinds: ReadonlySet<FailoverKind> = PROCESS_KINDS;
  readonly sendOnce = null;
  private readonly nodes: RabbitmqNodes;
  private readonly senders: readonly QueueSender[];
  /** Not asked for anything: it may be stopped. */
  private struck = 0;

  /** Undefined when RabbitMQ is not installed. */
  static async start(directory: string, partitions: number): Promise<RabbitmqFailover | undefined> {
    const nodes = await RabbitmqNodes.start(directory);
    if (nodes === undefined) return undefined;
    const connection = await amqp.connect(nodes.url(1));
    const channel = await connection.createChannel();
    const queues = Array.from({ length: partitions }, (_, at) => `failover-${at}`);
    for (const queue of queues)
      await channel.assertQueue(queue, {
        durable: true,
        // Nobody reads them: what was published is dropped at the other end.
        arguments: { "x-queue-type": "quorum", "x-quorum-initial-group-size": 3, "x-max-length": 1_000 },
      });
    await connection.close();
    const urls = RABBITMQ_NODES.map((node) => nodes.url(node));
    return new RabbitmqFailover(
      nodes,
      queues.map((queue, at) => new QueueSender(urls, queue, at % urls.length)),
    );
  }

  private constructor(nodes: RabbitmqNodes, senders: readonly QueueSender[]) {
    this.version = nodes.version;
    this.nodes = nodes;
    this.senders = senders;
    this.partitions = senders.length;
  }

  readonly send = (partition: number, done: Outcome): void => this.senders[partition]!.send(done);

  async leaders(): Promise<readonly number[]> {
    const node = RABBITMQ_NODES.find((one) => one !== this.struck)!;
    const rows = JSON.parse(await this.nodes.ctl(node, "list_queues", "name", "leader", "--formatter", "json")) as {
      name: string;
      leader: string;
    }[];
    const leaders = new Map(rows.map(({ name, leader }) => [name, Number(/^bench(\d)@/.exec(leader)?.[1] ?? 0)]));
    return this.senders.map(({ queue }) => leaders.get(queue) ?? 0);
  }

  /** Every queue may lose any node, and no client is connected to the node that leads its queue. */
  async settle(): Promise<void> {
    await this.nodes.settled();
    const leaders = await this.leaders();
    await Promise.all(
      this.senders.map(async (sender, at) => (leaders[at] === 0 ? undefined : sender.goTo(leaders[at]! % RABBITMQ_NODES.length))),
    );
  }

  strike(kind: FailoverKind, node: number): { readonly over: Promise<void> } {
    this.struck = node;
    if (kind === "term") return { over: this.nodes.end(node, STOP_GRACE_MS) };
    this.nodes.signal(node, kind === "kill" ? "SIGKILL" : "SIGSTOP");
    return { over: kind === "kill" ? this.nodes.gone(node) : Promise.resolve() };
  }

  async heal(kind: FailoverKind, node: number): Promise<void> {
    if (kind === "stop") this.nodes.signal(node, "SIGCONT");
    else this.nodes.launch(node);
    await this.nodes.ready(node);
    this.struck = 0;
  }

  async stop(): Promise<void> {
    for (const sender of this.senders) sender.close();
    await this.nodes.stop();
  }
}
