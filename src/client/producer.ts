// Publishes records to a topic: collects them into batches per partition, keeps several batches of a partition under
// way, and sends them again with the same sequence numbers until their outcome is known. With idempotence (the default)
// each record is stored exactly once and in order, whatever happens to leaders and connections.

import { randomBytes } from "node:crypto";
import { BATCH_BYTES_MAX, BATCH_RECORDS_MAX } from "../base/limits.ts";
import { BufferPool } from "./buffer-pool.ts";
import type { Channels } from "./channels.ts";
import { FlotillaError } from "./errors.ts";
import { PartitionSender, type Batch, type SenderHost, type SenderOptions } from "./partition-sender.ts";
import { PublishLink } from "./publish-link.ts";
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
  /**
   * 1..2^53-1; drawn at random if absent. Under a fixed id only the producer of the highest `epoch` may publish: give each
   * run a higher one than the last, or its first records count as repetitions of the last run's.
   */
  readonly producerId?: number;
  /** 0..2^32-1; must be given along with `producerId`. */
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
  inflightBatchesMax: 64,
  bufferBytesMax: 32 * 1024 * 1024,
  idempotent: true,
  epoch: 0,
  deliveryTimeoutMs: 120_000,
};
/** A node whose stream failed is avoided for so long, doubled with each failure in a row. */
const LINK_PAUSE_MS_MIN = 50;
const LINK_PAUSE_MS_MAX = 5_000;

/** Streams are asked so often whether their node answers. A tick that comes late, since this process was busy, is one tick. */
const TICK_MS = 100;
/**
 * A node that leaves batches without any answer for so many ticks is taken for lost, though its connection stands: it is
 * stopped, or cut off. As soon as the cluster says so as well, which another node is asked for; later, by doubling, while
 * nobody at all answers.
 */
const SILENT_TICKS = 20;
const SILENT_TICKS_DOWN = 2;
const SILENT_TICKS_NEWS = 2;
const SILENT_DOUBLINGS_MAX = 4;

/** A node that had lost the leader's may be the one that is cut off: for so long another one is tried. */
const DOUBT_MS = 200;

type Trouble = {
  readonly failures: number;
  readonly untilMs: number;
  /** The cluster took it for down since: that it no longer does ends the trouble. */
  wasDown: boolean;
};

export class Producer implements SenderHost {
  readonly options: Required<Omit<ProducerOptions, "partitioner" | "producerId">> & { readonly producerId: number };
  private readonly senderOptions: SenderOptions;
  private readonly channels: Channels;
  private readonly topic: string;
  private readonly partitioner: ProducerOptions["partitioner"];
  private readonly senders: (PartitionSender | undefined)[] = [];
  private readonly links = new Map<string, PublishLink<Batch>>();
  /** Nodes whose last stream failed; at most one row for each address ever learned. */
  private readonly troubles = new Map<string, Trouble>();
  private topology!: TopologyWatch;
  private bufferedBytes = 0;
  private sticky = 0;
  private spaceWaiters: (() => void)[] = [];
  private ticker: NodeJS.Timeout | null = null;
  /** Nodes given up for their silence since somebody last answered. */
  private silences = 0;
  private readonly pool: BufferPool;
  private failure: FlotillaError | null = null;
  private isClosing = false;
  private readonly closed: (self: Producer) => void;

  /** `closed` is called once, when the producer has ended for whatever reason. */
  static async open(channels: Channels, topic: string, options: ProducerOptions, closed: (self: Producer) => void): Promise<Producer> {
    const producer = new Producer(channels, topic, options, closed);
    producer.topology = await TopologyWatch.open(
      channels,
      producer.options.vhost,
      topic,
      () => producer.topologyChanged(),
      (endpoint) => producer.isSilent(endpoint),
    );
    return producer;
  }

  private constructor(channels: Channels, topic: string, options: ProducerOptions, closed: (self: Producer) => void) {
    check(options);
    this.closed = closed;
    this.channels = channels;
    this.topic = topic;
    this.partitioner = options.partitioner;
    const { partitioner: _, ...given } = options;
    this.options = { ...DEFAULTS, ...given, producerId: given.producerId ?? randomProducerId() };
    this.pool = new BufferPool(this.options.bufferBytesMax);
    this.senderOptions = { ...this.options, ownsEpoch: given.producerId === undefined };
  }

  /** It has ended, by a close or a failure that it does not survive. */
  get isClosed(): boolean {
    return this.failure !== null;
  }

  /** Partitions of the topic, as known now. */
  get partitions(): number {
    return this.topology.partitions;
  }

  /**
   * Takes a record; `callback` tells its outcome. False: the buffer is full, wait for `ready()` before the next one (the
   * record was taken all the same). The record's bytes are copied before this returns. Throws when the record cannot be
   * taken (too large, no such partition), and when the producer is closed or has failed.
   */
  append(record: OutgoingRecord, callback?: RecordCallback, partition?: number): boolean {
    if (this.failure !== null) throw this.failure;
    if (this.isClosing) throw closedError();
    const target = partition ?? this.choose(record);
    if (!Number.isInteger(target) || target < 0 || target >= this.topology.partitions) {
      throw new FlotillaError("UNKNOWN_PARTITION", `topic ${this.topic} has partitions 0..${this.topology.partitions - 1}, not ${target}`);
    }
    this.bufferedBytes += this.senderOf(target).append(record, callback);
    return this.bufferedBytes < this.options.bufferBytesMax;
  }

  /** Publishes one record and resolves with its place. Waits while the buffer is full. */
  async send(record: OutgoingRecord, options: { partition?: number; signal?: AbortSignal } = {}): Promise<Placed> {
    const { partition, signal } = options;
    while (this.failure === null && this.bufferedBytes >= this.options.bufferBytesMax && signal?.aborted !== true)
      await this.readyOr(signal);
    if (signal?.aborted === true)
      throw new FlotillaError("ABORTED", "the send was aborted before the record was taken", { retryable: false });
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        const message = "the send was aborted; the record may still be stored";
        reject(new FlotillaError("ABORTED", message, { retryable: false, maybeApplied: true }));
      };
      const done: RecordCallback = (error, placed, offset) => {
        signal?.removeEventListener("abort", abort);
        if (error === null) resolve({ partition: placed, offset });
        else reject(error);
      };
      this.append(record, done, partition);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /** Resolves when the buffer has room. */
  ready(): Promise<void> {
    if (this.failure !== null || this.bufferedBytes < this.options.bufferBytesMax) return Promise.resolve();
    return new Promise((resolve) => this.spaceWaiters.push(resolve));
  }

  /** Sends what waits and resolves when every record taken so far has its outcome; rejects if the producer failed. */
  async flush(): Promise<void> {
    await new Promise<void>((resolve) => {
      // The one more is ours: nothing may be left before all partitions were asked.
      let left = 1;
      const reported = (): void => {
        left -= 1;
        if (left === 0) resolve();
      };
      for (const sender of this.senders) left += sender?.whenReported(reported) ?? 0;
      reported();
    });
    if (this.failure !== null && this.failure.code !== "CLOSED") throw this.failure;
  }

  /** Flushes, then ends the producer. */
  async close(): Promise<void> {
    this.isClosing = true;
    try {
      if (this.failure === null) await this.flush();
    } finally {
      this.stop(closedError());
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // What the partitions ask for (SenderHost).

  linkFor(partition: number, epoch: number): PublishLink<Batch> | undefined {
    const leader = this.topology.leaderEndpoint(partition);
    // The leader if a connection to it stands, else any node of which that is true: it passes the batches on. One that had
    // some trouble but is up, and there, is better than one that is taken for down.
    const alive = [...(leader === undefined ? [] : [leader]), ...this.topology.aliveEndpoints()];
    const endpoint =
      alive.find((one) => this.isUsable(one) && this.channels.isConnected(one)) ??
      alive.find((one) => this.isUsable(one)) ??
      alive.find((one) => this.channels.isConnected(one)) ??
      this.channels.endpoints().find((one) => this.isUsable(one));
    if (endpoint === undefined) return undefined;
    const name = linkName(endpoint, epoch);
    const link = this.links.get(name) ?? this.openLink(endpoint, epoch);
    this.links.set(name, link);
    return link;
  }

  preferredEndpoint(partition: number): string | undefined {
    const leader = this.topology.leaderEndpoint(partition);
    return leader !== undefined && this.isUsable(leader) ? leader : undefined;
  }

  isConnected(endpoint: string): boolean {
    return this.channels.isConnected(endpoint);
  }

  released(bytes: number): void {
    this.bufferedBytes -= bytes;
    if (this.bufferedBytes < this.options.bufferBytesMax / 2 && this.spaceWaiters.length > 0) this.wake(this.spaceWaiters.splice(0));
  }

  memory(bytes: number): Buffer {
    return this.pool.take(bytes);
  }

  giveBack(memory: Buffer): void {
    this.pool.give(memory);
  }

  fail(error: FlotillaError): void {
    this.stop(error);
  }

  /** False for a node whose last stream failed, until some time has passed and a connection stands. */
  isUsable(endpoint: string): boolean {
    const trouble = this.troubles.get(endpoint);
    if (trouble === undefined) return true;
    const isConnected = this.channels.isConnected(endpoint);
    return isConnected && trouble.untilMs <= Date.now();
  }

  private openLink(endpoint: string, epoch: number): PublishLink<Batch> {
    const { vhost, producerId, idempotent } = this.options;
    const stream = this.channels.duplex(endpoint, "flotilla.v1.Messaging", "PublishStream");
    const link = new PublishLink<Batch>(
      endpoint,
      stream,
      { vhost, topic: this.topic, producerId: idempotent ? producerId : 0, epoch },
      {
        acked: (batch, outcome) => {
          if (outcome.error === null) {
            this.troubles.delete(endpoint);
            this.silences = 0;
          } else if (outcome.error.code === "NODE_UNREACHABLE") this.doubt(endpoint);
          this.senders[batch.partition]!.acked(batch, outcome);
        },
        lost: (gone, error) => this.lost(gone, error),
      },
    );
    // Without sequence numbers nothing may be sent again, so there is nothing to be won by not waiting.
    if (idempotent && this.ticker === null) {
      this.ticker = setInterval(() => this.tick(), TICK_MS);
      this.ticker.unref();
    }
    return link;
  }

  private tick(): void {
    // Who is silent to us tells no news either; asking another node costs nothing if it was only busy.
    for (const link of this.links.values()) if (link.tick() >= SILENT_TICKS_NEWS) this.topology.leave(link.endpoint);
    this.leaveSilent();
    if (this.links.size > 0 || this.ticker === null) return;
    clearInterval(this.ticker);
    this.ticker = null;
  }

  private isSilent(endpoint: string): boolean {
    for (const link of this.links.values()) if (link.endpoint === endpoint && link.silentTicks >= SILENT_TICKS_NEWS) return true;
    return false;
  }

  private leaveSilent(): void {
    for (const link of [...this.links.values()]) {
      const { endpoint } = link;
      const limit = this.topology.isDown(endpoint) ? SILENT_TICKS_DOWN : SILENT_TICKS * 2 ** Math.min(this.silences, SILENT_DOUBLINGS_MAX);
      if (link.silentTicks < limit) continue;
      this.silences += 1;
      this.channels.avoid(endpoint);
      this.topology.leave(endpoint);
      link.giveUp(new FlotillaError("UNREACHABLE", `no answer from ${endpoint} for ${limit * TICK_MS} ms`, { maybeApplied: true }));
      const failures = (this.troubles.get(endpoint)?.failures ?? 0) + 1;
      this.troubles.set(endpoint, { failures, untilMs: Date.now() + LINK_PAUSE_MS_MAX, wasDown: this.topology.isDown(endpoint) });
    }
  }

  /** It lost another node, or all others lost it: those are asked. */
  private doubt(endpoint: string): void {
    if (!this.troubles.has(endpoint)) this.troubles.set(endpoint, { failures: 0, untilMs: Date.now() + DOUBT_MS, wasDown: false });
    this.topology.leave(endpoint);
  }

  private topologyChanged(): void {
    for (const [endpoint, trouble] of this.troubles) {
      if (this.topology.isDown(endpoint)) trouble.wasDown = true;
      else if (trouble.wasDown && this.channels.isConnected(endpoint)) this.troubles.delete(endpoint);
    }
    // A node may be down from which an answer is being waited for.
    this.leaveSilent();
    this.pumpAll();
  }

  private lost(link: PublishLink<Batch>, error: FlotillaError): void {
    this.links.delete(linkName(link.endpoint, link.epoch));
    if (!error.retryable && error.code !== "ABORTED" && error.code !== "INTERNAL") {
      this.stop(error);
      return;
    }
    const failures = (this.troubles.get(link.endpoint)?.failures ?? 0) + 1;
    const pauseMs = Math.min(LINK_PAUSE_MS_MAX, LINK_PAUSE_MS_MIN * 2 ** Math.min(failures - 1, 10));
    this.troubles.set(link.endpoint, { failures, untilMs: Date.now() + pauseMs, wasDown: this.topology.isDown(link.endpoint) });
    for (const sender of this.senders) sender?.linkLost(link, error);
  }

  private stop(error: FlotillaError): void {
    if (this.failure !== null) return;
    this.failure = error;
    this.topology.close();
    if (this.ticker !== null) clearInterval(this.ticker);
    for (const link of this.links.values()) link.close();
    for (const sender of this.senders) sender?.stop(error);
    this.wake(this.spaceWaiters.splice(0));
    this.closed(this);
  }

  private async readyOr(signal: AbortSignal | undefined): Promise<void> {
    if (signal === undefined) return this.ready();
    let abort = (): void => {};
    const aborted = new Promise<void>((resolve) => (abort = resolve));
    signal.addEventListener("abort", abort, { once: true });
    await Promise.race([this.ready(), aborted]);
    signal.removeEventListener("abort", abort);
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
    return (this.senders[partition] ??= new PartitionSender(partition, this.senderOptions, this));
  }
}

function linkName(endpoint: string, epoch: number): string {
  return `${epoch} ${endpoint}`;
}

function closedError(): FlotillaError {
  return new FlotillaError("CLOSED", "the producer is closed", { retryable: false });
}

function check(options: ProducerOptions): void {
  const bounds: readonly [keyof ProducerOptions, number, number][] = [
    ["lingerMs", 0, 60_000],
    ["batchBytes", 1, BATCH_BYTES_MAX],
    ["batchRecords", 1, BATCH_RECORDS_MAX],
    ["inflightBatchesMax", 1, 1_024],
    ["bufferBytesMax", 1, Number.MAX_SAFE_INTEGER],
    ["producerId", 1, Number.MAX_SAFE_INTEGER],
    ["epoch", 0, 0xffff_ffff],
    ["deliveryTimeoutMs", 1, 0x7fff_ffff],
  ];
  for (const [name, minimum, maximum] of bounds) {
    const value = options[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= minimum && (value as number) <= maximum)) {
      throw new FlotillaError("INVALID_ARGUMENT", `${name} must be a whole number of ${minimum}..${maximum}, not ${String(value)}`);
    }
  }
  if (options.producerId !== undefined && options.epoch === undefined) {
    throw new FlotillaError("INVALID_ARGUMENT", "a fixed producerId needs an epoch, higher than that of the run before");
  }
}

function randomProducerId(): number {
  return randomBytes(6).readUIntBE(0, 6) + 1;
}
