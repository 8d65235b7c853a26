import type { Channels } from "./channels.ts";
import { TopologyWatch, type NodeInfo, type PartitionInfo, type Topology } from "./topology.ts";

export type Durability = "fsync" | "interval" | "os";
export type RetentionPolicy = "delete" | "archive";
export type TopicConfig = {
  readonly durability: Durability;
  /** 0 = for ever. */
  readonly retentionMs: number;
  /** Per partition; 0 = no bound. */
  readonly retentionBytes: number;
  readonly flushIntervalMs: number;
  readonly flushMessages: number;
  /** A cron expression: records are trimmed when it is due; empty = at any time. */
  readonly retentionSchedule: string;
  /** For example Europe/Berlin; empty = UTC. */
  readonly retentionTimeZone: string;
  /** `archive`: what is trimmed is written to archive files of the leader's node first. */
  readonly retentionPolicy: RetentionPolicy;
};
export type TopicInfo = {
  readonly vhost: string;
  readonly name: string;
  readonly partitions: number;
  readonly replicas: number;
  readonly config: TopicConfig;
  readonly createdMs: number;
};
export type PartError = { readonly reason: string; readonly message: string };
export type PartitionDescription = {
  readonly info: PartitionInfo;
  readonly startOffset: number;
  readonly endOffset: number;
  readonly bytes: number;
  readonly error: PartError | null;
};
/** `revoked`: what of it the member is to let go of. */
export type GroupDescription = {
  readonly generation: number;
  readonly members: readonly { readonly name: string; readonly partitions: readonly number[]; readonly revoked: readonly number[] }[];
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
export type PartitionOffsets = {
  readonly partition: number;
  readonly startOffset: number;
  readonly endOffset: number;
  /** undefined = nothing committed. */ readonly committedOffset?: number;
  readonly metadata: string;
  readonly timeOffset?: number;
  readonly error: PartError | null;
};
export type ClusterInfo = {
  readonly clusterId: string;
  readonly nodeId: number;
  readonly controllerId: number;
  readonly nodes: readonly NodeInfo[];
  readonly topics: number;
  readonly groups: number;
  readonly leaderlessGroups: number;
  /** As the nodes last told, every few seconds; without those that are down. */
  readonly disks: readonly NodeDisk[];
  /** Replicas that are out of service because they are damaged, until they have a successor. */
  readonly damages: readonly DamagedReplica[];
};
/** `topic` is empty for the catalog's replica. */
export type DamagedReplica = {
  readonly node: number;
  readonly group: number;
  readonly vhost: string;
  readonly topic: string;
  readonly partition: number;
  readonly reason: string;
};
/** In bytes: the files of a node's logs, what of them is still needed, and what the node may still write to its disk. */
export type NodeDisk = { readonly node: number; readonly logBytes: number; readonly liveBytes: number; readonly freeBytes: number };
export type ReplicaMove = {
  readonly vhost: string;
  readonly topic: string;
  readonly partition: number;
  /** Nodes that hold it now (none are named while nobody leads it: only its leader knows), and those that are to. */
  readonly fromNodes: readonly number[];
  readonly toNodes: readonly number[];
  /** Log entries that the furthest behind of the new replicas has, of so many. */
  readonly entriesDone: number;
  readonly entriesTotal: number;
};
export type CallOptions = { readonly signal?: AbortSignal };

const DURABILITIES: readonly Durability[] = ["fsync", "interval", "os"];
const RETENTION_POLICIES: readonly RetentionPolicy[] = ["delete", "archive"];
const FIELD_NAMES: Readonly<Record<keyof TopicConfig, string>> = {
  durability: "durability",
  retentionMs: "retention_ms",
  retentionBytes: "retention_bytes",
  flushIntervalMs: "flush_interval_ms",
  flushMessages: "flush_messages",
  retentionSchedule: "retention_schedule",
  retentionTimeZone: "retention_time_zone",
  retentionPolicy: "retention_policy",
};

type ConfigMessage = Omit<TopicConfig, "durability" | "retentionPolicy"> & {
  readonly durability: number;
  readonly retentionPolicy: number;
};
type TopicMessage = Omit<TopicInfo, "config"> & { readonly config: ConfigMessage };

/** Topics and subscriptions: create, list, describe, change, delete. An empty vhost is "/". */
export class AdminClient {
  private readonly channels: Channels;

  constructor(channels: Channels) {
    this.channels = channels;
  }

  /** Resolves when every partition has a leader. Creating what exists with the same settings is no error. */
  async createTopic(
    topic: { name: string; vhost?: string; partitions?: number; replicas?: number; config?: Partial<TopicConfig> },
    options: CallOptions = {},
  ): Promise<{ topic: TopicInfo; created: boolean }> {
    const { name, vhost = "", partitions = 0, replicas = 0, config = {} } = topic;
    const answer = await this.call<{ topic: TopicMessage; created: boolean }>(
      "CreateTopic",
      { name, vhost, partitions, replicas, config: toMessage(config) },
      options,
    );
    return { topic: fromMessage(answer.topic), created: answer.created };
  }

  async listTopics(vhost = "", options: CallOptions = {}): Promise<TopicInfo[]> {
    const topics: TopicInfo[] = [];
    let pageToken = "";
    do {
      const page = await this.call<{ topics: TopicMessage[]; nextPageToken: string }>("ListTopics", { vhost, pageToken }, options);
      topics.push(...page.topics.map(fromMessage));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return topics;
  }

  async describeTopic(
    name: string,
    vhost = "",
    options: CallOptions = {},
  ): Promise<{ topic: TopicInfo; partitions: readonly PartitionDescription[] }> {
    const answer = await this.call<{ topic: TopicMessage; partitions: PartitionDescription[] }>("DescribeTopic", { name, vhost }, options);
    return { topic: fromMessage(answer.topic), partitions: answer.partitions };
  }

  /** Changes the fields given, and no others. */
  async updateTopic(name: string, config: Partial<TopicConfig>, vhost = "", options: CallOptions = {}): Promise<TopicInfo> {
    const update = (Object.keys(config) as (keyof TopicConfig)[]).map((field) => FIELD_NAMES[field]);
    return fromMessage(
      (await this.call<{ topic: TopicMessage }>("UpdateTopic", { name, vhost, config: toMessage(config), update }, options)).topic,
    );
  }

  async expandTopic(name: string, partitions: number, vhost = "", options: CallOptions = {}): Promise<TopicInfo> {
    return fromMessage((await this.call<{ topic: TopicMessage }>("ExpandTopic", { name, vhost, partitions }, options)).topic);
  }

  async deleteTopic(name: string, vhost = "", options: CallOptions = {}): Promise<void> {
    await this.call("DeleteTopic", { name, vhost }, options);
  }

  async listSubscriptions(topic: string, vhost = "", options: CallOptions = {}): Promise<readonly SubscriptionInfo[]> {
    const subscriptions: SubscriptionInfo[] = [];
    let pageToken = "";
    do {
      const page = await this.call<{ subscriptions: SubscriptionInfo[]; nextPageToken: string }>(
        "ListSubscriptions",
        { topic, vhost, pageToken },
        options,
      );
      subscriptions.push(...page.subscriptions);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return subscriptions;
  }

  /** Who reads what in a consumer group. Rejects with UNKNOWN_SUBSCRIPTION when there is none. */
  describeGroup(topic: string, name: string, vhost = "", options: CallOptions = {}): Promise<GroupDescription> {
    return this.call("DescribeGroup", { topic, name, vhost }, options);
  }

  /** With the consumer group of that name; rejects with CONFLICT while that has members. */
  async deleteSubscription(topic: string, name: string, vhost = "", options: CallOptions = {}): Promise<void> {
    await this.call("DeleteSubscription", { topic, name, vhost }, options);
  }

  private call<Response>(method: string, request: object, options: CallOptions): Promise<Response> {
    return this.channels.call("flotilla.v1.Admin", method, request, options);
  }
}

/** Nodes and leaders. */
export class ClusterClient {
  private readonly channels: Channels;

  constructor(channels: Channels) {
    this.channels = channels;
  }

  describe(options: CallOptions = {}): Promise<ClusterInfo> {
    return this.channels.call("flotilla.v1.Cluster", "DescribeCluster", {}, options);
  }

  async resolve(topic: string, vhost = "", options: CallOptions = {}): Promise<Topology> {
    return (await this.channels.call<object, { topology: Topology }>("flotilla.v1.Cluster", "Resolve", { topic, vhost }, options)).topology;
  }

  /** The topology of a topic now, and again after every change, until `signal` or the reader ends it; changes in between are passed over. */
  async *watch(topic: string, vhost = "", options: CallOptions = {}): AsyncGenerator<Topology> {
    const { signal } = options;
    let isNew = true;
    let wake: (() => void) | null = null;
    const changed = (): void => {
      isNew = true;
      wake?.();
    };
    const watch = await TopologyWatch.open(this.channels, vhost, topic, changed);
    signal?.addEventListener("abort", changed, { once: true });
    try {
      while (signal?.aborted !== true) {
        if (isNew) {
          isNew = false;
          yield watch.current;
        } else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      signal?.removeEventListener("abort", changed);
      watch.close();
    }
  }

  /**
   * Moves a partition's leadership, for good; without `toNode` to the best of its other replicas, without `topic` that of
   * the catalog. Resolves with the new leader.
   */
  async transferLeader(
    target: { topic?: string; partition?: number; toNode?: number; vhost?: string },
    options: CallOptions = {},
  ): Promise<number> {
    const { topic = "", partition = 0, toNode = 0, vhost = "" } = target;
    return (await this.call<{ leader: number }>("TransferLeader", { topic, partition, toNode, vhost }, options)).leader;
  }

  /** Orders a partition's replicas onto these nodes, the wanted leader first; `listMoves` tells how far it is. */
  async moveReplicas(
    target: { topic: string; partition: number; nodes: readonly number[]; vhost?: string },
    options: CallOptions = {},
  ): Promise<PartitionInfo> {
    const { topic, partition, nodes, vhost = "" } = target;
    return (await this.call<{ partition: PartitionInfo }>("MoveReplicas", { topic, partition, nodes, vhost }, options)).partition;
  }

  /** Partitions whose replicas are not yet where they are to be, or of which nobody can tell, as they have no leader. */
  async listMoves(options: CallOptions = {}): Promise<readonly ReplicaMove[]> {
    return (await this.call<{ moves: ReplicaMove[] }>("ListMoves", {}, options)).moves;
  }

  /** Keeps leaders and new replicas off a node, or lets them come again; resolves with the partitions that were ordered away. */
  async drainNode(node: number, how: { drained?: boolean; moveReplicas?: boolean } = {}, options: CallOptions = {}): Promise<number> {
    const { drained = true, moveReplicas = false } = how;
    return (await this.call<{ moves: number }>("DrainNode", { node, drained, moveReplicas }, options)).moves;
  }

  /** Takes a stopped node without replicas out of the cluster. */
  async forgetNode(node: number, options: CallOptions = {}): Promise<void> {
    await this.call("ForgetNode", { node }, options);
  }

  private call<Response>(method: string, request: object, options: CallOptions): Promise<Response> {
    return this.channels.call("flotilla.v1.Cluster", method, request, options);
  }
}

function toMessage(config: Partial<TopicConfig>): object {
  const { durability, retentionPolicy, ...rest } = config;
  return {
    ...rest,
    ...(durability === undefined ? {} : { durability: DURABILITIES.indexOf(durability) + 1 }),
    ...(retentionPolicy === undefined ? {} : { retentionPolicy: RETENTION_POLICIES.indexOf(retentionPolicy) + 1 }),
  };
}

function fromMessage(topic: TopicMessage): TopicInfo {
  const durability = DURABILITIES[topic.config.durability - 1] ?? "fsync";
  const retentionPolicy = RETENTION_POLICIES[topic.config.retentionPolicy - 1] ?? "delete";
  return { ...topic, config: { ...topic.config, durability, retentionPolicy } };
}
