// What the core is told and what it returns. All of it is plain data; the host does the work.

/** An election epoch, 0..2^53-1. */
export type Term = number;
/** A position in a group's log, from 1; 0 is "before everything". */
export type Index = number;
/** A member of the group (`base/ids.ts` ReplicaId); 0 is "nobody". */
export type PeerId = number;

export const ENTRY_NOOP = 0;
export const ENTRY_RECORDS = 1;
export const ENTRY_COMMAND = 2;
export const ENTRY_CONFIGURATION = 3;
/** From here on the machine goes by another version of its rules (point 31). */
export const ENTRY_VERSION = 4;
export type EntryKind = typeof ENTRY_NOOP | typeof ENTRY_RECORDS | typeof ENTRY_COMMAND | typeof ENTRY_CONFIGURATION | typeof ENTRY_VERSION;

const EMPTY = new Uint8Array(0);

/**
 * The list of a core that has nothing to list: one for all cores, because most of many are at rest and an empty list of
 * their own for each purpose is a quarter of what they hold. Frozen, so who adds makes a list of its own first.
 */
export const NOTHING: never[] = Object.freeze([]) as unknown as never[];

/** One log entry. The core passes `payload` on by reference; it never reads, copies or changes it, and nobody else may. */
export class Entry {
  readonly index: Index;
  readonly term: Term;
  readonly kind: EntryKind;
  /** Milliseconds since 1970, stamped by the leader that created the entry; the machine never lets it go back. */
  readonly timestampMs: number;
  readonly payload: Uint8Array;
  /** CRC-32 of `payload`, computed once where the entry enters the system and carried to disk, wire and reader. */
  readonly crc: number;

  constructor(index: Index, term: Term, kind: EntryKind, timestampMs: number, payload: Uint8Array, crc: number) {
    this.index = index;
    this.term = term;
    this.kind = kind;
    this.timestampMs = timestampMs;
    this.payload = payload;
    this.crc = crc;
  }

  static noop(index: Index, term: Term, timestampMs: number): Entry {
    return new Entry(index, term, ENTRY_NOOP, timestampMs, EMPTY, 0);
  }
}

/** What must survive a restart beside the entries. */
export type HardState = {
  readonly term: Term;
  /** For whom this replica voted in `term`; 0 is nobody. */
  readonly vote: PeerId;
  /** A commit index that is known; may lag, because the leader tells it again. */
  readonly commit: Index;
};

/** The membership. `votersOutgoing` is non-empty only in a joint configuration (Raft thesis, section 4.3). */
export type Configuration = {
  readonly voters: readonly PeerId[];
  readonly votersOutgoing: readonly PeerId[];
  readonly learners: readonly PeerId[];
  /** Voters of the outgoing half that become learners when the joint configuration is left. */
  readonly learnersNext: readonly PeerId[];
  /** The leader leaves the joint configuration by itself as soon as it is applied. */
  readonly autoLeave: boolean;
};

export const CHANGE_ADD_VOTER = 0;
export const CHANGE_ADD_LEARNER = 1;
export const CHANGE_REMOVE = 2;
/** Touches nothing; kept so that a change may carry data for the host. */
export const CHANGE_UPDATE = 3;
export type ChangeKind = 0 | 1 | 2 | 3;
export type Change = { readonly kind: ChangeKind; readonly peer: PeerId };

/** How to move: `auto` goes joint only if more than one voter changes and leaves by itself. */
export type Transition = "auto" | "jointImplicit" | "jointExplicit";
/** Empty `changes` leaves a joint configuration. */
export type ConfigurationChange = { readonly transition: Transition; readonly changes: readonly Change[] };

export const ROLE_FOLLOWER = 0;
export const ROLE_PRE_CANDIDATE = 1;
export const ROLE_CANDIDATE = 2;
export const ROLE_LEADER = 3;
export type Role = 0 | 1 | 2 | 3;

/** Where a snapshot stands; its data is the host's business. */
export type SnapshotMeta = { readonly index: Index; readonly term: Term; readonly configuration: Configuration };

export const MSG_APPEND = 1;
export const MSG_APPEND_RESPONSE = 2;
export const MSG_VOTE = 3;
export const MSG_VOTE_RESPONSE = 4;
export const MSG_PRE_VOTE = 5;
export const MSG_PRE_VOTE_RESPONSE = 6;
export const MSG_HEARTBEAT = 7;
export const MSG_HEARTBEAT_RESPONSE = 8;
export const MSG_SNAPSHOT = 9;
export const MSG_TIMEOUT_NOW = 10;
/** Leader to follower: the group is at rest at (term, index, commit); stop ticking. Sent and handled by the host. */
export const MSG_REST = 11;
/**
 * Between leader and members, sent and handled by the host: what have you applied up to `index`; this; you contradict the
 * majority (`reject`), or your sum begins elsewhere. Only to nodes whose releases know them.
 */
export const MSG_DIGEST_ASK = 12;
export const MSG_DIGEST_ANSWER = 13;
export const MSG_DIGEST_VERDICT = 14;
export type MessageKind = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14;

/**
 * One message between two replicas of a group. One shape for all kinds (one hidden class); a field that a kind does not
 * use is 0, false or null. The comment names the kinds that use it.
 */
export class Message {
  kind: MessageKind;
  from: PeerId;
  to: PeerId;
  term: Term;
  /**
   * APPEND: index before the first entry. APPEND_RESPONSE: last index that matches, or the rejected `prev` index.
   * VOTE, PRE_VOTE: the candidate's last index. SNAPSHOT: its index. REST: the leader's last index. DIGEST_*: what is compared.
   */
  index: Index;
  /**
   * The term of `index` (APPEND, VOTE, PRE_VOTE, SNAPSHOT); APPEND_RESPONSE rejected: the term at `hint`.
   * VOTE_RESPONSE, PRE_VOTE_RESPONSE rejected: the term at `commit`. DIGEST_ANSWER, DIGEST_VERDICT: one half of the sum.
   */
  logTerm: Term;
  /**
   * APPEND, HEARTBEAT, REST: the commit index that the receiver may use. VOTE_RESPONSE, PRE_VOTE_RESPONSE rejected: the
   * sender's commit index; 0 is none. DIGEST_ANSWER, DIGEST_VERDICT: the other half of the sum.
   */
  commit: Index;
  /**
   * APPEND: index of the last entry to send; `index` when there is none. The host fills `entries` with
   * index+1..lastEntry just before sending: from its cache in the same turn, or from disk later, and then only if this
   * replica still leads in `term` (a leader's log is append-only within its term, research/raft point 16).
   */
  lastEntry: Index;
  entries: readonly Entry[] | null;
  /** HEARTBEAT_RESPONSE: the receiver lost track of where its log agrees with the leader's (a restart): probe it. */
  reject: boolean;
  /** APPEND_RESPONSE rejected: the follower's best guess where the logs agree. DIGEST_ANSWER, DIGEST_VERDICT: where the sum begins. */
  hint: Index;
  /**
   * HEARTBEAT and its response: the newest read request that this round confirms; 0 is none. VOTE: 1 = by transfer.
   * DIGEST_ASK: 1 = of the whole state too. DIGEST_ANSWER, DIGEST_VERDICT: that state's digest; 0 is none.
   */
  context: number;
  /**
   * SNAPSHOT. Where the sender's log begins; the host fills in the configuration of the checkpoint that it sends, which
   * may also be a later one. The receiving core trusts what the host staged.
   */
  snapshot: SnapshotMeta | null;

  constructor(kind: MessageKind, from: PeerId, to: PeerId, term: Term) {
    this.kind = kind;
    this.from = from;
    this.to = to;
    this.term = term;
    this.index = 0;
    this.logTerm = 0;
    this.commit = 0;
    this.lastEntry = 0;
    this.entries = null;
    this.reject = false;
    this.hint = 0;
    this.context = 0;
    this.snapshot = null;
  }
}

/**
 * What one step of the core asks of the host. The fields ARE the durability protocol:
 *  1. put `entries` in reach of readers (cache), then send `messages` at once;
 *  2. write `snapshot`, `entries` and `hardState` in one batch; `entries[0].index` may overwrite a suffix;
 *  3. when they are durable call `persisted(writeSequence)`, and only then send `messagesAfterPersist`;
 *  4. apply up to `committedTo` in order and call `appliedTo`.
 */
export type Ready = {
  /**
   * Strictly increasing per group; 0 when neither a write nor a wait is needed (then 3. happens at once). It may come
   * with nothing to write: then `messagesAfterPersist` depend on an earlier write that is still under way.
   */
  readonly writeSequence: number;
  /** With `entries` it always carries the newest commit index, unless an earlier write with entries did (see membership). */
  readonly hardState: HardState | null;
  /** The write must be synced before `persisted`: entries, or a term or vote that changed; a commit alone need not. */
  readonly mustSync: boolean;
  readonly snapshot: SnapshotMeta | null;
  readonly entries: readonly Entry[];
  readonly messages: readonly Message[];
  readonly messagesAfterPersist: readonly Message[];
  /** Entries up to here are committed AND durable here (research/raft point 29); equal to the last value if nothing new. */
  readonly committedTo: Index;
  /** Reads of `readIndex` that are confirmed: serve `token` once `index` is applied. */
  readonly reads: readonly ReadState[];
  /** Reads that can no longer be confirmed (leadership lost). */
  readonly readsDropped: readonly number[];
};

export type ReadState = { readonly token: number; readonly index: Index };

/** What a replica starts from, read back from the log and the store. */
export type InitialState = {
  readonly hardState: HardState;
  readonly configuration: Configuration;
  /** The entry before the first one in the log: the point where older entries were cut. (0, 0) for a whole log. */
  readonly compacted: { readonly index: Index; readonly term: Term };
  /** Terms of the durable log as runs (firstIndex ascending, first = compacted.index + 1); empty for an empty log. */
  readonly termRuns: readonly TermRun[];
  readonly lastIndex: Index;
  /** Applied and saved in a checkpoint; `configuration` is the one at this index. */
  readonly applied: Index;
};
export type TermRun = { readonly term: Term; readonly firstIndex: Index };

export type RaftSettings = {
  readonly id: PeerId;
  /** Ticks without word from a leader before an election; the real one is drawn from electionTicks..2*electionTicks-1. */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
  /** Payload bytes of one APPEND; a larger entry travels alone. */
  readonly appendBytesMax: number;
  readonly uncommittedBytesMax: number;
  /** A leader that is no longer a voter steps down when the change is applied; default true. */
  readonly stepDownOnRemoval?: boolean;
};

export type RaftComponents = {
  /** An integer of 0..bound-1. */
  readonly random: { below(bound: number): number };
  /** Payload bytes of the durable entry at `index`, or a fair estimate: flow control only. */
  readonly entryBytes: (index: Index) => number;
};

export const PROPOSE_OK = 0;
export const PROPOSE_NOT_LEADER = 1;
export const PROPOSE_TRANSFERRING = 2;
/** Too many uncommitted bytes. */
export const PROPOSE_FULL = 3;
/** A membership change is still under way, or the change does not fit the present configuration. */
export const PROPOSE_CHANGE_PENDING = 4;
export type ProposeResult = 0 | 1 | 2 | 3 | 4;

export const PROGRESS_PROBE = 0;
export const PROGRESS_REPLICATE = 1;
export const PROGRESS_SNAPSHOT = 2;

/** What the outside may watch; it changes without anything to write. */
export type SoftState = { readonly role: Role; readonly leader: PeerId };

/** One line of `status()`; the leader's view of a member. */
export type ProgressStatus = {
  readonly peer: PeerId;
  readonly state: 0 | 1 | 2;
  readonly match: Index;
  readonly next: Index;
  readonly learner: boolean;
  readonly recentActive: boolean;
  readonly paused: boolean;
  readonly inflight: number;
  readonly inflightFull: boolean;
  readonly pendingSnapshot: Index;
};
