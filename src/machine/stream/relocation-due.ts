// Which records of a queue hold back much more than they have. A pure function of the state, asked by the leader.

import { DEAD_BYTES_MAX, RELOCATED_BYTES_MAX, RELOCATED_RUNS_MAX } from "../../base/limits.ts";
import type { Run } from "../work/lanes.ts";
import type { Works } from "../work/works.ts";
import type { Relocations } from "./relocations.ts";

export type HeldBack = {
  /** Below it all is settled or lies elsewhere. */
  readonly floor: number;
  readonly endOffset: number;
  /** Bytes from the floor to the end, settled ones too; and since the stream began. */
  readonly bytesInPlace: number;
  readonly bytesTotal: number;
  readonly works: Works;
  readonly relocations: Relocations;
};

/** Ascending; none when nothing is to be done. Of what was stored anew already the oldest comes first. */
export function relocationDue({ floor, endOffset, bytesInPlace, bytesTotal, works, relocations }: HeldBack): readonly Run[] {
  const unsettledFrom = (offset: number): number => works.unsettledFrom(offset);
  if (relocations.size > 0 && bytesTotal - relocations.oldestBytesBefore > DEAD_BYTES_MAX) {
    const runs = relocations.oldestRuns(unsettledFrom);
    if (runs.length > 0) return runs.slice(0, RELOCATED_RUNS_MAX);
  }
  if (bytesInPlace <= DEAD_BYTES_MAX || floor >= endOffset) return [];
  const bytesEach = bytesInPlace / (endOffset - floor);
  let unsettled = 0;
  for (const name of works.list()) {
    const { ready, leased, delayed, parked, dead } = works.get(name)!.counts;
    unsettled += ready + leased + delayed + parked + dead;
  }
  // Storing anew what mostly lives would cost more than it frees.
  if (bytesInPlace - unsettled * bytesEach <= Math.max(DEAD_BYTES_MAX, unsettled * bytesEach)) return [];
  // Who stores them anew takes as many as there is room for.
  return lowest(floor, Math.max(RELOCATED_RUNS_MAX, Math.floor(RELOCATED_BYTES_MAX / bytesEach)), unsettledFrom, relocations);
}

/** The lowest records that are not settled and lie where they were stored first. */
function lowest(floor: number, max: number, unsettledFrom: (offset: number) => number, relocations: Relocations): Run[] {
  const runs: { from: number; end: number }[] = [];
  let left = max;
  for (let at = unsettledFrom(floor); at >= 0 && left > 0; at = unsettledFrom(at)) {
    const end = relocations.endOf(at);
    if (end > at) {
      at = end;
      continue;
    }
    const last = runs[runs.length - 1];
    if (last?.end === at) last.end += 1;
    else if (runs.length === RELOCATED_RUNS_MAX) break;
    else runs.push({ from: at, end: at + 1 });
    at += 1;
    left -= 1;
  }
  return runs;
}
