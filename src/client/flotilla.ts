// A connection to a cluster: where everything of the client begins.

import { randomUUID } from "node:crypto";
import { ProtoReader, ProtoWriter } from "../base/protobuf.ts";
import { AdminClient, ClusterClient, type CallOptions, type PartitionOffsets } from "./admin.ts";
import { Channels } from "./channels.ts";
import { Consumer, type ConsumerOptions } from "./consumer.ts";
import { Producer, type Placed, type ProducerOptions } from "./producer.ts";
import { ExchangeProducer, type ExchangeProducerOptions } from "./exchange-producer.ts";
import { FlotillaError } from "./errors.ts";
import { GroupConsumer, type GroupConsumerOptions } from "./group-consumer.ts";
import { LeasedMessage, type Message, type MessageOwner, type Settle } from "./message.ts";
import { QueueAdminClient } from "./queue-admin.ts";
import { QueueConsumer, type QueueConsumerOptions } from "./queue-consumer.ts";
import { redrive, type Redriven, type RedriveOptions } from "./redrive.ts";
import { BatchEncoder, bytesOf, decodeBatch, HEAD_ROOM_BYTES, type OutgoingRecord, type ReceivedRecord } from "./records.ts";
import { Transaction, TransactionsClient, type TransactionOptions } from "./transaction.ts";
import {
  decodeBrowsed,
  decodeReceived,
  decodeSettled,
  encodeSettle,
  type MessageState,
  type Outcome,
  type WorkTarget,
} from "./work-wire.ts";
import { decodeFetched, encodeFetch, toBuffer, type FetchedPartition, type FetchPosition } from "./wire.ts";

export type ConnectOptions = {
  /** host:port of one or more nodes; the others are learned from them. */
  readonly endpoints: readonly string[];
  readonly tls?: { readonly ca: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
  /** Of each unary call, in ms. */
  readonly deadlineMs?: number;
  /** Tells the nodes who calls, in the user agent. */
  readonly clientName?: string;
};

const DEADLINE_MS = 30_000;

type Part = { readonly isClosed: boolean; close(): Promise<void> };
export type ReceiveOptions = CallOptions & {
  readonly vhost?: string;
  readonly subscription?: string;
  /** 1..1000; how long to wait for the first one, in ms; and how long they are the caller's. */
  readonly maxMessages?: number;
  readonly maxWaitMs?: number;
  readonly leaseMs?: number;
  readonly autoAck?: boolean;
};
/** A message as Browse shows it. */
export type BrowsedMessage = ReceivedRecord & {
  readonly state: MessageState;
  readonly attempts: number;
  /** When its lease ends, or when it is due; 0 = it waits for nothing of the kind. */
  readonly untilMs: number;
  readonly expiresMs: number;
  /** Of a dead one: why. */
  readonly reason: string;
};

const REPLY_QUEUE_EXPIRES_MS = 60_000;

export class Flotilla {
  readonly admin: AdminClient;
  readonly cluster: ClusterClient;
  /** Queues, exchanges and what else is declared. */
  readonly queues: QueueAdminClient;
  /** Those that are not over: what is prepared, and what is decided and not everywhere yet. */
  readonly transactions: TransactionsClient;
  private readonly channels: Channels;
  private readonly open = new Set<Part>();

  /** Rejects when none of the endpoints answers. */
  static async connect(options: ConnectOptions): Promise<Flotilla> {
    const { endpoints, tls, deadlineMs = DEADLINE_MS, clientName = "flotilla-client" } = options;
    const channels = new Channels({ endpoints, tls, deadlineMs, clientName });
    const client = new Flotilla(channels);
    try {
      const { nodes } = await client.cluster.describe();
      channels.learn(nodes.filter(({ alive, endpoint }) => alive && endpoint !== "").map(({ endpoint }) => endpoint));
      return client;
    } catch (error) {
      channels.close();
      throw error;
    }
  }

  private constructor(channels: Channels) {
    this.channels = channels;
    this.admin = new AdminClient(channels);
    this.cluster = new ClusterClient(channels);
    this.queues = new QueueAdminClient(channels);
    this.transactions = new TransactionsClient(channels);
  }

  /** A producer for one topic. Rejects with UNKNOWN_TOPIC if there is none. */
  async producer(topic: string, options: ProducerOptions = {}): Promise<Producer> {
    return this.kept(await Producer.open(this.channels, topic, options, (self) => this.open.delete(self)));
  }

  /** A producer for one exchange; "" is the default one, whose routing keys are names of queues and topics. */
  exchangeProducer(exchange: string, options: ExchangeProducerOptions = {}): ExchangeProducer {
    return this.kept(new ExchangeProducer(this.channels, exchange, options, (self) => this.open.delete(self)));
  }

  /** A consumer of a queue, or of a work subscription of a topic. Rejects with UNKNOWN_QUEUE if there is none. */
  async queueConsumer(queue: string, options: QueueConsumerOptions = {}): Promise<QueueConsumer> {
    return this.kept(await QueueConsumer.open(this.channels, queue, options, (self) => this.open.delete(self)));
  }

  /** A member of a consumer group of a topic. */
  async groupConsumer(topic: string, group: string, options: GroupConsumerOptions = {}): Promise<GroupConsumer> {
    return this.kept(await GroupConsumer.open(this.channels, topic, group, options, (self) => this.open.delete(self)));
  }

  private kept<P extends Part>(part: P): P {
    if (!part.isClosed) this.open.add(part);
    return part;
  }

  /** Takes messages of a queue once, under a lease; with none when no message came in time. */
  async receive(queue: string, options: ReceiveOptions = {}): Promise<Message[]> {
    const { vhost = "", subscription = "", maxMessages = 1, maxWaitMs = 0, leaseMs = 0, autoAck = false, signal } = options;
    const request = { vhost, queue, subscription, maxMessages, maxWaitMs, leaseMs, autoAck };
    const bytes = await this.channels.callEncoded("flotilla.v1.Messaging", "Receive", request, { signal });
    const owner = this.ownerOf({ vhost, queue, subscription });
    return decodeReceived(bytes).flatMap((delivery) => LeasedMessage.allOf(delivery, 0, 0, owner));
  }

  /** Looks at what is in a queue and not settled, from `fromOffset` on; changes nothing. `next`: where to go on; undefined at the end. */
  async browse(
    queue: string,
    options: CallOptions & { vhost?: string; subscription?: string; partition?: number; fromOffset?: number; maxMessages?: number } = {},
  ): Promise<{ messages: BrowsedMessage[]; next: number | undefined }> {
    const { vhost = "", subscription = "", partition = 0, fromOffset = 0, maxMessages = 0, signal } = options;
    const request = { vhost, queue, subscription, partition, fromOffset, maxMessages };
    const page = decodeBrowsed(await this.channels.callEncoded("flotilla.v1.Messaging", "Browse", request, { signal }));
    const messages = page.messages.flatMap(({ firstOffset, timeMs, records, state, attempts, untilMs, expiresMs, reason }) =>
      decodeBatch(records, { partition, baseOffset: firstOffset, storedMs: timeMs }).map((record) => ({
        ...record,
        state,
        attempts,
        untilMs,
        expiresMs,
        reason,
      })),
    );
    return { messages, next: page.next };
  }

  /** Delivers a message that is delayed at once, or after another while; resolves with false when it is not delayed, or no more. */
  async expedite(
    queue: string,
    offset: number,
    options: CallOptions & { vhost?: string; subscription?: string; partition?: number; delayMs?: number; priority?: number } = {},
  ): Promise<boolean> {
    const { vhost = "", subscription = "", partition = 0, delayMs = 0, priority, signal } = options;
    const request = { vhost, queue, subscription, partition, offset, delayMs, ...(priority === undefined ? {} : { priority }) };
    return (await this.channels.call<object, { expedited: boolean }>("flotilla.v1.Messaging", "Expedite", request, { signal })).expedited;
  }

  /** Publishes and settlements that take effect all or not at all. */
  transaction(options: TransactionOptions = {}): Transaction {
    return new Transaction(this.transactions, options);
  }

  /** Takes back a message that waits, for its time, its turn or a consumer; resolves with false when it does not, or no more. */
  async recall(
    queue: string,
    offset: number,
    options: CallOptions & { vhost?: string; subscription?: string; partition?: number } = {},
  ): Promise<boolean> {
    const { vhost = "", subscription = "", partition = 0, signal } = options;
    const request = { vhost, queue, subscription, partition, offset };
    return (await this.channels.call<object, { recalled: boolean }>("flotilla.v1.Messaging", "Recall", request, { signal })).recalled;
  }

  /** Sends the dead letters in a queue back to the queues that they died in. */
  redrive(queue: string, options: RedriveOptions & { vhost?: string } = {}): Promise<Redriven> {
    return redrive(this, queue, options);
  }

  /** Sends a record to a queue and resolves with the first answer to it, which comes to a queue of this call alone. */
  async request(queue: string, record: OutgoingRecord, options: { vhost?: string; timeoutMs?: number } = {}): Promise<ReceivedRecord> {
    const { vhost = "", timeoutMs = DEADLINE_MS } = options;
    const replyTo = `reply.${randomUUID()}`;
    const correlationId = record.correlationId ?? randomUUID();
    await this.queues.createQueue({ name: replyTo, vhost, replicas: 1, settings: { expiresMs: REPLY_QUEUE_EXPIRES_MS } });
    try {
      await this.publish(queue, [{ ...record, replyTo, correlationId }], { vhost });
      const deadlineMs = Date.now() + timeoutMs;
      for (let leftMs = timeoutMs; leftMs > 0; leftMs = deadlineMs - Date.now())
        for (const message of await this.receive(replyTo, { vhost, maxWaitMs: Math.min(leftMs, 20_000), autoAck: true }))
          if (message.correlationId === correlationId) return message;
      throw new FlotillaError("TIMEOUT", `no answer came within ${timeoutMs} ms`, { maybeApplied: true });
    } finally {
      await this.queues.deleteQueue(replyTo, { vhost }).catch(() => {});
    }
  }

  private ownerOf(target: WorkTarget): MessageOwner {
    const settle: Settle = (message, outcome, detail = {}) => this.settleOne(target, message as LeasedMessage, outcome, detail);
    return {
      target,
      settle,
      claim: (message) => {
        if ((message as LeasedMessage).isSettled) throw new FlotillaError("LEASE_LOST", "the message was settled already");
        (message as LeasedMessage).isSettled = true;
      },
      // What somebody else has by now cannot be given back, and need not.
      concluded: (message, isSettled) => void (isSettled || settle(message, "release").catch(() => {})),
    };
  }

  private async settleOne(
    target: { vhost: string; queue: string; subscription: string },
    message: LeasedMessage,
    outcome: Outcome,
    detail: { delayMs?: number | undefined; leaseMs?: number },
  ): Promise<void> {
    const { partition, offset, token, consumer } = message;
    const settlement = { partition, firstOffset: offset, count: 1, token, outcome, consumer, ...detail };
    const [ack] = decodeSettled(await this.channels.callRaw("flotilla.v1.Messaging", "Settle", encodeSettle(target, [settlement])));
    if (ack === undefined) throw new FlotillaError("INTERNAL", "the node did not say what became of the settlement");
    if (ack.error !== null) throw ack.error;
    message.isSettled = outcome !== "extend";
  }

  /** A consumer of one topic. */
  async consumer(topic: string, options: ConsumerOptions = {}): Promise<Consumer> {
    return this.kept(await Consumer.open(this.channels, topic, options, (self) => this.open.delete(self)));
  }

  /** Stores records as one batch, without the machinery of a producer and without protection against duplicates: sent once, never again. */
  async publish(
    topic: string,
    records: readonly OutgoingRecord[],
    options: CallOptions & { vhost?: string; partition?: number; partitionKey?: Uint8Array | string } = {},
  ): Promise<Placed & { count: number }> {
    const { partition, partitionKey } = options;
    const { routed: _, ...placed } = await this.publishOnce({ ...options, topic }, records, (writer) => {
      if (partition !== undefined) writer.uintAlways(3, partition);
      if (partitionKey !== undefined) writer.blockAlways(7, bytesOf(partitionKey));
    });
    return placed;
  }

  /**
   * The same to an exchange; `routingKey` is for records without one. Resolves with how many copies were stored: 0 when nobody is bound to
   * get them.
   */
  async publishToExchange(
    exchange: string,
    records: readonly OutgoingRecord[],
    options: CallOptions & { vhost?: string; routingKey?: string } = {},
  ): Promise<{ routed: number }> {
    const { routed } = await this.publishOnce({ ...options, topic: "" }, records, (writer) =>
      writer.blockAlways(9, bytesOf(exchange)).string(10, options.routingKey ?? ""),
    );
    return { routed };
  }

  private async publishOnce(
    { vhost = "", topic, signal }: CallOptions & { vhost?: string; topic: string },
    records: readonly OutgoingRecord[],
    writeWhere: (writer: ProtoWriter) => void,
  ): Promise<Placed & { count: number; routed: number }> {
    const encoder = new BatchEncoder(Buffer.allocUnsafeSlow(1024));
    for (const record of records) encoder.add(record);
    const batch = encoder.finish().subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + encoder.length);
    const writer = new ProtoWriter(encoder.length + 256).string(1, vhost).string(2, topic).blockAlways(4, batch).uint(5, records.length);
    writeWhere(writer);
    const answer = new ProtoReader(
      await this.channels.callRaw("flotilla.v1.Messaging", "Publish", toBuffer(writer), { signal, isRepeatable: false }),
    );
    const placed = { partition: 0, offset: 0, count: 0, routed: 0 };
    while (answer.next()) {
      if (answer.field === 1) placed.partition = answer.uint();
      else if (answer.field === 2) placed.offset = answer.uint();
      else if (answer.field === 3) placed.count = answer.uint();
      else if (answer.field === 5) placed.routed = answer.uint();
      else answer.skip();
    }
    return placed;
  }

  /** One fetch, for callers that keep their own offsets. Decode batches with `decodeBatch`. */
  async fetch(
    topic: string,
    positions: readonly FetchPosition[],
    options: CallOptions & { vhost?: string; maxBytes?: number; maxWaitMs?: number } = {},
  ): Promise<FetchedPartition[]> {
    const { vhost = "", maxBytes = 0, maxWaitMs = 0, signal } = options;
    return decodeFetched(
      await this.channels.callRaw("flotilla.v1.Messaging", "Fetch", encodeFetch({ vhost, topic, positions, maxBytes, maxWaitMs }), {
        signal,
      }),
    );
  }

  /** First, end and committed offsets; with `timeMs` also the offset of that time. */
  async getOffsets(
    topic: string,
    options: CallOptions & { vhost?: string; subscription?: string; partitions?: readonly number[]; timeMs?: number } = {},
  ): Promise<readonly PartitionOffsets[]> {
    const { vhost = "", subscription = "", partitions = [], timeMs, signal } = options;
    const request = { vhost, topic, subscription, partitions, ...(timeMs === undefined ? {} : { timeMs }) };
    return (
      await this.channels.call<object, { partitions: PartitionOffsets[] }>("flotilla.v1.Messaging", "GetOffsets", request, { signal })
    ).partitions;
  }

  /** Commits offsets of a subscription; `reset` allows going back. Returns the partitions that refused. */
  async commitOffsets(
    topic: string,
    subscription: string,
    offsets: readonly { partition: number; offset: number; metadata?: string; reset?: boolean }[],
    options: CallOptions & { vhost?: string; /** Of the consumer group that the caller is a member of. */ generation?: number } = {},
  ): Promise<readonly { partition: number; error: { reason: string; message: string } }[]> {
    const { vhost = "", generation = 0, signal } = options;
    const { partitions } = await this.channels.call<
      object,
      { partitions: { partition: number; error: { reason: string; message: string } | null }[] }
    >("flotilla.v1.Messaging", "CommitOffsets", { vhost, topic, subscription, offsets, generation }, { signal });
    return partitions.flatMap(({ partition, error }) => (error === null ? [] : [{ partition, error }]));
  }

  /** Closes every producer and consumer, then the connections. */
  async close(): Promise<void> {
    const parts = [...this.open];
    this.open.clear();
    try {
      await Promise.all(parts.map((part) => part.close()));
    } finally {
      this.channels.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
