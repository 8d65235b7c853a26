// Saves machine states so that a restart replays little, and cuts the log. The cut is always at a saved checkpoint, so
// that checkpoint plus the log from there on is the whole group: what a follower too far behind is sent.

import type { Clock } from "../base/clock.ts";
import type { GroupId } from "../base/ids.ts";
import { CHECKPOINTS_PER_GROUP_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { SharedLog } from "../log/types.ts";
import type { Replica } from "./replica.ts";
import type { CheckpointStore } from "./types.ts";

/** What looking at a saved state counts for at least: thousands of small ones must not keep an idle node busy. */
const SCRUB_COST_BYTES = 256 * 1024;

export type CheckpointerSettings = { readonly checkpointBytes: number; readonly checkpointEntries: number };

export class Checkpointer {
  private readonly settings: CheckpointerSettings;
  private readonly store: CheckpointStore;
  private readonly logOf: (replica: Replica) => SharedLog;
  private readonly logger: Logger;
  private readonly clock: Clock;
  private readonly failed: (error: Error) => void;

  private readonly saving = new Map<Replica, Promise<void>>();
  /** What was begun in the store and never rejects. */
  private underWay: Promise<void> = Promise.resolve();

  constructor(
    settings: CheckpointerSettings,
    components: {
      store: CheckpointStore;
      logOf: (replica: Replica) => SharedLog;
      logger: Logger;
      clock: Clock;
      failed: (error: Error) => void;
    },
  ) {
    this.settings = settings;
    this.store = components.store;
    this.logOf = components.logOf;
    this.logger = components.logger;
    this.clock = components.clock;
    this.failed = components.failed;
  }

  /** A save should begin: there is none under way, and enough was applied since the last one. */
  isDue(replica: Replica): boolean {
    const newest = replica.checkpointIndexes[replica.checkpointIndexes.length - 1] ?? 0;
    if (replica.checkpointing || replica.applied <= newest) return false;
    // A trim can free the log only up to a checkpoint at or below it.
    const behindTrim = replica.releaseTo > newest && replica.releaseTo <= replica.applied && replica.appliedEntriesSinceCheckpoint >= 16;
    return (
      behindTrim ||
      replica.appliedBytesSinceCheckpoint >= this.settings.checkpointBytes ||
      replica.appliedEntriesSinceCheckpoint >= this.settings.checkpointEntries
    );
  }

  /** Saves the state now if it moved since the last one. Resolves when it is in the store. */
  save(replica: Replica): Promise<void> {
    const underWay = this.saving.get(replica);
    if (underWay !== undefined) return underWay;
    const work = this.saveState(replica).finally(() => this.saving.delete(replica));
    this.saving.set(replica, work);
    return this.tracked(work);
  }

  /** Resolves when nothing that was begun here is under way in the store: only then may it be closed. */
  async idle(): Promise<void> {
    for (let work: Promise<void> | null = null; work !== this.underWay;) {
      work = this.underWay;
      await work;
    }
  }

  /** Deletes what is saved of groups that a committed command removed. */
  deleteGroups(groups: readonly GroupId[]): Promise<void> {
    const work = this.store.deleteGroups(groups);
    void this.tracked(work.catch(() => {}));
    return work;
  }

  private tracked(work: Promise<void>): Promise<void> {
    this.underWay = Promise.all([this.underWay, work]).then(() => {});
    return work;
  }

  private async saveState(replica: Replica): Promise<void> {
    const newest = replica.checkpointIndexes[replica.checkpointIndexes.length - 1] ?? -1;
    if (replica.checkpointing || replica.closed || replica.applied <= newest) return;
    replica.checkpointing = true;
    replica.appliedBytesSinceCheckpoint = 0;
    replica.appliedEntriesSinceCheckpoint = 0;
    const index = replica.applied;
    const checkpoint = {
      index,
      term: Math.max(replica.raft.termAt(index), 0),
      configuration: replica.configuration,
      machineVersion: replica.machine.version,
      timeMs: replica.timeMs,
      digest: replica.digest.saved,
      snapshot: replica.machine.snapshot(),
    };
    try {
      await this.store.save(replica.group, checkpoint);
    } catch (error) {
      this.failed(new Error(`checkpoint of group ${replica.group} cannot be saved`, { cause: error }));
      return;
    } finally {
      replica.checkpointing = false;
    }
    if (replica.closed) return;
    replica.checkpointIndexes.push(index);
    this.cut(replica);
    this.thin(replica);
  }

  /**
   * Reads the saved states. One that cannot be read is forgotten and made up for by a new one; without the one at which
   * the log begins the replica can no longer help another one up: the reason why is returned.
   */
  async scrub(replica: Replica, pace: (bytes: number) => Promise<void>): Promise<string | null> {
    for (const index of [...replica.checkpointIndexes]) {
      if (replica.closed) return null;
      const checkpoint = await this.store.read(replica.group, index);
      await pace(Math.max(checkpoint?.snapshot.length ?? 0, SCRUB_COST_BYTES));
      if (checkpoint !== undefined || replica.closed || !replica.checkpointIndexes.includes(index)) continue;
      if (index === replica.checkpointIndexes[0]) return `the checkpoint at ${index}, where the log begins, is damaged`;
      this.logger.warn({ group: replica.group, index }, "a checkpoint is damaged: another one is made");
      replica.checkpointIndexes = replica.checkpointIndexes.filter((other) => other !== index);
      await this.save(replica);
    }
    return null;
  }

  /** Cuts the log at the newest checkpoint at or below what neither the machine needs nor a follower that got a snapshot. */
  cut(replica: Replica): void {
    if (replica.checkpointing) return;
    const indexes = replica.checkpointIndexes;
    const released = replica.descriptor.kind === "catalog" ? (indexes[indexes.length - 2] ?? 0) : replica.releaseTo;
    const target = Math.min(released, this.pinned(replica));
    let base = -1;
    for (const index of indexes) if (index <= target) base = index;
    if (base > (indexes[0] ?? 0)) {
      const term = replica.raft.termAt(base);
      if (term < 0) return;
      replica.checkpointIndexes = indexes.filter((index) => index >= base);
      replica.raft.compact(base, term);
      // The state at the old beginning is needed until the log is sure to begin later; a closed replica's successor has its own.
      this.logOf(replica).trim(replica.group, base, term, () => {
        if (!replica.closed) this.forget(replica, base);
      });
      this.logger.debug({ group: replica.group, index: base }, "log cut at a checkpoint");
    }
  }

  /**
   * Of too many saved states every second one between the oldest and the newest goes, here and in the store: a log that is
   * never cut would fill it, and a restart would bring all of them back. One that a crash has left goes at the next start.
   */
  thin(replica: Replica): void {
    const held = replica.checkpointIndexes;
    let kept = held;
    while (kept.length > CHECKPOINTS_PER_GROUP_MAX) kept = kept.filter((_, at, all) => at === 0 || at === all.length - 1 || at % 2 === 0);
    if (kept === held) return;
    replica.checkpointIndexes = kept;
    const gone = new Set(held);
    for (const index of kept) gone.delete(index);
    this.deleted(replica, this.store.delete(replica.group, gone));
  }

  private pinned(replica: Replica): number {
    if (replica.pins.size === 0) return Number.POSITIVE_INFINITY;
    const status = replica.raft.status();
    return replica.pins.limit(this.clock.monotonicMs(), (peer) => status.find((progress) => progress.peer === peer)?.match ?? 0);
  }

  private forget(replica: Replica, below: number): void {
    // Another life of the group may have begun here since, with states of its own.
    if (replica.closed) return;
    this.deleted(replica, this.store.deleteBelow(replica.group, below));
  }

  private deleted({ group }: Replica, work: Promise<void>): void {
    const failed = (error: unknown): void =>
      this.failed(new Error(`old checkpoints of group ${group} cannot be deleted`, { cause: error }));
    void this.tracked(work.catch(failed));
  }
}
