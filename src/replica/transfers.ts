// Moves leaderships to other nodes: only to members that have nearly everything, as nothing is proposed meanwhile, and by
// choice only to nodes that miss nothing of any group.

import type { Clock, Timer } from "../base/clock.ts";
import { nodeOfReplica, type NodeId, type ReplicaId } from "../base/ids.ts";
import { TRANSFERS_MAX } from "../base/limits.ts";
import type { Replica } from "./replica.ts";

/** Entries that a member may lack of its leader's when it is to take over. */
const LAG_ENTRIES_MAX = 1_000;
const ROUND_MS = 10;

export type TransfersComponents = {
  readonly self: NodeId;
  readonly clock: Clock;
  readonly electionTimeoutMs: number;
  readonly isUp: (node: NodeId) => boolean;
  /** Not one that some leader still brings up to date, nor one that is about to go. */
  readonly takesLeaders: (node: NodeId) => boolean;
  readonly replicas: () => IterableIterator<Replica>;
  readonly touched: (replica: Replica) => void;
};

export class Transfers {
  private readonly components: TransfersComponents;
  /** Of the rounds that go on once all was moved away. */
  private timer: Timer | null = null;
  private isStopped = false;

  constructor(components: TransfersComponents) {
    this.components = components;
  }

  /** False when this node does not lead the group, or the other one is not up to date, in this group and all others. */
  start(replica: Replica, to: NodeId): boolean {
    return this.components.takesLeaders(to) && this.transfer(replica, to);
  }

  /**
   * Moves every leadership away, so many at a time; resolves with how many are left when none is or time is up. What comes here
   * later goes on as well, until `stop`: another node may have sent it before it heard that this one goes, or elected it.
   */
  async all(timeoutMs: number): Promise<number> {
    const { clock } = this.components;
    const beganMs = clock.monotonicMs();
    for (;;) {
      const leading = this.round(beganMs);
      if (leading === 0 || clock.monotonicMs() - beganMs >= timeoutMs) {
        this.goOn(beganMs);
        return leading;
      }
      await new Promise<void>((resolve) => clock.schedule(ROUND_MS, resolve));
    }
  }

  stop(): void {
    this.isStopped = true;
    this.timer?.cancel();
  }

  private goOn(beganMs: number): void {
    if (this.isStopped) return;
    this.timer = this.components.clock.schedule(ROUND_MS, () => {
      this.round(beganMs);
      this.goOn(beganMs);
    });
  }

  /** Returns how many groups are led here that somebody else could lead. */
  private round(beganMs: number): number {
    const { clock, replicas, self, isUp, electionTimeoutMs } = this.components;
    // The same heir until an election timeout has passed: a transfer that is under way is left to its end.
    const attempt = Math.floor((clock.monotonicMs() - beganMs) / electionTimeoutMs);
    let leading = 0;
    for (const replica of replicas()) {
      if (!replica.isLeader) continue;
      const others = replica.configuration.voters
        .map((peer) => nodeOfReplica(peer as ReplicaId))
        .filter((node) => node !== self && isUp(node));
      if (others.length === 0) continue;
      leading += 1;
      if (leading <= TRANSFERS_MAX) this.toOneOf(replica, others, attempt);
    }
    return leading;
  }

  /** This node is about to go: one that lags in other groups, or is about to go as well, is better than an election. */
  private toOneOf(replica: Replica, nodes: readonly NodeId[], attempt: number): void {
    const fit = nodes.filter((node) => this.components.takesLeaders(node));
    const heirs = fit.length > 0 ? fit : nodes;
    this.transfer(replica, heirs[(replica.group + attempt) % heirs.length]!);
  }

  private transfer(replica: Replica, to: NodeId): boolean {
    const target = replica.configuration.voters.find((peer) => nodeOfReplica(peer as ReplicaId) === to);
    if (target === undefined || !replica.isLeader || lagOf(replica, target) > LAG_ENTRIES_MAX) return false;
    const started = replica.raft.transferLeadership(target);
    this.components.touched(replica);
    return started;
  }
}

/** Entries of the leader that the member is not known to have. */
function lagOf(replica: Replica, peer: number): number {
  if (replica.catchUps.has(peer)) return Number.POSITIVE_INFINITY;
  return replica.raft.lastIndex - (replica.raft.status().find((progress) => progress.peer === peer)?.match ?? 0);
}
