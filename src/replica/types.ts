// What the host promises to the broker, and what it asks of the store: plain data and callbacks, so that a caller on
// another node or thread sees the same.

import type { GroupId, NodeId, ReplicaId } from "../base/ids.ts";
import type { Delivery, Revocation } from "../machine/machine.ts";
import { RULES_VERSION } from "../machine/versions.ts";
import type { Configuration } from "../raft/types.ts";
import type { SavedDigest } from "./digest.ts";

/** The outcome of a proposal. Machines reply with codes of at least 0; these are the host's own. */
export const HOST_NOT_LEADER = -1;
/** Too much is uncommitted already: slow down. Nothing was proposed. */
export const HOST_OVERLOADED = -2;
/** Leadership was lost before the outcome was known: it may still be carried out. */
export const HOST_LOST = -3;
/** This node has no replica of the group. */
export const HOST_NO_GROUP = -4;
export const HOST_STOPPING = -5;
/** No more records are taken in: this node's disk, or that of most members, is nearly full. */
export const HOST_DISK_FULL = -6;

/** `detail` is the machine's own text or data; valid during the call only. */
export type ProposeDone = (code: number, value: number, detail: Uint8Array | null) => void;

export type MachineKind = "catalog" | "stream" | "queue";

/** How the entries of a group become durable (DESIGN section 4; types.proto Durability). */
export type DurabilityMode = {
  readonly sync: boolean;
  /** With `sync` false: sync at the latest after so many milliseconds; 0 = never by us. */
  readonly flushIntervalMs: number;
  /** With `sync` false: sync after so many entries; 0 = no such bound. */
  readonly flushEntries: number;
};
export const DURABILITY_FSYNC: DurabilityMode = { sync: true, flushIntervalMs: 0, flushEntries: 0 };

export type GroupDescriptor = {
  readonly group: GroupId;
  readonly kind: MachineKind;
  readonly self: ReplicaId;
  /** The members with which the group was created; null for a replica that joins later: its leader tells it. */
  readonly members: Configuration | null;
  /** This replica starts the first election of a new group, so that leaders are spread as placed. */
  readonly preferred: boolean;
  readonly durability: DurabilityMode;
  /** It was made after this node's log was read, so nothing in the log is of this replica. */
  readonly isFresh?: boolean;
};

/** A machine's state at a point of the log. */
export type Checkpoint = {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
  readonly machineVersion: number;
  readonly timeMs: number;
  /** Of what was applied up to here; null when an earlier release made the checkpoint. */
  readonly digest: SavedDigest | null;
  readonly snapshot: Uint8Array;
};

/** The part of the store that the host needs. Each call keeps its own order per group. */
export interface CheckpointStore {
  save(group: GroupId, checkpoint: Checkpoint): Promise<void>;
  /** Indexes held, ascending. */
  list(group: GroupId): Promise<readonly number[]>;
  /** Undefined when it is missing or damaged. */
  read(group: GroupId, index: number): Promise<Checkpoint | undefined>;
  deleteBelow(group: GroupId, index: number): Promise<void>;
  /** Those at these indexes. */
  delete(group: GroupId, indexes: ReadonlySet<number>): Promise<void>;
  deleteGroups(groups: readonly GroupId[]): Promise<void>;
}

/** What entries of a group led here did to its work subscriptions. `dueMs`: when something is due by itself; -1 = nothing is. */
export type WorkNews = {
  dueMs: number;
  readonly deliveries: (Delivery & { readonly subscription: string })[];
  readonly revokes: (Revocation & { readonly subscription: string })[];
};

/** What the host tells the layer above; called from within a turn, so keep it short and never throw. */
export interface HostEvents {
  /** Records up to `endOffset` (exclusive) can be read on this node. At most once per group and turn. */
  advanced(group: GroupId, endOffset: number): void;
  /** A group led here has work subscriptions, and entries were applied. At most once per group and turn. */
  worked(group: GroupId, news: WorkNews): void;
  /** The catalog machine changed. */
  catalogChanged(): void;
  /** Leader or term of a group changed as this node sees it; 0 = none known. */
  leaderChanged(group: GroupId, leader: NodeId | 0, term: number): void;
  /** A replica here is damaged and was taken out of service; it needs a successor under another id. */
  damaged(group: GroupId, reason: string): void;
  /** A forwarded request or answer of another node. */
  forwarded(from: NodeId, frame: Uint8Array): void;
  peerUp(peer: NodeId): void;
  peerDown(peer: NodeId): void;
  /** The node cannot go on (write error, broken invariant): say why and exit. */
  fatal(error: Error): void;
}

export type HostSettings = {
  readonly nodeId: NodeId;
  /** The newest version of the machines' rules that this release knows. */
  readonly rulesVersion: number;
  /** Milliseconds of one tick of every awake group. */
  readonly tickMs: number;
  /** Ticks without word from a leader before an election (drawn from this to twice this). */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Ticks at rest (nothing proposed, everybody up to date) before a group stops ticking. */
  readonly restTicks: number;
  /** Payload bytes, or entries, applied since the last checkpoint before the next one. */
  readonly checkpointBytes: number;
  readonly checkpointEntries: number;
  readonly tailCacheBytesMax: number;
  /** How much faster than new entries come nodes that lag are sent old ones; 0 = as fast as they take them. */
  readonly catchUpBytesPerSecond: number;
};

export const HOST_DEFAULTS = {
  rulesVersion: RULES_VERSION,
  tickMs: 50,
  electionTicks: 10,
  heartbeatTicks: 2,
  restTicks: 20,
  checkpointBytes: 32 * 1024 * 1024,
  checkpointEntries: 50_000,
  catchUpBytesPerSecond: 64 * 1024 * 1024,
} as const;
