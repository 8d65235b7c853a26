// How the vectors word messages, snapshots and roles.

import {
  MSG_APPEND,
  MSG_APPEND_RESPONSE,
  MSG_HEARTBEAT,
  MSG_HEARTBEAT_RESPONSE,
  MSG_PRE_VOTE,
  MSG_PRE_VOTE_RESPONSE,
  MSG_SNAPSHOT,
  MSG_TIMEOUT_NOW,
  MSG_VOTE,
  MSG_VOTE_RESPONSE,
  type Message,
  type SnapshotMeta,
} from "../../src/raft/types.ts";
import { describeEntry } from "./describe.ts";

const MESSAGES = new Map<number, string>([
  [MSG_APPEND, "MsgApp"],
  [MSG_APPEND_RESPONSE, "MsgAppResp"],
  [MSG_VOTE, "MsgVote"],
  [MSG_VOTE_RESPONSE, "MsgVoteResp"],
  [MSG_PRE_VOTE, "MsgPreVote"],
  [MSG_PRE_VOTE_RESPONSE, "MsgPreVoteResp"],
  [MSG_HEARTBEAT, "MsgHeartbeat"],
  [MSG_HEARTBEAT_RESPONSE, "MsgHeartbeatResp"],
  [MSG_SNAPSHOT, "MsgSnap"],
  [MSG_TIMEOUT_NOW, "MsgTimeoutNow"],
]);
export const ROLES = ["StateFollower", "StatePreCandidate", "StateCandidate", "StateLeader"];

export function describeSnapshot({ index, term, configuration }: SnapshotMeta): string {
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = configuration;
  const list = (peers: readonly number[]): string => `[${peers.join(" ")}]`;
  const state = `Voters:${list(voters)} VotersOutgoing:${list(votersOutgoing)} Learners:${list(learners)} LearnersNext:${list(learnersNext)}`;
  return `Index:${index} Term:${term} ConfState:${state} AutoLeave:${autoLeave}`;
}

export function describeMessage(message: Message): string[] {
  const { kind, from, to, term, entries } = message;
  const snapshot = kind === MSG_SNAPSHOT ? message.snapshot : null;
  // Our refusals of a vote also say what is committed (raft/election.ts, refuse); the vectors know no such thing.
  const isVoteAnswer = kind === MSG_VOTE_RESPONSE || kind === MSG_PRE_VOTE_RESPONSE;
  const place = snapshot !== null || isVoteAnswer ? "0/0" : `${message.logTerm}/${message.index}`;
  let text = `${from}->${to} ${MESSAGES.get(kind)} Term:${term} Log:${place}`;
  if (message.reject) text += ` Rejected (Hint: ${message.hint})`;
  if (message.commit > 0 && !isVoteAnswer) text += ` Commit:${message.commit}`;
  if (snapshot !== null) return [text, `  Snapshot: ${describeSnapshot(snapshot)}`];
  if (entries === null || entries.length === 0) return [text];
  if (entries.length === 1) return [`${text} Entries:[${describeEntry(entries[0]!)}]`];
  return [`${text} Entries:[`, ...entries.map((entry) => `  ${describeEntry(entry)}`), "]"];
}
