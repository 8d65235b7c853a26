// The batches of one producer for one partition: in order, numbered, several under way. Whatever goes wrong on the way,
// all that is not acknowledged is sent again from the oldest on; the sequence numbers sort out what was stored already.

import { BATCH_BYTES_MAX, BATCH_RECORDS_MAX } from "../base/limits.ts";
import { FlotillaError } from "./errors.ts";
import type { BatchOutcome, PublishLink } from "./publish-link.ts";
import { BatchEncoder, HEAD_ROOM_BYTES, type OutgoingRecord } from "./records.ts";
import type { RecordCallback } from "./producer.ts";

export type Batch = {
  readonly partition: number;
  sequence: number;
  readonly count: number;
  /** Where its bytes stand, with room in front. */
  readonly memory: Buffer;
  readonly records: Buffer;
  /** Times that it was given to a stream. */
  sends: number;
  readonly callbacks: readonly (RecordCallback | undefined)[];
  readonly takenMs: number;
  /** The try that it was last sent in; answers to older tries may confirm, but not fail it. */
  attempt: number;
  /** Times that it was sent without a clear answer that it was not stored. */
  unknowns: number;
  /** Its outcome is known; it is reported when all before it are. */
  isDone: boolean;
  baseOffset: number;
  error: FlotillaError | null;
  /** Who waits for its outcome to be reported. */
  readonly waiters: (() => void)[];
};

export type SenderOptions = {
  readonly lingerMs: number;
  readonly batchBytes: number;
  readonly batchRecords: number;
  readonly inflightBatchesMax: number;
  readonly idempotent: boolean;
  readonly deliveryTimeoutMs: number;
  readonly epoch: number;
  /** The producer id was drawn by us: nobody else counts its epochs. */
  readonly ownsEpoch: boolean;
};

export interface SenderHost {
  linkFor(partition: number, epoch: number): PublishLink<Batch> | undefined;
  /** The leader's address if it is known and can be reached. */
  preferredEndpoint(partition: number): string | undefined;
  /** A connection to this address stands. If not, one is begun. */
  isConnected(endpoint: string): boolean;
  /** Nothing speaks against the node at this address. */
  isUsable(endpoint: string): boolean;
  released(bytes: number): void;
  /** Memory for a batch of about so many bytes. */
  memory(bytes: number): Buffer;
  /** Nobody will look at this memory again. */
  giveBack(memory: Buffer): void;
  fail(error: FlotillaError): void;
}

const RETRY_MS_MIN = 10;
const RETRY_MS_MAX = 500;
/** Refusals in a row of the oldest batch for its sequence, after which a gap is certain. */
const SEQUENCE_TRIES_MAX = 20;
const ENCODER_BYTES_MIN = 1024;
/** Batches of a producer whose offsets a partition remembers for answering duplicates. */
const DUPLICATES_PLACED = 8;

export class PartitionSender {
  private readonly partition: number;
  private readonly options: SenderOptions;
  private readonly host: SenderHost;
  private encoder: BatchEncoder | null = null;
  /** What the next batch will probably need. */
  private encoderBytes = ENCODER_BYTES_MIN;
  private callbacks: (RecordCallback | undefined)[] = [];
  private openedMs = 0;
  private lingerTimer: NodeJS.Timeout | null = null;
  /** Not reported yet, oldest first; the first `sent` of them are under way on `link`. */
  private batches: Batch[] = [];
  private sent = 0;
  private link: PublishLink<Batch> | null = null;
  private epoch: number;
  private nextSequence = 0;
  private attempt = 1;
  private failures = 0;
  private lastError: FlotillaError | null = null;
  private sequenceFailures = 0;
  /** The partition has forgotten this producer: it must go on under the next epoch. */
  private isForgotten = false;
  private retryTimer: NodeJS.Timeout | null = null;
  private expiryTimer: NodeJS.Timeout | null = null;
  private isStopped = false;

  constructor(partition: number, options: SenderOptions, host: SenderHost) {
    this.partition = partition;
    this.options = options;
    this.host = host;
    this.epoch = options.epoch;
  }

  /** No batch is open. */
  get isFresh(): boolean {
    return this.encoder === null;
  }

  /** Returns the encoded bytes that the record took. Throws BATCH_TOO_LARGE, and takes nothing, if no batch can hold it. */
  append(record: OutgoingRecord, callback: RecordCallback | undefined): number {
    const encoder = (this.encoder ??= this.openBatch());
    const before = encoder.length;
    try {
      encoder.add(record);
      if (encoder.length > BATCH_BYTES_MAX) {
        const bytes = encoder.length - before;
        encoder.takeBack(before);
        if (before === 0) {
          throw new FlotillaError("BATCH_TOO_LARGE", `a record may have ${BATCH_BYTES_MAX} bytes encoded, this one has ${bytes}`);
        }
        this.seal();
        return this.append(record, callback);
      }
    } catch (error) {
      if (encoder.count === 0) this.dropOpenBatch();
      throw error;
    }
    this.callbacks.push(callback);
    const bytes = encoder.length - before;
    if (encoder.length >= this.options.batchBytes || encoder.count >= Math.min(this.options.batchRecords, BATCH_RECORDS_MAX)) this.seal();
    return bytes;
  }

  /** Closes the open batch and sends what may be sent. */
  seal(): void {
    const { encoder, callbacks, openedMs } = this;
    if (encoder === null || this.isStopped) return;
    this.dropOpenBatch();
    const { count, length } = encoder;
    this.encoderBytes = Math.max(ENCODER_BYTES_MIN, Math.ceil((length + HEAD_ROOM_BYTES) * 1.125));
    const memory = encoder.finish();
    const batch: Batch = {
      partition: this.partition,
      sequence: this.nextSequence,
      count,
      memory,
      records: memory.subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + length),
      sends: 0,
      callbacks,
      takenMs: openedMs,
      attempt: 0,
      unknowns: 0,
      isDone: false,
      baseOffset: -1,
      error: null,
      waiters: [],
    };
    this.nextSequence += count;
    this.batches.push(batch);
    if (this.expiryTimer === null) this.armExpiry();
    this.pump();
  }

  /** Seals, then has `done` called once for each batch taken so far, when its outcome is reported; returns their number. */
  whenReported(done: () => void): number {
    this.seal();
    for (const batch of this.batches) batch.waiters.push(done);
    return this.batches.length;
  }

  pump(): void {
    if (this.isStopped || this.retryTimer !== null || this.sent >= this.batches.length) return;
    if (this.isForgotten) this.beginEpoch();
    const preferred = this.host.preferredEndpoint(this.partition);
    const isPoor =
      this.link === null ||
      this.link.isClosed ||
      this.link.epoch !== this.epoch ||
      (this.sent === 0 && !this.host.isUsable(this.link.endpoint)) ||
      // Until the leader can be sent to at once the node in use passes the batches on.
      (preferred !== undefined && this.link.endpoint !== preferred && this.host.isConnected(preferred));
    if (isPoor) {
      // First what is under way on the old link gets its answer: the order of one stream is the order of the partition.
      if (this.sent > 0) return;
      this.link = this.host.linkFor(this.partition, this.epoch) ?? null;
      if (this.link === null) {
        this.retry(new FlotillaError("UNREACHABLE", "no node of the cluster can be reached"));
        return;
      }
    }
    while (this.sent < this.batches.length && this.sent < this.options.inflightBatchesMax) {
      const batch = this.batches[this.sent]!;
      this.sent += 1;
      if (batch.isDone) continue;
      batch.attempt = this.attempt;
      batch.unknowns += 1;
      batch.sends += 1;
      this.link!.send(batch);
    }
  }

  acked(batch: Batch, outcome: BatchOutcome): void {
    if (batch.isDone || this.isStopped) return;
    const { error } = outcome;
    if (error === null) {
      this.failures = 0;
      this.sequenceFailures = 0;
      // The place of a duplicate that lies too far back is no longer known and comes as 0.
      const isPlaceLost = outcome.duplicate && outcome.baseOffset === 0 && (batch.sequence > 0 || this.batches.length > DUPLICATES_PLACED);
      this.finish(batch, null, isPlaceLost ? -1 : outcome.baseOffset);
      return;
    }
    if (!error.maybeApplied) batch.unknowns -= 1;
    if (batch.attempt === this.attempt) this.failed(batch, error);
  }

  linkLost(link: PublishLink<Batch>, error: FlotillaError): void {
    if (this.link !== link) return;
    this.link = null;
    if (this.sent === 0) return;
    if (this.options.idempotent) {
      // The first time at once: it goes to another node, which may have to wait for a leader, and does so itself.
      this.retry(error, this.failures === 0 ? 0 : RETRY_MS_MIN);
      return;
    }
    for (const batch of this.batches.slice(0, this.sent)) {
      batch.isDone = true;
      batch.error = error;
    }
    this.report();
  }

  stop(error: FlotillaError): void {
    this.isStopped = true;
    for (const timer of [this.lingerTimer, this.retryTimer, this.expiryTimer]) if (timer !== null) clearTimeout(timer);
    const left = this.batches;
    this.batches = [];
    const open = this.callbacks;
    this.callbacks = [];
    this.encoder = null;
    for (const batch of left) {
      for (let record = 0; record < batch.callbacks.length; record++) {
        if (batch.isDone && batch.error === null) batch.callbacks[record]?.(null, this.partition, offsetOf(batch, record));
        else batch.callbacks[record]?.(error, this.partition, -1);
      }
    }
    for (const callback of open) callback?.(error, this.partition, -1);
    for (const batch of left) for (const waiter of batch.waiters) waiter();
  }

  private openBatch(): BatchEncoder {
    this.openedMs = Date.now();
    const { lingerMs } = this.options;
    if (lingerMs > 0) this.lingerTimer = setTimeout(() => this.seal(), lingerMs);
    // At once when nothing is under way; otherwise with the next acknowledgement, or when the batch is full.
    else if (this.batches.length === 0) queueMicrotask(() => this.seal());
    return new BatchEncoder(this.host.memory(this.encoderBytes));
  }

  private dropOpenBatch(): void {
    if (this.lingerTimer !== null) clearTimeout(this.lingerTimer);
    this.lingerTimer = null;
    this.encoder = null;
    this.callbacks = [];
  }

  private finish(batch: Batch, error: FlotillaError | null, baseOffset: number): void {
    batch.isDone = true;
    batch.error = error;
    batch.baseOffset = baseOffset;
    if (batch === this.batches[0]) this.report();
  }

  /** Reports every outcome that has none unknown before it, then sends what may be sent. */
  private report(): void {
    for (let batch = this.batches[0]; batch?.isDone === true; batch = this.batches[0]) {
      this.batches.shift();
      if (this.sent > 0) this.sent -= 1;
      const { callbacks, error } = batch;
      for (let record = 0; record < callbacks.length; record++) callbacks[record]?.(error, this.partition, offsetOf(batch, record));
      this.host.released(batch.records.length);
      // Of a batch that was sent again an older frame may still be on its way to the socket.
      if (batch.sends === 1 && error === null) this.host.giveBack(batch.memory);
      for (const waiter of batch.waiters) waiter();
    }
    if (this.options.lingerMs === 0 && this.encoder !== null) this.seal();
    else this.pump();
  }

  private failed(batch: Batch, error: FlotillaError): void {
    if (!this.options.idempotent) {
      this.finish(batch, error, -1);
      return;
    }
    const isForgotten = error.code === "PRODUCER_UNKNOWN";
    const isSequence = isForgotten || error.code === "OUT_OF_SEQUENCE";
    if (!error.retryable && !isSequence) {
      // What follows a batch that cannot be stored would leave a gap, so the producer ends with it.
      this.host.fail(error);
      return;
    }
    if (isSequence && batch === this.batches[0]) {
      this.sequenceFailures += 1;
      this.isForgotten = isForgotten;
      if (this.sequenceFailures >= SEQUENCE_TRIES_MAX || (isForgotten && !this.options.ownsEpoch)) {
        this.host.fail(error);
        return;
      }
    }
    this.retry(error);
  }

  /**
   * Goes on under the next epoch with sequence 0, where the partition has forgotten this producer (it was idle for long).
   * Only if every batch that was ever sent is known not to be stored: a new epoch would store the others twice.
   */
  private beginEpoch(): void {
    if (this.sent > 0 || this.batches.some(({ unknowns, isDone }) => unknowns > 0 && !isDone)) return;
    this.isForgotten = false;
    this.epoch += 1;
    this.nextSequence = 0;
    for (const batch of this.batches) {
      batch.sequence = this.nextSequence;
      this.nextSequence += batch.count;
    }
  }

  /** Sends everything that is not acknowledged again, from the oldest on, after a pause with jitter. */
  private retry(error: FlotillaError, leastMs: number = RETRY_MS_MIN): void {
    this.attempt += 1;
    this.sent = 0;
    this.failures += 1;
    this.lastError = error;
    if (this.retryTimer !== null) return;
    const ceiling = Math.min(RETRY_MS_MAX, leastMs * 2 ** Math.min(this.failures, 10));
    this.retryTimer = setTimeout(
      () => {
        this.retryTimer = null;
        this.pump();
      },
      ceiling / 2 + Math.random() * (ceiling / 2),
    );
  }

  /** One timer for the oldest batch: on time or moved on to the one that is the oldest then. */
  private armExpiry(): void {
    const oldest = this.batches[0];
    if (oldest === undefined || this.isStopped) {
      this.expiryTimer = null;
      return;
    }
    const { deliveryTimeoutMs } = this.options;
    const leftMs = oldest.takenMs + deliveryTimeoutMs - Date.now();
    if (leftMs > 0) {
      this.expiryTimer = setTimeout(() => this.armExpiry(), leftMs);
      this.expiryTimer.unref();
      return;
    }
    this.expiryTimer = null;
    const why = this.lastError === null || this.failures === 0 ? "no answer came" : this.lastError.message;
    const error = new FlotillaError("TIMEOUT", `a record was not acknowledged within ${deliveryTimeoutMs} ms: ${why}`, {
      maybeApplied: oldest.unknowns > 0,
      retryable: false,
      ...(this.lastError === null ? {} : { cause: this.lastError }),
    });
    if (this.options.idempotent) {
      this.host.fail(error);
      return;
    }
    this.finish(oldest, error, -1);
    this.armExpiry();
  }
}

function offsetOf(batch: Batch, record: number): number {
  return batch.baseOffset < 0 ? -1 : batch.baseOffset + record;
}
