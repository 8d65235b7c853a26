// Groups with nothing to do stop ticking. Correctness never depends on it: any message, proposal or change of a node's
// liveness wakes a group, and an awake group is a plain Raft group.

import { jointVote, VOTE_WON } from "../raft/quorum.ts";
import { Message, MSG_REST, PROGRESS_REPLICATE } from "../raft/types.ts";
import type { Replica } from "./replica.ts";

/**
 * The leader may rest: nothing under way, a majority of the voters is alive, and every member that is alive has everything
 * and said so. A member whose node is gone is seen to when the node is back: then its leaders wake.
 */
export function isRestingPoint(replica: Replica, isUp: (peer: number) => boolean): boolean {
  if (!replica.isQuiet()) return false;
  const { raft } = replica;
  const { self } = replica.descriptor;
  for (const { peer, state, match } of raft.members())
    if (peer !== self && isUp(peer) && (state !== PROGRESS_REPLICATE || match !== raft.lastIndex)) return false;
  // Without a majority it must go on ticking, or it would never step down.
  const { voters, votersOutgoing } = raft.configuration;
  const isAlive = (peer: number): boolean => peer === self || isUp(peer);
  return jointVote(voters, votersOutgoing, isAlive) === VOTE_WON;
}

/** What the leader tells the others when it stops ticking. */
export function restMessages(replica: Replica, isUp: (peer: number) => boolean): Message[] {
  const { raft } = replica;
  const { self } = replica.descriptor;
  const messages: Message[] = [];
  for (const { peer } of raft.members()) {
    if (peer === self || !isUp(peer)) continue;
    const message = new Message(MSG_REST, self, peer, raft.term);
    message.index = raft.lastIndex;
    message.commit = raft.commitIndex;
    messages.push(message);
  }
  return messages;
}

/** A follower rests only in the very state that the leader names; otherwise it stays awake, and its ticks sort it out. */
export function acceptRest(replica: Replica, message: Message): boolean {
  const { raft } = replica;
  return (
    raft.term === message.term &&
    raft.leader === message.from &&
    raft.lastIndex === message.index &&
    raft.commitIndex === message.commit &&
    replica.isQuiet()
  );
}
