// One batch as bytes: a buffer that is used again for every write, since only one is under way at a time.

import { assert } from "../base/assert.ts";
import type { GroupId } from "../base/ids.ts";
import type { Entry } from "../raft/types.ts";
import { crc32 } from "node:zlib";
import {
  BATCH_HEADER_BYTES,
  RECORD_DESTROY,
  RECORD_ENTRY,
  RECORD_HEADER_BYTES,
  RECORD_MARK,
  RECORD_MOVED,
  STATE_PAYLOAD_BYTES,
  encodeFileHeader,
  writeBatchHeader,
  writeRecordHeader,
  writeU64,
  type FileHeader,
} from "./segment-format.ts";
import type { IndexSink, StateOperation } from "./segment-index.ts";

/** A buffer that one huge batch made is given back beyond this size. */
const KEEP_BYTES = 8 * 1024 * 1024;

export class WriteBuffer {
  bytes: Buffer = Buffer.allocUnsafeSlow(1024 * 1024);
  private view = new DataView(this.bytes.buffer);
  /** Bytes filled, from 0. */
  length = 0;
  private batchAt = 0;
  private count = 0;
  private salt = 0;
  private base = 0;
  private sinks: readonly IndexSink[] = [];

  /** Begins a batch that will stand at `position` of a file; `header` goes in front of a file's first batch. */
  begin(options: { salt: number; position: number; header: FileHeader | null; sinks: readonly IndexSink[] }): void {
    if (this.bytes.length > KEEP_BYTES) this.resize(KEEP_BYTES);
    this.length = 0;
    this.count = 0;
    this.salt = options.salt;
    this.base = options.position;
    this.sinks = options.sinks;
    if (options.header !== null) {
      const bytes = encodeFileHeader(options.header);
      this.bytes.set(bytes, 0);
      this.length = bytes.length;
    }
    this.batchAt = this.length;
    this.length += BATCH_HEADER_BYTES;
  }

  get isEmpty(): boolean {
    return this.count === 0;
  }

  entry(group: GroupId, entry: Entry): void {
    const position = this.record(RECORD_ENTRY, group, entry);
    for (const sink of this.sinks) sink.entry(group, entry.index, entry.term, position, entry.payload.length);
  }

  /** Writes a committed entry again; the caller tells the group's log once it is there. Returns its place in the file. */
  moved(group: GroupId, entry: Entry, index: IndexSink): number {
    const position = this.record(RECORD_MOVED, group, entry);
    index.moved(group, entry.index, entry.term, position, entry.payload.length);
    return position;
  }

  private record(type: number, group: GroupId, entry: Entry): number {
    const { payload } = entry;
    this.reserve(RECORD_HEADER_BYTES + payload.length);
    const position = this.base + this.length;
    writeRecordHeader(this.bytes, this.view, this.length, this.salt, {
      type,
      kind: entry.kind,
      group,
      index: entry.index,
      term: entry.term,
      stamp: entry.timestampMs,
      length: payload.length,
      payloadCrc: entry.crc,
    });
    this.length += RECORD_HEADER_BYTES;
    this.bytes.set(payload, this.length);
    this.length += payload.length;
    this.count += 1;
    return position;
  }

  state(operation: StateOperation): void {
    this.reserve(RECORD_HEADER_BYTES + STATE_PAYLOAD_BYTES);
    const payloadAt = this.length + RECORD_HEADER_BYTES;
    writeU64(this.view, payloadAt, operation.trimIndex);
    writeU64(this.view, payloadAt + 8, operation.trimTerm);
    this.view.setUint32(payloadAt + 16, operation.replica, true);
    writeU64(this.view, payloadAt + 20, operation.lastIndex);
    const { type, group, term, vote, commit } = operation;
    const payloadCrc = crc32(this.bytes.subarray(payloadAt, payloadAt + STATE_PAYLOAD_BYTES));
    writeRecordHeader(this.bytes, this.view, this.length, this.salt, {
      type,
      kind: 0,
      group,
      index: commit,
      term,
      stamp: vote,
      length: STATE_PAYLOAD_BYTES,
      payloadCrc,
    });
    this.length = payloadAt + STATE_PAYLOAD_BYTES;
    this.count += 1;
    for (const sink of this.sinks) sink.state(operation);
  }

  destroy(group: GroupId): void {
    this.bare(RECORD_DESTROY, group);
    for (const sink of this.sinks) sink.destroy(group);
  }

  /** Says nothing: the batch before it is no longer the last one. */
  mark(): void {
    this.bare(RECORD_MARK, 0);
  }

  private bare(type: number, group: number): void {
    this.reserve(RECORD_HEADER_BYTES);
    const header = { type, kind: 0, group, index: 0, term: 0, stamp: 0, length: 0, payloadCrc: 0 };
    writeRecordHeader(this.bytes, this.view, this.length, this.salt, header);
    this.length += RECORD_HEADER_BYTES;
    this.count += 1;
  }

  end(sequence: number): void {
    assert(this.count > 0, "a batch has records");
    writeBatchHeader(this.bytes, this.batchAt, this.salt, {
      count: this.count,
      sequence,
      bytes: this.length - this.batchAt - BATCH_HEADER_BYTES,
    });
  }

  private reserve(count: number): void {
    if (this.length + count > this.bytes.length) this.resize(Math.max(this.length + count, this.bytes.length * 2));
  }

  private resize(size: number): void {
    const next = Buffer.allocUnsafeSlow(size);
    this.bytes.copy(next, 0, 0, Math.min(this.length, size));
    this.bytes = next;
    this.view = new DataView(next.buffer);
  }
}
