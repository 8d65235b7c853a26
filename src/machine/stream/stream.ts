// An ordered log of records with gapless offsets. The records themselves stay in the Raft log; the machine keeps what is
// needed to number them, to recognise retries and to find them again.

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import type { ApplyMeta, Effects, Machine } from "../machine.ts";
import { STREAM_BAD_COMMAND, STREAM_OK } from "./codes.ts";
import { COMMAND_COMMIT, COMMAND_DELETE_CURSOR, COMMAND_TRIM, decodeStreamCommand } from "./commands.ts";
import { Cursors, type Cursor } from "./cursors.ts";
import { OffsetIndex, type OffsetRow } from "./offset-index.ts";
import { Producers } from "./producers.ts";
import { readRecordsHeader, type RecordsHeader } from "./records-codec.ts";

const FORMAT = 1;
const KIND_RECORDS = 1;

export class StreamMachine implements Machine {
  readonly version = 1;
  /** First offset still held, and one past the last. Invariant: startOffset <= endOffset, and neither ever falls. */
  startOffset = 0;
  endOffset = 0;
  lastTimeMs = 0;
  private lastRecordMs = 0;
  /** Payload bytes of accepted records since the stream began. */
  private bytesTotal = 0;
  private offsets = new OffsetIndex();
  private producers = new Producers();
  private cursors = new Cursors();
  /** Records entries that added nothing (retries, gaps): readers of the log skip them. Ascending. */
  private voids: number[] = [];

  apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    this.lastTimeMs = meta.timeMs;
    if (kind === KIND_RECORDS) this.applyRecords(meta, payload, effects);
    else this.applyCommand(meta, payload, effects);
  }

  /** Payload bytes held, exact to a row of the offset index. */
  get bytes(): number {
    const start = this.offsets.locate(this.startOffset);
    return this.bytesTotal - (start?.bytes ?? this.bytesTotal);
  }

  /** Where to start reading the log for `offset`: the entry at `index` begins with the row's offset, at or before it. */
  locate(offset: number): OffsetRow {
    return this.offsets.locate(offset) ?? this.offsets.first ?? this.end;
  }

  /** Where to start reading for the first record stored at or after `timeMs`. */
  locateTime(timeMs: number): OffsetRow {
    return this.offsets.locateTime(timeMs) ?? this.offsets.first ?? this.end;
  }

  /** The records entry at this log index was refused when applied and holds no records of the stream. */
  isVoid(index: number): boolean {
    let low = 0;
    let high = this.voids.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const at = this.voids[middle]!;
      if (at === index) return true;
      if (at < index) low = middle + 1;
      else high = middle - 1;
    }
    return false;
  }

  cursor(subscription: string): Cursor | undefined {
    return this.cursors.get(subscription);
  }

  listCursors(): { name: string; offset: number; metadata: string; committedMs: number }[] {
    return this.cursors.list();
  }

  /** The offset to which retention would trim, or -1. For the leader, who then proposes it; changes nothing. */
  retentionCandidate(policy: { nowMs: number; retentionMs: number; retentionBytes: number }): number {
    let candidate = -1;
    if (policy.retentionMs > 0) candidate = this.offsets.locateTime(policy.nowMs - policy.retentionMs)?.offset ?? -1;
    if (policy.retentionBytes > 0 && this.bytesTotal > policy.retentionBytes) {
      candidate = Math.max(candidate, this.offsets.locateBytes(this.bytesTotal - policy.retentionBytes)?.offset ?? -1);
    }
    // With everything old enough, the last row is what stands before the newest records: those go too.
    if (policy.retentionMs > 0 && this.lastRecordMs > 0 && this.lastRecordMs < policy.nowMs - policy.retentionMs)
      candidate = this.endOffset;
    return candidate > this.startOffset ? candidate : -1;
  }

  snapshot(): Uint8Array {
    const writer = new ByteWriter(4096).u8(FORMAT);
    writer.varint(this.startOffset).varint(this.endOffset).varint(this.lastTimeMs).varint(this.lastRecordMs).varint(this.bytesTotal);
    this.offsets.write(writer);
    this.producers.write(writer);
    this.cursors.write(writer);
    writer.varint(this.voids.length);
    let previous = 0;
    for (const index of this.voids) {
      writer.varint(index - previous);
      previous = index;
    }
    return writer.finish();
  }

  restore(snapshot: Uint8Array): void {
    const reader = new ByteReader(snapshot);
    const format = reader.u8();
    if (format !== FORMAT) throw new DecodeError(`stream snapshot of format ${format}, this release knows ${FORMAT}`);
    this.startOffset = reader.varint();
    this.endOffset = reader.varint();
    this.lastTimeMs = reader.varint();
    this.lastRecordMs = reader.varint();
    this.bytesTotal = reader.varint();
    this.offsets = OffsetIndex.read(reader);
    this.producers = Producers.read(reader);
    this.cursors = Cursors.read(reader);
    this.voids = [];
    let previous = 0;
    for (let count = reader.varint(); count > 0; count--) {
      previous += reader.varint();
      this.voids.push(previous);
    }
    reader.done();
  }

  /** The row of a stream that holds nothing: there is nothing to read. */
  private get end(): OffsetRow {
    return { offset: this.endOffset, index: 1, timeMs: this.lastTimeMs, bytes: this.bytesTotal };
  }

  private applyRecords(meta: ApplyMeta, payload: Uint8Array, effects: Effects): void {
    const header = readRecordsHeader(payload);
    if (header === undefined || header.count === 0) {
      this.voids.push(meta.index);
      effects.reply(STREAM_BAD_COMMAND, 0, null);
      return;
    }
    if (header.producerId !== 0) {
      const verdict = this.producers.judge(header);
      if (verdict.code !== STREAM_OK) {
        this.voids.push(meta.index);
        effects.reply(verdict.code, verdict.offset, null);
        return;
      }
    }
    this.accept(meta, header, payload.length, effects);
  }

  private accept(meta: ApplyMeta, header: RecordsHeader, bytes: number, effects: Effects): void {
    const offset = this.endOffset;
    if (header.producerId !== 0) this.producers.accept(header, offset, meta.timeMs);
    this.offsets.note({ offset, index: meta.index, timeMs: meta.timeMs, bytes: this.bytesTotal });
    this.bytesTotal += bytes;
    this.lastRecordMs = meta.timeMs;
    this.endOffset = offset + header.count;
    effects.reply(STREAM_OK, offset, null);
    effects.advanced(this.endOffset);
  }

  private applyCommand(meta: ApplyMeta, payload: Uint8Array, effects: Effects): void {
    const command = decodeStreamCommand(payload);
    switch (command?.kind) {
      case COMMAND_COMMIT:
        effects.reply(this.cursors.commit(command, this.endOffset, meta.timeMs), 0, null);
        return;
      case COMMAND_DELETE_CURSOR:
        this.cursors.delete(command.subscription);
        effects.reply(STREAM_OK, 0, null);
        return;
      case COMMAND_TRIM:
        this.trim(command.offset, meta, effects);
        return;
      default:
        effects.reply(STREAM_BAD_COMMAND, 0, null);
    }
  }

  private trim(offset: number, meta: ApplyMeta, effects: Effects): void {
    this.startOffset = Math.max(this.startOffset, Math.min(offset, this.endOffset));
    if (this.startOffset === this.endOffset) this.offsets.clear();
    else this.offsets.trim(this.startOffset);
    // The entry that holds the first offset stays; with nothing held, all up to this command may go.
    const needed = this.startOffset === this.endOffset ? meta.index + 1 : this.locate(this.startOffset).index;
    let drop = 0;
    while (drop < this.voids.length && this.voids[drop]! < needed) drop += 1;
    if (drop > 0) this.voids.splice(0, drop);
    effects.reply(STREAM_OK, this.startOffset, null);
    effects.releaseTo(needed - 1);
  }
}
