import { assert } from "../src/base/assert.ts";

export type Spread = { readonly median: number; readonly min: number; readonly max: number };

/** Of at least one value. Between two in the middle the median lies half way. */
export function spread(values: readonly number[]): Spread {
  assert(values.length > 0, "a median of something");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
  return { median: middle, min: sorted[0]!, max: sorted[sorted.length - 1]! };
}
