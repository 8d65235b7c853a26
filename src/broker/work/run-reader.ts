// The records of messages by their offsets, out of the batches in which they were stored, wherever the group is led.

import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { sliceRecords } from "../record-scan.ts";
import type { Fetcher } from "../fetcher.ts";
import { FROM_OFFSET, type FetchedBatch } from "../types.ts";

/** Messages in a row out of one stored batch. */
export type RecordSlice = { readonly from: number; readonly end: number; readonly timeMs: number; readonly records: Uint8Array };

export class RunReader {
  private readonly fetcher: Fetcher;

  constructor(fetcher: Fetcher) {
    this.fetcher = fetcher;
  }

  /**
   * Of the messages from `from` to before `end`, which must be held, the first ones: about `maxBytes` of the batches that they lie in, at
   * least one. Rejects with BrokerError.
   */
  async read(group: GroupId, from: number, end: number, maxBytes: number, signal: AbortSignal): Promise<RecordSlice[]> {
    const [part] = await this.fetcher.fetch([{ group, from: FROM_OFFSET, value: from }], { maxBytes, maxWaitMs: 0, direct: false }, signal);
    if (part!.error !== null) throw part!.error;
    const slices = slicesOf(part!.batches, from, end);
    // What is settled may be gone, and then what comes after it is read.
    if (slices.length === 0) throw new BrokerError("OFFSET_OUT_OF_RANGE", `message ${from} is no longer held`);
    return slices;
  }
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
