// Standing for election, and answering those who do.

import type { Core } from "./core.ts";
import { jointVote, VOTE_LOST, VOTE_WON, type VoteResult } from "./quorum.ts";
import {
  MSG_PRE_VOTE,
  MSG_PRE_VOTE_RESPONSE,
  MSG_VOTE,
  MSG_VOTE_RESPONSE,
  ROLE_CANDIDATE,
  ROLE_FOLLOWER,
  ROLE_LEADER,
  ROLE_PRE_CANDIDATE,
  type Message,
  type PeerId,
} from "./types.ts";

/** `transfer`: the leader asked for it, so no pre-vote and no regard for its lease (point 6). */
export function campaign(core: Core, transfer: boolean): void {
  if (core.role === ROLE_LEADER || !core.isPromotable || core.hasUnappliedChange) return;
  if (core.settings.preVote && !transfer) {
    core.becomePreCandidate();
    ask(core, MSG_PRE_VOTE, core.term + 1, false);
    // Its own pre-vote promises nothing, so it counts at once.
    recordVote(core, core.id, true);
    return;
  }
  stand(core, transfer);
}

function stand(core: Core, transfer: boolean): void {
  core.becomeCandidate();
  ask(core, MSG_VOTE, core.term, transfer);
}

function ask(core: Core, kind: typeof MSG_VOTE | typeof MSG_PRE_VOTE, term: number, transfer: boolean): void {
  const { voters, votersOutgoing } = core.configuration;
  for (const progress of core.progress) {
    if (progress.peer === core.id || !(voters.includes(progress.peer) || votersOutgoing.includes(progress.peer))) continue;
    const message = core.message(kind, progress.peer);
    message.term = term;
    message.index = core.log.lastIndex;
    message.logTerm = core.log.lastTerm;
    message.context = transfer ? 1 : 0;
    core.send(message);
  }
}

/**
 * Counts one vote; the first answer of a voter stands. Without its own vote, which counts once it is durable, nobody leads, however
 * many others voted: restarted with an older term it would stand in this one again, get their votes again, and put other
 * entries of the same term in the place of those that it sent out before.
 */
export function recordVote(core: Core, voter: PeerId, granted: boolean): void {
  if (core.progressOf(voter) === undefined) return;
  const votes = (core.votes ??= new Map());
  if (!votes.has(voter)) votes.set(voter, granted);
  const { voters, votersOutgoing } = core.configuration;
  const result: VoteResult = jointVote(voters, votersOutgoing, (peer) => votes.get(peer));
  if (result === VOTE_WON) {
    if (core.role === ROLE_PRE_CANDIDATE) stand(core, false);
    else if (core.role === ROLE_CANDIDATE && votes.get(core.id) === true) {
      core.becomeLeader();
      core.broadcastAppend();
    }
  } else if (result === VOTE_LOST) core.becomeFollower(core.term, 0);
}

/** Answers MSG_VOTE and MSG_PRE_VOTE in any role; also a learner votes, who may have become a voter unknowingly (point 7). */
export function answerVote(core: Core, message: Message): void {
  const isPreVote = message.kind === MSG_PRE_VOTE;
  const free = core.vote === message.from || (core.vote === 0 && core.leader === 0) || (isPreVote && message.term > core.term);
  const answer = core.message(isPreVote ? MSG_PRE_VOTE_RESPONSE : MSG_VOTE_RESPONSE, message.from);
  if (free && core.log.isUpToDate(message.index, message.logTerm)) {
    // A pre-vote is for the term that would follow; a refusal carries the own term (point 2).
    answer.term = message.term;
    if (!isPreVote) {
      core.electionElapsed = 0;
      core.vote = message.from;
    }
  } else refuse(core, answer);
  core.send(answer);
}

/**
 * A refusal says what is committed. Who asks may not know that the membership change at the end of its log is: of two voters
 * of which the one with the longer log was removed, the other could never win under the members that it still counts with.
 */
export function refuse(core: Core, answer: Message): void {
  answer.reject = true;
  answer.commit = core.commit;
  answer.logTerm = Math.max(core.log.termAt(core.commit), 0);
}

/** Takes over what a refusal says is committed, if the own log holds that very entry; then all before it agrees too (log matching). */
export function learnCommit(core: Core, refusal: Message): void {
  if (core.role === ROLE_LEADER || refusal.commit <= core.commit) return;
  if (core.log.termAt(refusal.commit) !== refusal.logTerm) return;
  core.commitTo(refusal.commit);
  // Its members may be about to change: what it stood for is void. A follower knows its leader by now and keeps it.
  if (core.hasUnappliedChange && core.role !== ROLE_FOLLOWER) core.becomeFollower(core.term, 0);
}

/** A leader was heard from recently: (pre-)votes wait until its lease is over (point 4). */
export function isLeaseHeld(core: Core): boolean {
  return core.settings.checkQuorum && core.leader !== 0 && core.electionElapsed < core.settings.electionTicks;
}
