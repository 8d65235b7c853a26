// The door to one replica's consensus. Told of messages, ticks, proposals and finished writes; answers with Ready. Pure:
// no clock, no chance of its own, no input or output (the shape of etcd's raft; Ongaro's thesis for the rules).

import { assert } from "./assert.ts";
import { changePayload } from "./configuration-codec.ts";
import { Core } from "./core.ts";
import { answerVote, campaign, isLeaseHeld, learnCommit, recordVote, refuse } from "./election.ts";
import { changed } from "./membership.ts";
import { jointIndex } from "./quorum.ts";
import { stepCandidate } from "./step-candidate.ts";
import { stepFollower } from "./step-follower.ts";
import { advance, confirmedRound, finishTransfer, stepLeader } from "./step-leader.ts";
import {
  Entry,
  ENTRY_CONFIGURATION,
  NOTHING,
  MSG_APPEND,
  MSG_APPEND_RESPONSE,
  MSG_HEARTBEAT,
  MSG_PRE_VOTE,
  MSG_PRE_VOTE_RESPONSE,
  MSG_SNAPSHOT,
  MSG_VOTE,
  MSG_VOTE_RESPONSE,
  PROGRESS_REPLICATE,
  PROGRESS_SNAPSHOT,
  PROPOSE_CHANGE_PENDING,
  PROPOSE_FULL,
  PROPOSE_NOT_LEADER,
  PROPOSE_OK,
  PROPOSE_TRANSFERRING,
  ROLE_CANDIDATE,
  ROLE_FOLLOWER,
  ROLE_LEADER,
  type Configuration,
  type ConfigurationChange,
  type EntryKind,
  type HardState,
  type Index,
  type InitialState,
  type Message,
  type PeerId,
  type ProgressStatus,
  type ProposeResult,
  type RaftComponents,
  type RaftSettings,
  type Ready,
  type Role,
  type SoftState,
  type Term,
} from "./types.ts";

export type Payload = { readonly payload: Uint8Array; readonly crc: number };

export class RaftNode {
  private readonly core: Core;
  private writeSequence = 0;
  /** Invariant: persistedSequence <= writeSequence; equal when no write is under way. */
  private persistedSequence = 0;
  private readyHardState: HardState;
  /** The commit index that is on disk, and those on their way there. */
  private durableCommit: Index;
  private commitWrites: { readonly sequence: number; readonly commit: Index }[] = NOTHING;
  /** The commit index that went out with the last write that has to be synced. */
  private syncedCommit: Index;
  private readyCommitted: Index;
  /** The write that carries this candidate's vote for itself, and the term of that vote. */
  private ownVoteSequence = 0;
  private ownVoteTerm: Term = 0;

  constructor(settings: RaftSettings, components: RaftComponents, initial: InitialState) {
    this.core = new Core(settings, components, initial);
    this.readyHardState = { ...initial.hardState };
    this.syncedCommit = initial.hardState.commit;
    this.durableCommit = initial.hardState.commit;
    this.readyCommitted = initial.applied;
  }

  get id(): PeerId {
    return this.core.id;
  }
  get role(): Role {
    return this.core.role;
  }
  get isLeader(): boolean {
    return this.core.role === ROLE_LEADER;
  }
  get softState(): SoftState {
    return { role: this.core.role, leader: this.core.leader };
  }
  get term(): Term {
    return this.core.term;
  }
  get vote(): PeerId {
    return this.core.vote;
  }
  /** 0 = none known. */
  get leader(): PeerId {
    return this.core.leader;
  }
  get lastIndex(): Index {
    return this.core.log.lastIndex;
  }
  get firstIndex(): Index {
    return this.core.log.firstIndex;
  }
  get commitIndex(): Index {
    return this.core.commit;
  }
  get applied(): Index {
    return this.core.applied;
  }
  get configuration(): Configuration {
    return this.core.configuration;
  }

  /** Of a leader: it hands its leadership over, and nothing is proposed meanwhile. */
  get isTransferring(): boolean {
    return this.core.transferee !== 0;
  }

  /** -1 when the entry was cut away or does not exist. */
  termAt(index: Index): Term | -1 {
    return this.core.log.termAt(index);
  }

  /** A message from another replica. Stale and unknown ones cost nothing. */
  step(message: Message): void {
    const { core } = this;
    if (message.kind === MSG_VOTE_RESPONSE || message.kind === MSG_PRE_VOTE_RESPONSE) learnCommit(core, message);
    if (message.term > core.term && !this.newerTerm(message)) return;
    if (message.term < core.term) {
      this.olderTerm(message);
      return;
    }
    if (message.kind === MSG_VOTE || message.kind === MSG_PRE_VOTE) answerVote(core, message);
    else if (core.role === ROLE_LEADER) stepLeader(core, message);
    else if (core.role === ROLE_FOLLOWER) stepFollower(core, message);
    else stepCandidate(core, message);
  }

  /** One unit of time, as `electionTicks` and `heartbeatTicks` count it. */
  tick(): void {
    const { core } = this;
    core.electionElapsed += 1;
    if (core.role === ROLE_LEADER) {
      this.tickLeader();
      return;
    }
    if (core.isPromotable && core.electionElapsed >= core.randomizedTimeout) {
      core.electionElapsed = 0;
      campaign(core, false);
    }
  }

  /** Stands for election now; refused for a leader, a non-voter, and while a membership change waits to be applied. */
  campaign(): void {
    campaign(this.core, false);
  }

  /** The leader's node is known to be gone: its lease no longer keeps this replica from voting. */
  forgetLeader(): void {
    const { core } = this;
    if (core.role === ROLE_FOLLOWER) core.leader = 0;
  }

  /** Appends entries of one kind, in order, right after `lastIndex`. All or none. Membership has `proposeChange`. */
  propose(kind: EntryKind, timestampMs: number, payloads: readonly Payload[]): ProposeResult {
    assert(kind !== ENTRY_CONFIGURATION, "membership changes go through proposeChange");
    return this.append(kind, timestampMs, payloads);
  }

  private append(kind: EntryKind, timestampMs: number, payloads: readonly Payload[]): ProposeResult {
    const { core } = this;
    if (core.role !== ROLE_LEADER || core.progressOf(core.id) === undefined) return PROPOSE_NOT_LEADER;
    if (core.transferee !== 0) return PROPOSE_TRANSFERRING;
    let bytes = 0;
    for (const { payload } of payloads) bytes += payload.length;
    // One proposal beyond the bound is let in when nothing else waits, or a large one could never pass (point 28).
    if (core.uncommittedBytes > 0 && core.uncommittedBytes + bytes > core.settings.uncommittedBytesMax) return PROPOSE_FULL;
    const first = core.log.lastIndex + 1;
    core.appendOwn(payloads.map(({ payload, crc }, at) => new Entry(first + at, core.term, kind, timestampMs, payload, crc)));
    for (const progress of core.progress) if (progress.peer !== core.id) while (core.sendAppend(progress, false));
    return PROPOSE_OK;
  }

  /** A membership change that was proposed here, or may have come with the log, has yet to be applied; only a leader knows. */
  get isChanging(): boolean {
    return this.core.pendingChangeIndex > this.core.applied;
  }

  /** Proposes a membership change; it takes effect on each replica when the entry is applied there. */
  proposeChange(change: ConfigurationChange, timestampMs: number): ProposeResult {
    const { core } = this;
    if (core.role !== ROLE_LEADER) return PROPOSE_NOT_LEADER;
    // One change at a time, and none before this leader knows that the last one is applied (points 8 and 9).
    if (this.isChanging) return PROPOSE_CHANGE_PENDING;
    if (changed(core.configuration, change).configuration === null) return PROPOSE_CHANGE_PENDING;
    const result = this.append(ENTRY_CONFIGURATION, timestampMs, [changePayload(change)]);
    if (result === PROPOSE_OK) {
      core.pendingChangeIndex = core.log.lastIndex;
      core.noteChangeEntry(core.log.lastIndex);
    }
    return result;
  }

  /** False when this replica does not lead, or `to` cannot take over. Ends by itself after an election timeout. */
  transferLeadership(to: PeerId): boolean {
    const { core } = this;
    const progress = core.progressOf(to);
    if (core.role !== ROLE_LEADER || progress === undefined || progress.isLearner || to === core.id) return false;
    if (core.transferee === to) return true;
    core.transferee = to;
    core.electionElapsed = 0;
    if (progress.match === core.log.lastIndex) finishTransfer(core, false);
    else core.sendAppend(progress, true);
    return true;
  }

  /** Asks for a linearizable read; `token` comes back in Ready.reads or Ready.readsDropped. */
  readIndex(token: number): boolean {
    const { core } = this;
    if (core.role !== ROLE_LEADER) return false;
    return core.ownReads().add(token, core.log.termAt(core.commit) === core.term);
  }

  /** A member's node cannot be reached: what was under way to it is taken as lost (point 19), be it the leadership. */
  reportUnreachable(peer: PeerId): void {
    if (this.core.transferee === peer) this.core.transferee = 0;
    const progress = this.core.role === ROLE_LEADER ? this.core.progressOf(peer) : undefined;
    if (progress?.state === PROGRESS_REPLICATE) progress.becomeProbe();
  }

  /** The snapshot for `peer` has left, or could not. */
  snapshotSent(peer: PeerId, ok: boolean): void {
    const progress = this.core.role === ROLE_LEADER ? this.core.progressOf(peer) : undefined;
    if (progress?.state !== PROGRESS_SNAPSHOT) return;
    if (!ok) progress.pendingSnapshot = 0;
    progress.becomeProbe();
    // The next append waits for an answer or a heartbeat: the snapshot has to arrive first.
    progress.appendPaused = true;
  }

  /** The host cut its log up to `index`. */
  compact(index: Index, term: Term): void {
    assert(index <= this.core.applied, "only applied entries are cut");
    this.core.log.compact(index, term);
  }

  /** Nothing is under way: gives back the memory of lists that were longer once. */
  slimDown(): void {
    if (this.commitWrites.length === 0) this.commitWrites = NOTHING;
    this.core.slimDown();
  }

  hasReady(): boolean {
    const { core } = this;
    return (
      core.messages.length > 0 ||
      core.messagesAfterPersist.length > 0 ||
      core.log.hasUnsent ||
      core.pendingSnapshot !== null ||
      core.reads.hasNews ||
      core.reads.wantsRound ||
      core.term !== this.readyHardState.term ||
      core.vote !== this.readyHardState.vote ||
      core.commit !== this.readyHardState.commit ||
      this.committable > this.readyCommitted ||
      this.awaitsCommitWrite
    );
  }

  ready(): Ready {
    const { core } = this;
    if (core.reads.wantsRound) this.startReads();
    const { term, vote, commit } = core;
    const old = this.readyHardState;
    const voteChanged = term !== old.term || vote !== old.vote;
    const mustSync = voteChanged || core.log.hasUnsent || core.pendingSnapshot !== null || this.awaitsCommitWrite;
    // A host may drop a commit index that comes alone, but a membership change must never be on disk without the commit
    // of the one before it: a restarted replica would stand for election two configurations behind (README, membership).
    const commitBehind = commit !== old.commit || (mustSync && commit !== this.syncedCommit);
    const hardState = voteChanged || commitBehind ? { term, vote, commit } : null;
    const snapshot = core.pendingSnapshot;
    core.pendingSnapshot = null;
    // An answer may vouch for entries of a write that is still under way: then it waits, even with nothing new to write.
    const waits = core.messagesAfterPersist.length > 0 && this.persistedSequence < this.writeSequence;
    const writes = hardState !== null || mustSync;
    const sequence = writes || waits ? this.writeSequence + 1 : 0;
    const entries = core.log.hasUnsent ? core.log.takeUnsent(sequence) : NOTHING;
    if (sequence > 0) {
      this.writeSequence = sequence;
      if (hardState !== null) this.readyHardState = hardState;
      if (mustSync) {
        this.syncedCommit = commit;
        if (this.commitWrites === NOTHING) this.commitWrites = [];
        this.commitWrites.push({ sequence, commit });
      }
      if (voteChanged && vote === core.id) {
        this.ownVoteSequence = sequence;
        this.ownVoteTerm = term;
      }
    }
    const { messages, messagesAfterPersist } = core;
    core.messages = NOTHING;
    core.messagesAfterPersist = NOTHING;
    this.readyCommitted = Math.max(this.readyCommitted, this.committable, snapshot?.index ?? 0);
    return {
      writeSequence: sequence,
      hardState,
      mustSync,
      snapshot,
      entries,
      messages,
      messagesAfterPersist,
      committedTo: this.readyCommitted,
      reads: core.reads.takeConfirmed(),
      readsDropped: core.reads.takeDropped(),
    };
  }

  /** Every write up to `writeSequence` is durable: own entries and the own vote count from now on (point 14). */
  persisted(writeSequence: number): void {
    const { core } = this;
    assert(writeSequence <= this.writeSequence, "only what was handed out becomes durable");
    if (writeSequence > this.persistedSequence) this.persistedSequence = writeSequence;
    core.log.persisted(writeSequence);
    while (this.commitWrites.length > 0 && this.commitWrites[0]!.sequence <= writeSequence)
      this.durableCommit = this.commitWrites.shift()!.commit;
    if (core.role === ROLE_LEADER) {
      const own = core.progressOf(core.id);
      if (own !== undefined && own.update(core.log.stableTo) && advance(core)) core.broadcastAppend();
      return;
    }
    if (core.role === ROLE_CANDIDATE && this.ownVoteTerm === core.term && this.ownVoteSequence <= writeSequence) {
      this.ownVoteTerm = 0;
      recordVote(core, core.id, true);
    }
  }

  /** The machine has applied up to `index`. */
  appliedTo(index: Index): void {
    const { core } = this;
    // A snapshot that the host has yet to install is ahead of what its machine applied meanwhile.
    if (core.pendingSnapshot !== null && index <= core.applied) return;
    assert(index >= core.applied && index <= core.commit, "applied only rises, up to the commit index");
    const hasMoved = index > core.applied;
    core.applied = index;
    core.forgetChangesTo(index);
    this.leaveJointIfDue();
    if (hasMoved && core.role === ROLE_LEADER) finishTransfer(core, false);
  }

  /** Called when the host applies an ENTRY_CONFIGURATION entry; returns the configuration from there on. */
  applyChange(change: ConfigurationChange): Configuration {
    const { core } = this;
    // An entry from before a snapshot that was accepted but is not installed yet: the configuration is ahead of it.
    if (core.pendingSnapshot !== null) return core.configuration;
    const result = changed(core.configuration, change);
    // A change that no longer fits changes nothing, on every replica alike.
    if (result.configuration === null) return core.configuration;
    core.switchTo(result.configuration);
    if (core.role !== ROLE_LEADER) return core.configuration;
    const own = core.progressOf(core.id);
    if ((own === undefined || own.isLearner) && core.settings.stepDownOnRemoval !== false) {
      core.becomeFollower(core.term, 0);
      return core.configuration;
    }
    if (advance(core)) core.broadcastAppend();
    else for (const progress of core.progress) if (progress.peer !== core.id) core.sendAppend(progress, false);
    if (core.transferee !== 0 && (core.progressOf(core.transferee)?.isLearner ?? true)) core.transferee = 0;
    return core.configuration;
  }

  /** Of a leader: members that lack entries of its log. */
  get followersBehind(): number {
    const { core } = this;
    let behind = 0;
    for (const { peer, match } of core.progress) if (peer !== core.id && match < core.log.lastIndex) behind += 1;
    return behind;
  }

  /** The leader's view of every member, itself included; ascending. Without a copy: for looking at, within the call. */
  members(): readonly Pick<ProgressStatus, "peer" | "state" | "match">[] {
    return this.core.progress;
  }

  /** The same as a copy with everything in it. */
  status(): ProgressStatus[] {
    return this.core.progress.map((progress) => ({
      peer: progress.peer,
      state: progress.state,
      match: progress.match,
      next: progress.next,
      learner: progress.isLearner,
      recentActive: progress.recentActive,
      paused: progress.isPaused,
      inflight: progress.inflight,
      inflightFull: progress.isInflightFull,
      pendingSnapshot: progress.pendingSnapshot,
    }));
  }

  /** A membership change waits for the commit index to be on disk before it is applied, and no write carries it yet. */
  private get awaitsCommitWrite(): boolean {
    return this.core.commit > this.syncedCommit && this.committable < this.committedAndStable;
  }

  /** Committed and durable here (point 29). */
  private get committable(): Index {
    return this.core.applicableTo(this.committedAndStable, this.durableCommit);
  }

  private get committedAndStable(): Index {
    return Math.min(this.core.commit, this.core.log.stableTo);
  }

  /** True when the message is to be handled in the term that is now current. */
  private newerTerm(message: Message): boolean {
    const { core } = this;
    const isVote = message.kind === MSG_VOTE || message.kind === MSG_PRE_VOTE;
    if (isVote && message.context !== 1 && isLeaseHeld(core)) return false;
    if (message.kind === MSG_PRE_VOTE || (message.kind === MSG_PRE_VOTE_RESPONSE && !message.reject)) {
      // The term of a pre-vote is one that nobody has yet; answers to it are counted in the own term.
      if (message.kind === MSG_PRE_VOTE) answerVote(core, message);
      else if (core.role !== ROLE_LEADER && core.role !== ROLE_FOLLOWER && message.term === core.term + 1) stepCandidate(core, message);
      return false;
    }
    const fromLeader = message.kind === MSG_APPEND || message.kind === MSG_HEARTBEAT || message.kind === MSG_SNAPSHOT;
    core.becomeFollower(message.term, fromLeader ? message.from : 0);
    return true;
  }

  private olderTerm(message: Message): void {
    const { core } = this;
    const { preVote, checkQuorum } = core.settings;
    if ((preVote || checkQuorum) && (message.kind === MSG_HEARTBEAT || message.kind === MSG_APPEND)) {
      // Tells an old leader the term, or a replica with a higher term and a shorter log could stay stuck (point 2).
      core.send(core.message(MSG_APPEND_RESPONSE, message.from));
    } else if (message.kind === MSG_PRE_VOTE) {
      const answer = core.message(MSG_PRE_VOTE_RESPONSE, message.from);
      refuse(core, answer);
      core.send(answer);
    }
  }

  /** The leader's own proposal to leave a joint configuration; tried again by every tick, as a transfer may refuse it. */
  private leaveJointIfDue(): void {
    const { core } = this;
    if (core.role === ROLE_LEADER && core.configuration.autoLeave && core.applied >= core.pendingChangeIndex) {
      this.proposeChange({ transition: "auto", changes: [] }, 0);
    }
  }

  private tickLeader(): void {
    const { core } = this;
    const { electionTicks, heartbeatTicks, checkQuorum } = core.settings;
    core.heartbeatElapsed += 1;
    if (core.electionElapsed >= electionTicks) {
      core.electionElapsed = 0;
      if (checkQuorum && !this.quorumActive()) {
        core.becomeFollower(core.term, 0);
        return;
      }
      core.transferee = 0;
    }
    if (core.heartbeatElapsed >= heartbeatTicks) {
      core.heartbeatElapsed = 0;
      core.broadcastHeartbeat(core.reads.openRound);
      if (core.electionElapsed > heartbeatTicks) finishTransfer(core, true);
    }
    this.leaveJointIfDue();
  }

  /** A majority answered since the last check (point 3). */
  private quorumActive(): boolean {
    const { core } = this;
    const { voters, votersOutgoing } = core.configuration;
    const active =
      jointIndex(voters, votersOutgoing, (peer) => (peer === core.id || core.progressOf(peer)?.recentActive === true ? 1 : 0)) >= 1;
    for (const progress of core.progress) progress.recentActive = progress.peer === core.id;
    return active;
  }

  private startReads(): void {
    const { core } = this;
    if (core.role !== ROLE_LEADER) {
      core.reads.drop();
      return;
    }
    core.broadcastHeartbeat(core.startReadRound());
    core.reads.confirmTo(confirmedRound(core));
  }
}
