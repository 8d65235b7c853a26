// The arithmetic of the failover series: how long a partition was without service around a fault, and what many such times
// come to.

import { assert } from "../../src/base/assert.ts";

export type Gap = {
  readonly ms: number;
  /** False: still without service at the end of the watch, so `ms` is only how long that has lasted. */
  readonly isOver: boolean;
};

/**
 * The longest time between two acknowledgements in a row of which the later one came after the fault. So an answer that was
 * already on its way when the fault struck ends no gap, and a second interruption counts as well. `acksMs` ascend; without
 * one from before the fault it begins at the fault. What ends with the watch and lasted no longer than `pauseMs` is no gap: the next
 * acknowledgement was not yet due. All times are of one monotonic clock.
 */
export function gapOf(acksMs: readonly number[], faultMs: number, endMs: number, pauseMs: number): Gap {
  let last = faultMs;
  let longest = 0;
  for (const ackMs of acksMs) {
    if (ackMs > faultMs) longest = Math.max(longest, ackMs - last);
    last = ackMs;
  }
  assert(endMs >= last, "the watch ends after the last acknowledgement");
  return endMs - last > Math.max(longest, pauseMs) ? { ms: endMs - last, isOver: false } : { ms: longest, isOver: true };
}

export type Distribution = {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
};

/**
 * The smallest of the values that at least this part of them does not exceed (nearest rank): always a value that was measured.
 * Of fewer than a hundred the 99th percentile is thus the largest.
 */
export function percentile(ascending: readonly number[], part: number): number {
  assert(ascending.length > 0 && part > 0 && part <= 1, "a part of something");
  return ascending[Math.ceil(part * ascending.length - 1e-9) - 1]!;
}

/** Null of nothing. */
export function distributionOf(values: readonly number[]): Distribution | null {
  if (values.length === 0) return null;
  const ascending = [...values].sort((a, b) => a - b);
  return {
    count: ascending.length,
    p50: percentile(ascending, 0.5),
    p90: percentile(ascending, 0.9),
    p99: percentile(ascending, 0.99),
    max: ascending[ascending.length - 1]!,
  };
}
