// How long what the clients wait for takes on this node: the write of a batch until it is durable here, and an entry from the
// log's door until it is applied, that is committed on a majority. What is left of a client's latency is the way to and from it.

import { Histogram } from "../base/histogram.ts";
import type { Replica } from "./replica.ts";

/** Seconds. */
const BOUNDS = [0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5] as const;

export const timeHistogram = (): Histogram => new Histogram(BOUNDS);

/** Follows one entry at a time through its replication, whichever comes next: a fair sample that costs nothing. */
export class CommitTimer {
  readonly seconds = timeHistogram();
  private replica: Replica | null = null;
  private term = 0;
  private index = 0;
  private sinceMs = 0;

  /** The leader's entries up to `index` are handed to the log. */
  handedOver(replica: Replica, index: number, nowMs: number): void {
    // Who has lost its leadership since will never tell.
    if (this.replica !== null && !this.replica.closed && this.replica.isLeader && this.replica.raft.term === this.term) return;
    this.replica = replica;
    this.term = replica.raft.term;
    this.index = index;
    this.sinceMs = nowMs;
  }

  applied(replica: Replica, nowMs: () => number): void {
    if (replica !== this.replica || replica.applied < this.index) return;
    this.replica = null;
    if (replica.isLeader && replica.raft.term === this.term) this.seconds.add((nowMs() - this.sinceMs) / 1_000);
  }
}
