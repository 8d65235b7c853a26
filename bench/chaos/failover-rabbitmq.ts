// RabbitMQ's quorum queues under the failover series. Its client does not connect again by itself, so what an application
// would do is done here: on to the next node when the connection is lost, or when nothing was confirmed for a while.

import amqp, { type ChannelModel, type ConfirmChannel } from "amqplib";
import { RABBITMQ_NODES, RabbitmqNodes } from "../rabbitmq-nodes.ts";
import { payload } from "../system.ts";
import type { Outcome } from "./failover-probes.ts";
import type { FailoverKind, FailoverTarget } from "./failover-target.ts";

const BODY = payload(128);
/** Nothing is confirmed, though something waits for it: the node may be stopped. */
const SILENT_MS = 1_000;
const RECONNECT_MS = 20;
/** Unconfirmed messages of one queue. */
const OUTSTANDING_MAX = 5_000;
const STOP_GRACE_MS = 60_000;

export class RabbitmqFailover implements FailoverTarget {
  readonly name = "rabbitmq";
  readonly version: string;
  readonly settings = `quorum queues of 3, publisher confirms; the client goes on to the next node when its connection is lost or nothing was confirmed for ${SILENT_MS} ms`;
  readonly partitions: number;
  readonly kinds: ReadonlySet<FailoverKind> = new Set<FailoverKind>(["kill", "stop", "term"]);
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
    return new RabbitmqFailover(
      nodes,
      queues.map((queue, at) => new QueueSender(nodes, queue, at % RABBITMQ_NODES.length)),
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

  /** Applications are best connected to where their queue is led. */
  async settle(): Promise<void> {
    for (const node of RABBITMQ_NODES) await this.nodes.ready(node);
    const leaders = await this.leaders();
    await Promise.all(this.senders.map(async (sender, at) => (leaders[at] === 0 ? undefined : sender.goTo(leaders[at]!))));
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

/** Publishes to one queue, through one node after the other. */
class QueueSender {
  readonly queue: string;
  private readonly nodes: RabbitmqNodes;
  /** Index of the node that it is connected to, or tries. */
  private at: number;
  private connection: ChannelModel | null = null;
  private channel: ConfirmChannel | null = null;
  private outstanding = new Set<Outcome>();
  private confirmedMs = performance.now();
  private isConnecting = false;
  private isClosed = false;
  private readonly timer: NodeJS.Timeout;

  constructor(nodes: RabbitmqNodes, queue: string, at: number) {
    this.nodes = nodes;
    this.queue = queue;
    this.at = at;
    this.timer = setInterval(() => this.look(), RECONNECT_MS);
  }

  send(done: Outcome): void {
    const { channel } = this;
    if (channel === null || this.outstanding.size >= OUTSTANDING_MAX) {
      done(channel === null ? "NOT_CONNECTED" : "TOO_MANY_OUTSTANDING");
      return;
    }
    if (this.outstanding.size === 0) this.confirmedMs = performance.now();
    const { outstanding } = this;
    outstanding.add(done);
    channel.sendToQueue(this.queue, BODY, { persistent: true }, (error) => {
      if (!outstanding.delete(done)) return;
      this.confirmedMs = performance.now();
      done(error === null ? null : "NACK");
    });
  }

  /** Connects to the node, if it is another one. */
  async goTo(node: number): Promise<void> {
    const at = RABBITMQ_NODES.findIndex((one) => one === node);
    if (this.channel !== null && this.at === at) return;
    this.drop("MOVED");
    this.at = at;
    await this.connect();
  }

  close(): void {
    this.isClosed = true;
    clearInterval(this.timer);
    this.drop("CLOSED");
  }

  private look(): void {
    if (this.channel !== null && this.outstanding.size > 0 && performance.now() - this.confirmedMs > SILENT_MS) this.lost("SILENT");
    if (this.channel === null && !this.isConnecting) void this.connect();
  }

  private async connect(): Promise<void> {
    if (this.isClosed || this.isConnecting) return;
    this.isConnecting = true;
    try {
      const connection = await amqp.connect(this.nodes.url(RABBITMQ_NODES[this.at]!), { timeout: SILENT_MS, noDelay: true });
      connection.on("error", () => {});
      const channel = await within(connection.createConfirmChannel(), SILENT_MS);
      channel.on("error", () => {});
      const lost = (): void => {
        if (this.connection === connection) this.lost("CONNECTION_LOST");
      };
      connection.on("close", lost);
      channel.on("close", lost);
      this.connection = connection;
      this.channel = channel;
    } catch {
      this.at = (this.at + 1) % RABBITMQ_NODES.length;
    } finally {
      this.isConnecting = false;
    }
  }

  private lost(code: string): void {
    this.drop(code);
    this.at = (this.at + 1) % RABBITMQ_NODES.length;
  }

  private drop(code: string): void {
    const { connection, outstanding } = this;
    this.connection = null;
    this.channel = null;
    this.outstanding = new Set();
    for (const done of outstanding) done(code);
    // One that is closed already throws at once, one to a stopped node never answers.
    void (async () => connection?.close())().catch(() => {});
  }
}

async function within<Value>(value: Promise<Value>, ms: number): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([value, late]);
  } finally {
    clearTimeout(timer);
  }
}
