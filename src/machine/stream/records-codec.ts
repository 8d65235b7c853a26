// The payload of a records entry: a fixed header, what is to be known of its records beside the batch (machine/work/sidecar.ts), then
// the producer's RecordBatch as it came.
//
//   u8 format = 1, u8 flags (sidecar, sparse, no facts, transaction), u16 0, u32 count, u64 producer id (0 = none), u64 sequence, u32 producer epoch;
//   with FLAG_SIDECAR: u32 length, sidecar; RecordBatch
//
// Without FLAG_SIDECAR and FLAG_NO_FACTS nobody has looked what is to be known of the records: who published them knew of no work
// subscription. Those that there are have them fed later (machine/work/works.ts).

import { GROUP_ID_MAX } from "../../base/ids.ts";
import { BATCH_FIELDS_MAX, BATCH_RECORDS_MAX } from "../../base/limits.ts";

export const RECORDS_HEADER_BYTES = 28;
/** Bytes in front of a sidecar: its length. */
export const SIDECAR_LENGTH_BYTES = 4;
const FORMAT = 1;
const FLAG_SIDECAR = 1;
/** The producer's sequence numbers have gaps: not everything that it sends comes to this stream. */
const FLAG_SPARSE = 2;
/** Somebody looked, and there is nothing to be known of the records. */
const FLAG_NO_FACTS = 4;
/** The producer is a queue of transactions, by its group, and the sequence a transaction's number in it. */
const FLAG_TRANSACTION = 8;
const FLAGS_KNOWN = FLAG_SIDECAR | FLAG_SPARSE | FLAG_NO_FACTS | FLAG_TRANSACTION;
/** How the batches of a producer are told apart: by numbers without gaps, with gaps, or by the transaction that they belong to. */
export type Numbering = "gapless" | "sparse" | "transaction";
const NUMBERING_FLAGS: Readonly<Record<Numbering, number>> = { gapless: 0, sparse: FLAG_SPARSE, transaction: FLAG_TRANSACTION };
const NO_SIDECAR = new Uint8Array(0);
const TWO_32 = 4_294_967_296;

/** How many records, and who sent them. */
export type RecordsOrigin = {
  readonly count: number;
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly sequence: number;
};
export type RecordsHeader = RecordsOrigin & {
  readonly isSparse: boolean;
  /** Somebody looked what is to be known of the records. */
  readonly isScanned: boolean;
  readonly isTransaction: boolean;
  /** Bytes of the sidecar; 0 = there is none. */
  readonly sidecarBytes: number;
};

/** Bytes of a payload in front of the RecordBatch. */
export function recordsHeadBytes(sidecarBytes: number): number {
  return sidecarBytes <= 0 ? RECORDS_HEADER_BYTES : RECORDS_HEADER_BYTES + SIDECAR_LENGTH_BYTES + sidecarBytes;
}

/**
 * Writes the header at `at`, and where the sidecar begins its length; `target` belongs to the caller. A sidecar that is empty says that there
 * is nothing to be known of the records; `sidecarBytes` -1 that nobody looked.
 */
export function writeRecordsHeader(
  target: Uint8Array,
  at: number,
  header: RecordsOrigin,
  numbering: Numbering = "gapless",
  sidecarBytes = -1,
): void {
  const view = new DataView(target.buffer, target.byteOffset + at);
  const looked = sidecarBytes > 0 ? FLAG_SIDECAR : FLAG_NO_FACTS;
  view.setUint8(0, FORMAT);
  view.setUint8(1, (sidecarBytes < 0 ? 0 : looked) | NUMBERING_FLAGS[numbering]);
  if (sidecarBytes > 0) view.setUint32(RECORDS_HEADER_BYTES, sidecarBytes, true);
  view.setUint16(2, 0, true);
  view.setUint32(4, header.count, true);
  view.setUint32(8, header.producerId % TWO_32, true);
  view.setUint32(12, Math.floor(header.producerId / TWO_32), true);
  view.setUint32(16, header.sequence % TWO_32, true);
  view.setUint32(20, Math.floor(header.sequence / TWO_32), true);
  view.setUint32(24, header.producerEpoch, true);
}

/**
 * Undefined for a payload that is too short for what it says, of a format or flag that this release does not know, or with
 * numbers out of bounds: no records or too many, an id or a sequence past 2^53, a transaction of no group.
 */
export function readRecordsHeader(payload: Uint8Array): RecordsHeader | undefined {
  if (payload.length < RECORDS_HEADER_BYTES || payload[0] !== FORMAT) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, RECORDS_HEADER_BYTES);
  const header = headerAt(view, payload);
  const flags = view.getUint8(1);
  const isOneOf = (flags & FLAG_SIDECAR) === 0 || (flags & FLAG_NO_FACTS) === 0;
  const isKnown = (flags & ~FLAGS_KNOWN) === 0 && isOneOf && view.getUint16(2, true) === 0;
  const isWhole = header.sidecarBytes >= 0 && recordsHeadBytes(header.sidecarBytes) <= payload.length;
  const isInBounds =
    header.count >= 1 &&
    header.count <= BATCH_RECORDS_MAX &&
    Number.isSafeInteger(header.producerId) &&
    Number.isSafeInteger(header.sequence + header.count) &&
    (!header.isTransaction || (!header.isSparse && header.producerId > 0 && header.producerId <= GROUP_ID_MAX));
  return isKnown && isWhole && isInBounds ? header : undefined;
}

function headerAt(view: DataView, payload: Uint8Array): RecordsHeader {
  return {
    isSparse: (payload[1]! & FLAG_SPARSE) !== 0,
    isScanned: (payload[1]! & (FLAG_SIDECAR | FLAG_NO_FACTS)) !== 0,
    isTransaction: (payload[1]! & FLAG_TRANSACTION) !== 0,
    sidecarBytes: sidecarBytesOf(payload),
    count: view.getUint32(4, true),
    producerId: view.getUint32(12, true) * TWO_32 + view.getUint32(8, true),
    sequence: view.getUint32(20, true) * TWO_32 + view.getUint32(16, true),
    producerEpoch: view.getUint32(24, true),
  };
}

/** The records of a payload that the stream accepted. */
export function readRecordsCount(payload: Uint8Array): number {
  return payload[4]! + payload[5]! * 0x100 + payload[6]! * 0x1_0000 + payload[7]! * 0x100_0000;
}

/** 0 without one; -1 when the flag is set and there is none. */
function sidecarBytesOf(payload: Uint8Array): number {
  if ((payload[1]! & FLAG_SIDECAR) === 0) return 0;
  const at = RECORDS_HEADER_BYTES;
  if (payload.length < at + SIDECAR_LENGTH_BYTES) return -1;
  const bytes = payload[at]! + payload[at + 1]! * 0x100 + payload[at + 2]! * 0x1_0000 + payload[at + 3]! * 0x100_0000;
  return bytes === 0 ? -1 : bytes;
}

/** What stands beside the batch; shares the payload's memory. Of a payload whose header could be read. */
export function recordsSidecar(payload: Uint8Array): Uint8Array {
  const bytes = sidecarBytesOf(payload);
  return bytes === 0 ? NO_SIDECAR : payload.subarray(recordsHeadBytes(bytes) - bytes, recordsHeadBytes(bytes));
}

/** The RecordBatch inside; shares the payload's memory. Of a payload whose header could be read. */
export function recordsBody(payload: Uint8Array): Uint8Array {
  return payload.subarray(recordsHeadBytes(sidecarBytesOf(payload)));
}

export const BATCH_MALFORMED = -1;
export const BATCH_TOO_MANY = -2;

/**
 * Counts the records of an encoded RecordBatch (field 1) by its top-level tags alone. Unknown fields are skipped.
 * Negative: BATCH_MALFORMED, or BATCH_TOO_MANY beyond BATCH_RECORDS_MAX records or BATCH_FIELDS_MAX other fields. Costs one
 * pass over tags and lengths.
 */
export function scanRecordBatch(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  let count = 0;
  let others = 0;
  while (at < end) {
    if (bytes[at] === 0x0a) {
      // Field 1, length-delimited: a record. Its length is a varint of at most five bytes: 32 bits are more than a batch has.
      at += 1;
      let length = 0;
      let scale = 1;
      for (;;) {
        if (at >= end || scale > 0x1000_0000) return BATCH_MALFORMED;
        const byte = bytes[at++]!;
        length += (byte & 0x7f) * scale;
        if (byte < 0x80) break;
        scale *= 0x80;
      }
      at += length;
      if (at > end) return BATCH_MALFORMED;
      count += 1;
      if (count > BATCH_RECORDS_MAX) return BATCH_TOO_MANY;
    } else {
      at = skipField(bytes, at, end);
      if (at < 0) return BATCH_MALFORMED;
      others += 1;
      if (others > BATCH_FIELDS_MAX) return BATCH_TOO_MANY;
    }
  }
  return count;
}

/** The position after an unknown field; -1 when it is not one. */
function skipField(bytes: Uint8Array, start: number, end: number): number {
  const tag = varintAt(bytes, start, end);
  if (tag.end < 0 || tag.value >>> 3 === 0 || tag.value >>> 3 === 1) return -1;
  let at = tag.end;
  switch (tag.value & 7) {
    case 0:
      at = varintAt(bytes, at, end).end;
      break;
    case 1:
      at += 8;
      break;
    case 2: {
      const length = varintAt(bytes, at, end);
      at = length.end < 0 ? -1 : length.end + length.value;
      break;
    }
    case 5:
      at += 4;
      break;
    default:
      return -1;
  }
  return at < 0 || at > end ? -1 : at;
}

function varintAt(bytes: Uint8Array, start: number, end: number): { value: number; end: number } {
  let value = 0;
  let scale = 1;
  for (let at = start; at < end && at < start + 10; at++) {
    const byte = bytes[at]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value: Math.min(value, 0xffff_ffff), end: at + 1 };
    scale *= 0x80;
  }
  return { value: 0, end: -1 };
}
