// Changes of the membership, as pure functions: one voter at a time, or through a joint configuration.

import {
  CHANGE_ADD_LEARNER,
  CHANGE_ADD_VOTER,
  CHANGE_REMOVE,
  type Change,
  type Configuration,
  type ConfigurationChange,
  type PeerId,
} from "./types.ts";

export const EMPTY_CONFIGURATION: Configuration = { voters: [], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

/** The new configuration, or why the change is not possible. */
export type MembershipResult =
  | { readonly configuration: Configuration; readonly error: null }
  | { readonly configuration: null; readonly error: string };

export function isJoint(configuration: Configuration): boolean {
  return configuration.votersOutgoing.length > 0;
}

/** Every member, ascending. */
export function membersOf(configuration: Configuration): PeerId[] {
  const { voters, votersOutgoing, learners } = configuration;
  return [...new Set([...voters, ...votersOutgoing, ...learners])].sort((a, b) => a - b);
}

/** What an entry that changes the membership makes of it; one without changes ends a joint configuration. */
export function changed(configuration: Configuration, change: ConfigurationChange): MembershipResult {
  if (change.changes.length === 0) return leaveJoint(configuration);
  if (change.transition === "auto") {
    const simple = simpleChange(configuration, change.changes);
    if (simple.configuration !== null || isJoint(configuration)) return simple;
  }
  return enterJoint(configuration, change.changes, change.transition !== "jointExplicit");
}

/** A change of at most one voter, at once. */
export function simpleChange(configuration: Configuration, changes: readonly Change[]): MembershipResult {
  if (isJoint(configuration)) return refused("can't apply simple config change in joint config");
  const draft = applyChanges(configuration, changes);
  if (draft.voters.size === 0) return refused("removed all voters");
  const before = new Set(configuration.voters);
  let different = 0;
  for (const voter of draft.voters) if (!before.has(voter)) different += 1;
  for (const voter of before) if (!draft.voters.has(voter)) different += 1;
  if (different > 1) return refused("more than one voter changed without entering joint config");
  return done(draft, configuration.votersOutgoing, false);
}

export function enterJoint(configuration: Configuration, changes: readonly Change[], autoLeave: boolean): MembershipResult {
  if (isJoint(configuration)) return refused("config is already joint");
  if (configuration.voters.length === 0) return refused("can't make a zero-voter config joint");
  const joint = { ...configuration, votersOutgoing: configuration.voters };
  const draft = applyChanges(joint, changes);
  if (draft.voters.size === 0) return refused("removed all voters");
  return done(draft, joint.votersOutgoing, autoLeave);
}

export function leaveJoint(configuration: Configuration): MembershipResult {
  if (!isJoint(configuration)) return refused("can't leave a non-joint config");
  const draft = draftOf(configuration);
  for (const peer of draft.learnersNext) draft.learners.add(peer);
  draft.learnersNext.clear();
  return done(draft, [], false);
}

type Draft = { readonly voters: Set<PeerId>; readonly learners: Set<PeerId>; readonly learnersNext: Set<PeerId> };

function draftOf(configuration: Configuration): Draft {
  return {
    voters: new Set(configuration.voters),
    learners: new Set(configuration.learners),
    learnersNext: new Set(configuration.learnersNext),
  };
}

function applyChanges(configuration: Configuration, changes: readonly Change[]): Draft {
  const draft = draftOf(configuration);
  const outgoing = new Set(configuration.votersOutgoing);
  for (const { kind, peer } of changes) {
    if (peer === 0) continue;
    switch (kind) {
      case CHANGE_ADD_VOTER:
        draft.learners.delete(peer);
        draft.learnersNext.delete(peer);
        draft.voters.add(peer);
        break;
      case CHANGE_ADD_LEARNER:
        if (draft.learners.has(peer)) break;
        draft.voters.delete(peer);
        draft.learnersNext.delete(peer);
        // A voter of the outgoing half stays one until the joint configuration is left.
        if (outgoing.has(peer)) draft.learnersNext.add(peer);
        else draft.learners.add(peer);
        break;
      case CHANGE_REMOVE:
        draft.voters.delete(peer);
        draft.learners.delete(peer);
        draft.learnersNext.delete(peer);
        break;
      default:
        break;
    }
  }
  return draft;
}

function done(draft: Draft, outgoing: readonly PeerId[], autoLeave: boolean): MembershipResult {
  const sorted = (peers: Iterable<PeerId>): PeerId[] => [...peers].sort((a, b) => a - b);
  const configuration = {
    voters: sorted(draft.voters),
    votersOutgoing: sorted(outgoing),
    learners: sorted(draft.learners),
    learnersNext: sorted(draft.learnersNext),
    autoLeave,
  };
  return { configuration, error: null };
}

function refused(error: string): MembershipResult {
  return { configuration: null, error };
}
