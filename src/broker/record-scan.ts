// Looks at the records of a batch that are to be routed, or that a work subscription will see: their priority, when they are due, how
// long they live, their key and routing key. Everything else in them is passed over (types.proto, Record).

import { DecodeError, utf8Decode } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import { DELAY_MS_MAX, HEADERS_PER_RECORD_MAX, PRIORITY_MAX, ROUTING_KEY_LENGTH_MAX } from "../base/limits.ts";
import { ProtoReader, WIRE_BYTES } from "../base/protobuf.ts";
import type { FactRun } from "../machine/work/sidecar.ts";

const FIELD_RECORDS = 1;
const KEY = 1;
const HEADERS = 3;
const PRIORITY = 8;
const DELIVER_AT_MS = 9;
const DELAY_MS = 10;
const TTL_MS = 11;
const ROUTING_KEY = 14;

/** One record: where its field lies in the batch, tag and length included, and what is to be known of it. */
export type ScannedRecord = Omit<FactRun, "count"> & {
  readonly start: number;
  readonly end: number;
  /** Null: it has none of its own. */
  readonly routingKey: string | null;
  readonly headers: ReadonlyMap<string, string>;
};

const NO_BYTES = new Uint8Array(0);
const NO_HEADERS: ReadonlyMap<string, string> = new Map();

/** The records of an encoded RecordBatch, which is known to be one; or what is wrong with one of them. Headers are read if asked for. */
export function scanRecords(bytes: Uint8Array, withHeaders: boolean, nowMs: number): ScannedRecord[] | BrokerError {
  const records: ScannedRecord[] = [];
  try {
    const reader = new ProtoReader(bytes);
    let start = 0;
    while (reader.next()) {
      if (reader.field === FIELD_RECORDS && reader.wire === WIRE_BYTES) {
        const block = reader.block();
        const end = block.byteOffset - bytes.byteOffset + block.length;
        const record = scanRecord(block, start, end, withHeaders);
        const fault = faultOf(record, nowMs);
        if (fault !== null)
          return new BrokerError("INVALID_ARGUMENT", `record ${records.length} of the batch: ${fault}`, { field: "records" });
        records.push(record);
        start = end;
      } else {
        reader.skip();
        start = reader.position;
      }
    }
    return records;
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return new BrokerError("MALFORMED_BATCH", `record ${records.length} of the batch is not a Record message: ${error.message}`);
  }
}

/**
 * Facts of records that are stored already, wherever nobody looked at them before: what is out of bounds counts as the bound, and what is no
 * Record as one that says nothing. They are for the first records; there may be none.
 */
export function factsOfStored(bytes: Uint8Array, storedMs: number): FactRun[] {
  const records: ScannedRecord[] = [];
  try {
    const reader = new ProtoReader(bytes);
    while (reader.next())
      if (reader.field === FIELD_RECORDS && reader.wire === WIRE_BYTES) records.push(asStored(reader.block(), storedMs));
      else reader.skip();
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
  }
  return factRuns(records);
}

function asStored(block: Uint8Array, storedMs: number): ScannedRecord {
  const record = scanLeniently(block);
  const { priority, dueMs, delayMs, ttlMs } = record;
  return {
    ...record,
    priority: Math.min(priority, PRIORITY_MAX),
    dueMs: Math.min(dueMs, storedMs + DELAY_MS_MAX),
    delayMs: dueMs > 0 ? 0 : Math.min(delayMs, DELAY_MS_MAX),
    ttlMs: Math.min(ttlMs, DELAY_MS_MAX),
  };
}

function scanLeniently(block: Uint8Array): ScannedRecord {
  try {
    return scanRecord(block, 0, 0, false);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return scanRecord(NO_BYTES, 0, 0, false);
  }
}

/** Facts of the records in order, those that are alike as one. */
export function factRuns(records: readonly ScannedRecord[]): FactRun[] {
  const runs: (FactRun & { count: number })[] = [];
  for (const { priority, dueMs, delayMs, ttlMs, keyHash } of records) {
    const last = runs[runs.length - 1];
    const isAlike =
      last !== undefined &&
      last.priority === priority &&
      last.dueMs === dueMs &&
      last.delayMs === delayMs &&
      last.ttlMs === ttlMs &&
      last.keyHash === keyHash;
    if (isAlike) last.count += 1;
    else runs.push({ count: 1, priority, dueMs, delayMs, ttlMs, keyHash });
  }
  return runs;
}

function scanRecord(block: Uint8Array, start: number, end: number, withHeaders: boolean): ScannedRecord {
  const record = {
    start,
    end,
    priority: 0,
    dueMs: 0,
    delayMs: 0,
    ttlMs: 0,
    keyHash: 0,
    routingKey: null as string | null,
    headers: NO_HEADERS,
  };
  const reader = new ProtoReader(block);
  let headers: Map<string, string> | null = null;
  while (reader.next()) {
    switch (reader.field) {
      case KEY:
        record.keyHash = hashOf(reader.block());
        break;
      case HEADERS:
        if (withHeaders) readHeader(reader.message(), (headers ??= new Map()));
        else reader.skip();
        break;
      case PRIORITY:
        record.priority = reader.uint();
        break;
      case DELIVER_AT_MS:
        record.dueMs = reader.uint();
        break;
      case DELAY_MS:
        record.delayMs = reader.uint();
        break;
      case TTL_MS:
        record.ttlMs = reader.uint();
        break;
      case ROUTING_KEY:
        // Nothing tells an empty one from none (proto3).
        record.routingKey = reader.string() || null;
        break;
      default:
        reader.skip();
    }
  }
  if (headers !== null) record.headers = headers;
  return record;
}

function readHeader(reader: ProtoReader, headers: Map<string, string>): void {
  let name = "";
  let value: Uint8Array | null = null;
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field === 2) value = reader.block();
    else reader.skip();
  }
  if (headers.size >= HEADERS_PER_RECORD_MAX) throw new DecodeError(`more than ${HEADERS_PER_RECORD_MAX} headers`);
  headers.set(name, textOf(value));
}

/** What is no text matches nothing that a binding can ask for, but is there. */
function textOf(value: Uint8Array | null): string {
  if (value === null) return "";
  try {
    return utf8Decode(value);
  } catch (error) {
    if (error instanceof DecodeError) return "\0";
    throw error;
  }
}

function faultOf({ priority, dueMs, delayMs, ttlMs, routingKey }: ScannedRecord, nowMs: number): string | null {
  if (priority > PRIORITY_MAX) return `priority must be 0..${PRIORITY_MAX}, not ${priority}`;
  if (dueMs > 0 && delayMs > 0) return "it has deliver_at_ms and delay_ms: one of the two";
  if (dueMs > nowMs + DELAY_MS_MAX) return `deliver_at_ms must be at most a year ahead, not ${dueMs}`;
  if (delayMs > DELAY_MS_MAX) return `delay_ms must be 0..${DELAY_MS_MAX} (a year), not ${delayMs}`;
  if (ttlMs > DELAY_MS_MAX) return `ttl_ms must be 0..${DELAY_MS_MAX} (a year), not ${ttlMs}`;
  if (routingKey !== null && routingKey.length > ROUTING_KEY_LENGTH_MAX)
    return `routing_key must have at most ${ROUTING_KEY_LENGTH_MAX} characters, not ${routingKey.length}`;
  return null;
}

/** FNV-1a, 32 bits, never 0. */
function hashOf(key: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key[at]!, 0x01000193);
  return hash >>> 0 || 1;
}

/** The records `skip` to before `skip + count` of an encoded RecordBatch, as one: a part of its memory where they are all that there is between. */
export function sliceRecords(bytes: Uint8Array, skip: number, count: number): Uint8Array {
  const reader = new ProtoReader(bytes);
  let at = 0;
  let start = -1;
  while (reader.next()) {
    const begin = reader.tagPosition;
    if (reader.field === FIELD_RECORDS) {
      if (at === skip) start = begin;
      at += 1;
      reader.skip();
      if (at === skip + count) return bytes.subarray(start, reader.position);
    } else reader.skip();
  }
  throw new DecodeError("the batch has fewer records");
}
