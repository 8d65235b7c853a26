// The use cases, free of any wire protocol. Plain data in, plain data out: `api/` adapts gRPC to this.

import type { Declaring } from "./declaring.ts";
import type { Definitions } from "./definitions.ts";
import type { Groups } from "./groups.ts";
import type { Transactions } from "./transactions/transactions.ts";
import type { Queues } from "./work/queues.ts";
import type { BrokerError } from "../base/errors.ts";
import type { GroupId, NodeId } from "../base/ids.ts";

export type TopicConfig = {
  /** 1 fsync, 2 interval, 3 os (types.proto Durability). */
  readonly durability: 1 | 2 | 3;
  /** 0: for ever. */
  readonly retentionMs: number;
  /** 0: no bound. */
  readonly retentionBytes: number;
  readonly flushIntervalMs: number;
  readonly flushMessages: number;
  /** A cron expression: records are trimmed when it is due; empty = at any time. */
  readonly retentionSchedule: string;
  /** Empty: UTC. */
  readonly retentionTimeZone: string;
  /** 1 delete, 2 archive (types.proto RetentionPolicy). */
  readonly retentionPolicy: 1 | 2;
};

export type TopicInfo = {
  readonly vhost: string;
  readonly name: string;
  readonly partitions: number;
  readonly replicas: number;
  readonly config: TopicConfig;
  readonly createdMs: number;
};

export type PublishCall = {
  readonly vhost: string;
  readonly topic: string;
  /** -1: by `partitionKey`, or in turn. */
  readonly partition: number;
  readonly partitionKey: Uint8Array | null;
  /** An encoded RecordBatch. The broker copies what it keeps before `publish` returns. */
  readonly records: Uint8Array;
  /** 0: the broker counts. */
  readonly count: number;
  /** 0: no deduplication. */
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly sequence: number;
  /** Fail with NOT_LEADER instead of forwarding. */
  readonly direct: boolean;
  /** Not null: published to this exchange, and `topic` is not looked at; then `sequence` may have gaps from batch to batch. */
  readonly exchange: string | null;
  /** Of the records that have none of their own. */
  readonly routingKey: string;
};

/** Of what was published to an exchange: copies that were stored, and the places in the batch of records that went nowhere. */
export type Routed = { readonly copies: number; readonly unroutable: readonly number[] };

/** `duplicate` with baseOffset -1: stored by an earlier try so long ago that its offset is no longer known. */
export type PublishDone = (
  error: BrokerError | null,
  partition: number,
  baseOffset: number,
  count: number,
  duplicate: boolean,
  routed?: Routed,
) => void;

export const FROM_OFFSET = 0;
export const FROM_TIME = 1;
export const FROM_EARLIEST = 2;
export const FROM_LATEST = 3;
export type FetchPosition = { readonly partition: number; readonly from: 0 | 1 | 2 | 3; /** Offset or ms. */ readonly value: number };

export type FetchCall = {
  readonly vhost: string;
  readonly topic: string;
  readonly positions: readonly FetchPosition[];
  readonly maxBytes: number;
  readonly maxWaitMs: number;
  readonly direct: boolean;
};

export type FetchedBatch = {
  readonly baseOffset: number;
  readonly count: number;
  readonly timeMs: number;
  /** Encoded RecordBatch. */ readonly records: Uint8Array;
};
export type FetchedPartition = {
  readonly partition: number;
  readonly batches: readonly FetchedBatch[];
  readonly startOffset: number;
  readonly endOffset: number;
  readonly nextOffset: number;
  readonly error: BrokerError | null;
};

export type OffsetCommit = { readonly partition: number; readonly offset: number; readonly metadata: string; readonly reset: boolean };
export type PartitionOutcome = { readonly partition: number; readonly error: BrokerError | null };
export type PartitionOffsets = {
  readonly partition: number;
  readonly startOffset: number;
  readonly endOffset: number;
  /** -1: nothing committed. */
  readonly committedOffset: number;
  readonly metadata: string;
  /** -1: not asked for. */
  readonly timeOffset: number;
  readonly error: BrokerError | null;
};

export type NodeInfo = {
  readonly id: NodeId;
  readonly endpoint: string;
  readonly peerEndpoint: string;
  readonly alive: boolean;
  readonly dc: string;
  readonly zone: string;
  readonly leaders: number;
  readonly replicas: number;
  readonly version: string;
  /** Gets neither leaders nor new replicas. */
  readonly drained: boolean;
};
/** A partition whose members are not yet those that the catalog wants. */
export type ReplicaMove = {
  readonly vhost: string;
  readonly topic: string;
  readonly partition: number;
  /** None while nobody leads the partition: only its leader knows. */
  readonly fromNodes: readonly NodeId[];
  readonly toNodes: readonly NodeId[];
  /** Log entries that the furthest behind of the new replicas has, of so many. */
  readonly entriesDone: number;
  readonly entriesTotal: number;
};
export type PartitionInfo = {
  readonly partition: number;
  readonly group: GroupId;
  readonly leader: number;
  readonly term: number;
  readonly replicas: readonly NodeId[];
};
export type Topology = { readonly nodes: readonly NodeInfo[]; readonly partitions: readonly PartitionInfo[] };
export type PartitionDescription = {
  readonly info: PartitionInfo;
  readonly startOffset: number;
  readonly endOffset: number;
  readonly bytes: number;
  readonly error: BrokerError | null;
};
/** In bytes: the files of a node's logs, what of them is still needed, and what the node may still write to its disk. */
export type DiskUse = { readonly logBytes: number; readonly liveBytes: number; readonly freeBytes: number };
export type NodeDisk = DiskUse & { readonly node: NodeId };
/** `topic` is empty for the catalog's, and for one that was deleted meanwhile. */
export type DamagedReplica = {
  readonly node: NodeId;
  readonly group: number;
  readonly vhost: string;
  readonly topic: string;
  readonly partition: number;
  readonly reason: string;
};
export type ClusterInfo = {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly controllerId: number;
  readonly nodes: readonly NodeInfo[];
  readonly topics: number;
  readonly groups: number;
  readonly leaderlessGroups: number;
  /** As the nodes last told; without those that are down or have yet to tell. */
  readonly disks: readonly NodeDisk[];
  /** Replicas that are damaged and have no successor yet, and why; of each node that is up the first few. */
  readonly damages: readonly DamagedReplica[];
};
export type SubscriptionInfo = {
  readonly name: string;
  readonly partitions: readonly {
    readonly partition: number;
    readonly committedOffset: number;
    readonly endOffset: number;
    readonly committedMs: number;
  }[];
};

/** `after`: the last name of the page before; "" for the first page. At most `namesMax` subscriptions; 0: as many as fit. */
export type ListSubscriptionsCall = { readonly vhost: string; readonly topic: string; readonly after: string; readonly namesMax: number };
/** `next`: what the next page comes after; null at the end. */
export type SubscriptionPage = { readonly subscriptions: readonly SubscriptionInfo[]; readonly next: string | null };

export type TopicName = { readonly vhost: string; readonly name: string };
/** In the order of vhost and name. `vhost` null: of all. `after`: the last topic of the page before. */
export type ListTopicsCall = { readonly vhost: string | null; readonly after: TopicName | null; readonly topicsMax: number };
export type TopicPage = { readonly topics: readonly TopicInfo[]; readonly hasMore: boolean };

export type CreateTopicCall = {
  readonly vhost: string;
  readonly name: string;
  readonly partitions: number;
  readonly replicas: number;
  readonly config: Partial<TopicConfig>;
};

/** A queue or topic that would get a message, the exchanges on the way there, and who would have to store it. */
export type Route = {
  readonly target: string;
  readonly exchanges: readonly string[];
  readonly isQueue: boolean;
  readonly partitions: number;
  /** 0: none, or there are several partitions. */
  readonly leader: number;
  readonly durability: 1 | 2 | 3;
};

/**
 * Everything rejects or calls back with BrokerError only; anything else thrown is a bug. vhost "" is "/". `signal` ends
 * the wait, not the work: the outcome is then unknown.
 */
export interface Broker {
  publish(call: PublishCall, done: PublishDone): void;
  /** Long poll: at most `maxWaitMs`; `signal` of a caller who left frees the wait. */
  fetch(call: FetchCall, signal: AbortSignal): Promise<readonly FetchedPartition[]>;
  commitOffsets(
    call: {
      vhost: string;
      topic: string;
      subscription: string;
      offsets: readonly OffsetCommit[];
      /** Of the consumer group that the caller is a member of; 0 = none. */ generation: number;
      direct: boolean;
    },
    signal: AbortSignal,
  ): Promise<readonly PartitionOutcome[]>;
  getOffsets(
    call: {
      vhost: string;
      topic: string;
      subscription: string;
      partitions: readonly number[];
      /** -1: not asked for. */ timeMs: number;
      direct: boolean;
    },
    signal: AbortSignal,
  ): Promise<readonly PartitionOffsets[]>;

  describeCluster(): ClusterInfo;
  resolve(vhost: string, topic: string): Promise<Topology>;
  /** Calls `changed` whenever `resolve` of some topic may answer differently; returns the way to stop. */
  watch(changed: () => void): () => void;
  /** Resolves with the new leader. `toNode` 0: the best of the other replicas; topic "": the catalog. */
  transferLeader(call: { vhost: string; topic: string; partition: number; toNode: number }, signal: AbortSignal): Promise<number>;
  /** Resolves when the catalog has taken the order; `listMoves` follows it. */
  moveReplicas(
    call: { vhost: string; topic: string; partition: number; nodes: readonly number[] },
    signal: AbortSignal,
  ): Promise<PartitionInfo>;
  /** Every partition whose leader does not say that its replicas are those that the catalog wants. */
  listMoves(signal: AbortSignal): Promise<readonly ReplicaMove[]>;
  /** Resolves with the number of partitions whose replicas were ordered away. */
  drainNode(call: { node: number; drained: boolean; moveReplicas: boolean }, signal: AbortSignal): Promise<number>;
  forgetNode(node: number, signal: AbortSignal): Promise<void>;

  createTopic(call: CreateTopicCall, signal: AbortSignal): Promise<{ topic: TopicInfo; created: boolean }>;
  listTopics(call: ListTopicsCall): Promise<TopicPage>;
  describeTopic(
    vhost: string,
    name: string,
    signal: AbortSignal,
  ): Promise<{ topic: TopicInfo; partitions: readonly PartitionDescription[] }>;
  updateTopic(vhost: string, name: string, config: Partial<TopicConfig>, signal: AbortSignal): Promise<TopicInfo>;
  expandTopic(vhost: string, name: string, partitions: number, signal: AbortSignal): Promise<TopicInfo>;
  deleteTopic(vhost: string, name: string, signal: AbortSignal): Promise<void>;
  listSubscriptions(call: ListSubscriptionsCall, signal: AbortSignal): Promise<SubscriptionPage>;
  deleteSubscription(vhost: string, topic: string, name: string, signal: AbortSignal): Promise<void>;

  /** Queues and work subscriptions; vhosts, exchanges and what else is declared; consumer groups; transactions. */
  readonly queues: Queues;
  readonly declaring: Declaring;
  readonly groups: Groups;
  readonly definitions: Definitions;
  readonly transactions: Transactions;

  /** Group 0 is applied and led: calls can be served. */
  readonly ready: boolean;
}
