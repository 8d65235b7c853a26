// Who stands first when a node dies. All survivors learn it at the same moment, so they take turns: the first in line at
// once, the others a little later each, unless a leader is there by then. Many groups spread over the same short time.

import type { Clock } from "../base/clock.ts";
import { nodeOfReplica, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Random } from "../base/prng.ts";
import type { Replica } from "./replica.ts";

/** Milliseconds between two survivors of one group. */
const TURN_MS = 40;
const JITTER_MS = 10;

export type ElectionsComponents = {
  readonly clock: Clock;
  readonly random: Random;
  readonly touched: (replica: Replica) => void;
  /** This node still misses entries of some group: the others stand before it. */
  readonly yields: () => boolean;
};

export class Elections {
  private readonly components: ElectionsComponents;

  constructor(components: ElectionsComponents) {
    this.components = components;
  }

  /** The node that led `replica` is gone: forget its lease, and stand for election when it is this replica's turn. */
  leaderLost(replica: Replica, lost: NodeId): void {
    const { clock, random, touched, yields } = this.components;
    replica.raft.forgetLeader();
    const survivors = replica.configuration.voters.filter((peer) => nodeOfReplica(peer as ReplicaId) !== lost);
    const place = survivors.indexOf(replica.descriptor.self);
    if (place < 0) return;
    // Groups rotate the order, so that one survivor does not take all.
    const turn = ((place + replica.group) % survivors.length) + (yields() ? survivors.length : 0);
    const { term } = replica.raft;
    const stand = (): void => {
      if (replica.closed || replica.raft.leader !== 0 || replica.raft.term !== term) return;
      replica.raft.campaign();
      touched(replica);
    };
    clock.schedule(turn * TURN_MS + random.below(JITTER_MS) + (turn > 0 ? JITTER_MS : 0), stand);
  }
}
