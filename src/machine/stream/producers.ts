// Idempotent producers: what each one sent last, so that a retry is recognised (types.proto, Producer). Part of the
// replicated state; sessions end through the log only, by its time and by a bound on their number.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { PRODUCERS_PER_STREAM_MAX } from "../../base/limits.ts";
import { STREAM_DUPLICATE, STREAM_FENCED, STREAM_OK, STREAM_OUT_OF_SEQUENCE, STREAM_PRODUCER_UNKNOWN } from "./codes.ts";
import type { RecordsOrigin } from "./records-codec.ts";

/** Batches of one producer whose offsets are remembered for answering a duplicate. */
const REMEMBERED = 8;
/** Milliseconds of the log's time without an accepted batch after which an idle producer is forgotten. */
export const PRODUCER_IDLE_MS = 24 * 60 * 60 * 1000;

type Batch = { readonly sequence: number; readonly offset: number };
type Producer = { epoch: number; next: number; lastMs: number; batches: Batch[] };

export type Verdict = { readonly code: number; /** Of a duplicate: its first offset, or -1. */ readonly offset: number };
const ACCEPTED: Verdict = { code: STREAM_OK, offset: -1 };

/** Shared by all streams without producers; never written to. */
const NOBODY = new Map<number, Producer>();

export class Producers {
  /** The one that was active longest ago comes first: Map keeps the order of insertion. Most streams have none. */
  private producers: Map<number, Producer> = NOBODY;

  get size(): number {
    return this.producers.size;
  }

  /** Judges a batch without changing anything. */
  judge(header: RecordsOrigin): Verdict {
    const { producerId, producerEpoch, sequence, count } = header;
    const known = this.producers.get(producerId);
    if (known === undefined) return sequence === 0 ? ACCEPTED : { code: STREAM_PRODUCER_UNKNOWN, offset: -1 };
    if (producerEpoch < known.epoch) return { code: STREAM_FENCED, offset: -1 };
    if (producerEpoch > known.epoch) return sequence === 0 ? ACCEPTED : { code: STREAM_OUT_OF_SEQUENCE, offset: -1 };
    if (sequence === known.next) return ACCEPTED;
    if (sequence + count > known.next) return { code: STREAM_OUT_OF_SEQUENCE, offset: -1 };
    return { code: STREAM_DUPLICATE, offset: offsetOf(known, sequence, sequence + count) };
  }

  /** Notes an accepted batch. */
  accept(header: RecordsOrigin, offset: number, nowMs: number): void {
    const { producerId, producerEpoch, sequence, count } = header;
    const known = this.producers.get(producerId);
    const producer =
      known !== undefined && known.epoch === producerEpoch ? known : { epoch: producerEpoch, next: 0, lastMs: 0, batches: [] };
    producer.next = sequence + count;
    producer.lastMs = nowMs;
    producer.batches.push({ sequence, offset });
    if (producer.batches.length > REMEMBERED) producer.batches.shift();
    if (this.producers === NOBODY) this.producers = new Map();
    this.producers.delete(producerId);
    this.producers.set(producerId, producer);
    this.forget(nowMs);
  }

  /** Drops idle producers, and the idlest beyond the bound. */
  private forget(nowMs: number): void {
    for (const [id, producer] of this.producers) {
      if (this.producers.size <= PRODUCERS_PER_STREAM_MAX && producer.lastMs + PRODUCER_IDLE_MS > nowMs) return;
      this.producers.delete(id);
    }
  }

  write(writer: ByteWriter): void {
    writer.varint(this.producers.size);
    for (const [id, { epoch, next, lastMs, batches }] of this.producers) {
      writer.varint(id).varint(epoch).varint(next).varint(lastMs).varint(batches.length);
      for (const { sequence, offset } of batches) writer.varint(sequence).varint(offset);
    }
  }

  static read(reader: ByteReader): Producers {
    const producers = new Producers();
    let count = reader.varint();
    if (count > 0) producers.producers = new Map();
    for (; count > 0; count--) {
      const id = reader.varint();
      const producer: Producer = { epoch: reader.varint(), next: reader.varint(), lastMs: reader.varint(), batches: [] };
      for (let left = reader.varint(); left > 0; left--) producer.batches.push({ sequence: reader.varint(), offset: reader.varint() });
      producers.producers.set(id, producer);
    }
    return producers;
  }
}

/** The offset of the records `sequence` up to `end`; -1 unless one remembered batch holds all of them. */
function offsetOf(producer: Producer, sequence: number, end: number): number {
  let batchEnd = producer.next;
  for (let at = producer.batches.length - 1; at >= 0; at--) {
    const batch = producer.batches[at]!;
    if (batch.sequence <= sequence) return end <= batchEnd ? batch.offset + sequence - batch.sequence : -1;
    batchEnd = batch.sequence;
  }
  return -1;
}
