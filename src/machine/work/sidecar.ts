// What work subscriptions need to know of the records of a batch, beside the batch: priority, when it is due, how long it lives and a
// hash of its key. Records that are alike and follow each other are one run; of a batch whose records have nothing of the kind it is empty.
//
//   runs: varint count, u8 presence (1 priority, 2 due, 4 delay, 8 time to live, 16 key), then a varint for each that is there

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { DELAY_MS_MAX, PRIORITY_MAX } from "../../base/limits.ts";

/** Of records that are alike; 0 = nothing of the kind. */
export type FactRun = {
  readonly count: number;
  /** 0..31. */
  readonly priority: number;
  /** Milliseconds since 1970 before which it is not delivered, or for how long from when it is stored: one of the two. */
  readonly dueMs: number;
  readonly delayMs: number;
  /** Milliseconds from when it may be delivered first. */
  readonly ttlMs: number;
  /** 1..2^32-1. */
  readonly keyHash: number;
};
/** In the order of their bits. */
const FIELDS = ["priority", "dueMs", "delayMs", "ttlMs", "keyHash"] as const;
const NO_RUNS: readonly FactRun[] = [];
const NO_FACTS = new Uint8Array(0);
const TWO_32 = 4_294_967_296;

export function hasFacts(runs: readonly FactRun[]): boolean {
  return runs.some((run) => FIELDS.some((field) => run[field] !== 0));
}

/** Empty when the records have no facts at all. */
export function encodeSidecar(runs: readonly FactRun[]): Uint8Array {
  if (!hasFacts(runs)) return NO_FACTS;
  const writer = new ByteWriter(runs.length * 16);
  for (const run of runs) {
    let presence = 0;
    FIELDS.forEach((field, bit) => (presence |= run[field] === 0 ? 0 : 1 << bit));
    writer.varint(run.count).u8(presence);
    for (const field of FIELDS) if (run[field] !== 0) writer.varint(run[field]);
  }
  return writer.finish();
}

/** Of at most `count` records. Undefined for bytes that are none, or say what no record may. */
export function decodeSidecar(bytes: Uint8Array, count: number): readonly FactRun[] | undefined {
  if (bytes.length === 0) return NO_RUNS;
  try {
    const reader = new ByteReader(bytes);
    const runs: FactRun[] = [];
    let total = 0;
    while (reader.remaining > 0) {
      const run = readRun(reader);
      total += run.count;
      if (run.count === 0 || total > count) return undefined;
      runs.push(run);
    }
    return runs;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

function readRun(reader: ByteReader): FactRun {
  const count = reader.varint();
  const presence = reader.u8();
  if (presence >= 1 << FIELDS.length) throw new DecodeError(`presence ${presence}`);
  const field = (bit: number): number => ((presence & (1 << bit)) === 0 ? 0 : reader.varint());
  const run = { count, priority: field(0), dueMs: field(1), delayMs: field(2), ttlMs: field(3), keyHash: field(4) };
  if (run.priority > PRIORITY_MAX || run.delayMs > DELAY_MS_MAX || run.ttlMs > DELAY_MS_MAX || run.keyHash >= TWO_32)
    throw new DecodeError("a fact out of its range");
  return run;
}
