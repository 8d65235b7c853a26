// What is due by itself in a work subscription, and when. No state of its own: it is found in what is, and may name what has changed since.

import { DueHeap } from "./due-heap.ts";
import type { Run } from "./lanes.ts";
import { NOWHERE, type Place, type RunMap } from "./run-map.ts";
import { DEADLINE, eachOf, EXPIRY, type WorkState } from "./state.ts";

/** Ends of delays, and of leases, that one entry carries out; the next entry goes on. */
const DUE_MAX = 16_384;
const EVERYTHING: Run = { from: 0, end: Number.MAX_SAFE_INTEGER };

export class Dues {
  /** Offsets, by when their lease ends, their delay is over, and they expire. */
  readonly leases = new DueHeap();
  readonly delays = new DueHeap();
  readonly expiries = new DueHeap();
  /** Consumers that came for a while, by when they take no more. */
  readonly departures = new DueHeap();

  constructor(state: WorkState) {
    eachOf(state.leases, EVERYTHING, (run, place) => this.leases.push(state.leases.value(place, DEADLINE), run.from, run.end));
    eachOf(state.delayed, EVERYTHING, (run, place) => this.delays.push(state.delayed.value(place, 0), run.from, run.end));
    eachOf(state.facts, EVERYTHING, (run, place) => {
      const expiryMs = state.facts.value(place, EXPIRY);
      if (expiryMs > 0) this.expiries.push(expiryMs, run.from, run.end);
    });
    for (const { id, untilMs } of state.consumers.all()) if (untilMs > 0) this.departures.push(untilMs, id, id + 1);
  }

  /** -1 = nothing is. */
  get nextMs(): number {
    let next = -1;
    for (const { nextMs } of [this.leases, this.delays, this.expiries, this.departures])
      if (nextMs >= 0 && (next < 0 || nextMs < next)) next = nextMs;
    return next;
  }

  /**
   * Tells of the runs of `map` whose time, in `column`, has come: the earliest first, of one time the lowest offset, and only so many.
   * It is the map that counts and not what the heap holds: of what has changed since a replica that was restored knows nothing.
   */
  take(heap: DueHeap, map: RunMap, column: number, nowMs: number, then: (run: Run, place: Place) => void): void {
    let left = DUE_MAX;
    for (let due = heap.pop(nowMs); due !== undefined; due = heap.pop(nowMs)) {
      const { atMs, end } = due;
      for (let at = due.from; at < end;) {
        const place = map.next(at);
        if (place === NOWHERE || map.from(place) >= end) break;
        const run = { from: map.from(place), end: map.end(place) };
        at = run.end;
        // Changed since: it is in the heap once more, or is not due by itself any more.
        if (map.value(place, column) !== atMs) continue;
        if (left === 0) {
          heap.push(atMs, run.from, end);
          return;
        }
        left -= 1;
        then(run, place);
      }
    }
  }
}
