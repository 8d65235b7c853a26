// Bytes of a segment file, little-endian.
//
//   file   = header (32)  batch*  [footer]  zeros or leftovers of a former life
//   header = magic "FLSG", u16 version, u16 0, u32 number, u32 salt, u64 first sequence, u32 0, u32 crc
//   batch  = magic "FLBA", u32 record count, u64 sequence, u32 bytes of all records, u32 crc(salt)
//            record*
//   record = u8 type, u8 entry kind, u16 0, u32 group, u64 index, u64 term, u64 stamp, u32 length, u32 payload crc,
//            u32 crc(salt) of the 40 bytes before; payload
//   footer = magic "FLFT", u32 bytes, u64 last sequence, u32 crc(salt) of the operations, u32 crc(salt); operations
//
// Files are reused: what an older life left behind has valid checksums, but under another salt, so it is never taken for
// this life's. A payload is covered by the crc that it got when it entered the system.

import { crc32 } from "node:zlib";
import { assert, isCount } from "../base/assert.ts";

export const FORMAT_VERSION = 1;
export const FILE_HEADER_BYTES = 32;
export const BATCH_HEADER_BYTES = 24;
export const RECORD_HEADER_BYTES = 44;
export const FOOTER_HEADER_BYTES = 24;

const MAGIC_FILE = 0x47534c46;
const MAGIC_BATCH = 0x41424c46;
const MAGIC_FOOTER = 0x54464c46;
const TWO_32 = 4_294_967_296;

export const RECORD_ENTRY = 1;
/** Hard state and cut of a group: term in `term`, vote in `stamp`, commit in `index`; payload: u64 cut, u64 its term, u32 replica,
 * u64 last index. */
export const RECORD_STATE = 2;
export const STATE_PAYLOAD_BYTES = 28;
/** Like STATE, and all entries before it are gone: a snapshot took their place, or another replica of the group. */
export const RECORD_RESET = 3;
export const RECORD_DESTROY = 4;
/** Like ENTRY, and it replaces nothing: a committed entry, written again so that its old file can go. */
export const RECORD_MOVED = 6;
/** Says nothing but that all before it is whole: written when the log falls quiet, so that damage at its end shows. */
export const RECORD_MARK = 5;

export type FileHeader = { readonly version: number; readonly number: number; readonly salt: number; readonly firstSequence: number };

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % TWO_32, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

/** -1 for a number past 2^53: nothing that we wrote. */
export function readU64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  const low = view.getUint32(at, true);
  // Small numbers must not come out of arithmetic with large ones: V8 would box them, in each field that ever gets one.
  if (high === 0) return low;
  const value = high * TWO_32 + low;
  return isCount(value) ? value : -1;
}

export function encodeFileHeader(header: FileHeader): Uint8Array {
  const bytes = new Uint8Array(FILE_HEADER_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC_FILE, true);
  view.setUint16(4, header.version, true);
  view.setUint32(8, header.number, true);
  view.setUint32(12, header.salt, true);
  writeU64(view, 16, header.firstSequence);
  view.setUint32(28, crc32(bytes.subarray(0, 28)), true);
  return bytes;
}

/** Undefined: not a header, or a damaged one. */
export function decodeFileHeader(bytes: Uint8Array): FileHeader | undefined {
  if (bytes.length < FILE_HEADER_BYTES) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== MAGIC_FILE || view.getUint32(28, true) !== crc32(bytes.subarray(0, 28))) return undefined;
  return {
    version: view.getUint16(4, true),
    number: view.getUint32(8, true),
    salt: view.getUint32(12, true),
    firstSequence: readU64(view, 16),
  };
}

export function writeBatchHeader(
  bytes: Uint8Array,
  at: number,
  salt: number,
  batch: { count: number; sequence: number; bytes: number },
): void {
  const view = viewOf(bytes);
  view.setUint32(at, MAGIC_BATCH, true);
  view.setUint32(at + 4, batch.count, true);
  writeU64(view, at + 8, batch.sequence);
  view.setUint32(at + 16, batch.bytes, true);
  view.setUint32(at + 20, crc32(bytes.subarray(at, at + 20), salt), true);
}

export type BatchHeader = { readonly count: number; readonly sequence: number; readonly bytes: number };

export function readBatchHeader(bytes: Uint8Array, at: number, salt: number): BatchHeader | undefined {
  if (at + BATCH_HEADER_BYTES > bytes.length) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(at, true) !== MAGIC_BATCH || view.getUint32(at + 20, true) !== crc32(bytes.subarray(at, at + 20), salt))
    return undefined;
  return { count: view.getUint32(at + 4, true), sequence: readU64(view, at + 8), bytes: view.getUint32(at + 16, true) };
}

export type RecordHeader = {
  readonly type: number;
  readonly kind: number;
  readonly group: number;
  readonly index: number;
  readonly term: number;
  readonly stamp: number;
  readonly length: number;
  readonly payloadCrc: number;
};

export function writeRecordHeader(bytes: Uint8Array, view: DataView, at: number, salt: number, record: RecordHeader): void {
  assert(isCount(record.index) && isCount(record.term) && isCount(record.stamp), "record numbers are safe integers");
  bytes[at] = record.type;
  bytes[at + 1] = record.kind;
  bytes[at + 2] = 0;
  bytes[at + 3] = 0;
  view.setUint32(at + 4, record.group, true);
  writeU64(view, at + 8, record.index);
  writeU64(view, at + 16, record.term);
  writeU64(view, at + 24, record.stamp);
  view.setUint32(at + 32, record.length, true);
  view.setUint32(at + 36, record.payloadCrc, true);
  view.setUint32(at + 40, crc32(bytes.subarray(at, at + 40), salt), true);
}

export function readRecordHeader(bytes: Uint8Array, at: number, salt: number): RecordHeader | undefined {
  if (at + RECORD_HEADER_BYTES > bytes.length) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(at + 40, true) !== crc32(bytes.subarray(at, at + 40), salt)) return undefined;
  return {
    type: bytes[at]!,
    kind: bytes[at + 1]!,
    group: view.getUint32(at + 4, true),
    index: readU64(view, at + 8),
    term: readU64(view, at + 16),
    stamp: readU64(view, at + 24),
    length: view.getUint32(at + 32, true),
    payloadCrc: view.getUint32(at + 36, true),
  };
}

export function encodeFooter(salt: number, lastSequence: number, operations: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FOOTER_HEADER_BYTES + operations.length);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC_FOOTER, true);
  view.setUint32(4, operations.length, true);
  writeU64(view, 8, lastSequence);
  view.setUint32(16, crc32(operations, salt), true);
  view.setUint32(20, crc32(bytes.subarray(0, 20), salt), true);
  bytes.set(operations, FOOTER_HEADER_BYTES);
  return bytes;
}

/** Undefined: no footer there, or a damaged one. */
export function decodeFooter(bytes: Uint8Array, at: number, salt: number): { lastSequence: number; operations: Uint8Array } | undefined {
  if (at + FOOTER_HEADER_BYTES > bytes.length) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(at, true) !== MAGIC_FOOTER || view.getUint32(at + 20, true) !== crc32(bytes.subarray(at, at + 20), salt))
    return undefined;
  const operations = bytes.subarray(at + FOOTER_HEADER_BYTES, at + FOOTER_HEADER_BYTES + view.getUint32(at + 4, true));
  if (operations.length !== view.getUint32(at + 4, true) || crc32(operations, salt) !== view.getUint32(at + 16, true)) return undefined;
  return { lastSequence: readU64(view, at + 8), operations };
}

/** The place of the file's footer, wherever the batches end; -1 = none. */
export function findFooter(bytes: Uint8Array, salt: number): number {
  return findMagic(bytes, 0, MAGIC_FOOTER, (at) => decodeFooter(bytes, at, salt) !== undefined);
}

/** The first place at or after `from` where a valid batch of this life begins; -1 = none. */
export function findBatch(bytes: Uint8Array, from: number, salt: number): number {
  return findMagic(bytes, from, MAGIC_BATCH, (at) => readBatchHeader(bytes, at, salt) !== undefined);
}

function findMagic(bytes: Uint8Array, from: number, magic: number, isIt: (at: number) => boolean): number {
  const pattern = Buffer.alloc(4);
  pattern.writeUInt32LE(magic);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = buffer.indexOf(pattern, from); at >= 0; at = buffer.indexOf(pattern, at + 1)) if (isIt(at)) return at;
  return -1;
}
