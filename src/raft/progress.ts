// The leader's view of one member: what it has, what was sent, and how much may be under way.

import { membersOf } from "./membership.ts";
import { PROGRESS_PROBE, PROGRESS_REPLICATE, PROGRESS_SNAPSHOT, type Configuration, type Index, type PeerId } from "./types.ts";

/** Bounds of what is under way to one follower. */
export type InflightLimits = { readonly inflightMessagesMax: number; readonly inflightBytesMax: number };

/** Appends under way to one follower, oldest first, bounded in messages and bytes (point 20). */
class Inflights {
  private readonly lasts: Index[] = [];
  private readonly sizes: number[] = [];
  private bytes = 0;

  get count(): number {
    return this.lasts.length;
  }

  isFull({ inflightMessagesMax, inflightBytesMax }: InflightLimits): boolean {
    return this.lasts.length >= inflightMessagesMax || this.bytes >= inflightBytesMax;
  }

  add(last: Index, bytes: number): void {
    this.lasts.push(last);
    this.sizes.push(bytes);
    this.bytes += bytes;
  }

  /** Everything up to `index` has arrived. */
  freeTo(index: Index): void {
    let done = 0;
    while (done < this.lasts.length && this.lasts[done]! <= index) this.bytes -= this.sizes[done++]!;
    if (done === 0) return;
    this.lasts.splice(0, done);
    this.sizes.splice(0, done);
  }
}

export class Progress {
  readonly peer: PeerId;
  private readonly limits: InflightLimits;
  /** Null until an append is under way, and again when the group comes to rest. */
  private inflights: Inflights | null = null;
  match: Index = 0;
  /** Invariant: match < next. */
  next: Index;
  state: 0 | 1 | 2 = PROGRESS_PROBE;
  /** Answered since the last quorum check. */
  recentActive = false;
  /** Probe: one message is under way. Replicate: the window is full and an empty append was sent. */
  appendPaused = false;
  pendingSnapshot: Index = 0;
  isLearner: boolean;
  /** The commit index that was sent last, so that none is sent again for nothing. */
  sentCommit: Index = 0;
  /** The newest round of heartbeats that this member answered. */
  readRound = 0;

  constructor(peer: PeerId, next: Index, isLearner: boolean, limits: InflightLimits) {
    this.peer = peer;
    this.next = next;
    this.isLearner = isLearner;
    this.limits = limits;
  }

  /** Appends under way, and whether there may be no more of them. */
  get inflight(): number {
    return this.inflights?.count ?? 0;
  }

  get isInflightFull(): boolean {
    return this.inflights?.isFull(this.limits) ?? false;
  }

  get isPaused(): boolean {
    return this.state === PROGRESS_SNAPSHOT || this.appendPaused;
  }

  reset(next: Index): void {
    this.match = 0;
    this.next = next;
    this.recentActive = false;
    this.sentCommit = 0;
    this.readRound = 0;
    this.change(PROGRESS_PROBE);
  }

  becomeProbe(): void {
    const resume = this.state === PROGRESS_SNAPSHOT ? this.pendingSnapshot + 1 : 0;
    this.change(PROGRESS_PROBE);
    this.next = Math.max(this.match + 1, resume);
    this.sentCommit = Math.min(this.sentCommit, this.next - 1);
  }

  becomeReplicate(): void {
    this.change(PROGRESS_REPLICATE);
    this.next = this.match + 1;
  }

  becomeSnapshot(index: Index): void {
    this.change(PROGRESS_SNAPSHOT);
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.sentCommit = index;
  }

  /** An append up to `last` leaves. */
  sent(last: Index, entries: number, bytes: number): void {
    if (this.state === PROGRESS_REPLICATE) {
      if (entries > 0) {
        this.next = last + 1;
        (this.inflights ??= new Inflights()).add(last, bytes);
      }
      this.appendPaused = this.isInflightFull;
    } else if (entries > 0) this.appendPaused = true;
  }

  /** Appends up to `index` are no longer under way. */
  freeTo(index: Index): void {
    this.inflights?.freeTo(index);
  }

  slimDown(): void {
    if (this.inflight === 0) this.inflights = null;
  }

  /** The member has everything up to `index`; false when that is no news. */
  update(index: Index): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.appendPaused = false;
    return true;
  }

  /** The member refused the append after `rejected`; false when the refusal is late. */
  decrease(rejected: Index, hint: Index): boolean {
    if (this.state === PROGRESS_REPLICATE) {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      this.sentCommit = Math.min(this.sentCommit, this.next - 1);
      return true;
    }
    if (this.next - 1 !== rejected) return false;
    // It refuses what it once confirmed: its node lost a tail that was never synced (relaxed durability), or the refusal
    // is a late one. To count too little is always safe; an answer to the next probe sets it right.
    if (rejected <= this.match) this.match = Math.max(0, Math.min(hint, rejected - 1));
    this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1);
    this.sentCommit = Math.min(this.sentCommit, this.next - 1);
    this.appendPaused = false;
    return true;
  }

  /** The member would learn something from an empty append with this commit index. */
  canBumpCommit(commit: Index): boolean {
    return commit > this.sentCommit && this.sentCommit < this.next - 1;
  }

  private change(state: 0 | 1 | 2): void {
    this.state = state;
    this.appendPaused = false;
    this.pendingSnapshot = 0;
    this.inflights = null;
  }
}

/**
 * The progress of every member, ascending by peer: of those who stay as it was, of new ones starting with a probe at
 * `lastIndex`. A new member counts as active until the next check, or its arrival could depose the leader.
 */
export function progressFor(
  configuration: Configuration,
  known: readonly Progress[],
  lastIndex: Index,
  limits: InflightLimits,
): Progress[] {
  return membersOf(configuration).map((peer) => {
    const isLearner = configuration.learners.includes(peer);
    const old = known.find((progress) => progress.peer === peer);
    if (old !== undefined) {
      old.isLearner = isLearner;
      return old;
    }
    const fresh = new Progress(peer, Math.max(lastIndex, 1), isLearner, limits);
    fresh.recentActive = true;
    return fresh;
  });
}
