// Groups with nothing to do stop ticking. Correctness never depends on it: any message, proposal or change of a node's
// liveness wakes a group, and an awake group is a plain Raft group.

import { Message, MSG_REST } from "../raft/types.ts";
import type { Replica } from "./replica.ts";

/** The leader may rest: nothing under way, every member has everything, and every member's node is alive. */
export function isRestingPoint(replica: Replica, isUp: (peer: number) => boolean): boolean {
  if (!replica.isQuiet()) return false;
  const { raft } = replica;
  for (const progress of raft.status()) {
    if (progress.peer === replica.descriptor.self) continue;
    if (progress.match !== raft.lastIndex || !isUp(progress.peer)) return false;
  }
  return true;
}

/** What the leader tells the others when it stops ticking. */
export function restMessages(replica: Replica): Message[] {
  const { raft } = replica;
  const messages: Message[] = [];
  for (const progress of raft.status()) {
    if (progress.peer === replica.descriptor.self) continue;
    const message = new Message(MSG_REST, replica.descriptor.self, progress.peer, raft.term);
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
