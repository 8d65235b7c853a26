// What is due by itself in a work subscription, and when. No state of its own: it is found in what is, and may name what has changed since.

import { DueHeap } from "./due-heap.ts";
import type { Run } from "./lanes.ts";
import { DEADLINE, eachOf, EXPIRY, type WorkState } from "./state.ts";

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
}
