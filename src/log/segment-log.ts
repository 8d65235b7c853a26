// The shared log of a node: every group's entries and hard states, appended once, in the order of arrival, to one file at
// a time. See segment-format.ts for the bytes and recovery.ts for the start.

import { assert } from "../base/assert.ts";
import type { GroupId, ReplicaId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/prng.ts";
import { synced, written, type Disk } from "./disk.ts";
import { Compactor, type Move } from "./compactor.ts";
import { DurableNote, DurableNotes } from "./durable-note.ts";
import { GroupTable } from "./group-table.ts";
import { NextBatch } from "./next-batch.ts";
import { recover, type RecoverySettings } from "./recovery.ts";
import { SegmentPool } from "./segment-pool.ts";
import { Segment } from "./segment.ts";
import { FORMAT_VERSION, RECORD_HEADER_BYTES, encodeFooter } from "./segment-format.ts";
import { Scrubber } from "./scrubber.ts";
import { SegmentReader, type ReadDone } from "./segment-reader.ts";
import { SegmentRows, type RowKeys, type RowStore } from "./segment-rows.ts";
import type { GroupLogState, GroupWrite, LogStats, LogWatcher, SharedLog } from "./types.ts";
import { WriteBuffer } from "./write-buffer.ts";

export type SegmentLogSettings = RecoverySettings & {
  /** Bytes after which the next file is begun. */ readonly segmentBytes: number;
};
export type SegmentLogComponents = {
  readonly disk: Disk;
  readonly store: RowStore;
  readonly keys: RowKeys;
  readonly random: Random;
  readonly logger: Logger;
};

/** Seconds without an append after which no file is kept ready. */
const REST_SECONDS = 15;

export class SegmentLog implements SharedLog {
  private readonly settings: SegmentLogSettings;
  private readonly rows: SegmentRows;
  private readonly logger: Logger;
  private readonly table: GroupTable;
  private readonly pool: SegmentPool;
  private readonly reader: SegmentReader;
  private readonly compactor: Compactor;
  private readonly scrubber: Scrubber;
  /** Until somebody who knows the groups attaches, what the log itself knows must do. */
  private watcher: LogWatcher = {
    committedOf: (group) => this.table.groups.get(group)?.hardState.commit ?? 0,
    damaged: () => {},
  };
  private readonly buffer = new WriteBuffer();
  /** In use, oldest first; the last one is written to unless it is sealed. */
  private readonly segments: Segment[];
  private nextSequence: number;
  private busy = false;
  private isCompacting = false;
  private isPreparing = false;
  /** The next append begins another file. */
  private mustRoll = false;
  private failure: Error | null = null;
  private isClosed = false;
  private readonly notes: DurableNotes;
  /**
   * A batch was written in which a group voted, or came to another term; or which says again what a file says that is about to go.
   * It must not pass for torn.
   */
  private mustNote = false;
  private bytesAppended = 0;
  /** Seconds without an append, and what had been appended before them. */
  private restSeconds = 0;
  private restedAt = 0;
  private syncs = 0;
  private readonly next: NextBatch;
  /** Who is to be told of cuts that go into the next batch, and of those that were written and wait for a sync. */
  private trimsPending: (() => void)[] = [];
  private trimsWritten: (() => void)[] = [];
  /** Something died since segments were last looked at. */
  private mayFree = true;
  /** A file is dead, and no write came by whose sync would have freed it: one is worth it for that alone. */
  private hasDeadFile = false;
  /** Background work, one step after the other. */
  private maintenance: Promise<void> = Promise.resolve();

  /** Opens the log, reading the newest file and the indexes of the others. Rejects with LogCorruptError on damage. */
  static async open(settings: SegmentLogSettings, components: SegmentLogComponents): Promise<SegmentLog> {
    const { disk, logger } = components;
    await disk.makeDirectory(settings.directory);
    const rows = new SegmentRows(components.store, components.keys);
    const table = new GroupTable();
    const note = await DurableNote.open(settings.directory, disk);
    const recovered = await recover(settings, table, { disk, rows, noted: note.found, logger }).catch(async (error: unknown) => {
      await note.close();
      throw error;
    });
    const { segments, nextSequence, nextNumber, free } = recovered;
    const pool = new SegmentPool({ ...settings, nextNumber }, { disk, rows, random: components.random, free });
    const log = new SegmentLog(settings, components, { rows, note, table, pool, segments, nextSequence });
    try {
      // Before the first file is made: of a log that is used somebody tells.
      await log.notes.begin();
      for (const segment of recovered.unlisted) await log.list(segment);
      for (const segment of segments.slice(0, -1)) if (!segment.isSealed) log.seal(segment);
      await pool.prepare();
      return log;
    } catch (error) {
      await log.close();
      throw error;
    }
  }

  private constructor(
    settings: SegmentLogSettings,
    components: SegmentLogComponents,
    parts: { rows: SegmentRows; note: DurableNote; table: GroupTable; pool: SegmentPool; segments: Segment[]; nextSequence: number },
  ) {
    this.settings = settings;
    this.logger = components.logger;
    this.rows = parts.rows;
    this.table = parts.table;
    this.pool = parts.pool;
    this.segments = parts.segments;
    this.nextSequence = parts.nextSequence;
    const { table, rows, note, segments } = parts;
    const { logger } = components;
    // What was found was synced.
    const durableTo = parts.nextSequence - 1;
    this.notes = new DurableNotes(durableTo, { rows, note, logger, later: (step) => this.later(step) });
    this.next = new NextBatch(table);
    this.reader = new SegmentReader(table, segments);
    const { reader } = this;
    this.compactor = new Compactor({ table, segments, reader, segmentBytes: settings.segmentBytes, watcher: () => this.watcher });
    this.scrubber = new Scrubber({
      table,
      segments,
      reader,
      rows,
      logger,
      damaged: (group, reason) => this.watcher.damaged(group, reason),
      roll: () => (this.mustRoll = true),
    });
  }

  attach(watcher: LogWatcher): void {
    this.watcher = watcher;
  }

  groups(): ReadonlyMap<GroupId, GroupLogState> {
    return this.table.groups;
  }

  append(writes: readonly GroupWrite[], sync: boolean, done: (error: Error | null) => void): void {
    assert(!this.busy, "one append at a time");
    if (this.failure !== null || this.isClosed) {
      done(this.failure ?? new Error("the log is closed"));
      return;
    }
    this.busy = true;
    this.next.appending();
    const moves = this.compactor.take();
    const active = this.segments[this.segments.length - 1];
    const moved = moves.reduce((bytes, { entry }) => bytes + RECORD_HEADER_BYTES + entry.payload.length, 0);
    const size = this.next.bytesWith(writes) + moved;
    if (active !== undefined && !active.isSealed && !this.mustRoll && active.position + size <= this.settings.segmentBytes) {
      this.write(active, writes, moves, sync, done);
      return;
    }
    this.mustRoll = false;
    if (active !== undefined && !active.isSealed) this.seal(active);
    this.nextFile(active).then(
      (segment) => {
        this.segments.push(segment);
        this.write(segment, writes, moves, sync, done);
        this.prepareNext();
      },
      (error: unknown) => this.fail(error as Error, done),
    );
  }

  /** The file after `last`, of which all is durable first: a file that goes on where the one before it ends torn is damage. */
  private async nextFile(last: Segment | undefined): Promise<Segment> {
    if (last?.isUnsynced === true) {
      await synced(last.file);
      last.isUnsynced = false;
    }
    return this.pool.take();
  }

  sync(done: (error: Error | null) => void): void {
    assert(!this.busy, "one write at a time");
    const active = this.segments[this.segments.length - 1];
    if (active === undefined) {
      done(null);
      return;
    }
    this.busy = true;
    this.syncFile(active, done);
  }

  read(group: GroupId, first: number, last: number, bytesMax: number, done: ReadDone): void {
    this.reader.read(group, first, last, bytesMax, done);
  }

  entryBytes(group: GroupId, index: number): number {
    return this.table.groups.get(group)?.lengthOf(index) ?? 0;
  }

  damageOf(group: GroupId): string | null {
    return this.table.groups.get(group)?.damage ?? null;
  }

  trim(group: GroupId, index: number, term: number, recorded?: () => void): void {
    const state = this.table.groups.get(group);
    if (state === undefined || index <= state.trimmed.index) return;
    state.trim(index, term);
    this.next.trimmed(group);
    if (recorded !== undefined) this.trimsPending.push(recorded);
    this.mayFree = true;
  }

  begin(group: GroupId, replica: ReplicaId, index: number, term: number): void {
    const state = this.table.groupOf(group);
    state.replica = replica;
    state.damage = null;
    state.hardState = { term: 0, vote: 0, commit: index };
    state.reset(index, term);
    this.table.destroyed.delete(group);
    this.next.begun(group);
    this.mayFree = true;
  }

  reset(group: GroupId, index: number, term: number): void {
    this.table.groupOf(group).reset(index, term);
    this.next.reset(group);
    this.mayFree = true;
  }

  destroy(group: GroupId): void {
    if (!this.table.groups.has(group)) return;
    this.next.destroyed(group);
    // Dead from now on; older files may hold its records until the deletion is on disk.
    this.table.destroy(group, this.segments[this.segments.length - 1]?.number ?? 0);
    this.mayFree = true;
  }

  /** Remembers how far the log is durable, in two places, so that a tail that goes missing is noticed. Does not wait. */
  noteDurable(): void {
    if (!this.isClosed) this.notes.note();
  }

  secondPassed(): void {
    if (this.isClosed || this.failure !== null) return;
    this.compactor.secondPassed();
    this.hasDeadFile = this.mayFree && this.segments.some((segment) => this.isDead(segment) && segment.readers === 0);
    this.restSeconds = this.bytesAppended === this.restedAt ? this.restSeconds + 1 : 0;
    this.restedAt = this.bytesAppended;
    if (this.pool.secondPassed(this.keepsNext)) this.later(() => this.pool.shed(this.keepsNext));
  }

  /** Has the next file made ready in the background. */
  private prepareNext(): void {
    if (this.pool.isReady || this.isPreparing) return;
    this.isPreparing = true;
    this.later(async () => {
      this.isPreparing = false;
      await this.pool.prepare();
    });
  }

  /** The file in use is more than half full; or there is none: a log without any file is taken for one that was lost. */
  private get needsNext(): boolean {
    const active = this.segments[this.segments.length - 1];
    return active === undefined || active.position > this.settings.segmentBytes / 2;
  }

  /** And something is written to it: at rest two files' worth of disk, beside what is live, is enough. */
  private get keepsNext(): boolean {
    return this.needsNext && (this.segments.length === 0 || this.restSeconds < REST_SECONDS);
  }

  compact(): Promise<void> {
    // One step waits at a time, however long the work before it takes.
    if (!this.isClosed && this.failure === null && !this.isCompacting && this.compactor.isWanted) {
      this.isCompacting = true;
      this.later(async () => {
        this.isCompacting = false;
        await this.compactor.prepare();
      });
    }
    return this.maintenance;
  }

  get hasOwnWrites(): boolean {
    return this.compactor.hasMoves || !this.next.isEmpty || this.mustRoll || this.hasDeadFile;
  }

  /** Waits for nobody: work on the log goes on meanwhile. */
  async scrub(pace: (bytes: number) => Promise<void>): Promise<void> {
    await this.scrubber.pass(pace);
    if (!this.isClosed) this.notes.scrub();
  }

  stats(): LogStats {
    return {
      segments: this.segments.length,
      segmentsFree: this.pool.freeCount,
      bytesOnDisk: (this.segments.length + this.pool.freeCount) * this.settings.segmentBytes,
      bytesLive: this.table.liveBytes,
      bytesAppended: this.bytesAppended,
      syncs: this.syncs,
      bytesMoved: this.compactor.bytesMoved,
    };
  }

  /** Waits for background work; an append under way must have ended. */
  async close(): Promise<void> {
    assert(!this.busy, "no append is under way at close");
    this.isClosed = true;
    await this.maintenance;
    for (const segment of this.segments) await segment.file.close();
    await this.pool.close();
    await this.notes.close();
  }

  /** Tells the store of a file that it lost. */
  private async list(segment: Segment): Promise<void> {
    const { number, salt, firstSequence, lastSequence } = segment;
    await this.rows.put(number, { salt, bytes: await segment.file.size(), used: true });
    if (segment.isSealed) await this.rows.sealed(number, salt, { firstSequence, lastSequence, operations: segment.index.finish() });
  }

  private write(
    segment: Segment,
    writes: readonly GroupWrite[],
    moves: readonly Move[],
    sync: boolean,
    done: (error: Error | null) => void,
  ): void {
    const sequence = this.nextSequence;
    const isFirst = segment.firstSequence === 0;
    if (isFirst) segment.firstSequence = sequence;
    const header = isFirst ? { version: FORMAT_VERSION, number: segment.number, salt: segment.salt, firstSequence: sequence } : null;
    const { buffer } = this;
    buffer.begin({ salt: segment.salt, position: segment.position, header, sinks: [this.table.sink(segment.number), segment.index] });
    if (this.next.fill(buffer, writes)) this.mustNote = true;
    // There may be one for each of very many groups, too many for the arguments of a call.
    this.trimsWritten = this.trimsWritten.concat(this.trimsPending);
    this.trimsPending = [];
    const moved = this.compactor.current(moves).map((move) => ({ move, position: buffer.moved(move.group, move.entry, segment.index) }));
    if (buffer.isEmpty) buffer.mark();
    buffer.end(sequence);
    this.nextSequence += 1;
    segment.file.writeParts(buffer.parts(), segment.position, (error) => {
      if (error !== null) {
        this.fail(error, done);
        return;
      }
      segment.position += buffer.length;
      segment.lastSequence = sequence;
      segment.isUnsynced = true;
      if (this.needsNext) this.prepareNext();
      this.bytesAppended += buffer.length;
      if (moved.length > 0) {
        this.mustNote = true;
        this.compactor.place(moved, segment.number);
        this.mayFree = true;
      }
      if (sync) this.syncFile(segment, done);
      else {
        this.busy = false;
        done(null);
      }
    });
  }

  private syncFile(segment: Segment, done: (error: Error | null) => void): void {
    segment.file.sync((error) => {
      if (error !== null) {
        this.fail(error, done);
        return;
      }
      this.syncs += 1;
      segment.isUnsynced = false;
      this.notes.durableTo = segment.lastSequence;
      this.busy = false;
      // Nobody else has what says whom the node voted for. What it says goes before any file does.
      if (this.mustNote) this.notes.noteAtOnce();
      this.mustNote = false;
      // Only behind a sync: what takes a segment's place must be durable before the segment goes.
      if (this.mayFree) this.freeDead();
      const recorded = this.trimsWritten;
      this.trimsWritten = [];
      for (const tell of recorded) tell();
      done(null);
    });
  }

  /** After a failed write nothing is known of the file: no append is tried again (fsync errors are not repeatable). */
  private fail(error: Error, done: (error: Error | null) => void): void {
    this.busy = false;
    this.failure = error;
    done(error);
  }

  /** Writes the footer and hands the index to the store, in the background: the next file is in use already. */
  private seal(segment: Segment): void {
    segment.isSealed = true;
    segment.isSealing = true;
    const operations = segment.index.finish();
    const footer = encodeFooter(segment.salt, segment.lastSequence, operations);
    this.later(async () => {
      await written(segment.file, footer, segment.position);
      await synced(segment.file);
      const { number, salt, firstSequence, lastSequence } = segment;
      await this.rows.sealed(number, salt, { firstSequence, lastSequence, operations });
      segment.isSealing = false;
      this.mayFree = true;
    });
  }

  /**
   * Gives back sealed segments without a live entry. What they alone still say (hard states, cuts, deletions) is written
   * again first, with the next append, and they go after it; so a crash at any point finds it in one place at least.
   */
  private freeDead(): void {
    this.mayFree = false;
    this.hasDeadFile = false;
    for (const segment of [...this.segments]) {
      if (!this.isDead(segment)) continue;
      if (segment.readers > 0 || this.next.carryForward(segment, this.segments[0] === segment)) {
        this.mayFree = true;
        continue;
      }
      this.segments.splice(this.segments.indexOf(segment), 1);
      this.table.forgetSegment(segment.number);
      this.later(() => this.pool.give(segment));
    }
  }

  private isDead({ isSealed, number }: Segment): boolean {
    return isSealed && this.table.useOf(number).entries === 0;
  }

  private later(step: () => Promise<void>): void {
    this.maintenance = this.maintenance.then(step).catch((error: unknown) => {
      this.failure ??= error as Error;
      this.logger.error({ error: (error as Error).message }, "background work of the log failed");
    });
  }
}
