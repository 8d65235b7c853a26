// All groups of one log, and what each segment is still good for.

import type { GroupId, ReplicaId } from "../base/ids.ts";
import { GroupLog, type LiveCounter } from "./group-log.ts";
import type { IndexSink, StateOperation } from "./segment-index.ts";
import { RECORD_RESET } from "./segment-format.ts";

/** Live entries and their bytes, and groups whose newest hard state stands there. */
export type SegmentUse = { entries: number; bytes: number; states: number };

type Suspect = {
  readonly group: GroupId;
  readonly index: number;
  readonly segment: number;
  readonly position: number;
  readonly reason: string;
};

export class GroupTable {
  readonly groups = new Map<GroupId, GroupLog>();
  /** Deleted groups, and the segment that says so: older segments may still hold their entries. */
  readonly destroyed = new Map<GroupId, number>();
  private readonly uses = new Map<number, SegmentUse>();
  /** Damage found while files are read; what turns out to be dead anyway is none. */
  private suspects: Suspect[] = [];
  private readonly stateSuspects = new Map<GroupId, string>();

  private readonly counter: LiveCounter = (segment, entries, bytes) => {
    const use = this.useOf(segment);
    use.entries += entries;
    use.bytes += bytes;
  };

  useOf(segment: number): SegmentUse {
    let use = this.uses.get(segment);
    if (use === undefined) this.uses.set(segment, (use = { entries: 0, bytes: 0, states: 0 }));
    return use;
  }

  forgetSegment(segment: number): void {
    this.uses.delete(segment);
  }

  get liveBytes(): number {
    let bytes = 0;
    for (const use of this.uses.values()) bytes += use.bytes;
    return bytes;
  }

  groupOf(id: GroupId): GroupLog {
    let group = this.groups.get(id);
    if (group === undefined) {
      group = new GroupLog(this.counter);
      this.groups.set(id, group);
    }
    return group;
  }

  /** Takes what `segment` holds, in order. */
  sink(segment: number): IndexSink {
    return {
      entry: (id, index, term, position, length) => this.writtenOf(id).add(index, term, segment, position, length),
      moved: (id, index, term, position, length) => this.writtenOf(id).move(index, term, segment, position, length),
      state: (operation) => this.state(operation, segment),
      destroy: (id) => this.destroy(id as GroupId, segment),
    };
  }

  /**
   * Of a group that was deleted nothing more is written, so this is of another replica, which has begun here since. The record with
   * which it began may be gone: its file may go before the one with the deletion.
   */
  private writtenOf(id: number): GroupLog {
    this.destroyed.delete(id as GroupId);
    return this.groupOf(id as GroupId);
  }

  destroy(id: GroupId, segment: number): void {
    const group = this.groups.get(id);
    if (group !== undefined) {
      group.dropAll();
      if (group.stateSegment >= 0) this.useOf(group.stateSegment).states -= 1;
    }
    this.groups.delete(id);
    this.stateSuspects.delete(id);
    this.destroyed.set(id, segment);
  }

  suspectEntry(group: GroupId, index: number, segment: number, position: number, reason: string): void {
    this.suspects.push({ group, index, segment, position, reason });
  }

  /** Its newest hard state so far; a newer one makes up for it. */
  suspectState(group: GroupId, reason: string): void {
    this.destroyed.delete(group);
    this.stateSuspects.set(group, reason);
  }

  /** All files were read; `gone` are those whose content is not there any more. Holds the damage against its groups. */
  settle(gone: ReadonlyMap<number, string>): void {
    for (const { group, index, segment, position, reason } of this.suspects) {
      const place = this.groups.get(group)?.find(index);
      if (place?.segment === segment && place.position === position) this.groupOf(group).damage ??= reason;
    }
    for (const [group, reason] of this.stateSuspects) this.groupOf(group).damage ??= reason;
    for (const group of this.groups.values()) {
      for (const segment of group.segments()) group.damage ??= gone.get(segment) ?? null;
      if (group.firstMissing > 0) group.damage ??= `entry ${group.firstMissing} is missing`;
      if (group.replica === 0 && group.stateSegment < 0 && group.lastIndex > 0) group.damage ??= "its hard state is missing";
    }
    this.suspects = [];
    this.stateSuspects.clear();
  }

  private state(operation: StateOperation, segment: number): void {
    const group = this.writtenOf(operation.group);
    this.stateSuspects.delete(operation.group as GroupId);
    group.replica = operation.replica as ReplicaId;
    group.hardState = { term: operation.term, vote: operation.vote, commit: operation.commit };
    if (group.stateSegment >= 0) this.useOf(group.stateSegment).states -= 1;
    this.useOf(segment).states += 1;
    group.stateSegment = segment;
    if (operation.type === RECORD_RESET) group.reset(operation.trimIndex, operation.trimTerm);
    else {
      group.endAt(operation.lastIndex);
      group.trim(operation.trimIndex, operation.trimTerm);
    }
  }
}
