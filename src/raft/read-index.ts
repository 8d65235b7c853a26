// Linearizable reads without a log entry (Raft thesis, section 6.4): a round of heartbeats that a majority answers
// proves that this leader was still leader after the read was asked for. One round confirms all reads before it.

import { NOTHING, type Index, type ReadState } from "./types.ts";

/** Reads that one group may have waiting; beyond that they are refused. */
const WAITING_MAX = 100_000;

type Waiting = { readonly token: number; readonly index: Index; readonly round: number };

export class ReadIndex {
  /** Asked for before the leader had committed an entry of its own term (point 25). */
  private early: number[] = [];
  /** Wait for the next round to start. */
  private fresh: number[] = [];
  private waiting: Waiting[] = [];
  private confirmed: ReadState[] = [];
  private dropped: number[] = [];

  /** Nothing waits, and there is no news. */
  get isEmpty(): boolean {
    return this.early.length + this.fresh.length + this.waiting.length + this.confirmed.length + this.dropped.length === 0;
  }

  get hasNews(): boolean {
    return this.confirmed.length > 0 || this.dropped.length > 0;
  }

  get wantsRound(): boolean {
    return this.fresh.length > 0;
  }

  /** The round that reads now wait for; heartbeats carry it, so that a lost one is made good by the next. */
  get openRound(): number {
    return this.waiting[this.waiting.length - 1]?.round ?? 0;
  }

  add(token: number, ready: boolean): boolean {
    if (this.early.length + this.fresh.length + this.waiting.length >= WAITING_MAX) return false;
    (ready ? this.fresh : this.early).push(token);
    return true;
  }

  /** The leader has committed in its own term: reads may start. */
  ownTermCommitted(): void {
    if (this.early.length === 0) return;
    for (const token of this.early) this.fresh.push(token);
    this.early = [];
  }

  /** `round` is newer than all before it. */
  startRound(round: number, commit: Index): void {
    for (const token of this.fresh) this.waiting.push({ token, index: commit, round });
    this.fresh = [];
  }

  /** A majority has answered `round`. */
  confirmTo(round: number): void {
    let done = 0;
    while (done < this.waiting.length && this.waiting[done]!.round <= round) {
      const { token, index } = this.waiting[done]!;
      this.confirmed.push({ token, index });
      done += 1;
    }
    if (done > 0) this.waiting.splice(0, done);
  }

  /** Leadership is lost: nothing that waits can be confirmed. */
  drop(): void {
    if (this.early.length + this.fresh.length + this.waiting.length === 0) return;
    for (const token of this.early) this.dropped.push(token);
    for (const token of this.fresh) this.dropped.push(token);
    for (const { token } of this.waiting) this.dropped.push(token);
    this.early = [];
    this.fresh = [];
    this.waiting = [];
  }

  takeConfirmed(): readonly ReadState[] {
    if (this.confirmed.length === 0) return NOTHING;
    const taken = this.confirmed;
    this.confirmed = [];
    return taken;
  }

  takeDropped(): readonly number[] {
    if (this.dropped.length === 0) return NOTHING;
    const taken = this.dropped;
    this.dropped = [];
    return taken;
  }
}

/** Of every core without reads; nothing is ever added to it. */
export const NO_READS = new ReadIndex();
