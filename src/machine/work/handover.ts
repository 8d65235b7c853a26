// What transactions say to a work subscription: leased messages are handed over to them, and are settled or let go of once it is decided.

import { holderOf } from "../../base/ids.ts";
import { TRANSACTION_MARKS_MAX } from "../../base/limits.ts";
import type { Transaction } from "../transaction-marks.ts";
import type { Consumer } from "./consumers.ts";
import type { Dues } from "./dues.ts";
import { HOLD_MS } from "./holds.ts";
import type { Run } from "./lanes.ts";
import { NOWHERE, type Place, type RunMap } from "./run-map.ts";
import { CONSUMER, eachOf, TOKEN, type WorkState } from "./state.ts";
import type { Outcome } from "./work.ts";

/** The lease of the offsets, all of which the holder has, ends. */
export type EndLease = (holder: Consumer, run: Run, outcome: Outcome, nowMs: number) => void;

export class Handover {
  private readonly state: WorkState;
  private readonly dues: Dues;
  private readonly endLease: EndLease;

  constructor(state: WorkState, dues: Dues, endLease: EndLease) {
    this.state = state;
    this.dues = dues;
    this.endLease = endLease;
  }

  /**
   * Hands over what this consumer has under this token, all of the offsets or none. Returns how many: what the transaction holds already
   * counts; -1 when there is no room for one more transaction.
   */
  hold(id: number, { from, end }: Run, token: number, transaction: Transaction, nowMs: number): number {
    const { leases, consumers, holds } = this.state;
    if (holds.isOver(transaction)) return 0;
    const holderId = holderOf(transaction.offset);
    // What another transaction holds is no consumer's.
    const consumer = consumers.get(id);
    let found = 0;
    eachOf(leases, { from, end }, (run, place) => {
      if ((consumer !== undefined && this.isHeld(place, id, token)) || this.isHeld(place, holderId, token)) found += run.end - run.from;
    });
    if (found < end - from) return 0;
    const holder = holds.open(transaction);
    if (holder === null) return -1;
    leases.assign(from, end, holderId, token, nowMs + HOLD_MS);
    this.dues.leases.push(nowMs + HOLD_MS, from, end);
    holder.held.assign(from, end);
    consumer?.held.clear(from, end);
    if (consumer?.isDone === true) consumers.detach(id);
    return found;
  }

  /** What the transaction holds of the offsets under this token is settled. Returns how many. */
  conclude({ from, end }: Run, token: number, transaction: Transaction, outcome: Outcome, nowMs: number): number {
    const { leases, holds } = this.state;
    const holder = holds.of(transaction);
    if (holder === undefined) return 0;
    let settled = 0;
    eachOf(leases, { from, end }, (run, place) => {
      if (!this.isHeld(place, holder.id, token)) return;
      settled += run.end - run.from;
      this.endLease(holder, run, outcome, nowMs);
    });
    holds.close(holder);
    return settled;
  }

  /**
   * The transaction is rolled back: what it holds is as if it had never been delivered, and it holds nothing from here on, whatever comes
   * late. Returns how many; -1 when there is no room to remember one more.
   */
  letGo(transaction: Transaction, nowMs: number): number {
    const { holds } = this.state;
    const holder = holds.of(transaction);
    if (holder === undefined && holds.isOver(transaction)) return 0;
    if (holder === undefined && holds.marks.runs >= TRANSACTION_MARKS_MAX) return -1;
    holds.marks.add(transaction);
    if (holder === undefined) return 0;
    const released = holder.held.size;
    for (const run of runsOf(holder.held)) this.endLease(holder, run, { kind: "release" }, nowMs);
    holds.close(holder);
    return released;
  }

  private isHeld(place: Place, id: number, token: number): boolean {
    const { leases } = this.state;
    return leases.value(place, CONSUMER) === id && leases.value(place, TOKEN) === token;
  }
}

/** The runs of a set, as they are now. */
function runsOf(set: RunMap): Run[] {
  const runs: Run[] = [];
  for (let place = set.next(0); place !== NOWHERE; place = set.next(set.end(place)))
    runs.push({ from: set.from(place), end: set.end(place) });
  return runs;
}
