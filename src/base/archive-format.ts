// The bytes of an archive file (proto/flotilla/v1/archive.proto): one protobuf message, written and read piece by piece.

import { DecodeError } from "./bytes.ts";
import { ARCHIVE_ITEM_BYTES_MAX } from "./limits.ts";
import { ProtoReader, ProtoWriter } from "./protobuf.ts";

/** Of which partition a file holds records. `group`: another one if a topic of that name was made again. */
export type ArchivePlace = {
  readonly vhost: string;
  readonly topic: string;
  readonly partition: number;
  readonly group: number;
};
export type ArchiveHeader = ArchivePlace & {
  readonly clusterId: string;
  readonly nodeId: number;
  readonly createdMs: number;
  /** It was made to hold the records from here on; the first batch may begin before. */
  readonly firstOffset: number;
};
export type ArchivedBatch = {
  readonly baseOffset: number;
  readonly count: number;
  readonly timeMs: number;
  /** Encoded RecordBatch. */
  readonly records: Uint8Array;
};
export type ArchiveEnd = { readonly endOffset: number; readonly records: number };
export type ArchiveItem =
  | { readonly kind: "header"; readonly header: ArchiveHeader }
  | { readonly kind: "batch"; readonly batch: ArchivedBatch }
  | { readonly kind: "end"; readonly end: ArchiveEnd };

/** As of zlib: goes on from `before`. */
export type Crc32 = (bytes: Uint8Array, before?: number) => number;

const HEADER = 1;
const BATCHES = 2;
const END = 3;
const CRC32 = 4;
/** The tag of the checksum, which alone is no message. */
const CRC32_TAG = 0x20;
/** Bytes of a batch's frame beyond its records. */
const FRAME_BYTES = 64;
const EMPTY: Uint8Array = new Uint8Array(0);

export function encodeArchiveHeader(header: ArchiveHeader): Uint8Array {
  const writer = new ProtoWriter(256);
  const mark = writer.open(HEADER);
  writer.string(1, header.clusterId).string(2, header.vhost).string(3, header.topic).uint(4, header.partition).uint(5, header.group);
  return writer.uint(6, header.firstOffset).uint(7, header.nodeId).uint(8, header.createdMs).close(mark).finish();
}

export function encodeArchivedBatch(batch: ArchivedBatch, crc32: Crc32): Uint8Array {
  const message = new ProtoWriter(batch.records.length + FRAME_BYTES)
    .uint(1, batch.baseOffset)
    .uint(2, batch.count)
    .uint(3, batch.timeMs)
    .block(4, batch.records)
    .finish();
  const writer = new ProtoWriter(message.length + FRAME_BYTES);
  const mark = writer.open(BATCHES);
  return writer.blockAlways(1, message).uint(2, crc32(message)).close(mark).finish();
}

/** The last bytes of a file. `crc`: of all bytes before. */
export function encodeArchiveEnd({ endOffset, records }: ArchiveEnd, crc: number, crc32: Crc32): Uint8Array {
  const writer = new ProtoWriter(64);
  const mark = writer.open(END);
  const end = writer.uint(1, endOffset).uint(2, records).close(mark).finish();
  return joined(end, new ProtoWriter(16).uintAlways(CRC32, crc32(end, crc)).finish());
}

/** Reads a file in pieces of any size. All that is wrong with one is a DecodeError, which says what. */
export class ArchiveParser {
  private readonly crc32: Crc32;
  /** What came and is no whole item yet. */
  private rest = EMPTY;
  private crc = 0;
  private ended = false;

  constructor(crc32: Crc32) {
    this.crc32 = crc32;
  }

  /** The items that are whole by now, in order; they share memory with the piece. Those before what is damaged come first. */
  *push(piece: Uint8Array): Generator<ArchiveItem> {
    let bytes = joined(this.rest, piece);
    for (let end = itemEnd(bytes); end > 0; end = itemEnd(bytes)) {
      const item = this.itemOf(bytes.subarray(0, end));
      bytes = bytes.subarray(end);
      this.rest = bytes;
      if (item !== null) yield item;
    }
    this.rest = bytes;
  }

  /** The file has no more bytes. */
  done(): void {
    if (!this.ended || this.rest.length > 0) throw new DecodeError("the file is cut off: its end is missing");
  }

  /** Null for what a later release may have put there. */
  private itemOf(bytes: Uint8Array): ArchiveItem | null {
    if (this.ended) throw new DecodeError("there is something behind the end of the file");
    const reader = new ProtoReader(bytes);
    reader.next();
    const { field } = reader;
    if (field === CRC32) {
      if (reader.uint() !== this.crc) throw new DecodeError("the checksum of the file is wrong");
      this.ended = true;
      return null;
    }
    const message = reader.message();
    this.crc = this.crc32(bytes, this.crc);
    if (field === END) return { kind: "end", end: endOf(message) };
    if (field === HEADER) return { kind: "header", header: headerOf(message) };
    return field === BATCHES ? { kind: "batch", batch: this.batchOf(message) } : null;
  }

  private batchOf(reader: ProtoReader): ArchivedBatch {
    let [message, crc] = [EMPTY, 0];
    while (reader.next()) {
      if (reader.field === 1) message = reader.block();
      else if (reader.field === 2) crc = reader.uint();
      else reader.skip();
    }
    if (crc !== this.crc32(message)) throw new DecodeError("the checksum of a batch is wrong");
    let [baseOffset, count, timeMs, records] = [0, 0, 0, EMPTY];
    const fields = new ProtoReader(message);
    while (fields.next()) {
      if (fields.field === 1) baseOffset = fields.uint();
      else if (fields.field === 2) count = fields.uint();
      else if (fields.field === 3) timeMs = fields.uint();
      else if (fields.field === 4) records = fields.block();
      else fields.skip();
    }
    return { baseOffset, count, timeMs, records };
  }
}

function endOf(reader: ProtoReader): ArchiveEnd {
  let [endOffset, records] = [0, 0];
  while (reader.next()) {
    if (reader.field === 1) endOffset = reader.uint();
    else if (reader.field === 2) records = reader.uint();
    else reader.skip();
  }
  return { endOffset, records };
}

function headerOf(reader: ProtoReader): ArchiveHeader {
  const header = { clusterId: "", vhost: "", topic: "", partition: 0, group: 0, firstOffset: 0, nodeId: 0, createdMs: 0 };
  while (reader.next()) {
    if (reader.field === 1) header.clusterId = reader.string();
    else if (reader.field === 2) header.vhost = reader.string();
    else if (reader.field === 3) header.topic = reader.string();
    else if (reader.field === 4) header.partition = reader.uint();
    else if (reader.field === 5) header.group = reader.uint();
    else if (reader.field === 6) header.firstOffset = reader.uint();
    else if (reader.field === 7) header.nodeId = reader.uint();
    else if (reader.field === 8) header.createdMs = reader.uint();
    else reader.skip();
  }
  return header;
}

/** Where the item ends that the bytes begin with; 0 = beyond them. */
function itemEnd(bytes: Uint8Array): number {
  if (bytes.length === 0) return 0;
  const isNumber = bytes[0] === CRC32_TAG;
  // A tag below 16, as all of ours are, and behind it a number of at most five bytes: the checksum, or how long the message is.
  if (!isNumber && ((bytes[0]! & 7) !== 2 || bytes[0]! >= 0x80)) throw notOurs();
  let value = 0;
  for (let at = 1; at < bytes.length; at++) {
    if (at > 5) throw notOurs();
    value += (bytes[at]! & 0x7f) * 2 ** (7 * (at - 1));
    if (!isNumber && value > ARCHIVE_ITEM_BYTES_MAX) throw notOurs();
    if (bytes[at]! >= 0x80) continue;
    const end = at + 1 + (isNumber ? 0 : value);
    return end <= bytes.length ? end : 0;
  }
  return 0;
}

function notOurs(): DecodeError {
  return new DecodeError("this is no archive file, or it is damaged");
}

function joined(before: Uint8Array, after: Uint8Array): Uint8Array {
  if (before.length === 0) return after;
  const bytes = new Uint8Array(before.length + after.length);
  bytes.set(before);
  bytes.set(after, before.length);
  return bytes;
}
