// One member of one Raft group on this node: the consensus core, the state machine and what ties them together. All of
// it is synchronous; the host decides when, the lane writes.

import { assert } from "../base/assert.ts";
import { NOTHING } from "../base/nothing.ts";
import { SparseMap } from "../base/sparse-map.ts";
import { nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import { ENTRY_MEMORY_BYTES, PROPOSALS_PER_ROUND_MAX, UNCOMMITTED_BYTES_MAX, UNCOMMITTED_ENTRIES_MAX } from "../base/limits.ts";
import type { Machine } from "../machine/machine.ts";
import type { RaftNode } from "../raft/raft-node.ts";
import {
  PROPOSE_OK,
  ROLE_LEADER,
  type Configuration,
  type Entry,
  type EntryKind,
  type HardState,
  type PeerId,
  type ReadState,
} from "../raft/types.ts";
import type { CatchUp } from "./catch-up.ts";
import type { Comparison, Digest, Question } from "./digest.ts";
import { Pins } from "./pins.ts";
import { PendingProposals } from "./pending.ts";
import { ReadAhead } from "./read-ahead.ts";
import type { SnapshotSender } from "./snapshot-sender.ts";
import { TailCache } from "./tail-cache.ts";
import { HOST_LOST, HOST_NOT_LEADER, HOST_OVERLOADED, type DurabilityMode, type GroupDescriptor, type ProposeDone } from "./types.ts";

/** Read barriers that may wait at one time in one group. */
const READS_MAX = 10_000;

type Proposal = { readonly kind: EntryKind; readonly payload: Uint8Array; readonly crc: number; readonly done: ProposeDone };

export class Replica {
  readonly group: GroupId;
  readonly descriptor: GroupDescriptor;
  readonly raft: RaftNode;
  readonly machine: Machine;
  readonly cache = new TailCache();
  readonly pending = new PendingProposals();
  /** Entries on their way from disk to the machine. Committed, so nothing replaces them. */
  readonly fromDisk = new ReadAhead();
  /** Entries on their way from disk to a follower that is behind the cache. */
  readonly catchUps = new SparseMap<PeerId, CatchUp>();
  /** Checkpoints on their way to followers whom no entry here can help, and where those will go on. */
  readonly snapshotsSending = new SparseMap<PeerId, SnapshotSender>();
  readonly pins = new Pins();
  durability: DurabilityMode;

  /** Index and group time of the machine; the configuration at that index. Invariant: applied <= committedTo. */
  applied: number;
  /** Term of the last entry that was applied since the replica was opened; 0 = none was. */
  appliedTerm = 0;
  timeMs: number;
  configuration: Configuration;
  /** Committed and durable here: may be applied. */
  committedTo: number;

  /** Writes handed to the lane and not yet done. */
  outstandingWrites = 0;
  /** In the lane's dirty list. */
  dirty = false;
  /** In the host's apply list, or entries for the machine are being read from disk. */
  applying = false;
  reading = false;
  /** Awake groups tick; a group at rest is woken by any message, proposal or change of a node's liveness. */
  awake = false;
  idleTicks = 0;
  closed = false;

  receivedBytes = 0;
  appliedBytesSinceCheckpoint = 0;
  appliedEntriesSinceCheckpoint = 0;
  checkpointing = false;
  checkpointIndexes: number[] = [];
  /** The machine needs no entry at or below this index. */
  releaseTo = 0;

  /** Of what was applied; and what is asked and known of it (comparisons.ts). `askedAt`: the index to be told of; 0 = none. */
  readonly digest: Digest;
  askedAt = 0;
  question: Question | null = null;
  comparison: Comparison | null = null;
  comparedTo = 0;
  ticksUncompared = 0;

  knownLeader: number = 0;
  knownTerm = 0;
  wasLeader = false;

  /** Where the group's time was when the wall clock turned out to be behind it, and when that was (monotonic); 0 = it is not. */
  private aheadMs = 0;
  private aheadSinceMs = 0;
  private queue: Proposal[] = NOTHING;
  private queueBytes = 0;
  private readonly readWaits = new SparseMap<number, (ok: boolean) => void>();
  private confirmedReads: ReadState[] = NOTHING;
  private nextReadToken = 1;
  /** The term and vote that were last handed to the log. */
  private writtenTerm: number;
  private writtenVote: number;

  constructor(
    descriptor: GroupDescriptor,
    raft: RaftNode,
    machine: Machine,
    start: { applied: number; timeMs: number; configuration: Configuration; hardState: HardState; digest: Digest },
  ) {
    this.group = descriptor.group;
    this.descriptor = descriptor;
    this.durability = descriptor.durability;
    this.raft = raft;
    this.machine = machine;
    this.applied = start.applied;
    this.timeMs = start.timeMs;
    this.configuration = start.configuration;
    this.committedTo = start.applied;
    this.digest = start.digest;
    this.writtenTerm = start.hardState.term;
    this.writtenVote = start.hardState.vote;
  }

  get isLeader(): boolean {
    return this.raft.role === ROLE_LEADER;
  }

  /** Leads, and has applied all that leaders before it have acknowledged: that is certain once an entry of its own term is (Raft section 8). */
  get leadsCurrent(): boolean {
    return this.isLeader && this.appliedTerm === this.raft.term;
  }

  /** The node that leads, as far as this replica knows; 0 = none. */
  get leaderNode(): NodeId | 0 {
    return this.raft.leader === 0 ? 0 : nodeOfReplica(this.raft.leader as ReplicaId);
  }

  /** Takes a proposal for the next turn, or refuses it at once. */
  propose(kind: EntryKind, payload: Uint8Array, crc: number, done: ProposeDone): boolean {
    if (!this.isLeader) {
      done(HOST_NOT_LEADER, this.leaderNode, null);
      return false;
    }
    const isFull = this.queueBytes + payload.length > UNCOMMITTED_BYTES_MAX && this.queue.length > 0;
    if (isFull || this.queue.length + this.pending.size >= UNCOMMITTED_ENTRIES_MAX) {
      done(HOST_OVERLOADED, 0, null);
      return false;
    }
    if (this.queue === NOTHING) this.queue = [];
    this.queue.push({ kind, payload, crc, done });
    this.queueBytes += payload.length;
    return true;
  }

  /** Something was proposed that the core has yet to be given. */
  get hasQueued(): boolean {
    return this.queue.length > 0;
  }

  /**
   * The group's time now, for what its leader stamps: the wall clock's. Where that is behind, for a leader's clock was once ahead, time
   * does not stand still until it is caught up with, or what is delayed would wait for hours: it goes on at half its pace.
   */
  logMs(wallMs: number, monotonicMs: number): number {
    if (wallMs >= this.timeMs) {
      this.aheadMs = 0;
      return wallMs;
    }
    const nowMs = Math.floor(this.aheadMs + (monotonicMs - this.aheadSinceMs) / 2);
    if (this.aheadMs > 0 && nowMs >= this.timeMs) return nowMs;
    this.aheadMs = this.timeMs;
    this.aheadSinceMs = monotonicMs;
    return this.timeMs;
  }

  /**
   * Hands what was proposed to the core: runs of one kind, in order. True when some of it waits for the next round. While the
   * leadership is being handed over everything waits: it goes to the next leader, untried; or on here, with the next heartbeat,
   * if nothing comes of it.
   */
  flushProposals(nowMs: number): boolean {
    if (this.queue.length === 0 || this.raft.isTransferring) return false;
    const isMore = this.queue.length > PROPOSALS_PER_ROUND_MAX;
    const queue = isMore ? this.queue.splice(0, PROPOSALS_PER_ROUND_MAX) : this.queue;
    if (isMore) for (const { payload } of queue) this.queueBytes -= payload.length;
    else {
      this.queue = NOTHING;
      this.queueBytes = 0;
    }
    let start = 0;
    while (start < queue.length) {
      let end = start + 1;
      while (end < queue.length && queue[end]!.kind === queue[start]!.kind) end += 1;
      this.proposeRun(queue, start, end, nowMs);
      start = end;
    }
    return isMore;
  }

  private proposeRun(queue: readonly Proposal[], start: number, end: number, nowMs: number): void {
    const run = start === 0 && end === queue.length ? queue : queue.slice(start, end);
    const first = this.raft.lastIndex + 1;
    const result = this.raft.propose(queue[start]!.kind, nowMs, run);
    if (result === PROPOSE_OK) {
      for (let i = 0; i < run.length; i++) this.pending.push(first + i, run[i]!.done);
      return;
    }
    const code = this.isLeader ? HOST_OVERLOADED : HOST_NOT_LEADER;
    for (const proposal of run) proposal.done(code, this.leaderNode, null);
  }

  /** A linearizable read barrier: `done(true)` once everything that was committed at the call is applied here. */
  readBarrier(done: (ok: boolean) => void): void {
    const { readWaits } = this;
    if (!this.isLeader || readWaits.size >= READS_MAX) {
      done(false);
      return;
    }
    const token = this.nextReadToken++;
    readWaits.set(token, done);
    if (!this.raft.readIndex(token)) {
      readWaits.delete(token);
      done(false);
    }
  }

  readsConfirmed(reads: readonly ReadState[], dropped: readonly number[]): void {
    if (this.confirmedReads === NOTHING) this.confirmedReads = [];
    for (const read of reads) this.confirmedReads.push(read);
    for (const token of dropped) this.finishRead(token, false);
    this.serveReads();
  }

  /** Answers the reads whose index is applied. */
  serveReads(): void {
    if (this.confirmedReads.length === 0) return;
    const later: ReadState[] = [];
    for (const read of this.confirmedReads) {
      if (read.index <= this.applied) this.finishRead(read.token, true);
      else later.push(read);
    }
    this.confirmedReads = later.length === 0 ? NOTHING : later;
  }

  private finishRead(token: number, ok: boolean): void {
    const done = this.readWaits.get(token);
    this.readWaits.delete(token);
    done?.(ok);
  }

  /** Leadership is gone: nobody who waits here will be answered by this replica any more. */
  leadershipLost(code: number = HOST_LOST): void {
    const queue = this.queue;
    this.queue = NOTHING;
    this.queueBytes = 0;
    this.pending.failAll(code);
    for (const proposal of queue) proposal.done(HOST_NOT_LEADER, this.leaderNode, null);
    this.confirmedReads = NOTHING;
    for (const [token] of this.readWaits.entries()) this.finishRead(token, false);
    for (const [, work] of [...this.catchUps.entries(), ...this.snapshotsSending.entries()]) work.stop();
    this.snapshotsSending.clear();
    this.comparison = null;
    this.pins.clear();
  }

  /** True when the term or the vote differs from what the log was last given: those are always synced. */
  takeVoteChange(hardState: HardState | null): boolean {
    if (hardState === null) return false;
    const changed = hardState.term !== this.writtenTerm || hardState.vote !== this.writtenVote;
    this.writtenTerm = hardState.term;
    this.writtenVote = hardState.vote;
    return changed;
  }

  /** Frees cached entries up to `index`; false when some of them are still needed in memory. */
  evictTail(index: number): boolean {
    if (this.closed) return true;
    const allowed = Math.min(index, this.applied); // What is applied is durable here, so the log can serve it.
    this.cache.evictTo(allowed);
    return allowed >= index || index > this.cache.lastIndex;
  }

  /** Nothing is under way: everybody has everything and knows it. */
  isQuiet(): boolean {
    assert(this.applied <= this.committedTo, "applied <= committedTo");
    const { raft } = this;
    if (this.queue.length > 0 || this.pending.size > 0 || this.outstandingWrites > 0 || this.readWaits.size > 0) return false;
    return this.applied === raft.lastIndex && raft.commitIndex === raft.lastIndex && this.catchUps.size === 0 && !this.applying;
  }

  /** The group comes to rest: it keeps no memory for work that is done. What is cached with a payload stays for readers. */
  slimDown(): void {
    if (!this.cache.hasPayloads) this.evictTail(this.applied);
    this.checkpointIndexes = this.checkpointIndexes.slice();
    this.question = null;
    this.raft.slimDown();
  }

  cacheEntries(entries: readonly Entry[]): number {
    let bytes = 0;
    for (const entry of entries) bytes += entry.payload.length + ENTRY_MEMORY_BYTES;
    this.cache.append(entries);
    return bytes;
  }
}
