// A candidate or pre-candidate: counts answers, and gives way to a leader of its term (also to its snapshot, point 23).

import type { Core } from "./core.ts";
import { recordVote } from "./election.ts";
import { handleAppend, handleHeartbeat, handleSnapshot } from "./step-follower.ts";
import {
  MSG_APPEND,
  MSG_HEARTBEAT,
  MSG_PRE_VOTE_RESPONSE,
  MSG_SNAPSHOT,
  MSG_VOTE_RESPONSE,
  ROLE_PRE_CANDIDATE,
  type Message,
} from "./types.ts";

export function stepCandidate(core: Core, message: Message): void {
  switch (message.kind) {
    case MSG_APPEND:
      core.becomeFollower(message.term, message.from);
      handleAppend(core, message);
      return;
    case MSG_HEARTBEAT:
      core.becomeFollower(message.term, message.from);
      handleHeartbeat(core, message);
      return;
    case MSG_SNAPSHOT:
      core.becomeFollower(message.term, message.from);
      handleSnapshot(core, message);
      return;
    case MSG_VOTE_RESPONSE:
      if (core.role !== ROLE_PRE_CANDIDATE) recordVote(core, message.from, !message.reject);
      return;
    case MSG_PRE_VOTE_RESPONSE:
      if (core.role === ROLE_PRE_CANDIDATE) recordVote(core, message.from, !message.reject);
      return;
    default:
      return;
  }
}
