// What the links to other nodes tell the host: frames, nodes that came and nodes that went. Liveness is per pair of nodes, so
// one event concerns every group that the two have in common.

import { DecodeError } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { nodeOfReplica, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Worked } from "../base/work.ts";
import { LANE_BULK, LANE_FORWARD, LANE_RAFT, type Lane, type PeerGreeting } from "../peer/transport.ts";
import type { Comparisons } from "./comparisons.ts";
import type { Elections } from "./elections.ts";
import type { Messages } from "./messages.ts";
import type { Recovery } from "./recovery.ts";
import type { Replica } from "./replica.ts";
import type { Rules } from "./rules.ts";
import type { HostEvents } from "./types.ts";

export type LinkEventsComponents = {
  readonly clock: Clock;
  readonly worked: Worked;
  readonly events: HostEvents;
  readonly messages: Messages;
  readonly rules: Rules;
  readonly comparisons: Comparisons;
  readonly recovery: Recovery;
  readonly elections: Elections;
  readonly replicas: () => Iterable<Replica>;
  /** Something happens in the group. */
  readonly touched: (replica: Replica) => void;
};

export class LinkEvents {
  private readonly components: LinkEventsComponents;

  constructor(components: LinkEventsComponents) {
    this.components = components;
  }

  /** Throws DecodeError on nonsense: the link ends then. */
  onFrame(from: NodeId, lane: Lane, frame: Uint8Array): void {
    const { clock, worked, messages, events } = this.components;
    switch (lane) {
      case LANE_RAFT:
        const beganMs = clock.monotonicMs();
        messages.onRaft(from, frame);
        worked("raft messages of a peer", beganMs);
        return;
      case LANE_FORWARD:
        events.forwarded(from, frame);
        return;
      case LANE_BULK:
        messages.onBulk(from, frame);
        return;
      default:
        throw new DecodeError("frame on an unknown lane");
    }
  }

  onUp(peer: NodeId, { rulesVersion, compares }: Pick<PeerGreeting, "rulesVersion" | "compares">): void {
    const { rules, comparisons, replicas, touched, elections, events } = this.components;
    rules.heard(peer, rulesVersion);
    comparisons.heard(peer, compares);
    const leaderless: Replica[] = [];
    for (const replica of replicas()) {
      if (!isMember(replica, peer)) continue;
      if (replica.isLeader) touched(replica);
      else if (replica.raft.leader === 0 && !replica.awake) leaderless.push(replica);
    }
    elections.leaderless(leaderless);
    events.peerUp(peer);
  }

  /** A bulk connection is there, the first or in place of one that was lost with what was on it. */
  onBulkUp(peer: NodeId): void {
    this.components.recovery.laneUp(peer);
  }

  /** Every group that the lost node led or followed is told at once. */
  onDown(peer: NodeId): void {
    const { recovery, replicas, touched, elections, events } = this.components;
    recovery.nodeDown(peer);
    const leaderless: Replica[] = [];
    for (const replica of replicas()) {
      if (!isMember(replica, peer)) continue;
      if (replica.isLeader) forEachReplicaOn(replica, peer, (id) => replica.raft.reportUnreachable(id));
      // Without a known leader it may have been the one that was about to be elected: this replica gave it its vote.
      if (replica.leaderNode === peer || replica.leaderNode === 0) {
        replica.raft.forgetLeader();
        leaderless.push(replica);
        // At rest a group goes on without a follower as it is, unless its leader has to find out that it leads nobody.
      } else if (!replica.awake && (!replica.isLeader || elections.canBeWon(replica))) continue;
      touched(replica);
    }
    elections.leaderless(leaderless);
    events.peerDown(peer);
  }
}

function isMember({ configuration: { voters, votersOutgoing, learners } }: Replica, node: NodeId): boolean {
  return [voters, votersOutgoing, learners].some((list) => list.some((peer) => nodeOfReplica(peer as ReplicaId) === node));
}

function forEachReplicaOn(replica: Replica, node: NodeId, visit: (id: number) => void): void {
  const { voters, votersOutgoing, learners } = replica.configuration;
  for (const list of [voters, votersOutgoing, learners])
    for (const peer of list) if (nodeOfReplica(peer as ReplicaId) === node) visit(peer);
}
