// The records of messages by their offsets, out of the batches in which they were stored, wherever the group is led.

import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { READ_AHEAD_BYTES_MAX } from "../../base/limits.ts";
import { sliceRecords } from "../record-scan.ts";
import type { Fetcher } from "../fetcher.ts";
import { FROM_OFFSET, type FetchedBatch } from "../types.ts";

/** Messages in a row out of one stored batch. */
export type RecordSlice = { readonly from: number; readonly end: number; readonly timeMs: number; readonly records: Uint8Array };

export class RunReader {
  private readonly fetcher: Fetcher;
  private readonly ahead = new ReadAhead(READ_AHEAD_BYTES_MAX);

  constructor(fetcher: Fetcher) {
    this.fetcher = fetcher;
  }

  /**
   * Of the messages from `from` to before `end`, which must be held, the first ones: about `maxBytes` of the batches that they lie in, at
   * least one. Rejects with BrokerError.
   */
  async read(group: GroupId, from: number, end: number, maxBytes: number, signal: AbortSignal): Promise<RecordSlice[]> {
    return heldOf(await this.fetch(group, from, maxBytes, signal), from, end);
  }

  /**
   * The same for consumers, who read on from there: batches are fetched as a whole and about `maxBytes` at a time, and what of them lies
   * beyond the range is kept for the next call.
   */
  async readOn(group: GroupId, from: number, end: number, maxBytes: number, signal: AbortSignal): Promise<RecordSlice[]> {
    let batches = this.ahead.from(group, from);
    if (batches === undefined) {
      batches = await this.fetch(group, from, maxBytes, signal);
      this.ahead.keep(group, batches);
    }
    this.ahead.passed(group, end);
    return heldOf(batches, from, end);
  }

  private async fetch(group: GroupId, from: number, maxBytes: number, signal: AbortSignal): Promise<readonly FetchedBatch[]> {
    const [part] = await this.fetcher.fetch([{ group, from: FROM_OFFSET, value: from }], { maxBytes, maxWaitMs: 0, direct: false }, signal);
    if (part!.error !== null) throw part!.error;
    return part!.batches;
  }
}

/** What was read of each group last. Records at an offset never change, so it can be too little, never wrong. */
class ReadAhead {
  private readonly bytesMax: number;
  private bytes = 0;
  /** The one that was read longest ago first. */
  private readonly groups = new Map<GroupId, readonly FetchedBatch[]>();

  /** At most `bytesMax` bytes of batches in all. */
  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** From the batch that holds `offset` on; undefined if it is not here. */
  from(group: GroupId, offset: number): readonly FetchedBatch[] | undefined {
    const batches = this.groups.get(group);
    const at = batches?.findIndex((batch) => holds(batch, offset)) ?? -1;
    return at < 0 ? undefined : batches!.slice(at);
  }

  keep(group: GroupId, batches: readonly FetchedBatch[]): void {
    this.drop(group);
    this.groups.set(group, batches);
    this.bytes += bytesOf(batches);
    for (const [oldest] of this.groups) {
      if (this.bytes <= this.bytesMax) return;
      this.drop(oldest);
    }
  }

  /** What lies before `offset` was read: when that is all of it, it goes. */
  passed(group: GroupId, offset: number): void {
    const last = this.groups.get(group)?.at(-1);
    if (last !== undefined && last.baseOffset + last.count <= offset) this.drop(group);
  }

  private drop(group: GroupId): void {
    const batches = this.groups.get(group);
    if (batches === undefined) return;
    this.groups.delete(group);
    this.bytes -= bytesOf(batches);
  }
}

function holds({ baseOffset, count }: FetchedBatch, offset: number): boolean {
  return offset >= baseOffset && offset < baseOffset + count;
}

function bytesOf(batches: readonly FetchedBatch[]): number {
  return batches.reduce((sum, { records }) => sum + records.length, 0);
}

/** What is settled may be gone, and then what comes after it was read. */
function heldOf(batches: readonly FetchedBatch[], from: number, end: number): RecordSlice[] {
  const slices = slicesOf(batches, from, end);
  if (slices.length === 0) throw new BrokerError("OFFSET_OUT_OF_RANGE", `message ${from} is no longer held`);
  return slices;
}

/** What of the batches lies in the range. */
export function slicesOf(batches: readonly FetchedBatch[], from: number, end: number): RecordSlice[] {
  const slices: RecordSlice[] = [];
  for (const { baseOffset, count, timeMs, records } of batches) {
    const first = Math.max(from, baseOffset);
    const last = Math.min(end, baseOffset + count);
    if (first >= last) continue;
    const isWhole = first === baseOffset && last === baseOffset + count;
    slices.push({ from: first, end: last, timeMs, records: isWhole ? records : sliceRecords(records, first - baseOffset, last - first) });
  }
  return slices;
}
