// The leader: follows each member's progress, commits what a majority has, keeps everybody fed.

import type { Core } from "./core.ts";
import type { Progress } from "./progress.ts";
import { jointIndex } from "./quorum.ts";
import {
  MSG_APPEND_RESPONSE,
  MSG_HEARTBEAT_RESPONSE,
  MSG_TIMEOUT_NOW,
  PROGRESS_PROBE,
  PROGRESS_REPLICATE,
  PROGRESS_SNAPSHOT,
  type Message,
} from "./types.ts";

export function stepLeader(core: Core, message: Message): void {
  const progress = core.progressOf(message.from);
  if (progress === undefined) return;
  switch (message.kind) {
    case MSG_APPEND_RESPONSE:
      progress.recentActive = true;
      if (message.reject) rejected(core, progress, message);
      else accepted(core, progress, message);
      return;
    case MSG_HEARTBEAT_RESPONSE:
      heartbeatAnswered(core, progress, message);
      return;
    default:
      return;
  }
}

function rejected(core: Core, progress: Progress, message: Message): void {
  // Both sides skip a whole term at a time (point 21).
  const probe = message.logTerm > 0 ? core.log.lastIndexOfTerm(message.hint, message.logTerm) : message.hint;
  if (!progress.decrease(message.index, probe)) return;
  if (progress.state === PROGRESS_REPLICATE) progress.becomeProbe();
  core.sendAppend(progress, true);
}

function accepted(core: Core, progress: Progress, message: Message): void {
  if (message.index > core.log.lastIndex) return; // Of a log that this leader never had: nothing of ours.
  const moved = progress.update(message.index);
  if (!moved && !(progress.match === message.index && progress.state === PROGRESS_PROBE)) return;
  if (progress.state === PROGRESS_PROBE) progress.becomeReplicate();
  else if (progress.state === PROGRESS_SNAPSHOT && progress.match + 1 >= core.log.firstIndex) {
    // Any index from which the log can go on ends the snapshot (point 22).
    progress.becomeProbe();
    progress.becomeReplicate();
  } else if (progress.state === PROGRESS_REPLICATE) progress.freeTo(message.index);
  if (advance(core)) core.broadcastAppend();
  else if (progress.canBumpCommit(core.commit)) core.sendAppend(progress, true);
  while (core.sendAppend(progress, false));
  if (core.transferee === progress.peer) finishTransfer(core, false);
}

/** Commits what can be; the first commit of the own term lets reads start. */
export function advance(core: Core): boolean {
  if (!core.maybeCommit()) return false;
  core.reads.ownTermCommitted();
  return true;
}

/**
 * Tells the heir to stand once it has everything, and once all of it is applied here: so whoever proposed something has heard of
 * it from this leader, who could not answer later. A disk that does not finish its writes keeps nobody: then `evenUnapplied`.
 */
export function finishTransfer(core: Core, evenUnapplied: boolean): void {
  const heir = core.transferee === 0 ? undefined : core.progressOf(core.transferee);
  if (heir === undefined || heir.match !== core.log.lastIndex) return;
  if (core.applied === core.log.lastIndex ? !evenUnapplied : evenUnapplied) core.send(core.message(MSG_TIMEOUT_NOW, heir.peer));
}

function heartbeatAnswered(core: Core, progress: Progress, message: Message): void {
  progress.recentActive = true;
  // A window that filled up with lost messages opens again (point 20).
  progress.appendPaused = false;
  // A follower that restarted no longer knows where the logs agree.
  if (message.reject && progress.state === PROGRESS_REPLICATE) progress.becomeProbe();
  if (progress.match < core.log.lastIndex || progress.state === PROGRESS_PROBE) core.sendAppend(progress, true);
  if (message.context > progress.readRound) progress.readRound = message.context;
  if (core.reads.openRound > 0) core.reads.confirmTo(confirmedRound(core));
}

/** The newest round that a majority has answered; the leader itself always has. */
export function confirmedRound(core: Core): number {
  const { voters, votersOutgoing } = core.configuration;
  return jointIndex(voters, votersOutgoing, (peer) => (peer === core.id ? core.readRound : (core.progressOf(peer)?.readRound ?? 0)));
}
