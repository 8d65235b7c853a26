import type { GroupId, ReplicaId } from "../base/ids.ts";
import type { Entry, HardState } from "../raft/types.ts";

/** One group's part of a write. Entries are contiguous; the first may overwrite a suffix of what the log holds. */
export type GroupWrite = {
  readonly group: GroupId;
  readonly hardState: HardState | null;
  readonly entries: readonly Entry[];
};

/** What the log knows of a group after recovery, and keeps up to date. */
export type GroupLogState = {
  /** Whose log it is; 0 when no replica began it. */
  readonly replica: ReplicaId;
  readonly hardState: HardState;
  /** The last entry that was trimmed away: (0, 0) for a whole log. */
  readonly trimmed: { readonly index: number; readonly term: number };
  readonly termRuns: readonly { readonly term: number; readonly firstIndex: number }[];
  /** trimmed.index when the log is empty. */
  readonly lastIndex: number;
};

/** What the log has to know of the groups, and whom it tells. */
export interface LogWatcher {
  /** Entries up to here are committed and will never be replaced. */
  committedOf(group: GroupId): number;
  /** Live entries of the group are damaged. */
  damaged(group: GroupId, reason: string): void;
}

/** The shared log of one node, as the host uses it. */
export interface SharedLog {
  attach(watcher: LogWatcher): void;
  /** State of every group found on disk. */
  groups(): ReadonlyMap<GroupId, GroupLogState>;
  /**
   * Writes all groups' parts in one write (none: a mark that all before it is whole), in order, and calls back when they are durable (`sync`) or written (`!sync`).
   * One append at a time: the caller waits for the callback before the next. A callback error is fatal for the node.
   * `read` gives these entries only after the callback.
   */
  append(writes: readonly GroupWrite[], sync: boolean, done: (error: Error | null) => void): void;
  /** Makes everything written so far durable (durability `interval` and `os`). */
  sync(done: (error: Error | null) => void): void;
  /**
   * Reads entries first..last, at least one and at most about `bytesMax` payload bytes, CRCs checked. Calls back with
   * LogReadError code CORRUPT when a record is damaged, TRIMMED when `first` is no longer held and UNWRITTEN when its
   * append is still under way.
   */
  read(group: GroupId, first: number, last: number, bytesMax: number, done: (error: Error | null, entries: readonly Entry[]) => void): void;
  /** Payload bytes of an entry, or the average of its segment when its index block is not in memory. */
  entryBytes(group: GroupId, index: number): number;
  /** Why the group's records may not be relied on; null when nothing is known against them. */
  damageOf(group: GroupId): string | null;
  /**
   * Logical cut: entries up to `index` are not needed. Recorded with the next append, and `recorded` is called once that is
   * durable (never, if the log is closed before): until then a restart begins the log where it began. Space comes back per segment.
   */
  trim(group: GroupId, index: number, term: number, recorded?: () => void): void;
  /**
   * Begins the log of `replica` after (index, term), with no vote and no entry: of a new group, or in place of another
   * replica's, whose records are dead. Recorded durably with the next append.
   */
  begin(group: GroupId, replica: ReplicaId, index: number, term: number): void;
  /** A snapshot replaces the group's log: it restarts empty after (index, term). Recorded durably with the next append. */
  reset(group: GroupId, index: number, term: number): void;
  /** The group is deleted by a committed command: its records are dead. Recorded with the next append. */
  destroy(group: GroupId): void;
  /** Remembers how far the log is durable, so that a tail that goes missing is noticed. Cheap; call it about once a second. */
  noteDurable(): void;
  /** To be called about once a second, also when nothing happens: what was kept for a load that is over is given back. */
  secondPassed(): void;
  /**
   * Looks for a file that is mostly dead; some of what still counts in it goes into the next append. Resolves when it is
   * ready for that; failures come out of the append.
   */
  compact(): Promise<void>;
  /** The next append has something of its own to write: an empty one is worth it. */
  readonly hasOwnWrites: boolean;
  /** Reads all that counts once, and tells the watcher of damage. `pace` resolves when more may be read. */
  scrub(pace: (bytes: number) => Promise<void>): Promise<void>;
  /** For operators, metrics and the watermark. */
  stats(): LogStats;
  close(): Promise<void>;
}

export type LogStats = {
  /** Files in use, and files kept ready for use. */
  readonly segments: number;
  readonly segmentsFree: number;
  readonly bytesOnDisk: number;
  readonly bytesLive: number;
  readonly bytesAppended: number;
  readonly syncs: number;
  /** Payload bytes that were written again so that a file could go. */
  readonly bytesMoved: number;
};
