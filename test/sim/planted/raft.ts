// Bugs of consensus: who counts, what may be replaced, what a change of members waits for.

import { Core } from "../../../src/raft/core.ts";
import { RaftLog } from "../../../src/raft/log.ts";
import { MSG_APPEND, MSG_TIMEOUT_NOW, ROLE_LEADER, type Message } from "../../../src/raft/types.ts";
import { majorityIndex } from "../../../src/raft/quorum.ts";
import { RaftNode } from "../../../src/raft/raft-node.ts";
import { both, swap, swapGetter, type Planted } from "./swap.ts";

/** What the bugs reach for behind the types. */
type Inner = { readonly core: Core };
type Cut = { truncateFrom: (index: number) => void };

/** Commits up to `index` as `maybeCommit` does, whatever its term unless `ownTerm`. */
function commit(core: Core, index: number, ownTerm = true): boolean {
  if (!Number.isFinite(index) || index <= core.commit || (ownTerm && core.log.termAt(index) !== core.term)) return false;
  core.commitTo(index);
  return true;
}

export const PLANTED_RAFT: readonly Planted[] = [
  {
    name: "old-term-counted",
    what: "an entry of an older term is committed because a majority has it",
    within: 80,
    plant: () =>
      swap<Core["maybeCommit"]>(
        Core,
        "maybeCommit",
        (original) =>
          function (this: Core) {
            const { voters, votersOutgoing } = this.configuration;
            const reached = (list: readonly number[]): number => majorityIndex(list, (peer) => this.progressOf(peer)?.match ?? 0);
            return original.call(this) || commit(this, Math.min(reached(voters), reached(votersOutgoing)), false);
          },
      ),
  },
  {
    name: "half-a-joint-quorum",
    what: "while members change, the majority of the new ones alone commits",
    within: 80,
    plant: () =>
      swap<Core["maybeCommit"]>(
        Core,
        "maybeCommit",
        () =>
          function (this: Core) {
            return commit(
              this,
              majorityIndex(this.configuration.voters, (peer) => this.progressOf(peer)?.match ?? 0),
            );
          },
      ),
  },
  {
    name: "learner-counted",
    what: "a learner's acknowledgement counts like a voter's",
    within: 40,
    plant: () =>
      swap<Core["maybeCommit"]>(
        Core,
        "maybeCommit",
        () =>
          function (this: Core) {
            const matches = this.progress.map(({ match }) => match).sort((a, b) => b - a);
            return commit(this, matches[Math.floor(this.configuration.voters.length / 2)] ?? 0);
          },
      ),
  },
  {
    name: "tail-dropped",
    what: "a new leader begins with what it knows to be committed: the rest of its log goes, and its offsets are given out again",
    within: 20,
    plant: () =>
      swap<Core["becomeLeader"]>(
        Core,
        "becomeLeader",
        (original) =>
          function (this: Core) {
            if (this.log.lastIndex > this.commit) (this.log as unknown as Cut).truncateFrom(this.commit + 1);
            original.call(this);
          },
      ),
  },
  {
    name: "late-append-cuts",
    what: "an append that comes late shortens the log to where it ends",
    within: 40,
    plant: () =>
      swap<RaftNode["step"]>(
        RaftNode,
        "step",
        (original) =>
          function (this: RaftNode, message: Message) {
            original.call(this, message);
            const { core } = this as unknown as Inner;
            const isLate = message.kind === MSG_APPEND && core.role !== ROLE_LEADER && core.term === message.term;
            if (!isLate || message.lastEntry >= core.log.lastIndex || core.log.termAt(message.lastEntry) < 0) return;
            core.commit = Math.min(core.commit, message.lastEntry);
            (core.log as unknown as Cut).truncateFrom(message.lastEntry + 1);
          },
      ),
  },
  {
    name: "two-changes",
    what: "a change of the members does not wait for the one before it",
    within: 80,
    run: { nodes: 5, faults: ["move", "drain", "partition", "slowdisk", "stalldisk"] },
    plant: () =>
      swap<RaftNode["proposeChange"]>(
        RaftNode,
        "proposeChange",
        (original) =>
          function (this: RaftNode, change, timestampMs) {
            (this as unknown as Inner).core.pendingChangeIndex = 0;
            return original.call(this, change, timestampMs);
          },
      ),
  },
  {
    name: "change-too-early",
    what: "a change of the members takes effect before it is on disk that it is committed",
    within: 20,
    plant: () => swap<Core["applicableTo"]>(Core, "applicableTo", () => (index) => index),
  },
  {
    name: "any-log-is-new-enough",
    what: "a vote goes to a candidate whose log lacks what the voter has",
    within: 20,
    plant: () => swap<RaftLog["isUpToDate"]>(RaftLog, "isUpToDate", () => () => true),
  },
  {
    name: "votes-twice",
    what: "a vote is given to everybody who asks in a term",
    within: 40,
    plant: () =>
      swap<RaftNode["step"]>(
        RaftNode,
        "step",
        (original) =>
          function (this: RaftNode, message: Message) {
            const { core } = this as unknown as Inner;
            if (core.role !== ROLE_LEADER && message.term === core.term && message.kind !== MSG_TIMEOUT_NOW) core.vote = 0;
            original.call(this, message);
          },
      ),
  },
  {
    name: "written-is-durable",
    what: "a leader counts its own entries before they are on disk, and so do its followers",
    within: 20,
    plant: both(
      () =>
        swap<RaftLog["takeUnsent"]>(
          RaftLog,
          "takeUnsent",
          (original) =>
            function (this: RaftLog, sequence: number) {
              const taken = original.call(this, sequence);
              this.stableTo = this.lastIndex;
              return taken;
            },
        ),
      () => swapGetter<Core, boolean>(Core, "hasUnappliedChange", () => () => false),
    ),
  },
];
