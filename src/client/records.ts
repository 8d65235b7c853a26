// Records as users see them, and their encoding as RecordBatch: encoded once by the producer, decoded once by the
// consumer, never in between.

import { isCount } from "../base/assert.ts";
import { DecodeError } from "../base/bytes.ts";
import { ProtoReader, ProtoWriter } from "../base/protobuf.ts";
import { FlotillaError } from "./errors.ts";

export type Header = { readonly name: string; readonly value: Uint8Array };

/** What a producer sends. Strings are sent as UTF-8. The bytes are copied when the record is taken. */
export type OutgoingRecord = {
  readonly body: Uint8Array | string;
  readonly key?: Uint8Array | string | undefined;
  readonly headers?: readonly Header[] | undefined;
  /** Milliseconds since 1970. */
  readonly timeMs?: number | undefined;
  readonly contentType?: string | undefined;
  readonly correlationId?: string | undefined;
  /** The name of a queue where an answer is expected. */
  readonly replyTo?: string | undefined;
  readonly messageId?: string | undefined;
  /** Where an exchange sends it; without one the key of the publish counts. */
  readonly routingKey?: string | undefined;
  /** For queues and work subscriptions: 0..31, a higher one goes first. */
  readonly priority?: number | undefined;
  /** Delivered at this time at the earliest (milliseconds since 1970), or so long after it was stored: one of the two. */
  readonly deliverAtMs?: number | undefined;
  readonly delayMs?: number | undefined;
  /** How long it may wait from when it can be delivered first, in milliseconds. */
  readonly ttlMs?: number | undefined;
};

/** What a consumer gets. `body`, `key` and header values share the memory of their batch. */
export type ReceivedRecord = {
  readonly partition: number;
  readonly offset: number;
  /** When the leader stored it. */
  readonly storedMs: number;
  readonly body: Uint8Array;
  readonly key: Uint8Array | null;
  readonly headers: readonly Header[];
  /** As the producer set it; 0 = not set. */
  readonly timeMs: number;
  readonly contentType: string;
  readonly correlationId: string;
  readonly replyTo: string;
  readonly messageId: string;
  readonly routingKey: string;
  readonly priority: number;
  /** As the producer set them; 0 = not set. */
  readonly deliverAtMs: number;
  readonly delayMs: number;
  readonly ttlMs: number;
};

/** Fields that a plain record has not. */
const RARE = [
  "headers",
  "timeMs",
  "contentType",
  "correlationId",
  "replyTo",
  "messageId",
  "routingKey",
  "priority",
  "deliverAtMs",
  "delayMs",
  "ttlMs",
] as const;
const NUMBERS = ["timeMs", "priority", "deliverAtMs", "delayMs", "ttlMs"] as const;
const FIELD_RECORDS = 0x0a;
const FIELD_KEY = 0x0a;
const FIELD_BODY = 0x12;

/** Bytes left free in front of a batch, for what the wire wants there. */
export const HEAD_ROOM_BYTES = 64;

/** Encodes records one after the other into a growing buffer: no object and no copy per record beyond the bytes. */
export class BatchEncoder {
  private bytes: Buffer;
  private at = HEAD_ROOM_BYTES;
  count = 0;

  /** `memory` belongs to the encoder until `finish` hands it, or more, back. */
  constructor(memory: Buffer) {
    this.bytes = memory;
  }

  /** Bytes of the batch so far. */
  get length(): number {
    return this.at - HEAD_ROOM_BYTES;
  }

  add(record: OutgoingRecord): void {
    if (isPlain(record)) this.addPlain(record.body, record.key);
    else this.addFull(record);
    this.count += 1;
  }

  /** Takes back the last record, which began at `length`. */
  takeBack(length: number): void {
    this.at = HEAD_ROOM_BYTES + length;
    this.count -= 1;
  }

  /** The memory whose bytes from HEAD_ROOM_BYTES on are the batch, `length` of them. The encoder is then spent. */
  finish(): Buffer {
    // A batch may wait for long: it must not hold much more memory than it has bytes.
    if (this.at * 2 < this.bytes.length) this.resize(this.at);
    return this.bytes;
  }

  private addPlain(body: Uint8Array | string, key: Uint8Array | string | undefined): void {
    const bodyLength = lengthOf(body);
    const keyLength = key === undefined ? -1 : lengthOf(key);
    const inner =
      (keyLength < 0 ? 0 : 1 + varintLength(keyLength) + keyLength) + (bodyLength === 0 ? 0 : 1 + varintLength(bodyLength) + bodyLength);
    this.reserve(inner + 6);
    this.bytes[this.at++] = FIELD_RECORDS;
    this.varint(inner);
    if (key !== undefined) this.put(FIELD_KEY, key, keyLength);
    if (bodyLength > 0) this.put(FIELD_BODY, body, bodyLength);
  }

  private addFull(record: OutgoingRecord): void {
    for (const name of NUMBERS)
      if (record[name] !== undefined && !isCount(record[name]))
        throw new FlotillaError("INVALID_ARGUMENT", `${name} must be a whole number of 0..2^53-1, not ${record[name]}`);
    const writer = new ProtoWriter(256);
    if (record.key !== undefined) writer.blockAlways(1, bytesOf(record.key));
    writer.block(2, bytesOf(record.body));
    for (const { name, value } of record.headers ?? []) {
      const mark = writer.open(3);
      writer.string(1, name).block(2, value).close(mark);
    }
    writer
      .uint(4, record.timeMs ?? 0)
      .string(5, record.contentType ?? "")
      .string(6, record.correlationId ?? "")
      .string(7, record.replyTo ?? "")
      .uint(8, record.priority ?? 0)
      .uint(9, record.deliverAtMs ?? 0)
      .uint(10, record.delayMs ?? 0)
      .uint(11, record.ttlMs ?? 0)
      .string(12, record.messageId ?? "");
    if (record.routingKey !== undefined) writer.blockAlways(14, bytesOf(record.routingKey));
    const encoded = writer.finish();
    this.reserve(encoded.length + 6);
    this.bytes[this.at++] = FIELD_RECORDS;
    this.varint(encoded.length);
    this.bytes.set(encoded, this.at);
    this.at += encoded.length;
  }

  private put(tag: number, value: Uint8Array | string, length: number): void {
    this.bytes[this.at++] = tag;
    this.varint(length);
    if (typeof value === "string") this.bytes.write(value, this.at, length, "utf8");
    else this.bytes.set(value, this.at);
    this.at += length;
  }

  private varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[this.at++] = rest;
  }

  private reserve(count: number): void {
    if (this.at + count > this.bytes.length) this.resize(Math.max(this.at + count, this.bytes.length * 2));
  }

  /** Never of the pool that all small buffers of a process share: the memory is used again as a whole. */
  private resize(size: number): void {
    const next = Buffer.allocUnsafeSlow(size);
    this.bytes.copy(next, 0, 0, this.at);
    this.bytes = next;
  }
}

function isPlain(record: OutgoingRecord): boolean {
  for (const name of RARE) if (record[name] !== undefined) return false;
  return true;
}

const EMPTY: Uint8Array = new Uint8Array(0);
const NO_HEADERS: readonly Header[] = [];

/** A record while and after it is decoded. All of them have the same fields in the same order: they are made by the hundred thousand. */
export class DecodedRecord implements ReceivedRecord {
  readonly partition: number;
  readonly offset: number;
  readonly storedMs: number;
  body = EMPTY;
  key: Uint8Array | null = null;
  headers = NO_HEADERS;
  timeMs = 0;
  contentType = "";
  correlationId = "";
  replyTo = "";
  messageId = "";
  routingKey = "";
  priority = 0;
  deliverAtMs = 0;
  delayMs = 0;
  ttlMs = 0;

  constructor(partition: number, offset: number, storedMs: number) {
    this.partition = partition;
    this.offset = offset;
    this.storedMs = storedMs;
  }
}

/** Decodes a RecordBatch; offsets count up from `baseOffset`. Throws MALFORMED_BATCH if a producer sent nonsense. */
export function decodeBatch(bytes: Uint8Array, place: { partition: number; baseOffset: number; storedMs: number }): ReceivedRecord[] {
  const { partition, baseOffset, storedMs } = place;
  return decodeRecords(bytes, partition, baseOffset, (offset) => new DecodedRecord(partition, offset, storedMs));
}

/** As `decodeBatch`, into what `blankAt` makes for each offset. */
export function decodeRecords<T extends DecodedRecord>(
  bytes: Uint8Array,
  partition: number,
  baseOffset: number,
  blankAt: (offset: number) => T,
): T[] {
  const reader = new ProtoReader(bytes);
  const records: T[] = [];
  try {
    while (reader.next()) {
      if (reader.field === 1) {
        const record = blankAt(baseOffset + records.length);
        decodeInto(record, reader.message());
        records.push(record);
      } else reader.skip();
    }
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    const offset = baseOffset + records.length;
    throw new FlotillaError(
      "MALFORMED_BATCH",
      `partition ${partition}: the record at offset ${offset} is not a Record message: ${error.message}`,
      {
        details: { partition: String(partition), offset: String(offset) },
        cause: error,
      },
    );
  }
  return records;
}

function decodeInto(record: DecodedRecord, reader: ProtoReader): void {
  while (reader.next()) {
    if (reader.field === 1) record.key = reader.block();
    else if (reader.field === 2) record.body = reader.block();
    else decodeRare(record, reader);
  }
}

function decodeRare(record: DecodedRecord, reader: ProtoReader): void {
  if (reader.field === 3) record.headers = [...record.headers, decodeHeader(reader.message())];
  else if (reader.field === 4) record.timeMs = timeOf(reader);
  else if (reader.field === 5) record.contentType = reader.string();
  else if (reader.field === 6) record.correlationId = reader.string();
  else if (reader.field === 7) record.replyTo = reader.string();
  else if (reader.field === 8) record.priority = reader.uint();
  else if (reader.field === 9) record.deliverAtMs = timeOf(reader);
  else if (reader.field === 10) record.delayMs = timeOf(reader);
  else if (reader.field === 11) record.ttlMs = timeOf(reader);
  else if (reader.field === 12) record.messageId = reader.string();
  else if (reader.field === 14) record.routingKey = reader.string();
  else reader.skip();
}

/** A time before 1970 or past 2^53 is not worth losing the record for: it counts as not set. */
function timeOf(reader: ProtoReader): number {
  try {
    return reader.uint();
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return 0;
  }
}

function decodeHeader(reader: ProtoReader): Header {
  let name = "";
  let value = EMPTY;
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field === 2) value = reader.block();
    else reader.skip();
  }
  return { name, value };
}

export function bytesOf(value: Uint8Array | string): Uint8Array {
  return typeof value === "string" ? Buffer.from(value, "utf8") : value;
}

function lengthOf(value: Uint8Array | string): number {
  return typeof value === "string" ? Buffer.byteLength(value, "utf8") : value.length;
}

function varintLength(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4;
}

/** FNV-1a over the key's bytes, 32 bits: which partition a key belongs to, in this library and on the server. */
export function hashKey(key: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key[at]!, 0x01000193);
  return hash >>> 0;
}
