// A connection to a cluster: where everything of the client begins.

import { ProtoReader, ProtoWriter } from "../base/protobuf.ts";
import { AdminClient, ClusterClient, type CallOptions, type PartitionOffsets } from "./admin.ts";
import { Channels } from "./channels.ts";
import { Consumer, type ConsumerOptions } from "./consumer.ts";
import { Producer, type Placed, type ProducerOptions } from "./producer.ts";
import { BatchEncoder, bytesOf, HEAD_ROOM_BYTES, type OutgoingRecord } from "./records.ts";
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

export class Flotilla {
  readonly admin: AdminClient;
  readonly cluster: ClusterClient;
  private readonly channels: Channels;
  private readonly open = new Set<Producer | Consumer>();

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
  }

  /** A producer for one topic. Rejects with UNKNOWN_TOPIC if there is none. */
  async producer(topic: string, options: ProducerOptions = {}): Promise<Producer> {
    const producer = await Producer.open(this.channels, topic, options, (self) => this.open.delete(self));
    if (!producer.isClosed) this.open.add(producer);
    return producer;
  }

  /** A consumer of one topic. */
  async consumer(topic: string, options: ConsumerOptions = {}): Promise<Consumer> {
    const consumer = await Consumer.open(this.channels, topic, options, (self) => this.open.delete(self));
    if (!consumer.isClosed) this.open.add(consumer);
    return consumer;
  }

  /** Stores records as one batch, without the machinery of a producer and without protection against duplicates: sent once, never again. */
  async publish(
    topic: string,
    records: readonly OutgoingRecord[],
    options: CallOptions & { vhost?: string; partition?: number; partitionKey?: Uint8Array | string } = {},
  ): Promise<Placed & { count: number }> {
    const encoder = new BatchEncoder(Buffer.allocUnsafeSlow(1024));
    for (const record of records) encoder.add(record);
    const batch = encoder.finish().subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + encoder.length);
    const writer = new ProtoWriter(encoder.length + 256).string(1, options.vhost ?? "").string(2, topic);
    if (options.partition !== undefined) writer.uintAlways(3, options.partition);
    writer.blockAlways(4, batch).uint(5, records.length);
    if (options.partitionKey !== undefined) writer.blockAlways(7, bytesOf(options.partitionKey));
    const answer = new ProtoReader(
      await this.channels.callRaw("flotilla.v1.Messaging", "Publish", toBuffer(writer), { signal: options.signal, isRepeatable: false }),
    );
    const placed = { partition: 0, offset: 0, count: 0 };
    while (answer.next()) {
      if (answer.field === 1) placed.partition = answer.uint();
      else if (answer.field === 2) placed.offset = answer.uint();
      else if (answer.field === 3) placed.count = answer.uint();
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
    options: CallOptions & { vhost?: string } = {},
  ): Promise<readonly { partition: number; error: { reason: string; message: string } }[]> {
    const { vhost = "", signal } = options;
    const { partitions } = await this.channels.call<
      object,
      { partitions: { partition: number; error: { reason: string; message: string } | null }[] }
    >("flotilla.v1.Messaging", "CommitOffsets", { vhost, topic, subscription, offsets }, { signal });
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
