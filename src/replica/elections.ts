// Who stands for election when, on this node. When a node dies all survivors learn it at the same moment, so they take
// turns: the first in line at once, the others later, unless a leader is there by then. And however many groups lose
// their leader, or are opened, at one time, only so many stand at once: the others sleep in a queue until it is their turn.
// A group in the queue is a plain Raft group all the same: any message wakes it.

import type { Clock, Timer } from "../base/clock.ts";
import { nodeOfReplica, type NodeId, type ReplicaId } from "../base/ids.ts";
import { CAMPAIGNS_MAX } from "../base/limits.ts";
import type { Random } from "../base/prng.ts";
import { jointVote, VOTE_WON } from "../raft/quorum.ts";
import { ROLE_FOLLOWER, ROLE_LEADER } from "../raft/types.ts";
import type { Replica } from "./replica.ts";

/** Milliseconds between two survivors of one group, and what each further group adds to that: about what electing it takes. */
const TURN_MS = 40;
const TURN_MS_PER_GROUP = 0.3;
const JITTER_MS = 10;

export type ElectionsComponents = {
  readonly clock: Clock;
  readonly random: Random;
  readonly electionTimeoutMs: number;
  readonly isUp: (node: NodeId) => boolean;
  readonly touched: (replica: Replica) => void;
  /** Let it not tick until its turn. */
  readonly sleep: (replica: Replica) => void;
  /** This node still misses entries of some group, or is about to go: the others stand before it. */
  readonly yields: () => boolean;
};

type Turn = { readonly replica: Replica; readonly term: number; readonly dueMs: number };

export class Elections {
  private readonly components: ElectionsComponents;
  /** By due time. */
  private queue: Turn[] = [];
  /** Those that stand now, and since when. Invariant: at most CAMPAIGNS_MAX. */
  private readonly standing = new Map<Replica, number>();
  private timer: Timer | null = null;

  constructor(components: ElectionsComponents) {
    this.components = components;
  }

  /** How many wait for their turn, and how many stand. */
  get counts(): { readonly waiting: number; readonly standing: number } {
    return { waiting: this.queue.length, standing: this.standing.size };
  }

  /** These groups have no leader, for all that is known here: each stands when it is its turn among the members alive. */
  leaderless(replicas: readonly Replica[]): void {
    const { clock, random, yields } = this.components;
    const now = clock.monotonicMs();
    const isLate = yields();
    const turns: Turn[] = [];
    for (const replica of replicas) {
      const alive = replica.configuration.voters.filter((peer) => this.isAlive(replica, peer));
      const place = alive.indexOf(replica.descriptor.self);
      if (place < 0) continue;
      // Groups rotate the order, so that one survivor does not take all.
      const turn = ((place + replica.group) % alive.length) + (isLate ? alive.length : 0);
      const step = TURN_MS + JITTER_MS + TURN_MS_PER_GROUP * replicas.length;
      turns.push({ replica, term: replica.raft.term, dueMs: now + turn * step + random.below(JITTER_MS) });
      this.components.sleep(replica);
    }
    this.add(turns);
    this.pump();
  }

  /** The replica was opened. Of a new group the preferred leader stands at once, of all others whoever hears of no leader. */
  opened(replica: Replica): void {
    const { clock, random, electionTimeoutMs } = this.components;
    if (!isVoter(replica)) return;
    const isFirst = replica.descriptor.preferred && replica.raft.term === 0;
    const delayMs = isFirst ? 0 : electionTimeoutMs + random.below(electionTimeoutMs) + TURN_MS_PER_GROUP * this.queue.length;
    this.add([{ replica, term: replica.raft.term, dueMs: clock.monotonicMs() + delayMs }]);
    this.components.sleep(replica);
    if (isFirst) this.pump();
  }

  /** A replica without a leader may tick, and so stand by itself: there is room for it. */
  mayTick(replica: Replica): boolean {
    return this.standing.size < CAMPAIGNS_MAX || this.standing.has(replica);
  }

  /** Enough members are alive to elect somebody. */
  canBeWon(replica: Replica): boolean {
    const { voters, votersOutgoing } = replica.raft.configuration;
    return jointVote(voters, votersOutgoing, (peer) => this.isAlive(replica, peer)) === VOTE_WON;
  }

  /** The replica ticked: it may have come to stand. */
  ticked(replica: Replica): void {
    if (isStanding(replica) && !this.standing.has(replica)) this.standing.set(replica, this.components.clock.monotonicMs());
  }

  /** Lets the next ones stand where others are done; after every turn. */
  pump(): void {
    if (this.queue.length === 0 && this.standing.size === 0) return;
    const { clock, electionTimeoutMs, touched } = this.components;
    const now = clock.monotonicMs();
    for (const [replica, sinceMs] of this.standing)
      if (replica.closed || !isStanding(replica) || now - sinceMs > electionTimeoutMs) this.standing.delete(replica);
    let taken = 0;
    while (taken < this.queue.length && this.standing.size < CAMPAIGNS_MAX) {
      const { replica, term, dueMs } = this.queue[taken]!;
      if (dueMs > now) break;
      taken += 1;
      // By now it leads itself, knows a leader, or another one stands in a later term: then it was woken.
      if (replica.closed || replica.raft.leader !== 0 || replica.raft.term !== term) continue;
      touched(replica);
      if (!this.canBeWon(replica)) continue;
      replica.raft.campaign();
      if (isStanding(replica)) this.standing.set(replica, now);
    }
    if (taken > 0) this.queue.splice(0, taken);
    this.wait(now);
  }

  private add(turns: readonly Turn[]): void {
    if (turns.length === 0) return;
    const last = this.queue[this.queue.length - 1]?.dueMs ?? 0;
    this.queue.push(...turns);
    if (turns.length > 1 || turns[0]!.dueMs < last) this.queue.sort((a, b) => a.dueMs - b.dueMs || a.replica.group - b.replica.group);
  }

  private wait(now: number): void {
    const next = this.queue[0];
    this.timer?.cancel();
    this.timer = null;
    // With all places taken it is the end of one of those that stand that counts, and each turn looks for that.
    if (next === undefined || this.standing.size >= CAMPAIGNS_MAX) return;
    this.timer = this.components.clock.schedule(Math.max(1, next.dueMs - now), () => {
      this.timer = null;
      this.pump();
    });
  }

  private isAlive(replica: Replica, peer: number): boolean {
    return peer === replica.descriptor.self || this.components.isUp(nodeOfReplica(peer as ReplicaId));
  }
}

function isStanding({ raft }: Replica): boolean {
  return raft.role !== ROLE_FOLLOWER && raft.role !== ROLE_LEADER;
}

function isVoter({ raft, descriptor }: Replica): boolean {
  const { voters, votersOutgoing } = raft.configuration;
  return voters.includes(descriptor.self) || votersOutgoing.includes(descriptor.self);
}
