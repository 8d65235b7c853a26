// An ordered log of records with gapless offsets. The records themselves stay in the Raft log; the machine keeps what is
// needed to number them, to recognise retries and to find them again, and what is to be known of those who read them. A queue is a stream
// whose records go once they are settled.

import { assert, isCount } from "../../base/assert.ts";
import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { TRANSACTION_MARKS_MAX } from "../../base/limits.ts";
import { TransactionMarks } from "../transaction-marks.ts";
import type { ApplyMeta, Effects, Machine } from "../machine.ts";
import { FIRST_VERSION, RULES_VERSION } from "../versions.ts";
import type { Run } from "../work/lanes.ts";
import { Lost } from "../work/lost.ts";
import type { WorkOperation } from "../work/operations.ts";
import { decodeSidecar, type FactRun } from "../work/sidecar.ts";
import type { WorkEffects } from "../work/work.ts";
import { Works, type WorksEffects } from "../work/works.ts";
import { STREAM_BAD_COMMAND, STREAM_BUSY, STREAM_DUPLICATE, STREAM_FENCED, STREAM_FULL, STREAM_OK } from "./codes.ts";
import {
  COMMAND_COMMIT,
  COMMAND_DELETE_CURSOR,
  COMMAND_GROUP,
  COMMAND_RELOCATE,
  COMMAND_TRANSACTIONS,
  COMMAND_TRIM,
  COMMAND_WORK,
  decodeStreamCommand,
  encodeResults,
  type StreamCommand,
} from "./commands.ts";
import { Cursors, type Cursor } from "./cursors.ts";
import { Groups } from "./groups.ts";
import { OffsetIndex, type OffsetRow } from "./offset-index.ts";
import { Producers, type Verdict } from "./producers.ts";
import { readRecordsHeader, recordsSidecar, type RecordsHeader } from "./records-codec.ts";
import { relocationDue } from "./relocation-due.ts";
import { Relocations } from "./relocations.ts";
import { SparseProducers } from "./sparse-producers.ts";
import { Voids } from "./voids.ts";

const FORMAT = 1;
/** Kinds of log entries, as the contract of `Machine.apply` numbers them. */
const KIND_RECORDS = 1;
const KIND_COMMAND = 2;
/** Bytes of settled records that a queue gives back at a time: each time a state of it is saved. */
const RELEASED_BYTES_MIN = 2 * 1024 * 1024;
const NO_FACTS: readonly FactRun[] = [];

export class StreamMachine implements Machine {
  version = FIRST_VERSION;
  readonly newestVersion: number = RULES_VERSION;
  readonly isQueue: boolean;
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
  works: Works;
  groups = new Groups();
  /** Transactions that have published here. */
  transactions = new TransactionMarks();
  private lastRecordMs = 0;
  /** Payload bytes of accepted records since the stream began. */
  private bytesTotal = 0;
  private offsets = new OffsetIndex();
  private producers = new Producers();
  private sparse = new SparseProducers();
  private cursors = new Cursors();
  private voids = new Voids();
  private relocations = new Relocations();
  /** Of a queue: below it all is settled, or lies elsewhere by now. */
  private floor = 0;
  /** Where the effects of the entry that is being applied go, and of which subscription. */
  private effects: Effects | null = null;
  private subscription = "";
  private ofWorks: WorksEffects | null = null;

  constructor({ isQueue = false }: { readonly isQueue?: boolean } = {}) {
    this.isQueue = isQueue;
    this.works = isQueue ? Works.ofQueue() : new Works();
  }

  useVersion(version: number): void {
    assert(version >= FIRST_VERSION && version <= this.newestVersion, "the version of the rules is known");
    this.version = version;
  }

  apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    assert(meta.timeMs >= this.lastTimeMs, "the log's time never goes back");
    this.lastTimeMs = meta.timeMs;
    this.effects = effects;
    if (this.works.size > 0) this.works.advance(meta.timeMs, this.worksEffects);
    if (kind === KIND_RECORDS) this.applyRecords(meta, payload, effects);
    else if (kind === KIND_COMMAND) this.applyCommand(meta, decodeStreamCommand(payload), effects);
    else effects.reply(STREAM_BAD_COMMAND, 0, null);
    if (this.works.size > 0) this.serve(meta, effects);
    assert(this.startOffset <= this.endOffset, "the stream starts at or before its end");
  }

  /** Payload bytes held, exact to a row of the offset index. */
  get bytes(): number {
    return this.bytesTotal - this.bytesBefore(this.startOffset);
  }

  /** Payload bytes held below `offset`, exact to a row of the offset index. */
  bytesBelow(offset: number): number {
    return Math.max(0, this.bytesBefore(offset) - this.bytesBefore(this.startOffset));
  }

  /** Where to start reading the log for `offset`: the entry at `index` begins with the row's offset, at or before it. */
  locate(offset: number): OffsetRow {
    return this.offsets.locate(offset) ?? this.offsets.first ?? this.end;
  }

  /** The index of the entry in which the record was stored anew; -1 = it is where it was stored first. */
  relocatedTo(offset: number): number {
    return this.relocations.indexOf(offset);
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
  listCursors(after: string | null = null, max = Number.POSITIVE_INFINITY): ReturnType<Cursors["list"]> {
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

  /** Of a queue: the records that hold back much that is settled, lowest first; for the leader, who then stores them anew. */
  relocationCandidate(): readonly Run[] {
    if (!this.isQueue) return [];
    return relocationDue({
      floor: this.floor,
      endOffset: this.endOffset,
      bytesInPlace: this.bytesTotal - this.bytesBefore(this.floor),
      bytesTotal: this.bytesTotal,
      works: this.works,
      relocations: this.relocations,
    });
  }

  snapshot(): Uint8Array {
    const writer = new ByteWriter(256).u8(FORMAT).u8(this.isQueue ? 1 : 0);
    writer.varint(this.startOffset).varint(this.endOffset).varint(this.firstIndex).varint(this.floor);
    writer.varint(this.lastTimeMs).varint(this.lastRecordMs).varint(this.bytesTotal);
    for (const part of [
      this.offsets,
      this.producers,
      this.sparse,
      this.cursors,
      this.voids,
      this.works,
      this.groups,
      this.relocations,
      this.transactions,
    ])
      part.write(writer);
    return writer.finish();
  }

  restore(snapshot: Uint8Array): void {
    const reader = new ByteReader(snapshot);
    const format = reader.u8();
    if (format !== FORMAT) throw new DecodeError(`stream snapshot of format ${format}, this release knows ${FORMAT}`);
    if (reader.u8() !== (this.isQueue ? 1 : 0))
      throw new DecodeError("the snapshot of a queue is none of a topic, nor the other way round");
    const [startOffset, endOffset, firstIndex, floor] = [reader.varint(), reader.varint(), reader.varint(), reader.varint()];
    const [lastTimeMs, lastRecordMs, bytesTotal] = [reader.varint(), reader.varint(), reader.varint()];
    const offsets = OffsetIndex.read(reader);
    const producers = Producers.read(reader);
    const sparse = SparseProducers.read(reader);
    const cursors = Cursors.read(reader);
    const voids = Voids.read(reader);
    const works = Works.read(reader);
    const groups = Groups.read(reader);
    const relocations = Relocations.read(reader);
    const transactions = TransactionMarks.read(reader);
    reader.done();
    if (startOffset > endOffset) throw new DecodeError(`stream from ${startOffset} to ${endOffset}`);
    // Only now: a damaged snapshot leaves the state as it was.
    Object.assign(this, { startOffset, endOffset, firstIndex, floor, lastTimeMs, lastRecordMs, bytesTotal });
    Object.assign(this, { offsets, producers, sparse, cursors, voids, works, groups, relocations, transactions });
  }

  /** Most streams have no work subscriptions. */
  private get worksEffects(): WorksEffects {
    return (this.ofWorks ??= this.makeWorksEffects());
  }

  private makeWorksEffects(): WorksEffects {
    const ofWork: WorkEffects = {
      deliver: ({ id, terms }, { from, end }, token, deadlineMs, deliveries) =>
        this.effects!.delivered(this.subscription, { consumer: id, gateway: terms.gateway, from, end, token, deadlineMs, deliveries }),
      revoke: ({ id, terms }, { from, end }) =>
        this.effects!.revoked(this.subscription, { consumer: id, gateway: terms.gateway, from, end }),
    };
    return {
      forWork: (name) => {
        this.subscription = name;
        return ofWork;
      },
    };
  }

  /** The row of a stream that holds nothing: there is nothing to read. */
  private get end(): OffsetRow {
    return { offset: this.endOffset, index: this.firstIndex, timeMs: this.lastTimeMs, bytes: this.bytesTotal };
  }

  private bytesBefore(offset: number): number {
    return this.offsets.locate(offset)?.bytes ?? this.bytesTotal;
  }

  private applyRecords(meta: ApplyMeta, payload: Uint8Array, effects: Effects): void {
    const header = readRecordsHeader(payload);
    const facts = this.works.size === 0 || header === undefined ? NO_FACTS : this.factsOf(header, payload);
    if (header === undefined || facts === undefined) {
      this.refuse(meta, STREAM_BAD_COMMAND, 0, effects);
      return;
    }
    if (header.producerId !== 0) {
      const verdict = this.judge(header);
      if (verdict.code !== STREAM_OK) {
        this.refuse(meta, verdict.code, verdict.offset, effects);
        return;
      }
    }
    if (this.works.refuses(header.count, payload.length, this.endOffset)) this.refuse(meta, STREAM_FULL, 0, effects);
    else this.accept(meta, header, facts, payload.length, effects);
  }

  /** Null: nobody looked. Who publishes to a queue knows that it is one. Undefined: they are no facts. */
  private factsOf(header: RecordsHeader, payload: Uint8Array): readonly FactRun[] | null | undefined {
    return header.isScanned || this.isQueue ? decodeSidecar(recordsSidecar(payload), header.count) : null;
  }

  private judge(header: RecordsHeader): Verdict {
    if (!header.isTransaction) return header.isSparse ? this.sparse.judge(header) : this.producers.judge(header);
    const transaction = { group: header.producerId, offset: header.sequence };
    let code = STREAM_OK;
    if (this.transactions.has(transaction)) code = STREAM_DUPLICATE;
    else if (this.transactions.isPast(transaction)) code = STREAM_FENCED;
    else if (this.transactions.runs >= TRANSACTION_MARKS_MAX) code = STREAM_BUSY;
    return { code, offset: -1 };
  }

  private refuse({ index }: ApplyMeta, code: number, value: number, effects: Effects): void {
    this.voids.add(index);
    effects.reply(code, value, null);
  }

  private accept(meta: ApplyMeta, header: RecordsHeader, facts: readonly FactRun[] | null, bytes: number, effects: Effects): void {
    const offset = this.endOffset;
    if (header.isTransaction) this.transactions.add({ group: header.producerId, offset: header.sequence });
    else if (header.producerId !== 0) (header.isSparse ? this.sparse : this.producers).accept(header, offset, meta.timeMs);
    this.offsets.note(offset, meta.index, meta.timeMs, this.bytesTotal);
    this.bytesTotal += bytes;
    this.lastRecordMs = meta.timeMs;
    this.endOffset = offset + header.count;
    assert(isCount(this.endOffset) && isCount(this.bytesTotal), "offsets and bytes stay below 2^53");
    effects.reply(STREAM_OK, offset, null);
    effects.advanced(this.endOffset);
    if (this.works.size > 0) this.works.enqueue(offset, this.endOffset, facts, meta.timeMs, bytes);
  }

  private applyCommand(meta: ApplyMeta, command: StreamCommand | undefined, effects: Effects): void {
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
      case COMMAND_WORK:
        effects.reply(STREAM_OK, 0, this.operate(command.operations, meta));
        return;
      case COMMAND_RELOCATE:
        this.relocations.add(meta.index, this.bytesTotal, command.runs);
        effects.reply(STREAM_OK, 0, null);
        return;
      case COMMAND_GROUP:
        effects.reply(this.groups.operate(command.operation), 0, null);
        return;
      case COMMAND_TRANSACTIONS: {
        const { group, below, unfinished } = command;
        this.transactions.settle(group, below, unfinished);
        this.works.settleTransactions(group, below, unfinished);
        effects.reply(STREAM_OK, 0, null);
        return;
      }
      default:
        effects.reply(STREAM_BAD_COMMAND, 0, null);
    }
  }

  private operate(operations: readonly WorkOperation[], { timeMs }: ApplyMeta): Uint8Array {
    const lost = new Lost();
    const results = operations.map((operation, place) => {
      const runs: Run[] = [];
      const result = this.works.operate(operation, this, timeMs, this.worksEffects, runs);
      if (result > 0 && runs.length > 0) lost.note(place, runs);
      return result;
    });
    return encodeResults(results, lost);
  }

  private trim(offset: number, meta: ApplyMeta, effects: Effects): void {
    this.startOffset = Math.max(this.startOffset, Math.min(offset, this.endOffset));
    if (this.works.size > 0) this.works.drop(this.startOffset, this.endOffset, meta.timeMs, this.worksEffects);
    if (this.isQueue) this.moveFloor();
    effects.reply(STREAM_OK, this.startOffset, null);
    this.release(this.isQueue ? this.floor : this.startOffset, meta, effects);
  }

  /** Gives out what waits; what of a queue is settled may go. */
  private serve(meta: ApplyMeta, effects: Effects): void {
    this.works.serve(meta.index, meta.timeMs, this.worksEffects);
    effects.due(this.works.nextMs);
    if (!this.isQueue) return;
    this.moveFloor();
    const held = this.bytesBefore(this.floor) - (this.offsets.first?.bytes ?? this.bytesTotal);
    if (held >= RELEASED_BYTES_MIN) this.release(this.floor, meta, effects);
  }

  /** What was settled is no longer held. */
  private moveFloor(): void {
    const unsettledFrom = (offset: number): number => this.works.unsettledFrom(offset);
    const first = unsettledFrom(this.startOffset);
    if (first === this.startOffset && this.relocations.size === 0) return;
    this.startOffset = first < 0 ? this.endOffset : first;
    this.relocations.prune(unsettledFrom);
    let floor = unsettledFrom(this.floor);
    for (let end = this.relocations.endOf(floor); floor >= 0 && end > floor; end = this.relocations.endOf(floor))
      floor = unsettledFrom(end);
    this.floor = floor < 0 ? this.endOffset : floor;
  }

  /** What lies in place below `offset` is not needed any more. */
  private release(offset: number, meta: ApplyMeta, effects: Effects): void {
    if (offset === this.endOffset) this.offsets.clear();
    else this.offsets.trim(offset);
    // The entry that holds the first offset stays; with nothing held, all up to this entry may go.
    let needed = this.offsets.first?.index ?? meta.index + 1;
    if (this.relocations.size > 0) needed = Math.min(needed, this.relocations.firstIndex);
    assert(needed >= this.firstIndex, "what a trim gave up is not needed again");
    this.firstIndex = needed;
    this.voids.trim(needed);
    effects.releaseTo(this.firstIndex - 1);
  }
}
