// The write pipeline of one shared log: many groups, one write and one sync at a time. What becomes ready while a write
// is under way is the next batch, so group commit needs no timer. There are two lanes: the catalog's, which goes first,
// and everybody else's.

import { LOG_WRITE_BYTES_MAX, LOG_WRITE_ENTRIES_MAX } from "../base/limits.ts";
import type { GroupWrite, SharedLog } from "../log/types.ts";
import type { Message, Ready } from "../raft/types.ts";
import type { Replica } from "./replica.ts";
import { timeHistogram, type CommitTimer } from "./timings.ts";

/** Ticks without a write after which the log is marked, and ticks between two looks at what is due about once a second. */
const QUIET_TICKS = 3;
const NOTE_TICKS = 20;

type After = { readonly replica: Replica; readonly sequence: number; readonly messages: readonly Message[] };

class Batch {
  readonly writers: Replica[] = [];
  readonly writes: GroupWrite[] = [];
  readonly afters: After[] = [];
  bytes = 0;
  entries = 0;
  sync = false;
}

export type LaneComponents = {
  readonly log: SharedLog;
  readonly nowMs: () => number;
  readonly commits: CommitTimer;
  /** May leave at once. */
  readonly send: (replica: Replica, message: Message) => void;
  /** The core of `replica` has news to collect. */
  readonly touched: (replica: Replica) => void;
  /** The same, and the turn that collects them follows at once. */
  readonly touchedForTurn: (replica: Replica) => void;
  /** A write ended: run a turn now. */
  readonly turn: () => void;
  readonly fatal: (error: Error) => void;
};

export class Lane {
  readonly log: SharedLog;
  private readonly components: LaneComponents;
  private batch = new Batch();
  private busy = false;
  private busySinceMs = 0;
  /** From the start of a write until it is durable, or in the file where no sync was wanted; seconds. */
  readonly writeSeconds = timeHistogram();
  private hasFailed = false;
  /** Written without sync since the last one: entries of groups with relaxed durability. */
  unsyncedEntries = 0;
  private syncWanted = false;
  /** When the first of those entries has to be durable. */
  private syncDueMs = Number.POSITIVE_INFINITY;
  /** Entries were written since the last mark; ticks without a write since. */
  private isUnmarked = false;
  private quietTicks = 0;
  private ticks = 0;

  constructor(components: LaneComponents) {
    this.log = components.log;
    this.components = components;
  }

  /** The next batch is as large as a write may be: what is dirty stays so until it has begun. */
  get isFull(): boolean {
    return this.batch.bytes >= LOG_WRITE_BYTES_MAX || this.batch.entries >= LOG_WRITE_ENTRIES_MAX;
  }

  /** How long the write under way has taken so far; 0 = none is. */
  get writingMs(): number {
    return this.busy ? this.components.nowMs() - this.busySinceMs : 0;
  }

  get isIdle(): boolean {
    return !this.busy && (this.hasFailed || (this.batch.afters.length === 0 && !this.syncWanted));
  }

  /** Takes what a Ready wants written, and keeps back the messages that depend on it. */
  add(replica: Replica, ready: Ready): void {
    const voteChanged = replica.takeVoteChange(ready.hardState);
    const writes = ready.entries.length > 0 || ready.mustSync;
    if (ready.snapshot !== null) this.supersede(replica);
    if (!writes && replica.outstandingWrites === 0) {
      // Nothing to write, or a commit index alone: that rides along with the next write.
      for (const message of ready.messagesAfterPersist) this.components.send(replica, message);
      if (ready.writeSequence !== 0) {
        replica.raft.persisted(ready.writeSequence);
        if (replica.raft.hasReady()) this.components.touched(replica);
      }
      return;
    }
    if (writes) {
      this.batch.writers.push(replica);
      this.batch.writes.push({ group: replica.group, hardState: ready.hardState, entries: ready.entries });
      this.batch.entries += ready.entries.length;
      const last = ready.entries[ready.entries.length - 1];
      if (last !== undefined && replica.isLeader) this.components.commits.handedOver(replica, last.index, this.components.nowMs());
      for (const entry of ready.entries) this.batch.bytes += entry.payload.length;
      // Entries alone are synced as their topic wants it; everything else that a replica promises always is.
      if (voteChanged || ready.entries.length === 0 || ready.snapshot !== null || replica.durability.sync) this.batch.sync = true;
      else this.relaxed(replica, ready.entries.length);
    }
    replica.outstandingWrites += 1;
    this.batch.afters.push({ replica, sequence: ready.writeSequence, messages: ready.messagesAfterPersist });
  }

  /** A snapshot took the place of the replica's log: what was to be written of that does not follow it any more. */
  private supersede(replica: Replica): void {
    const { writers, writes } = this.batch;
    for (let at = 0; at < writers.length; at++) if (writers[at] === replica) writes[at] = { ...writes[at]!, entries: [] };
  }

  /** Starts the next write if none is under way. */
  start(): void {
    if (this.busy || this.hasFailed || (this.batch.afters.length === 0 && !this.syncWanted)) return;
    this.quietTicks = 0;
    const batch = this.batch;
    this.batch = new Batch();
    // Of a replica that is gone since, nothing may reach the log: another life of the group may have begun there.
    const isGone = batch.writers.some(({ closed }) => closed);
    const writes = isGone ? batch.writes.filter((_, at) => !batch.writers[at]!.closed) : batch.writes;
    if (writes.length === 0) {
      if (this.syncWanted) this.syncNow(batch);
      else this.finish(batch);
      return;
    }
    this.begin();
    this.isUnmarked = true;
    const sync = batch.sync || this.syncWanted;
    if (sync) {
      this.syncWanted = false;
      this.allSynced();
    }
    this.log.append(writes, sync, (error) => {
      this.busy = false;
      this.writeSeconds.add((this.components.nowMs() - this.busySinceMs) / 1_000);
      if (error !== null) this.fail(error);
      else this.finish(batch);
    });
  }

  /**
   * When the log falls quiet its last batch gets a successor: from then on damage there cannot pass for a torn write. And
   * what the log itself has to write does not wait for somebody's entries. Entries that may wait for their sync get one
   * before the next tick, `tickMs` from now, would be too late.
   */
  tick(tickMs: number): void {
    if (this.unsyncedEntries > 0 && this.components.nowMs() + tickMs >= this.syncDueMs) this.syncWanted = true;
    if (++this.ticks % NOTE_TICKS === 0) {
      this.log.noteDurable();
      this.log.secondPassed();
    }
    if (this.busy || this.hasFailed) return;
    void this.log.compact();
    const isQuiet = this.isUnmarked && ++this.quietTicks >= QUIET_TICKS;
    if (!isQuiet && !this.log.hasOwnWrites) return;
    this.begin();
    this.isUnmarked = this.log.hasOwnWrites;
    this.allSynced();
    this.log.append([], true, (error) => {
      this.busy = false;
      if (error !== null) this.fail(error);
      else {
        this.log.noteDurable();
        this.components.turn();
      }
    });
  }

  /** Nothing more is written: what waits was never promised to anybody. */
  private fail(error: Error): void {
    this.hasFailed = true;
    this.components.fatal(error);
  }

  private begin(): void {
    this.busy = true;
    this.busySinceMs = this.components.nowMs();
  }

  private relaxed(replica: Replica, entries: number): void {
    this.unsyncedEntries += entries;
    const { flushEntries, flushIntervalMs } = replica.durability;
    if (flushIntervalMs > 0) this.syncDueMs = Math.min(this.syncDueMs, this.components.nowMs() + flushIntervalMs);
    if (flushEntries > 0 && this.unsyncedEntries >= flushEntries) this.syncWanted = true;
  }

  private allSynced(): void {
    this.unsyncedEntries = 0;
    this.syncDueMs = Number.POSITIVE_INFINITY;
  }

  private syncNow(batch: Batch): void {
    this.begin();
    this.syncWanted = false;
    this.allSynced();
    this.log.sync((error) => {
      this.busy = false;
      if (error !== null) this.fail(error);
      else this.finish(batch);
    });
  }

  /** Only now do votes, acknowledgements and the leader's own acknowledgement count (DESIGN section 2, step 4). */
  private finish(batch: Batch): void {
    for (const after of batch.afters) {
      const { replica } = after;
      replica.outstandingWrites -= 1;
      if (replica.closed) continue;
      if (after.sequence !== 0) replica.raft.persisted(after.sequence);
      for (const message of after.messages) this.components.send(replica, message);
      this.components.touchedForTurn(replica);
    }
    this.components.turn();
  }
}
