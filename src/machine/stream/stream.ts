// An ordered log of records with gapless offsets. The records themselves stay in the Raft log; the machine keeps what is
// needed to number them, to recognise retries and to find them again.

import { assert, isCount } from "../../base/assert.ts";
import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import type { ApplyMeta, Effects, Machine } from "../machine.ts";
import { FIRST_VERSION, RULES_VERSION } from "../versions.ts";
import { STREAM_BAD_COMMAND, STREAM_OK } from "./codes.ts";
import { COMMAND_COMMIT, COMMAND_DELETE_CURSOR, COMMAND_TRIM, decodeStreamCommand } from "./commands.ts";
import { Cursors, type Cursor } from "./cursors.ts";
import { OffsetIndex, type OffsetRow } from "./offset-index.ts";
import { Producers } from "./producers.ts";
import { readRecordsHeader, type RecordsHeader } from "./records-codec.ts";
import { Voids } from "./voids.ts";

const FORMAT = 1;
/** Kinds of log entries, as the contract of `Machine.apply` numbers them. */
const KIND_RECORDS = 1;
const KIND_COMMAND = 2;

export class StreamMachine implements Machine {
  version = FIRST_VERSION;
  readonly newestVersion: number = RULES_VERSION;
  /** First offset still held, and one past the last. Invariant: startOffset <= endOffset, and neither ever falls. */
  startOffset = 0;
  endOffset = 0;
  /**
   * The first log index that is still needed. Below it `isVoid` knows nothing: who reads the log across a wait looks here
   * first. Invariant: never falls; the entry that holds `startOffset` is at or after it.
   */
  firstIndex = 1;
  /** The log's time at the last entry. Never goes back. */
  lastTimeMs = 0;
  private lastRecordMs = 0;
  /** Payload bytes of accepted records since the stream began. */
  private bytesTotal = 0;
  private offsets = new OffsetIndex();
  private producers = new Producers();
  private cursors = new Cursors();
  private voids = new Voids();

  useVersion(version: number): void {
    assert(version >= FIRST_VERSION && version <= this.newestVersion, "the version of the rules is known");
    this.version = version;
  }

  apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    assert(meta.timeMs >= this.lastTimeMs, "the log's time never goes back");
    this.lastTimeMs = meta.timeMs;
    if (kind === KIND_RECORDS) this.applyRecords(meta, payload, effects);
    else if (kind === KIND_COMMAND) this.applyCommand(meta, payload, effects);
    else effects.reply(STREAM_BAD_COMMAND, 0, null);
    assert(this.startOffset <= this.endOffset, "the stream starts at or before its end");
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

  /** The records entry at this log index was refused when applied and holds no records of the stream. For `firstIndex` and above. */
  isVoid(index: number): boolean {
    return this.voids.has(index);
  }

  cursor(subscription: string): Cursor | undefined {
    return this.cursors.get(subscription);
  }

  /** By name: at most `max`, from the first one after `after` on. */
  listCursors(
    after: string | null = null,
    max = Number.POSITIVE_INFINITY,
  ): { name: string; offset: number; metadata: string; committedMs: number }[] {
    return this.cursors.list(after, max);
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
    const writer = new ByteWriter(256).u8(FORMAT);
    writer.varint(this.startOffset).varint(this.endOffset).varint(this.firstIndex);
    writer.varint(this.lastTimeMs).varint(this.lastRecordMs).varint(this.bytesTotal);
    this.offsets.write(writer);
    this.producers.write(writer);
    this.cursors.write(writer);
    this.voids.write(writer);
    return writer.finish();
  }

  restore(snapshot: Uint8Array): void {
    const reader = new ByteReader(snapshot);
    const format = reader.u8();
    if (format !== FORMAT) throw new DecodeError(`stream snapshot of format ${format}, this release knows ${FORMAT}`);
    const startOffset = reader.varint();
    const endOffset = reader.varint();
    const firstIndex = reader.varint();
    const lastTimeMs = reader.varint();
    const lastRecordMs = reader.varint();
    const bytesTotal = reader.varint();
    const offsets = OffsetIndex.read(reader);
    const producers = Producers.read(reader);
    const cursors = Cursors.read(reader);
    const voids = Voids.read(reader);
    reader.done();
    if (startOffset > endOffset) throw new DecodeError(`stream from ${startOffset} to ${endOffset}`);
    // Only now: a damaged snapshot leaves the state as it was.
    this.startOffset = startOffset;
    this.endOffset = endOffset;
    this.firstIndex = firstIndex;
    this.lastTimeMs = lastTimeMs;
    this.lastRecordMs = lastRecordMs;
    this.bytesTotal = bytesTotal;
    this.offsets = offsets;
    this.producers = producers;
    this.cursors = cursors;
    this.voids = voids;
  }

  /** The row of a stream that holds nothing: there is nothing to read. */
  private get end(): OffsetRow {
    return { offset: this.endOffset, index: this.firstIndex, timeMs: this.lastTimeMs, bytes: this.bytesTotal };
  }

  private applyRecords(meta: ApplyMeta, payload: Uint8Array, effects: Effects): void {
    const header = readRecordsHeader(payload);
    if (header === undefined) {
      this.voids.add(meta.index);
      effects.reply(STREAM_BAD_COMMAND, 0, null);
      return;
    }
    if (header.producerId !== 0) {
      const verdict = this.producers.judge(header);
      if (verdict.code !== STREAM_OK) {
        this.voids.add(meta.index);
        effects.reply(verdict.code, verdict.offset, null);
        return;
      }
    }
    this.accept(meta, header, payload.length, effects);
  }

  private accept(meta: ApplyMeta, header: RecordsHeader, bytes: number, effects: Effects): void {
    const offset = this.endOffset;
    if (header.producerId !== 0) this.producers.accept(header, offset, meta.timeMs);
    this.offsets.note(offset, meta.index, meta.timeMs, this.bytesTotal);
    this.bytesTotal += bytes;
    this.lastRecordMs = meta.timeMs;
    this.endOffset = offset + header.count;
    assert(isCount(this.endOffset) && isCount(this.bytesTotal), "offsets and bytes stay below 2^53");
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
    const needed = this.offsets.first?.index ?? meta.index + 1;
    assert(needed >= this.firstIndex, "what a trim gave up is not needed again");
    this.firstIndex = needed;
    this.voids.trim(needed);
    effects.reply(STREAM_OK, this.startOffset, null);
    effects.releaseTo(this.firstIndex - 1);
  }
}
