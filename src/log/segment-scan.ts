// Reads a whole segment file, batch by batch. What a crash can leave behind is told apart from damage: a torn batch is
// the last one, and nobody was told that it is durable. Of a damaged batch as much is taken as its checksums allow.

import { crc32 } from "node:zlib";
import type { GroupId } from "../base/ids.ts";
import { LogCorruptError } from "./errors.ts";
import type { GroupTable } from "./group-table.ts";
import type { Segment } from "./segment.ts";
import {
  BATCH_HEADER_BYTES,
  FILE_HEADER_BYTES,
  RECORD_DESTROY,
  RECORD_ENTRY,
  RECORD_HEADER_BYTES,
  RECORD_MOVED,
  RECORD_RESET,
  RECORD_STATE,
  decodeFooter,
  findBatch,
  readBatchHeader,
  readRecordHeader,
  readU64,
  type RecordHeader,
} from "./segment-format.ts";
import type { IndexSink } from "./segment-index.ts";

export type ScanContext = {
  readonly table: GroupTable;
  /** First sequence of the next file; 0 when this one is the newest. */
  readonly nextFirst: number;
  /** A sequence that is known to have been durable: a batch up to there that is not whole is damaged, not torn. */
  readonly durableTo: number;
};

/**
 * Fills in what the segment holds, up to where it ends. Returns from which byte on nobody knows that it is durable. Throws
 * LogCorruptError when nobody can tell what is missing.
 */
export function scanSegment(segment: Segment, bytes: Uint8Array, context: ScanContext): number {
  const { table, nextFirst, durableTo } = context;
  const sinks: IndexSink[] = [table.sink(segment.number), segment.index];
  let position = FILE_HEADER_BYTES;
  let sequence = segment.firstSequence - 1;
  // The file's header became durable with its first batch.
  let durableBytes = 0;
  for (;;) {
    if (sequence >= segment.firstSequence && sequence <= durableTo) durableBytes = position;
    if (decodeFooter(bytes, position, segment.salt) !== undefined) {
      segment.isSealed = true;
      break;
    }
    const batch = readBatchHeader(bytes, position, segment.salt);
    const isNext = batch?.sequence === sequence + 1;
    let end = isNext ? position + BATCH_HEADER_BYTES + batch.bytes : -1;
    const later = findLater(bytes, isNext ? Math.min(end, bytes.length) : position + 1, segment.salt, sequence + 1);
    const laterSequence = later < 0 ? -1 : readBatchHeader(bytes, later, segment.salt)!.sequence;
    // A crash explains a batch that is not whole only if it was the last one, and not yet durable.
    const isPast = laterSequence > sequence + 1 || (nextFirst > 0 ? sequence + 1 < nextFirst : sequence + 1 <= durableTo);
    // Only its header is lost when the batch fills just the room before the next one.
    if (!isNext && isPast && laterSequence === sequence + 2) end = later;
    const records = end < 0 ? null : readRecords(bytes, position + BATCH_HEADER_BYTES, end, segment.salt);
    const isWhole = records !== null && records.every(({ isIntact }) => isIntact) && (!isNext || records.length === batch.count);
    if (!isWhole && !isPast) break;
    if (records === null || (isNext && records.length !== batch.count)) {
      throw new LogCorruptError(
        segment.path,
        position,
        later < 0
          ? `the log ends, and batch ${sequence + 1} was durable`
          : `batch ${sequence + 1} is damaged, and batches after it are whole`,
      );
    }
    for (const record of records) replay(record, bytes, segment, table, sinks);
    position = end;
    sequence += 1;
  }
  if (nextFirst > 0 && sequence + 1 < nextFirst)
    throw new LogCorruptError(segment.path, position, `the file ends with batch ${sequence}, the log goes on with ${nextFirst}`);
  segment.position = position;
  segment.lastSequence = sequence;
  return durableBytes;
}

/** The next place of a batch that comes after `sequence`; -1 when there is none. An older one is a write that the drive did twice. */
function findLater(bytes: Uint8Array, from: number, salt: number, sequence: number): number {
  let at = findBatch(bytes, from, salt);
  while (at >= 0 && readBatchHeader(bytes, at, salt)!.sequence <= sequence) at = findBatch(bytes, at + 1, salt);
  return at;
}

export type FoundRecord = { readonly at: number; readonly header: RecordHeader; readonly isIntact: boolean };

/** The records that fill start..end; null when their headers do not. */
export function readRecords(bytes: Uint8Array, start: number, end: number, salt: number): FoundRecord[] | null {
  if (end > bytes.length) return null;
  const found: FoundRecord[] = [];
  let at = start;
  while (at < end) {
    const header = readRecordHeader(bytes, at, salt);
    if (header === undefined) return null;
    const payloadAt = at + RECORD_HEADER_BYTES;
    const payloadEnd = payloadAt + header.length;
    if (payloadEnd > end) return null;
    found.push({ at, header, isIntact: crc32(bytes.subarray(payloadAt, payloadEnd)) === header.payloadCrc });
    at = payloadEnd;
  }
  return found;
}

function replay(
  { at, header, isIntact }: FoundRecord,
  bytes: Uint8Array,
  segment: Segment,
  table: GroupTable,
  sinks: readonly IndexSink[],
): void {
  const { type, group, index, term, length } = header;
  switch (type) {
    case RECORD_ENTRY:
    case RECORD_MOVED:
      for (const sink of sinks)
        if (type === RECORD_ENTRY) sink.entry(group, index, term, at, length);
        else sink.moved(group, index, term, at, length);
      if (!isIntact)
        table.suspectEntry(group as GroupId, index, segment.number, at, `entry ${index} is damaged in ${segment.path} at byte ${at}`);
      return;
    case RECORD_STATE:
    case RECORD_RESET: {
      if (!isIntact) {
        table.suspectState(group as GroupId, `its hard state is damaged in ${segment.path} at byte ${at}`);
        return;
      }
      const payload = bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
      const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
      const cut = { trimIndex: readU64(view, 0), trimTerm: readU64(view, 8), lastIndex: readU64(view, 20) };
      for (const sink of sinks)
        sink.state({ type, group, replica: view.getUint32(16, true), term, vote: header.stamp, commit: index, ...cut });
      return;
    }
    case RECORD_DESTROY:
      for (const sink of sinks) sink.destroy(group);
      return;
    default:
      return;
  }
}
