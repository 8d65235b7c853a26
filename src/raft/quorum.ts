// Majorities of one configuration, and of a joint one: both halves must agree (Raft thesis, section 4.3).

import type { Index, PeerId } from "./types.ts";

export const VOTE_PENDING = 0;
export const VOTE_WON = 1;
export const VOTE_LOST = 2;
export type VoteResult = 0 | 1 | 2;

const scratch: number[] = [];

/** The largest index that a majority has reached; infinity for an empty half, which constrains nothing. */
export function majorityIndex(voters: readonly PeerId[], indexOf: (peer: PeerId) => Index): Index {
  const count = voters.length;
  if (count === 0) return Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    const value = indexOf(voters[i]!);
    let at = i;
    while (at > 0 && scratch[at - 1]! > value) {
      scratch[at] = scratch[at - 1]!;
      at -= 1;
    }
    scratch[at] = value;
  }
  return scratch[count - (Math.floor(count / 2) + 1)]!;
}

export function jointIndex(voters: readonly PeerId[], outgoing: readonly PeerId[], indexOf: (peer: PeerId) => Index): Index {
  return Math.min(majorityIndex(voters, indexOf), majorityIndex(outgoing, indexOf));
}

/** `voteOf` is undefined for a voter that has not answered. */
export function majorityVote(voters: readonly PeerId[], voteOf: (peer: PeerId) => boolean | undefined): VoteResult {
  if (voters.length === 0) return VOTE_WON;
  let yes = 0;
  let missing = 0;
  for (const voter of voters) {
    const vote = voteOf(voter);
    if (vote === undefined) missing += 1;
    else if (vote) yes += 1;
  }
  const needed = Math.floor(voters.length / 2) + 1;
  if (yes >= needed) return VOTE_WON;
  return yes + missing >= needed ? VOTE_PENDING : VOTE_LOST;
}

export function jointVote(
  voters: readonly PeerId[],
  outgoing: readonly PeerId[],
  voteOf: (peer: PeerId) => boolean | undefined,
): VoteResult {
  const one = majorityVote(voters, voteOf);
  const two = majorityVote(outgoing, voteOf);
  if (one === two) return one;
  return one === VOTE_LOST || two === VOTE_LOST ? VOTE_LOST : VOTE_PENDING;
}
