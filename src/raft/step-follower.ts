// What a replica does with a leader's messages.

import { assert } from "./assert.ts";
import type { Core } from "./core.ts";
import { campaign } from "./election.ts";
import {
  ENTRY_CONFIGURATION,
  MSG_APPEND,
  MSG_APPEND_RESPONSE,
  MSG_HEARTBEAT,
  MSG_HEARTBEAT_RESPONSE,
  MSG_SNAPSHOT,
  MSG_TIMEOUT_NOW,
  type Entry,
  type Message,
  type SnapshotMeta,
} from "./types.ts";

export function stepFollower(core: Core, message: Message): void {
  switch (message.kind) {
    case MSG_APPEND:
      heard(core, message);
      handleAppend(core, message);
      return;
    case MSG_HEARTBEAT:
      heard(core, message);
      handleHeartbeat(core, message);
      return;
    case MSG_SNAPSHOT:
      heard(core, message);
      handleSnapshot(core, message);
      return;
    case MSG_TIMEOUT_NOW:
      campaign(core, true);
      return;
    default:
      return;
  }
}

function heard(core: Core, message: Message): void {
  core.electionElapsed = 0;
  core.leader = message.from;
}

export function handleAppend(core: Core, message: Message): void {
  const answer = core.message(MSG_APPEND_RESPONSE, message.from);
  const { log } = core;
  if (message.index < core.commit) {
    // What is committed is never touched again (point 18).
    answer.index = core.commit;
    core.send(answer);
    return;
  }
  if (log.termAt(message.index) !== message.logTerm) {
    answer.reject = true;
    answer.index = message.index;
    answer.hint = log.lastIndexOfTerm(Math.min(message.index, log.lastIndex), message.logTerm);
    answer.logTerm = Math.max(log.termAt(answer.hint), 0);
    core.send(answer);
    return;
  }
  const entries = message.entries ?? [];
  const last = message.index + entries.length;
  assert(last === message.lastEntry || entries.length === 0, "an append carries the entries that it names");
  appendNew(core, entries);
  if (last > core.agreedTo) core.agreedTo = last;
  core.commitTo(Math.min(message.commit, last));
  answer.index = last;
  core.send(answer);
}

/** Only a real conflict cuts the log: a late append must not shorten it (point 18). */
function appendNew(core: Core, entries: readonly Entry[]): void {
  const { log } = core;
  let at = 0;
  while (at < entries.length && log.termAt(entries[at]!.index) === entries[at]!.term) at += 1;
  if (at === entries.length) return;
  const fresh = at === 0 ? entries : entries.slice(at);
  const first = fresh[0]!.index;
  assert(first > core.commit, "a committed entry is never replaced");
  assert(first > core.agreedTo, "a leader never replaces its own entries");
  if (first <= log.lastIndex) core.forgetChangesFrom(first);
  log.append(fresh);
  for (const entry of fresh) if (entry.kind === ENTRY_CONFIGURATION) core.noteChangeEntry(entry.index);
}

export function handleHeartbeat(core: Core, message: Message): void {
  // The leader sends no more than this replica once confirmed; but what was confirmed may be lost with an unsynced tail,
  // and other entries may stand in its place. So a commit counts only up to where this very process saw the logs agree.
  const agreed = Math.max(core.agreedTo, core.commit);
  core.commitTo(Math.min(message.commit, agreed));
  const answer = core.message(MSG_HEARTBEAT_RESPONSE, message.from);
  answer.context = message.context;
  answer.reject = message.commit > agreed;
  core.send(answer);
}

export function handleSnapshot(core: Core, message: Message): void {
  const answer = core.message(MSG_APPEND_RESPONSE, message.from);
  const meta = message.snapshot;
  answer.index = meta !== null && restore(core, meta) ? core.log.lastIndex : core.commit;
  core.send(answer);
}

/** False when the log needs no snapshot: it is as far already, or reconnects by itself (point 22). */
function restore(core: Core, meta: SnapshotMeta): boolean {
  if (meta.index <= core.commit) return false;
  if (core.log.termAt(meta.index) === meta.term) {
    core.commitTo(meta.index);
    return false;
  }
  core.log.restore(meta);
  core.commit = meta.index;
  core.applied = meta.index;
  core.agreedTo = meta.index;
  core.forgetChangesTo(meta.index);
  core.forgetChangesFrom(meta.index + 1);
  core.switchTo(meta.configuration);
  core.pendingSnapshot = meta;
  return true;
}
