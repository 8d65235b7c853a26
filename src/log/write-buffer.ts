// One batch as bytes: a buffer that is used again for every write, since only one is under way at a time. Large payloads
// are not copied into it: they are written from where they lie, in between.

import { assert } from "../base/assert.ts";
import { copyInto } from "../base/copy.ts";
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
/** A payload of so many bytes is a part of its own. */
const PART_BYTES_MIN = 8 * 1024;

export class WriteBuffer {
  private bytes: Buffer = Buffer.allocUnsafeSlow(1024 * 1024);
  private view = new DataView(this.bytes.buffer);
  /** Bytes of the buffer that are filled, from 0. */
  private at = 0;
  /** Payloads beside the buffer, and after how many of its bytes each belongs. */
  private payloads: Uint8Array[] = [];
  private readonly cuts: number[] = [];
  private payloadBytes = 0;
  private batchAt = 0;
  private count = 0;
  private salt = 0;
  private base = 0;
  private sinks: readonly IndexSink[] = [];

  /** Begins a batch that will stand at `position` of a file; `header` goes in front of a file's first batch. */
  begin(options: { salt: number; position: number; header: FileHeader | null; sinks: readonly IndexSink[] }): void {
    if (this.bytes.length > KEEP_BYTES) this.resize(KEEP_BYTES);
    this.at = 0;
    this.payloads = [];
    this.cuts.length = 0;
    this.payloadBytes = 0;
    this.count = 0;
    this.salt = options.salt;
    this.base = options.position;
    this.sinks = options.sinks;
    if (options.header !== null) {
      const bytes = encodeFileHeader(options.header);
      this.bytes.set(bytes, 0);
      this.at = bytes.length;
    }
    this.batchAt = this.at;
    this.at += BATCH_HEADER_BYTES;
  }

  /** Bytes of the write. */
  get length(): number {
    return this.at + this.payloadBytes;
  }

  /** The write, in order. Its memory is used again by the next one. */
  parts(): Uint8Array[] {
    const parts: Uint8Array[] = [];
    let from = 0;
    for (let part = 0; part < this.payloads.length; part++) {
      parts.push(this.bytes.subarray(from, this.cuts[part]), this.payloads[part]!);
      from = this.cuts[part]!;
    }
    if (from < this.at) parts.push(this.bytes.subarray(from, this.at));
    return parts;
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
    const isPart = payload.length >= PART_BYTES_MIN;
    this.reserve(RECORD_HEADER_BYTES + (isPart ? 0 : payload.length));
    const position = this.base + this.length;
    writeRecordHeader(this.bytes, this.view, this.at, this.salt, {
      type,
      kind: entry.kind,
      group,
      index: entry.index,
      term: entry.term,
      stamp: entry.timestampMs,
      length: payload.length,
      payloadCrc: entry.crc,
    });
    this.at += RECORD_HEADER_BYTES;
    if (isPart) {
      this.payloads.push(payload);
      this.cuts.push(this.at);
      this.payloadBytes += payload.length;
    } else {
      copyInto(this.bytes, this.at, payload);
      this.at += payload.length;
    }
    this.count += 1;
    return position;
  }

  state(operation: StateOperation): void {
    this.reserve(RECORD_HEADER_BYTES + STATE_PAYLOAD_BYTES);
    const payloadAt = this.at + RECORD_HEADER_BYTES;
    writeU64(this.view, payloadAt, operation.trimIndex);
    writeU64(this.view, payloadAt + 8, operation.trimTerm);
    this.view.setUint32(payloadAt + 16, operation.replica, true);
    writeU64(this.view, payloadAt + 20, operation.lastIndex);
    const { type, group, term, vote, commit } = operation;
    const payloadCrc = crc32(this.bytes.subarray(payloadAt, payloadAt + STATE_PAYLOAD_BYTES));
    writeRecordHeader(this.bytes, this.view, this.at, this.salt, {
      type,
      kind: 0,
      group,
      index: commit,
      term,
      stamp: vote,
      length: STATE_PAYLOAD_BYTES,
      payloadCrc,
    });
    this.at = payloadAt + STATE_PAYLOAD_BYTES;
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
    writeRecordHeader(this.bytes, this.view, this.at, this.salt, header);
    this.at += RECORD_HEADER_BYTES;
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
    if (this.at + count > this.bytes.length) this.resize(Math.max(this.at + count, this.bytes.length * 2));
  }

  private resize(size: number): void {
    const next = Buffer.allocUnsafeSlow(size);
    this.bytes.copy(next, 0, 0, Math.min(this.at, size));
    this.bytes = next;
    this.view = new DataView(next.buffer);
  }
}
