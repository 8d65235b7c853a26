// Publishes records to an exchange: collects them into batches, keeps several under way, and sends a batch again with its sequence until its
// outcome is known: every queue that it goes to takes it once.

import { randomBytes } from "node:crypto";
import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import { BATCH_BYTES_MAX, BATCH_RECORDS_MAX } from "../base/limits.ts";
import { ProtoWriter } from "../base/protobuf.ts";
import type { Channels } from "./channels.ts";
import { FlotillaError, fromGrpc } from "./errors.ts";
import { BatchEncoder, HEAD_ROOM_BYTES, type OutgoingRecord } from "./records.ts";
import { decodeAcks, toBuffer, type Ack } from "./wire.ts";

export type ExchangeProducerOptions = {
  readonly vhost?: string;
  /** How long a record waits for company, in ms. */
  readonly lingerMs?: number;
  readonly batchBytes?: number;
  readonly batchRecords?: number;
  /** Batches under way at one time, 1..128. */
  readonly inflightBatchesMax?: number;
  /** Encoded bytes that are not acknowledged; beyond them `send` waits. */
  readonly bufferBytesMax?: number;
  /** `send` rejects with UNROUTABLE when nothing is bound for the record. */
  readonly mandatory?: boolean;
  /** How long a record may take in all before the producer gives up. */
  readonly deliveryTimeoutMs?: number;
};

/** Where a record went: nowhere, unless `routed`. */
export type RoutedRecord = { readonly routed: boolean };

type Pending = { readonly resolve: (routed: RoutedRecord) => void; readonly reject: (error: FlotillaError) => void };
type Batch = {
  readonly sequence: number;
  readonly count: number;
  readonly records: Buffer;
  readonly pending: readonly Pending[];
  readonly takenMs: number;
  attempts: number;
};

const DEFAULTS = {
  vhost: "",
  lingerMs: 2,
  batchBytes: 64 * 1024,
  batchRecords: 1_000,
  inflightBatchesMax: 64,
  bufferBytesMax: 32 * 1024 * 1024,
  mandatory: false,
  deliveryTimeoutMs: 120_000,
};
const RETRY_MS_MIN = 20;
const RETRY_MS_MAX = 1_000;
/** A node that leaves batches without an answer for so long is left for another one. */
const SILENT_MS = 10_000;

export class ExchangeProducer {
  readonly exchange: string;
  private readonly options: Required<ExchangeProducerOptions>;
  private readonly channels: Channels;
  private readonly closed: (self: ExchangeProducer) => void;
  private readonly producerId = randomBytes(6).readUIntBE(0, 6) + 1;
  private encoder: BatchEncoder | null = null;
  private pending: Pending[] = [];
  private openedMs = 0;
  private nextSequence = 0;
  private lingerTimer: NodeJS.Timeout | null = null;
  /** Not yet sent, or to be sent again. */
  private queue: Batch[] = [];
  /** On the stream, by the number that it has there. */
  private readonly inflight = new Map<number, Batch>();
  private stream: ClientDuplexStream<Buffer, Buffer> | null = null;
  private nextId = 1;
  private turn = 0;
  private failures = 0;
  private bufferedBytes = 0;
  private spaceWaiters: (() => void)[] = [];
  private idleWaiters: (() => void)[] = [];
  private watchdog: NodeJS.Timeout | null = null;
  private retryTimer: NodeJS.Timeout | null = null;
  private heardMs = Date.now();
  private failure: FlotillaError | null = null;

  constructor(channels: Channels, exchange: string, options: ExchangeProducerOptions, closed: (self: ExchangeProducer) => void) {
    this.channels = channels;
    this.exchange = exchange;
    this.options = { ...DEFAULTS, ...options };
    this.closed = closed;
    const { inflightBatchesMax } = this.options;
    if (!Number.isInteger(inflightBatchesMax) || inflightBatchesMax < 1 || inflightBatchesMax > 128)
      throw new FlotillaError("INVALID_ARGUMENT", `inflightBatchesMax must be a whole number of 1..128, not ${inflightBatchesMax}`);
    this.watchdog = setInterval(() => this.watch(), 500);
    this.watchdog.unref();
  }

  get isClosed(): boolean {
    return this.failure !== null;
  }

  /** The buffer is not full: `send` takes the next record at once. */
  get hasRoom(): boolean {
    return this.bufferedBytes < this.options.bufferBytesMax;
  }

  /** Publishes one record; resolves once every queue that it goes to has it. Waits while the buffer is full. */
  async send(record: OutgoingRecord & { readonly routingKey?: string | undefined }): Promise<RoutedRecord> {
    while (this.failure === null && this.bufferedBytes >= this.options.bufferBytesMax)
      await new Promise<void>((resolve) => this.spaceWaiters.push(resolve));
    if (this.failure !== null) throw this.failure;
    return new Promise((resolve, reject) => this.append({ routingKey: "", ...record }, { resolve, reject }));
  }

  /** Resolves when everything that was sent is acknowledged or has failed. */
  async flush(): Promise<void> {
    this.seal();
    if (this.queue.length + this.inflight.size > 0) await new Promise<void>((resolve) => this.idleWaiters.push(resolve));
  }

  async close(): Promise<void> {
    if (this.failure !== null) return;
    await this.flush();
    this.end(new FlotillaError("CLOSED", "the producer is closed", { retryable: false }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private append(record: OutgoingRecord, pending: Pending): void {
    const { batchBytes, batchRecords, lingerMs } = this.options;
    if (this.encoder === null) {
      this.encoder = new BatchEncoder(Buffer.allocUnsafeSlow(1024));
      this.openedMs = Date.now();
    }
    const before = this.encoder.length;
    try {
      this.encoder.add(record);
    } catch (error) {
      pending.reject(error as FlotillaError);
      return;
    }
    if (this.encoder.length > BATCH_BYTES_MAX) {
      this.encoder.takeBack(before);
      if (before === 0) {
        pending.reject(new FlotillaError("BATCH_TOO_LARGE", `a record may have ${BATCH_BYTES_MAX} bytes encoded`));
        return;
      }
      this.seal();
      this.append(record, pending);
      return;
    }
    this.pending.push(pending);
    this.bufferedBytes += this.encoder.length - before;
    const isFull = this.encoder.length >= batchBytes || this.encoder.count >= Math.min(batchRecords, BATCH_RECORDS_MAX);
    if (isFull) this.seal();
    else if (lingerMs === 0 || (this.inflight.size === 0 && this.queue.length === 0)) queueMicrotask(() => this.seal());
    else this.lingerTimer ??= setTimeout(() => this.seal(), lingerMs);
  }

  private seal(): void {
    if (this.lingerTimer !== null) clearTimeout(this.lingerTimer);
    this.lingerTimer = null;
    const { encoder, pending } = this;
    if (encoder === null || encoder.count === 0) return;
    this.encoder = null;
    this.pending = [];
    const records = encoder.finish().subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + encoder.length);
    this.queue.push({ sequence: this.nextSequence, count: encoder.count, records, pending, takenMs: this.openedMs, attempts: 0 });
    this.nextSequence += encoder.count;
    this.pump();
  }

  private pump(): void {
    if (this.failure !== null || this.queue.length === 0 || this.retryTimer !== null) return;
    const stream = this.stream ?? this.connect();
    while (this.queue.length > 0 && this.inflight.size < this.options.inflightBatchesMax) {
      const batch = this.queue.shift()!;
      batch.attempts += 1;
      const id = this.nextId++;
      if (this.inflight.size === 0) this.heardMs = Date.now();
      this.inflight.set(id, batch);
      const writer = new ProtoWriter(batch.records.length + 64);
      const mark = writer.open(2);
      writer.uint(1, id).uint(3, batch.sequence).uint(4, batch.count).blockAlways(5, batch.records).close(mark);
      stream.write(toBuffer(writer));
    }
  }

  private connect(): ClientDuplexStream<Buffer, Buffer> {
    const known = this.channels.endpoints();
    const endpoint = known[this.turn % known.length]!;
    const stream = this.channels.duplex(endpoint, "flotilla.v1.Messaging", "PublishStream");
    this.stream = stream;
    this.nextId = 1;
    stream.on("data", (bytes: Buffer) => {
      if (this.stream !== stream) return;
      this.heardMs = Date.now();
      for (const ack of decodeAcks(bytes)) this.acked(ack);
      this.pump();
    });
    stream.on("error", (error) => this.lost(stream, fromGrpc(error as ServiceError)));
    stream.on("end", () => this.lost(stream, new FlotillaError("UNREACHABLE", "the node ended the stream", { maybeApplied: true })));
    const writer = new ProtoWriter(256);
    const mark = writer.open(1);
    writer.string(1, this.options.vhost).uint(3, this.producerId).blockAlways(6, Buffer.from(this.exchange)).bool(7, true).close(mark);
    stream.write(toBuffer(writer));
    return stream;
  }

  private acked({ firstId, batches, error, unroutable }: Ack): void {
    for (let id = firstId; id < firstId + batches; id++) {
      const batch = this.inflight.get(id);
      if (batch === undefined) continue;
      this.inflight.delete(id);
      if (error === null) this.stored(batch, unroutable);
      else this.refused(batch, error);
    }
  }

  private stored(batch: Batch, unroutable: readonly number[]): void {
    this.failures = 0;
    const lost = new Set(unroutable);
    batch.pending.forEach(({ resolve, reject }, at) => {
      if (lost.has(at) && this.options.mandatory)
        reject(new FlotillaError("UNROUTABLE", `nothing is bound to exchange "${this.exchange}" for the record`, { retryable: false }));
      else resolve({ routed: !lost.has(at) });
    });
    this.released(batch);
  }

  private refused(batch: Batch, error: FlotillaError): void {
    const isLate = Date.now() - batch.takenMs >= this.options.deliveryTimeoutMs;
    if (error.retryable && !isLate) {
      this.again([batch]);
      return;
    }
    for (const { reject } of batch.pending) reject(error);
    this.released(batch);
  }

  /** In the order of their sequence, before what was never sent, after a pause. */
  private again(batches: readonly Batch[]): void {
    this.queue = [...this.queue, ...batches].sort((a, b) => a.sequence - b.sequence);
    if (this.retryTimer !== null) return;
    this.failures += 1;
    const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.failures - 1, 8));
    this.retryTimer = setTimeout(
      () => {
        this.retryTimer = null;
        this.pump();
      },
      ceiling / 2 + Math.random() * (ceiling / 2),
    );
  }

  private released({ records }: Batch): void {
    this.bufferedBytes -= records.length;
    if (this.bufferedBytes < this.options.bufferBytesMax) for (const wake of this.spaceWaiters.splice(0)) wake();
    if (this.queue.length + this.inflight.size === 0) for (const wake of this.idleWaiters.splice(0)) wake();
  }

  private lost(stream: ClientDuplexStream<Buffer, Buffer>, error: FlotillaError): void {
    if (this.stream !== stream) return;
    this.stream = null;
    this.turn += 1;
    const batches = [...this.inflight.values()];
    this.inflight.clear();
    if (!error.retryable && error.code !== "UNREACHABLE" && error.code !== "STOPPING") {
      this.end(error, batches);
      return;
    }
    const late = batches.filter(({ takenMs }) => Date.now() - takenMs >= this.options.deliveryTimeoutMs);
    for (const batch of late) {
      for (const { reject } of batch.pending) reject(error);
      this.released(batch);
    }
    this.again(batches.filter((batch) => !late.includes(batch)));
  }

  private watch(): void {
    const { stream } = this;
    if (stream === null || this.inflight.size === 0 || Date.now() - this.heardMs < SILENT_MS) return;
    stream.cancel();
    this.lost(stream, new FlotillaError("UNREACHABLE", "the node does not answer", { maybeApplied: true }));
  }

  private end(failure: FlotillaError, batches: readonly Batch[] = []): void {
    if (this.failure !== null) return;
    this.failure = failure;
    for (const timer of [this.lingerTimer, this.retryTimer]) if (timer !== null) clearTimeout(timer);
    if (this.watchdog !== null) clearInterval(this.watchdog);
    const left = [...batches, ...this.inflight.values(), ...this.queue].flatMap(({ pending }) => pending);
    for (const { reject } of [...left, ...this.pending]) reject(failure);
    this.inflight.clear();
    this.queue = [];
    this.stream?.end();
    for (const wake of [...this.spaceWaiters.splice(0), ...this.idleWaiters.splice(0)]) wake();
    this.closed(this);
  }
}
