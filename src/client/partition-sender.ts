// The batches of one producer for one partition: in order, numbered, several under way. Whatever goes wrong on the way,
// all that is not acknowledged is sent again from the oldest on; the sequence numbers sort out what was stored already.

import { FlotillaError } from "./errors.ts";
import type { BatchOutcome, PublishLink } from "./publish-link.ts";
import { BatchEncoder, type OutgoingRecord } from "./records.ts";
import type { RecordCallback } from "./producer.ts";

export type Batch = {
  readonly partition: number;
  readonly sequence: number;
  readonly count: number;
  readonly records: Uint8Array;
  readonly callbacks: readonly (RecordCallback | undefined)[];
  readonly takenMs: number;
  /** The try that it was last sent in; answers to older tries may confirm, but not fail it. */
  attempt: number;
  isDone: boolean;
};

export type SenderOptions = {
  readonly lingerMs: number;
  readonly batchBytes: number;
  readonly batchRecords: number;
  readonly inflightBatchesMax: number;
  readonly idempotent: boolean;
  readonly deliveryTimeoutMs: number;
};

export interface SenderHost {
  linkFor(partition: number): PublishLink<Batch> | undefined;
  preferredEndpoint(partition: number): string | undefined;
  released(bytes: number): void;
  fail(error: FlotillaError): void;
}

const RETRY_MS_MIN = 10;
const RETRY_MS_MAX = 500;
/** Refusals in a row of the oldest batch for its sequence, after which a gap is certain. */
const SEQUENCE_TRIES_MAX = 20;

export class PartitionSender {
  private readonly partition: number;
  private readonly options: SenderOptions;
  private readonly host: SenderHost;
  private encoder: BatchEncoder | null = null;
  private callbacks: (RecordCallback | undefined)[] = [];
  private openedMs = 0;
  private lingerTimer: NodeJS.Timeout | null = null;
  /** Not acknowledged, oldest first; the first `sent` of them are under way on `link`. */
  private batches: Batch[] = [];
  private sent = 0;
  private link: PublishLink<Batch> | null = null;
  private nextSequence = 0;
  private attempt = 1;
  private failures = 0;
  private sequenceFailures = 0;
  private retryTimer: NodeJS.Timeout | null = null;
  private isStopped = false;

  constructor(partition: number, options: SenderOptions, host: SenderHost) {
    this.partition = partition;
    this.options = options;
    this.host = host;
  }

  /** No batch is open. */
  get isFresh(): boolean {
    return this.encoder === null;
  }

  /** Returns the encoded bytes that the record took. */
  append(record: OutgoingRecord, callback: RecordCallback | undefined): number {
    if (this.encoder === null) {
      this.encoder = new BatchEncoder(Math.min(this.options.batchBytes + 1024, 128 * 1024));
      this.openedMs = Date.now();
      this.scheduleSeal();
    }
    const before = this.encoder.length;
    this.encoder.add(record);
    this.callbacks.push(callback);
    const bytes = this.encoder.length - before;
    if (this.encoder.length >= this.options.batchBytes || this.encoder.count >= this.options.batchRecords) this.seal();
    return bytes;
  }

  /** Closes the open batch and sends what may be sent. */
  seal(): void {
    if (this.lingerTimer !== null) clearTimeout(this.lingerTimer);
    this.lingerTimer = null;
    const { encoder } = this;
    if (encoder === null || this.isStopped) return;
    this.encoder = null;
    const batch: Batch = { partition: this.partition, sequence: this.nextSequence, count: encoder.count, records: encoder.finish(), callbacks: this.callbacks, takenMs: this.openedMs, attempt: 0, isDone: false };
    this.callbacks = [];
    this.nextSequence += batch.count;
    this.batches.push(batch);
    this.pump();
  }

  pump(): void {
    if (this.isStopped || this.retryTimer !== null || this.sent >= this.batches.length) return;
    // A better link is taken only when nothing is under way on the old one: the order of the stream is the order.
    if (this.sent === 0 && (this.link === null || this.link.isClosed || this.link.endpoint !== this.host.preferredEndpoint(this.partition))) {
      this.link = this.host.linkFor(this.partition) ?? null;
      if (this.link === null) {
        this.retry(new FlotillaError("UNREACHABLE", "no node of the cluster can be reached"));
        return;
      }
    }
    const { link } = this;
    while (this.sent < this.batches.length && this.sent < this.options.inflightBatchesMax) {
      const batch = this.batches[this.sent]!;
      batch.attempt = this.attempt;
      this.sent += 1;
      link!.send(batch);
    }
  }

  acked(batch: Batch, outcome: BatchOutcome): void {
    if (batch.isDone || this.isStopped) return;
    if (outcome.error === null) {
      batch.isDone = true;
      this.failures = 0;
      this.sequenceFailures = 0;
      this.settle(batch, null, outcome.duplicate && outcome.baseOffset === 0 && batch.sequence > 0 ? -1 : outcome.baseOffset);
      return;
    }
    if (batch.attempt !== this.attempt) return;
    this.failed(batch, outcome.error);
  }

  linkLost(link: PublishLink<Batch>, error: FlotillaError): void {
    if (this.link !== link) return;
    this.link = null;
    if (this.sent === 0) return;
    if (this.options.idempotent) this.retry(error);
    else for (const batch of this.batches.slice(0, this.sent)) this.give(batch, error);
  }

  stop(error: FlotillaError): void {
    this.isStopped = true;
    if (this.lingerTimer !== null) clearTimeout(this.lingerTimer);
    if (this.retryTimer !== null) clearTimeout(this.retryTimer);
    const left = this.batches;
    this.batches = [];
    const open = this.callbacks;
    this.callbacks = [];
    for (const batch of left) for (const callback of batch.callbacks) callback?.(error, this.partition, -1);
    for (const callback of open) callback?.(error, this.partition, -1);
  }

  private scheduleSeal(): void {
    const { lingerMs } = this.options;
    if (lingerMs > 0) {
      this.lingerTimer = setTimeout(() => this.seal(), lingerMs);
      return;
    }
    // At once when nothing is under way; otherwise with the next acknowledgement, or when the batch is full.
    if (this.batches.length === 0) queueMicrotask(() => this.seal());
  }

  private settle(batch: Batch, error: FlotillaError | null, baseOffset: number): void {
    const at = this.batches.indexOf(batch);
    if (at >= 0) {
      this.batches.splice(at, 1);
      if (at < this.sent) this.sent -= 1;
    }
    for (let record = 0; record < batch.callbacks.length; record++) batch.callbacks[record]?.(error, this.partition, baseOffset < 0 ? -1 : baseOffset + record);
    this.host.released(batch.records.length);
    if (this.options.lingerMs === 0 && this.encoder !== null) this.seal();
    else this.pump();
  }

  private failed(batch: Batch, error: FlotillaError): void {
    const isSequence = error.code === "OUT_OF_SEQUENCE" || error.code === "PRODUCER_UNKNOWN";
    if (!this.options.idempotent || (!error.retryable && !isSequence)) {
      this.give(batch, error);
      return;
    }
    if (isSequence && batch === this.batches[0] && ++this.sequenceFailures >= SEQUENCE_TRIES_MAX) {
      this.host.fail(error);
      return;
    }
    this.retry(error);
  }

  /** A batch that cannot be stored. What follows it would leave a gap, so an idempotent producer ends with it. */
  private give(batch: Batch, error: FlotillaError): void {
    if (this.options.idempotent) this.host.fail(error);
    else {
      batch.isDone = true;
      this.settle(batch, error, -1);
    }
  }

  /** Sends everything that is not acknowledged again, from the oldest on, after a pause. */
  private retry(error: FlotillaError): void {
    const oldest = this.batches[0];
    if (oldest !== undefined && Date.now() - oldest.takenMs > this.options.deliveryTimeoutMs) {
      this.host.fail(new FlotillaError("TIMEOUT", `a record was not acknowledged within ${this.options.deliveryTimeoutMs} ms: ${error.message}`, { maybeApplied: true, retryable: false, cause: error }));
      return;
    }
    this.attempt += 1;
    this.sent = 0;
    this.failures += 1;
    if (this.retryTimer !== null) return;
    const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.failures, 10));
    this.retryTimer = setTimeout(() => {
      this.retryTimer = null;
      this.pump();
    }, ceiling / 2 + Math.random() * (ceiling / 2));
  }
}
