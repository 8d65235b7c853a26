// What the next batch says beyond what it is given: hard states, cuts and deletions that wait for it; and of what it is given,
// what no longer belongs in the log.

import { assert } from "../base/assert.ts";
import type { GroupId } from "../base/ids.ts";
import type { GroupTable } from "./group-table.ts";
import type { Segment } from "./segment.ts";
import { BATCH_HEADER_BYTES, RECORD_HEADER_BYTES, RECORD_RESET, RECORD_STATE, STATE_PAYLOAD_BYTES } from "./segment-format.ts";
import type { GroupWrite } from "./types.ts";
import type { WriteBuffer } from "./write-buffer.ts";

const STATE_BYTES = RECORD_HEADER_BYTES + STATE_PAYLOAD_BYTES;

type StateType = typeof RECORD_STATE | typeof RECORD_RESET;

export class NextBatch {
  private readonly table: GroupTable;
  /** Groups whose hard state or cut goes into it, beyond those that the writes name. */
  private readonly states = new Map<GroupId, StateType>();
  private readonly destroys = new Set<GroupId>();
  /** Groups whose log began anew while the append waited for its file, and what of their writes no longer belongs there. */
  private readonly overtaken = new Map<GroupId, "entries" | "all">();

  constructor(table: GroupTable) {
    this.table = table;
  }

  /** Nothing waits for it. */
  get isEmpty(): boolean {
    return this.states.size === 0 && this.destroys.size === 0;
  }

  /** An append begins: what overtook the one before it is past. */
  appending(): void {
    this.overtaken.clear();
  }

  trimmed(group: GroupId): void {
    if (!this.states.has(group)) this.states.set(group, RECORD_STATE);
  }

  /** Another life of the group. The reset says all that a deletion that is still to be written would. */
  begun(group: GroupId): void {
    this.destroys.delete(group);
    this.states.set(group, RECORD_RESET);
    this.overtaken.set(group, "all");
  }

  /** A snapshot took the place of the group's log. */
  reset(group: GroupId): void {
    if (!this.overtaken.has(group)) this.overtaken.set(group, "entries");
    this.states.set(group, RECORD_RESET);
  }

  destroyed(group: GroupId): void {
    this.states.delete(group);
    this.destroys.add(group);
    this.overtaken.set(group, "all");
  }

  /** Bytes that it takes at most with these writes. */
  bytesWith(writes: readonly GroupWrite[]): number {
    let bytes = BATCH_HEADER_BYTES + (this.states.size + this.destroys.size) * STATE_BYTES;
    for (const { hardState, entries } of writes) {
      if (hardState !== null) bytes += STATE_BYTES;
      for (const { payload } of entries) bytes += RECORD_HEADER_BYTES + payload.length;
    }
    return bytes;
  }

  /** True when it says of a group's term, vote or cut what nothing else does: it must not pass for torn. */
  fill(buffer: WriteBuffer, writes: readonly GroupWrite[]): boolean {
    const { table, states, destroys } = this;
    let mustNote = states.size > 0;
    for (const group of destroys) buffer.destroy(group);
    destroys.clear();
    for (const { group, hardState, entries } of writes) {
      const overtaken = this.overtaken.get(group);
      if (overtaken === "all") continue;
      const state = table.groupOf(group);
      const pending = states.get(group);
      const { term, vote } = state.hardState;
      if (hardState !== null && (hardState.term !== term || hardState.vote !== vote)) mustNote = true;
      if (hardState !== null || pending !== undefined) {
        states.delete(group);
        this.writeState(buffer, group, hardState ?? state.hardState, pending ?? RECORD_STATE);
      }
      if (entries.length === 0 || overtaken === "entries") continue;
      const first = entries[0]!.index;
      assert(first > state.trimmed.index && first <= state.lastIndex + 1, "entries follow the log without a gap");
      for (const entry of entries) buffer.entry(group, entry);
    }
    for (const [group, type] of states) this.writeState(buffer, group, table.groupOf(group).hardState, type);
    states.clear();
    return mustNote;
  }

  /** What the file alone still says is said again. True when there is any: the file can go after that. */
  carryForward({ number }: Segment, isOldest: boolean): boolean {
    const { table } = this;
    let carried = false;
    for (const [group, at] of table.destroyed) {
      if (at !== number) continue;
      if (isOldest) table.destroyed.delete(group);
      else {
        this.destroys.add(group);
        carried = true;
      }
    }
    if (table.useOf(number).states === 0) return carried;
    for (const [group, state] of table.groups) {
      if (state.stateSegment !== number) continue;
      // Of an empty log the record says again that nothing before it counts.
      if (!this.states.has(group)) this.states.set(group, state.lastIndex === state.trimmed.index ? RECORD_RESET : RECORD_STATE);
      carried = true;
    }
    return carried;
  }

  private writeState(
    buffer: WriteBuffer,
    group: GroupId,
    hardState: { term: number; vote: number; commit: number },
    type: StateType,
  ): void {
    const { trimmed, replica, lastIndex } = this.table.groupOf(group);
    buffer.state({ type, group, replica, ...hardState, trimIndex: trimmed.index, trimTerm: trimmed.term, lastIndex });
  }
}
