// Opens the segment files of a log. Sealed ones give their index from the store or from their footer; only a file without
// one is read. The last batch of the newest file may be torn by a crash and is cut; anything else is damage and refused.

import { crc32 } from "node:zlib";
import { join } from "node:path";
import type { Logger } from "../base/logger.ts";
import type { Disk, DiskFile } from "./disk.ts";
import { LogCorruptError, LogVersionError } from "./errors.ts";
import type { GroupTable } from "./group-table.ts";
import { Segment, segmentName, segmentNumber } from "./segment.ts";
import {
  BATCH_HEADER_BYTES,
  FILE_HEADER_BYTES,
  FORMAT_VERSION,
  RECORD_DESTROY,
  RECORD_ENTRY,
  RECORD_HEADER_BYTES,
  RECORD_RESET,
  RECORD_STATE,
  decodeFileHeader,
  decodeFooter,
  findBatch,
  readBatchHeader,
  readRecordHeader,
  readU64,
} from "./segment-format.ts";
import { replayIndex, type IndexSink } from "./segment-index.ts";
import type { SegmentRow, SegmentRows } from "./segment-rows.ts";

export type Recovered = {
  readonly segments: Segment[];
  readonly free: Segment[];
  readonly nextNumber: number;
  readonly nextSequence: number;
};

export async function recover(
  directory: string,
  table: GroupTable,
  components: { disk: Disk; rows: SegmentRows; logger: Logger },
): Promise<Recovered> {
  const { disk, rows, logger } = components;
  const numbers = (await disk.list(directory))
    .map(segmentNumber)
    .filter((number) => number >= 0)
    .sort((a, b) => a - b);
  const known = await rows.all();
  for (const number of known.keys()) {
    if (!numbers.includes(number)) throw new LogCorruptError(join(directory, segmentName(number)), 0, "the file is missing");
  }
  const files: DiskFile[] = [];
  try {
    const used: Segment[] = [];
    const free: Segment[] = [];
    for (const number of numbers) {
      const path = join(directory, segmentName(number));
      const file = await disk.open(path, { create: false });
      files.push(file);
      const segment = await identify(number, path, file, known.get(number));
      (segment.firstSequence === 0 ? free : used).push(segment);
    }
    for (const [at, segment] of used.entries()) {
      await load(segment, used[at + 1], table, rows);
      logger.debug(
        { segment: segment.number, sequences: [segment.firstSequence, segment.lastSequence], sealed: segment.isSealed },
        "segment opened",
      );
    }
    const last = used[used.length - 1];
    return { segments: used, free, nextNumber: (numbers[numbers.length - 1] ?? 0) + 1, nextSequence: (last?.lastSequence ?? 0) + 1 };
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

/** Tells a file in use from one that is prepared for use, whose header is empty or of a former life. */
async function identify(number: number, path: string, file: DiskFile, row: SegmentRow | undefined): Promise<Segment> {
  const head = await readAt(file, 0, FILE_HEADER_BYTES);
  const header = decodeFileHeader(head);
  if (header !== undefined && header.version > FORMAT_VERSION) throw new LogVersionError(path, header.version, FORMAT_VERSION);
  if (header !== undefined && header.number === number) {
    const segment = new Segment(number, path, file, header.salt);
    segment.firstSequence = header.firstSequence;
    return segment;
  }
  const salt = row?.salt ?? 0;
  if (row !== undefined) {
    const content = await readAt(file, 0, await file.size());
    const found = findBatch(content, 0, salt);
    if (found >= 0) throw new LogCorruptError(path, 0, "the file's header is damaged, and the file holds records");
  } else if (header === undefined && head.some((byte) => byte !== 0)) {
    throw new LogCorruptError(path, 0, "the file's header is damaged");
  }
  return new Segment(number, path, file, salt);
}

async function load(segment: Segment, next: Segment | undefined, table: GroupTable, rows: SegmentRows): Promise<void> {
  const sink = table.sink(segment.number);
  table.useOf(segment.number);
  const stored = next === undefined ? undefined : await rows.index(segment.number, segment.salt);
  if (stored !== undefined) {
    replayIndex(stored.operations, sink);
    segment.lastSequence = stored.lastSequence;
    segment.isSealed = true;
  } else await scan(segment, next, sink);
  if (next !== undefined && segment.lastSequence + 1 > next.firstSequence) {
    throw new LogCorruptError(
      next.path,
      0,
      `the file begins with batch ${next.firstSequence}, the one before it ends with ${segment.lastSequence}`,
    );
  }
}

/** Reads a whole segment: the newest one always, an older one only when its index is nowhere else. */
async function scan(segment: Segment, next: Segment | undefined, sink: IndexSink): Promise<void> {
  const bytes = await readAt(segment.file, 0, await segment.file.size());
  let position = FILE_HEADER_BYTES;
  let sequence = segment.firstSequence - 1;
  const both: IndexSink[] = [sink, segment.index];
  for (;;) {
    const footer = decodeFooter(bytes, position, segment.salt);
    if (footer !== undefined) {
      segment.isSealed = true;
      break;
    }
    const problem = scanBatch(bytes, position, segment.salt, sequence + 1, both);
    if (typeof problem === "number") {
      position = problem;
      sequence += 1;
      continue;
    }
    // The end, or damage. A crash explains a batch that is not whole only if nothing was written after it.
    const later = findBatch(bytes, position + 1, segment.salt);
    const isEnd = later < 0 || readBatchHeader(bytes, later, segment.salt)!.sequence <= sequence + 1;
    if (!isEnd) throw new LogCorruptError(segment.path, position, `${problem}, and batches after it are whole`);
    if (next !== undefined && next.firstSequence !== sequence + 1) {
      throw new LogCorruptError(segment.path, position, `${problem}, and the log goes on with batch ${next.firstSequence}`);
    }
    break;
  }
  segment.position = position;
  segment.lastSequence = sequence;
}

/** The position after the batch, or what is wrong with it. Nothing reaches the sinks unless all of the batch is whole. */
function scanBatch(bytes: Uint8Array, at: number, salt: number, sequence: number, sinks: readonly IndexSink[]): number | string {
  const batch = readBatchHeader(bytes, at, salt);
  if (batch === undefined) return "there is no batch";
  if (batch.sequence !== sequence) return `batch ${batch.sequence} stands where ${sequence} belongs`;
  const start = at + BATCH_HEADER_BYTES;
  const end = start + batch.bytes;
  if (end > bytes.length) return "the batch is cut off";
  const positions: number[] = [];
  let position = start;
  for (let count = 0; count < batch.count; count++) {
    const record = readRecordHeader(bytes.subarray(0, end), position, salt);
    if (record === undefined) return `record ${count} of the batch has a wrong checksum`;
    const payloadEnd = position + RECORD_HEADER_BYTES + record.length;
    if (payloadEnd > end) return `record ${count} of the batch is cut off`;
    if (crc32(bytes.subarray(position + RECORD_HEADER_BYTES, payloadEnd)) !== record.payloadCrc)
      return `the payload of record ${count} has a wrong checksum`;
    positions.push(position);
    position = payloadEnd;
  }
  if (position !== end) return "the batch has bytes too many";
  for (const place of positions) for (const sink of sinks) replayRecord(bytes, place, salt, sink);
  return end;
}

function replayRecord(bytes: Uint8Array, at: number, salt: number, sink: IndexSink): void {
  const record = readRecordHeader(bytes, at, salt)!;
  switch (record.type) {
    case RECORD_ENTRY:
      sink.entry(record.group, record.index, record.term, at, record.length);
      return;
    case RECORD_STATE:
    case RECORD_RESET: {
      const payload = bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + record.length);
      const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
      const { type, group, term } = record;
      const cut = { trimIndex: readU64(view, 0), trimTerm: readU64(view, 8) };
      sink.state({ type, group, replica: view.getUint32(16, true), term, vote: record.stamp, commit: record.index, ...cut });
      return;
    }
    case RECORD_DESTROY:
      sink.destroy(record.group);
      return;
    default:
      return;
  }
}

export function readAt(file: DiskFile, position: number, length: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => file.read(position, length, (error, bytes) => (error === null ? resolve(bytes) : reject(error))));
}
