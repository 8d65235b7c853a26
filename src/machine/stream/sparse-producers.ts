// Producers whose batches do not all come to this stream, as those that publish to an exchange: their sequence numbers have gaps, so
// what tells a retry is the number itself. The last few of each are remembered; what is older is refused, as nobody can tell any more.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { SPARSE_PRODUCERS_PER_STREAM_MAX, SPARSE_SEQUENCES_MAX } from "../../base/limits.ts";
import { STREAM_DUPLICATE, STREAM_FENCED, STREAM_OK, STREAM_OUT_OF_SEQUENCE } from "./codes.ts";
import { PRODUCER_IDLE_MS, type Verdict } from "./producers.ts";
import type { RecordsOrigin } from "./records-codec.ts";

/** `floor`: this sequence and those below it can no longer be judged; -1 = all can. Accepted ones ascend. */
type Producer = { epoch: number; floor: number; lastMs: number; sequences: number[]; offsets: number[] };

const ACCEPTED: Verdict = { code: STREAM_OK, offset: -1 };
/** Shared by all streams without such producers; never written to. */
const NOBODY = new Map<number, Producer>();

export class SparseProducers {
  /** The one that was active longest ago comes first. */
  private producers: Map<number, Producer> = NOBODY;

  get size(): number {
    return this.producers.size;
  }

  /** Judges a batch without changing anything. */
  judge({ producerId, producerEpoch, sequence }: RecordsOrigin): Verdict {
    const known = this.producers.get(producerId);
    if (known === undefined || producerEpoch > known.epoch) return ACCEPTED;
    if (producerEpoch < known.epoch) return { code: STREAM_FENCED, offset: -1 };
    const place = placeOf(known.sequences, sequence);
    if (known.sequences[place] === sequence) return { code: STREAM_DUPLICATE, offset: known.offsets[place]! };
    return sequence > known.floor ? ACCEPTED : { code: STREAM_OUT_OF_SEQUENCE, offset: -1 };
  }

  /** Notes an accepted batch. */
  accept({ producerId, producerEpoch, sequence }: RecordsOrigin, offset: number, nowMs: number): void {
    const known = this.producers.get(producerId);
    const producer =
      known !== undefined && known.epoch === producerEpoch
        ? known
        : { epoch: producerEpoch, floor: -1, lastMs: 0, sequences: [], offsets: [] };
    const place = placeOf(producer.sequences, sequence);
    producer.sequences.splice(place, 0, sequence);
    producer.offsets.splice(place, 0, offset);
    producer.lastMs = nowMs;
    if (producer.sequences.length > SPARSE_SEQUENCES_MAX) {
      producer.floor = producer.sequences.shift()!;
      producer.offsets.shift();
    }
    if (this.producers === NOBODY) this.producers = new Map();
    this.producers.delete(producerId);
    this.producers.set(producerId, producer);
    this.forget(nowMs);
  }

  write(writer: ByteWriter): void {
    writer.varint(this.producers.size);
    for (const [id, { epoch, floor, lastMs, sequences, offsets }] of this.producers) {
      writer
        .varint(id)
        .varint(epoch)
        .varint(floor + 1)
        .varint(lastMs)
        .varint(sequences.length);
      for (let at = 0; at < sequences.length; at++) writer.varint(sequences[at]!).varint(offsets[at]!);
    }
  }

  static read(reader: ByteReader): SparseProducers {
    const read = new SparseProducers();
    let count = reader.varint();
    if (count > 0) read.producers = new Map();
    for (; count > 0; count--) {
      const id = reader.varint();
      const [epoch, floor, lastMs] = [reader.varint(), reader.varint() - 1, reader.varint()];
      const producer: Producer = { epoch, floor, lastMs, sequences: [], offsets: [] };
      for (let left = reader.varint(); left > 0; left--) {
        producer.sequences.push(reader.varint());
        producer.offsets.push(reader.varint());
      }
      read.producers.set(id, producer);
    }
    return read;
  }

  /** Drops idle producers, and the idlest beyond the bound. */
  private forget(nowMs: number): void {
    for (const [id, { lastMs }] of this.producers) {
      if (this.producers.size <= SPARSE_PRODUCERS_PER_STREAM_MAX && lastMs + PRODUCER_IDLE_MS > nowMs) return;
      this.producers.delete(id);
    }
  }
}

/** The place of the first number that is not smaller. Mostly the end. */
function placeOf(ascending: readonly number[], wanted: number): number {
  let place = ascending.length;
  while (place > 0 && ascending[place - 1]! >= wanted) place -= 1;
  return place;
}
