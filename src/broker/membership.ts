// Brings the members of a group to where the catalog wants them, one step at a time: new ones first learn, then a joint
// change lets them vote and drops those that are to go. So the group never has fewer good voters than before.

import type { Configuration, ConfigurationChange, PeerId, ProgressStatus } from "../raft/types.ts";
import { CHANGE_ADD_LEARNER, CHANGE_ADD_VOTER, CHANGE_REMOVE, PROGRESS_REPLICATE, type Change, type ChangeKind } from "../raft/types.ts";

/** A learner that lacks at most so many entries may vote: the joint change does not wait for it for long. */
const CAUGHT_UP_ENTRIES = 256;

export type Members = { readonly voters: readonly PeerId[]; readonly learners: readonly PeerId[] };

/** What a leader knows of its group. */
export type LeaderView = {
  readonly self: PeerId;
  readonly configuration: Configuration;
  readonly lastIndex: number;
  readonly progress: readonly ProgressStatus[];
};

export type MembershipStep =
  | { readonly kind: "change"; readonly change: ConfigurationChange }
  /** The leader itself is to go: another one, which stays, has to lead first. */
  | { readonly kind: "transfer"; readonly to: PeerId };

/** True when the group has exactly the members that are wanted, and no change is under way. */
export function isInPlace({ voters, votersOutgoing, learners }: Configuration, target: Members): boolean {
  return votersOutgoing.length === 0 && sameSet(voters, target.voters) && sameSet(learners, target.learners);
}

/** The next step of the leader; null when there is none to take now: all is in place, or something has to happen first. */
export function nextStep(view: LeaderView, target: Members): MembershipStep | null {
  const { self, configuration } = view;
  const { voters, votersOutgoing, learners } = configuration;
  if (votersOutgoing.length > 0 || isInPlace(configuration, target)) return null;
  const members = new Set([...voters, ...learners]);
  const wanted = [...target.voters, ...target.learners];
  const unknown = wanted.filter((peer) => !members.has(peer));
  // A learner that is not wanted any more (its disk was lost again) goes at once: nobody counts on it.
  const unwanted = learners.filter((peer) => !wanted.includes(peer));
  if (unknown.length > 0 || unwanted.length > 0)
    return change([...unknown.map((peer) => step(CHANGE_ADD_LEARNER, peer)), ...unwanted.map((peer) => step(CHANGE_REMOVE, peer))]);
  const waiting = target.voters.filter((peer) => learners.includes(peer));
  if (waiting.some((peer) => !isCaughtUp(view, peer))) return null;
  const gone = [...members].filter((peer) => !wanted.includes(peer));
  const changes: Change[] = [
    ...waiting.map((peer) => step(CHANGE_ADD_VOTER, peer)),
    ...target.learners.filter((peer) => voters.includes(peer) && peer !== self).map((peer) => step(CHANGE_ADD_LEARNER, peer)),
    ...gone.filter((peer) => peer !== self).map((peer) => step(CHANGE_REMOVE, peer)),
  ];
  if (changes.length > 0) return change(changes);
  const heir = target.voters.find((peer) => peer !== self && voters.includes(peer) && isCaughtUp(view, peer));
  return heir === undefined ? null : { kind: "transfer", to: heir };
}

function step(kind: ChangeKind, peer: PeerId): Change {
  return { kind, peer };
}

function change(changes: readonly Change[]): MembershipStep {
  return { kind: "change", change: { transition: "auto", changes } };
}

function isCaughtUp({ progress, lastIndex }: LeaderView, peer: PeerId): boolean {
  const status = progress.find((row) => row.peer === peer);
  return status !== undefined && status.state === PROGRESS_REPLICATE && status.match + CAUGHT_UP_ENTRIES >= lastIndex;
}

function sameSet(a: readonly PeerId[], b: readonly PeerId[]): boolean {
  return a.length === b.length && a.every((peer) => b.includes(peer));
}
