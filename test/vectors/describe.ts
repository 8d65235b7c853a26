// The wording of the vectors.

import {
  CHANGE_ADD_LEARNER,
  CHANGE_ADD_VOTER,
  CHANGE_REMOVE,
  CHANGE_UPDATE,
  type Change,
  type Configuration,
  type Entry,
  ENTRY_CONFIGURATION,
  type ProgressStatus,
} from "../../src/raft/types.ts";
import { decodeChange } from "../../src/raft/configuration-codec.ts";

const KINDS = { v: CHANGE_ADD_VOTER, l: CHANGE_ADD_LEARNER, r: CHANGE_REMOVE, u: CHANGE_UPDATE } as const;
const LETTERS = ["v", "l", "r", "u"];

/** `v1 l2 r3 u4`. */
export function changesOf(text: string): Change[] {
  return text
    .split(/\s+/)
    .filter((word) => word !== "")
    .map((word) => ({ kind: KINDS[word[0] as keyof typeof KINDS], peer: Number(word.slice(1)) }));
}

export function describeConfiguration({ voters, votersOutgoing, learners, learnersNext, autoLeave }: Configuration): string {
  const list = (peers: readonly number[]): string => `(${peers.join(" ")})`;
  let text = `voters=${list(voters)}`;
  if (votersOutgoing.length > 0) text += `&&${list(votersOutgoing)}`;
  if (learners.length > 0) text += ` learners=${list(learners)}`;
  if (learnersNext.length > 0) text += ` learners_next=${list(learnersNext)}`;
  return autoLeave ? `${text} autoleave` : text;
}

export function describeProgress(progress: ProgressStatus): string {
  let text = `${progress.peer}: ${["StateProbe", "StateReplicate", "StateSnapshot"][progress.state]} match=${progress.match} next=${progress.next}`;
  if (progress.learner) text += " learner";
  if (progress.paused) text += " paused";
  if (progress.pendingSnapshot > 0) text += ` pendingSnap=${progress.pendingSnapshot}`;
  if (!progress.recentActive) text += " inactive";
  if (progress.inflight > 0) text += ` inflight=${progress.inflight}`;
  return progress.inflightFull ? `${text}[full]` : text;
}

/** Term, index and content; how a membership change is wrapped is each implementation's own. */
export function describeEntry(entry: Entry): string {
  const place = `${entry.term}/${entry.index}`;
  if (entry.kind === ENTRY_CONFIGURATION) {
    const { changes } = decodeChange(entry.payload);
    return `${place} EntryConfChange ${changes.map(({ kind, peer }) => `${LETTERS[kind]}${peer}`).join(" ")}`.trimEnd();
  }
  return `${place} EntryNormal "${new TextDecoder().decode(entry.payload)}"`;
}

/** A line of the vectors, in the same terms. */
export function normalEntry(line: string): string {
  return line.trim().replace("EntryConfChangeV2", "EntryConfChange");
}
