// The state of one replica and what every role may do with it. The roles themselves are step-leader.ts,
// step-candidate.ts and step-follower.ts; raft-node.ts is the door.

import { assert } from "./assert.ts";
import { RaftLog } from "./log.ts";
import { progressFor, type Progress } from "./progress.ts";
import { jointIndex } from "./quorum.ts";
import { NO_READS, ReadIndex } from "./read-index.ts";
import {
  Entry,
  Message,
  MSG_APPEND,
  MSG_APPEND_RESPONSE,
  MSG_HEARTBEAT,
  MSG_PRE_VOTE_RESPONSE,
  MSG_SNAPSHOT,
  MSG_VOTE_RESPONSE,
  NOTHING,
  PROGRESS_REPLICATE,
  ROLE_CANDIDATE,
  ROLE_FOLLOWER,
  ROLE_LEADER,
  ROLE_PRE_CANDIDATE,
  type Configuration,
  type Index,
  type InitialState,
  type MessageKind,
  type PeerId,
  type RaftComponents,
  type RaftSettings,
  type Role,
  type SnapshotMeta,
  type Term,
} from "./types.ts";

export class Core {
  readonly settings: RaftSettings;
  readonly components: RaftComponents;
  readonly log: RaftLog;
  /** Reads that wait; of a core without any the one that all of these share. */
  reads: ReadIndex = NO_READS;
  /** The newest round of heartbeats that confirms reads. Only rises: answers to an older one stay answers to an older one. */
  readRound = 0;
  role: Role = ROLE_FOLLOWER;
  term: Term;
  vote: PeerId;
  leader: PeerId = 0;
  /** Invariant: applied <= commit <= log.lastIndex, and commit never falls. */
  commit: Index;
  applied: Index;
  /** An append of the present term's leader has confirmed the log up to here; 0 is not yet. */
  agreedTo: Index = 0;
  configuration: Configuration;
  /** What `progress` has made; null again when a replica that does not lead comes to rest. */
  private tracked: Progress[] | null = null;
  votes: Map<PeerId, boolean> | null = null;
  electionElapsed = 0;
  heartbeatElapsed = 0;
  randomizedTimeout = 0;
  transferee: PeerId = 0;
  /** No membership change is proposed before this index is applied (point 8). */
  pendingChangeIndex: Index = 0;
  /** Sizes of proposals that are not committed yet, oldest first. */
  uncommittedBytes = 0;
  private uncommitted: { last: Index; bytes: number }[] = NOTHING;
  /** Committed membership changes that are not applied yet forbid a candidacy; of what was in the log at the start the kinds are not known. */
  private readonly unknownTo: Index;
  private changeIndexes: Index[] = NOTHING;

  /** A snapshot that was accepted and goes out with the next Ready. */
  pendingSnapshot: SnapshotMeta | null = null;
  /** Filled by `send` alone. */
  messages: Message[] = NOTHING;
  messagesAfterPersist: Message[] = NOTHING;

  constructor(settings: RaftSettings, components: RaftComponents, initial: InitialState) {
    assert(
      settings.electionTicks > settings.heartbeatTicks && settings.heartbeatTicks > 0,
      "the election timeout is longer than the heartbeat",
    );
    this.settings = settings;
    this.components = components;
    this.log = new RaftLog(initial.compacted, initial.termRuns, initial.lastIndex);
    this.term = initial.hardState.term;
    this.vote = initial.hardState.vote;
    this.commit = Math.max(initial.hardState.commit, initial.applied);
    this.applied = initial.applied;
    assert(
      this.commit <= initial.lastIndex && initial.applied >= initial.compacted.index,
      "the log holds what is committed and not yet applied",
    );
    this.unknownTo = initial.lastIndex;
    this.configuration = initial.configuration;
    this.drawTimeout();
  }

  get id(): PeerId {
    return this.settings.id;
  }

  get isPromotable(): boolean {
    const { voters, votersOutgoing } = this.configuration;
    return voters.includes(this.id) || votersOutgoing.includes(this.id);
  }

  /** Ascending by peer; the leader keeps them up to date, the others only know who is a member. */
  get progress(): readonly Progress[] {
    if (this.tracked === null) {
      this.tracked = progressFor(this.configuration, [], this.log.lastIndex, this.settings);
      for (const progress of this.tracked) progress.reset(this.log.lastIndex + 1);
    }
    return this.tracked;
  }

  progressOf(peer: PeerId): Progress | undefined {
    for (const progress of this.progress) if (progress.peer === peer) return progress;
    return undefined;
  }

  /** A committed membership change may wait to be applied: then nobody knows yet who may vote. */
  get hasUnappliedChange(): boolean {
    if (Math.min(this.commit, this.unknownTo) > this.applied) return true;
    for (const index of this.changeIndexes) if (index > this.applied && index <= this.commit) return true;
    return false;
  }

  /**
   * How far entries up to `index` may be applied while the commit index is durable only up to `durableCommit`. A change of
   * the members takes effect when it is applied, so a crash must not forget that it was: its voters could by then be
   * unable to win under the older configuration. Of entries from before the start the kinds are not known.
   */
  applicableTo(index: Index, durableCommit: Index): Index {
    if (index <= durableCommit) return index;
    let limit = index;
    for (const at of this.changeIndexes) if (at > durableCommit && at > this.applied && at <= limit) limit = at - 1;
    if (durableCommit < this.unknownTo) limit = Math.min(limit, Math.max(durableCommit, this.applied));
    return limit;
  }

  noteChangeEntry(index: Index): void {
    this.changeIndexes = [...this.changeIndexes, index];
  }

  forgetChangesFrom(index: Index): void {
    this.changeIndexes = this.changeIndexes.filter((at) => at < index);
  }

  forgetChangesTo(index: Index): void {
    if (this.changeIndexes.length > 0) this.changeIndexes = this.changeIndexes.filter((at) => at > index);
  }

  drawTimeout(): void {
    this.randomizedTimeout = this.settings.electionTicks + this.components.random.below(this.settings.electionTicks);
  }

  slimDown(): void {
    if (this.uncommitted.length === 0) this.uncommitted = NOTHING;
    if (this.changeIndexes.length === 0) this.changeIndexes = NOTHING;
    if (this.reads.isEmpty) this.reads = NO_READS;
    this.log.slimDown();
    if (this.role !== ROLE_LEADER) this.tracked = null;
    else for (const progress of this.progress) progress.slimDown();
  }

  /** Answers that promise something leave only when what they promise is durable (points 13 and 14). */
  send(message: Message): void {
    const { kind } = message;
    if (kind === MSG_APPEND_RESPONSE || kind === MSG_VOTE_RESPONSE || kind === MSG_PRE_VOTE_RESPONSE) {
      if (this.messagesAfterPersist === NOTHING) this.messagesAfterPersist = [];
      this.messagesAfterPersist.push(message);
    } else {
      if (this.messages === NOTHING) this.messages = [];
      this.messages.push(message);
    }
  }

  /** Where a read may be added. */
  ownReads(): ReadIndex {
    if (this.reads === NO_READS) this.reads = new ReadIndex();
    return this.reads;
  }

  /** Begins the round of heartbeats that the reads which came in since the last one wait for. */
  startReadRound(): number {
    this.readRound += 1;
    this.reads.startRound(this.readRound, this.commit);
    return this.readRound;
  }

  message(kind: MessageKind, to: PeerId): Message {
    return new Message(kind, this.id, to, this.term);
  }

  becomeFollower(term: Term, leader: PeerId): void {
    this.reset(term);
    this.role = ROLE_FOLLOWER;
    this.leader = leader;
  }

  becomePreCandidate(): void {
    // Changes neither term nor vote: a partitioned replica must not raise the term (point 1).
    assert(this.role !== ROLE_LEADER, "a leader does not stand for election");
    this.role = ROLE_PRE_CANDIDATE;
    this.votes = null;
    this.leader = 0;
    this.electionElapsed = 0;
    this.drawTimeout();
  }

  becomeCandidate(): void {
    assert(this.role !== ROLE_LEADER, "a leader does not stand for election");
    this.reset(this.term + 1);
    this.role = ROLE_CANDIDATE;
    this.vote = this.id;
  }

  becomeLeader(): void {
    assert(this.role === ROLE_CANDIDATE, "only a candidate becomes leader");
    this.reset(this.term);
    this.role = ROLE_LEADER;
    this.leader = this.id;
    const own = this.progressOf(this.id);
    if (own !== undefined) {
      own.becomeReplicate();
      own.match = this.log.stableTo;
      own.next = this.log.lastIndex + 1;
      own.recentActive = true;
    }
    this.pendingChangeIndex = this.log.lastIndex;
    // Commits everything before it, as entries of older terms may not be counted (point 12).
    this.appendOwn([Entry.noop(this.log.lastIndex + 1, this.term, 0)]);
  }

  /** The leader's own entries; they count for it once they are durable. */
  appendOwn(entries: readonly Entry[]): void {
    let bytes = 0;
    for (const entry of entries) bytes += entry.payload.length;
    this.log.append(entries);
    if (bytes > 0) {
      this.uncommittedBytes += bytes;
      if (this.uncommitted === NOTHING) this.uncommitted = [];
      this.uncommitted.push({ last: this.log.lastIndex, bytes });
    }
  }

  /** Commits what a majority has, if it is of the own term (point 12). True when the commit index rose. */
  maybeCommit(): boolean {
    const { voters, votersOutgoing } = this.configuration;
    const index = jointIndex(voters, votersOutgoing, (peer) => this.progressOf(peer)?.match ?? 0);
    if (!Number.isFinite(index) || index <= this.commit || this.log.termAt(index) !== this.term) return false;
    this.commitTo(index);
    return true;
  }

  commitTo(index: Index): void {
    if (index <= this.commit) return;
    assert(index <= this.log.lastIndex, "only what is in the log is committed");
    this.commit = index;
    while (this.uncommitted.length > 0 && this.uncommitted[0]!.last <= index) this.uncommittedBytes -= this.uncommitted.shift()!.bytes;
  }

  broadcastAppend(): void {
    for (const progress of this.progress) if (progress.peer !== this.id) this.sendAppend(progress, true);
  }

  /** Sends the next entries, or an empty append if `evenIfEmpty`; false when nothing was sent. */
  sendAppend(progress: Progress, evenIfEmpty: boolean): boolean {
    if (progress.isPaused) return false;
    const previous = progress.next - 1;
    const previousTerm = this.log.termAt(previous);
    if (previousTerm < 0) return this.sendSnapshot(progress);
    let last = previous;
    let bytes = 0;
    if (progress.state !== PROGRESS_REPLICATE || !progress.isInflightFull) {
      while (last < this.log.lastIndex) {
        const size = this.bytesOf(last + 1);
        if (last > previous && bytes + size > this.settings.appendBytesMax) break;
        bytes += size;
        last += 1;
      }
    }
    if (last === previous && !evenIfEmpty) return false;
    const message = this.message(MSG_APPEND, progress.peer);
    message.index = previous;
    message.logTerm = previousTerm;
    message.lastEntry = last;
    message.commit = this.commit;
    this.send(message);
    progress.sent(last, last - previous, bytes);
    progress.sentCommit = this.commit;
    return true;
  }

  broadcastHeartbeat(round: number): void {
    for (const progress of this.progress) {
      if (progress.peer === this.id) continue;
      const message = this.message(MSG_HEARTBEAT, progress.peer);
      // Never more than the follower is known to have (point 17).
      message.commit = Math.min(progress.match, this.commit);
      message.context = round;
      this.send(message);
      progress.sentCommit = message.commit;
    }
  }

  /** Adopts a configuration: progress of members that stay is kept, new ones start at the end of the log. */
  switchTo(configuration: Configuration): void {
    this.configuration = configuration;
    if (this.tracked !== null) this.tracked = progressFor(configuration, this.tracked, this.log.lastIndex, this.settings);
  }

  private sendSnapshot(progress: Progress): boolean {
    // Only to a member that answers: a dead one would never report (point 22).
    if (!progress.recentActive) return false;
    // The host's checkpoint knows the configuration at that index; what stands here is only a first guess.
    const { compactedIndex, compactedTerm } = this.log;
    const message = this.message(MSG_SNAPSHOT, progress.peer);
    message.index = compactedIndex;
    message.logTerm = compactedTerm;
    message.snapshot = { index: compactedIndex, term: compactedTerm, configuration: this.configuration };
    this.send(message);
    progress.becomeSnapshot(compactedIndex);
    return true;
  }

  private bytesOf(index: Index): number {
    const bytes = this.log.unstableBytes(index);
    return bytes >= 0 ? bytes : this.components.entryBytes(index);
  }

  private reset(term: Term): void {
    if (term !== this.term) {
      this.term = term;
      this.vote = 0;
      this.agreedTo = 0;
    }
    this.leader = 0;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.drawTimeout();
    this.transferee = 0;
    this.votes = null;
    this.pendingChangeIndex = 0;
    this.uncommittedBytes = 0;
    this.uncommitted = NOTHING;
    this.reads.drop();
    for (const progress of this.tracked ?? []) progress.reset(this.log.lastIndex + 1);
  }
}
