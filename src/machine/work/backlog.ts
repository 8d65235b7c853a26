// What a stream holds that work subscriptions have not been given yet, because they began or were put back where it lies, or because
// nobody had looked what is to be known of it when it was published. It is fed to them in order, with what is to be known, by whoever leads
// the stream. For them to be up with the stream at some time, whatever is published meanwhile, the facts of the newest batches are kept:
// who has been fed up to one of them is given all that come after it at once.

import { assert } from "../../base/assert.ts";
import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { FEED_TAIL_RUNS_MAX } from "../../base/limits.ts";
import { NOTHING } from "../../base/nothing.ts";
import { decodeSidecar, encodeSidecar, hasFacts, type FactRun } from "./sidecar.ts";
import type { Facts } from "./state.ts";
import type { Work } from "./work.ts";

/** Records that follow each other, stored at one time; `facts` are those of the first ones, in order. */
export type FedBatch = {
  readonly count: number;
  readonly timeMs: number;
  /** Bytes that each record counts for. */
  readonly bytesEach: number;
  readonly facts: readonly FactRun[];
};
type TailBatch = FedBatch & { readonly from: number };

/** The newest batches of a stream. Invariant: they follow each other, and the last one ends where the stream does. */
export class Tail {
  private readonly batches: TailBatch[] = [];
  private runs = 0;

  add(batch: TailBatch): void {
    const last = this.batches.at(-1);
    assert(last === undefined || last.from + last.count === batch.from, "the newest batches follow each other");
    // As it would be read again: all replicas keep as many.
    const kept = hasFacts(batch.facts) ? batch : { ...batch, facts: NOTHING };
    this.batches.push(kept);
    this.runs += runsOf(kept);
    while (this.runs > FEED_TAIL_RUNS_MAX) this.runs -= runsOf(this.batches.shift()!);
  }

  /** Gives the subscription all that it has not been given, if that is here. */
  join(work: Work, nowMs: number): void {
    const first = this.batches[0];
    if (first === undefined || work.state.fedTo < first.from) return;
    for (const batch of this.batches) feed(work, batch.from, batch, nowMs);
  }

  write(writer: ByteWriter): void {
    writer.varint(this.batches[0]?.from ?? 0);
    writeBatches(writer, this.batches);
  }

  static read(reader: ByteReader): Tail {
    const tail = new Tail();
    let from = reader.varint();
    for (const batch of readBatches(reader, Number.MAX_SAFE_INTEGER)) {
      tail.add({ ...batch, from });
      from += batch.count;
    }
    return tail;
  }
}

/** Enqueues what of a batch, whose first offset is `from`, the subscription has not been given yet: of what comes before it that is all. */
export function feed(work: Work, from: number, { count, timeMs, bytesEach, facts }: FedBatch, nowMs: number): void {
  const give = (end: number, known: Facts): void => {
    if (end > work.state.fedTo) work.enqueue(work.state.fedTo, end, known, nowMs, bytesEach, timeMs);
  };
  let end = from;
  for (const run of facts) give((end += run.count), factsAt(run, timeMs));
  if (end < from + count) give(from + count, factsAt(NO_RUN, timeMs));
}

const NO_RUN: FactRun = { count: 0, priority: 0, dueMs: 0, delayMs: 0, ttlMs: 0, keyHash: 0 };

/** Times that count from when a message was stored, as times. It lives for so long from when it may be delivered. */
function factsAt({ priority, dueMs, delayMs, ttlMs, keyHash }: FactRun, storedMs: number): Facts {
  const due = delayMs > 0 ? storedMs + delayMs : dueMs;
  return { priority, dueMs: due, expiryMs: ttlMs === 0 ? 0 : Math.max(storedMs, due) + ttlMs, keyHash };
}

function runsOf({ facts }: FedBatch): number {
  return facts.length + 1;
}

export function writeBatches(writer: ByteWriter, batches: readonly FedBatch[]): void {
  writer.varint(batches.length);
  for (const { count, timeMs, bytesEach, facts } of batches)
    writer.varint(count).varint(timeMs).varint(bytesEach).block(encodeSidecar(facts));
}

/** Of at most `recordsMax` records. */
export function readBatches(reader: ByteReader, recordsMax: number): FedBatch[] {
  const batches: FedBatch[] = [];
  let records = 0;
  for (let left = reader.varint(); left > 0; left--) {
    const [count, timeMs, bytesEach] = [reader.varint(), reader.varint(), reader.varint()];
    const facts = decodeSidecar(reader.block(), count);
    records += count;
    if (count === 0 || records > recordsMax || facts === undefined) throw new DecodeError("no batch of records that can be fed");
    batches.push({ count, timeMs, bytesEach, facts });
  }
  return batches;
}
