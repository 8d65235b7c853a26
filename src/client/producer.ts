// Publishes records to a topic: collects them into batches per partition, keeps several batches of a partition under
// way, and sends them again with the same sequence numbers until their outcome is known. With idempotence (the default)
// each record is stored exactly once and in order, whatever happens to leaders and connections.

import { randomBytes } from "node:crypto";
import type { Channels } from "./channels.ts";
import { FlotillaError } from "./errors.ts";
import { PartitionSender, type Batch, type SenderHost } from "./partition-sender.ts";
import { PublishLink, type BatchOutcome } from "./publish-link.ts";
import { bytesOf, hashKey, type OutgoingRecord } from "./records.ts";
import { TopologyWatch } from "./topology.ts";

export type ProducerOptions = {
  readonly vhost?: string;
  /** How long a record waits for company, in ms. 0: sent at once when nothing of its partition is under way. */
  readonly lingerMs?: number;
  /** Encoded bytes, and records, after which a batch is sent. */
  readonly batchBytes?: number;
  readonly batchRecords?: number;
  /** Batches of one partition under way at one time. */
  readonly inflightBatchesMax?: number;
  /** Encoded bytes not yet acknowledged; beyond it `append` returns false and `send` waits. */
  readonly bufferBytesMax?: number;
  /** False: a batch is sent once; its failure is reported even if it may have been stored. */
  readonly idempotent?: boolean;
  /** 1..2^53-1; drawn at random if absent. With a fixed one, a higher `epoch` fences off an older producer. */
  readonly producerId?: number;
  readonly epoch?: number;
  /** How long a record may take in all before the producer gives up. */
  readonly deliveryTimeoutMs?: number;
  /** The partition of a record; default: by key, and in turn per batch without one. */
  readonly partitioner?: (record: OutgoingRecord, partitions: number) => number;
};

export type Placed = { readonly partition: number; readonly offset: number };
/** Called once per record, in the order of its partition. `offset` is -1 if it was stored but its place is not known. */
export type RecordCallback = (error: FlotillaError | null, partition: number, offset: number) => void;

const DEFAULTS = {
  vhost: "",
  lingerMs: 5,
  batchBytes: 64 * 1024,
  batchRecords: 10_000,
  inflightBatchesMax: 16,
  bufferBytesMax: 32 * 1024 * 1024,
  idempotent: true,
  epoch: 0,
  deliveryTimeoutMs: 120_000,
};
/** A link that failed is not tried again before. */
const LINK_PAUSE_MS = 50;

export class Producer implements SenderHost {
  readonly options: Required<Omit<ProducerOptions, "partitioner" | "producerId">> & { readonly producerId: number };
  private readonly channels: Channels;
  private readonly topic: string;
  private readonly partitioner: ProducerOptions["partitioner"];
  private readonly senders: (PartitionSender | undefined)[] = [];
  private readonly links = new Map<string, PublishLink<Batch>>();
  private readonly pausedUntil = new Map<string, number>();
  private topology!: TopologyWatch;
  private bufferedBytes = 0;
  private sticky = 0;
  private spaceWaiters: (() => void)[] = [];
  private idleWaiters: (() => void)[] = [];
  private failure: FlotillaError | null = null;

  static async open(channels: Channels, topic: string, options: ProducerOptions): Promise<Producer> {
    const producer = new Producer(channels, topic, options);
    producer.topology = await TopologyWatch.open(channels, producer.options.vhost, topic, () => producer.pumpAll());
    return producer;
  }

  private constructor(channels: Channels, topic: string, options: ProducerOptions) {
    this.channels = channels;
    this.topic = topic;
    this.partitioner = options.partitioner;
    const { partitioner: _, ...given } = options;
    this.options = { ...DEFAULTS, ...given, producerId: given.producerId ?? randomProducerId() };
  }

  /** Partitions of the topic, as known now. */
  get partitions(): number {
    return this.topology.partitions;
  }

  /**
   * Takes a record; `callback` tells its outcome. False: the buffer is full, wait for `ready()` before the next one (the
   * record was taken all the same). Throws when the producer is closed or has failed.
   */
  append(record: OutgoingRecord, callback?: RecordCallback, partition?: number): boolean {
    if (this.failure !== null) throw this.failure;
    const target = partition ?? this.choose(record);
    if (!Number.isInteger(target) || target < 0 || target >= this.topology.partitions) {
      throw new FlotillaError("UNKNOWN_PARTITION", `topic ${this.topic} has partitions 0..${this.topology.partitions - 1}, not ${target}`);
    }
    this.bufferedBytes += this.senderOf(target).append(record, callback);
    return this.bufferedBytes < this.options.bufferBytesMax;
  }

  /** Publishes one record and resolves with its place. Waits while the buffer is full. */
  async send(record: OutgoingRecord, options: { partition?: number; signal?: AbortSignal } = {}): Promise<Placed> {
    if (this.bufferedBytes >= this.options.bufferBytesMax) await this.ready();
    const { signal } = options;
    if (signal?.aborted === true)
      throw new FlotillaError("ABORTED", "the send was aborted before the record was taken", { retryable: false });
    return new Promise((resolve, reject) => {
      const abort = (): void =>
        reject(
          new FlotillaError("ABORTED", "the send was aborted; the record may still be stored", { retryable: false, maybeApplied: true }),
        );
      signal?.addEventListener("abort", abort, { once: true });
      this.append(
        record,
        (error, partition, offset) => {
          signal?.removeEventListener("abort", abort);
          if (error === null) resolve({ partition, offset });
          else reject(error);
        },
        options.partition,
      );
    });
  }

  /** Resolves when the buffer has room. */
  ready(): Promise<void> {
    if (this.failure !== null || this.bufferedBytes < this.options.bufferBytesMax) return Promise.resolve();
    return new Promise((resolve) => this.spaceWaiters.push(resolve));
  }

  /** Sends what waits and resolves when every record taken so far has its outcome; rejects if the producer failed. */
  async flush(): Promise<void> {
    for (const sender of this.senders) sender?.seal();
    if (this.bufferedBytes > 0 && this.failure === null) await new Promise<void>((resolve) => this.idleWaiters.push(resolve));
    if (this.failure !== null && this.failure.code !== "CLOSED") throw this.failure;
  }

  /** Flushes, then ends the producer. */
  async close(): Promise<void> {
    try {
      if (this.failure === null) await this.flush();
    } finally {
      this.stop(new FlotillaError("CLOSED", "the producer is closed", { retryable: false }));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // What the partitions ask for (SenderHost).

  linkFor(partition: number): PublishLink<Batch> | undefined {
    const now = Date.now();
    const leader = this.topology.leaderEndpoint(partition);
    // The leader if it can be reached, else any node: it passes the batches on.
    const candidates = leader === undefined ? [] : [leader];
    for (const endpoint of [...candidates, ...this.topology.aliveEndpoints(), ...this.channels.endpoints()]) {
      if ((this.pausedUntil.get(endpoint) ?? 0) > now) continue;
      const known = this.links.get(endpoint);
      if (known !== undefined) return known;
      const { vhost, producerId, epoch, idempotent } = this.options;
      const link = new PublishLink<Batch>(
        endpoint,
        this.channels.duplex(endpoint, "flotilla.v1.Messaging", "PublishStream"),
        { vhost, topic: this.topic, producerId: idempotent ? producerId : 0, epoch },
        {
          acked: (batch, outcome) => this.acked(batch, outcome),
          lost: (gone, error) => this.lost(gone, error),
        },
      );
      this.links.set(endpoint, link);
      return link;
    }
    return undefined;
  }

  preferredEndpoint(partition: number): string | undefined {
    return this.topology.leaderEndpoint(partition);
  }

  released(bytes: number): void {
    this.bufferedBytes -= bytes;
    if (this.bufferedBytes < this.options.bufferBytesMax / 2 && this.spaceWaiters.length > 0) this.wake(this.spaceWaiters.splice(0));
    if (this.bufferedBytes === 0) this.wake(this.idleWaiters.splice(0));
  }

  fail(error: FlotillaError): void {
    this.stop(error);
  }

  private acked(batch: Batch, outcome: BatchOutcome): void {
    this.senders[batch.partition]!.acked(batch, outcome);
  }

  private lost(link: PublishLink<Batch>, error: FlotillaError): void {
    this.links.delete(link.endpoint);
    if (!error.retryable && error.code !== "ABORTED" && error.code !== "INTERNAL") {
      this.stop(error);
      return;
    }
    this.pausedUntil.set(link.endpoint, Date.now() + LINK_PAUSE_MS);
    for (const sender of this.senders) sender?.linkLost(link, error);
  }

  private stop(error: FlotillaError): void {
    if (this.failure !== null) return;
    this.failure = error;
    this.topology.close();
    for (const link of this.links.values()) link.close();
    for (const sender of this.senders) sender?.stop(error);
    this.wake(this.spaceWaiters.splice(0));
    this.wake(this.idleWaiters.splice(0));
  }

  private wake(waiters: readonly (() => void)[]): void {
    for (const waiter of waiters) waiter();
  }

  private pumpAll(): void {
    for (const sender of this.senders) sender?.pump();
  }

  private choose(record: OutgoingRecord): number {
    const { partitions } = this.topology;
    if (this.partitioner !== undefined) return this.partitioner(record, partitions);
    if (record.key !== undefined) return hashKey(bytesOf(record.key)) % partitions;
    // Keyless records fill one batch after the other: larger batches, and still evenly spread.
    if (this.senders[this.sticky % partitions]?.isFresh !== false) this.sticky += 1;
    return this.sticky % partitions;
  }

  private senderOf(partition: number): PartitionSender {
    return (this.senders[partition] ??= new PartitionSender(partition, this.options, this));
  }
}

function randomProducerId(): number {
  return randomBytes(6).readUIntBE(0, 6) + 1;
}
