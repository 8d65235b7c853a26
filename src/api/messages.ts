// Broker types as protobuf messages, for the calls that go through the generic codec.

import { CONFIG_DEFAULTS } from "../broker/admin.ts";
import type { BrokerError } from "../base/errors.ts";
import { BrokerError as Failure } from "../base/errors.ts";
import type {
  ClusterInfo,
  NodeInfo,
  PartitionDescription,
  PartitionInfo,
  ReplicaMove,
  SubscriptionInfo,
  TopicConfig,
  TopicInfo,
  Topology,
} from "../broker/types.ts";
import { count } from "./definitions.ts";

export function partError(error: BrokerError | null): object | undefined {
  if (error === null) return undefined;
  return {
    reason: error.code,
    message: error.message,
    retryable: error.retryable,
    maybeApplied: error.maybeApplied,
    metadata: error.details,
  };
}

export function nodeMessage(node: NodeInfo): object {
  return { ...node };
}

export function partitionMessage(info: PartitionInfo): object {
  return { ...info, replicas: [...info.replicas] };
}

export function moveMessage(move: ReplicaMove): object {
  return { ...move, fromNodes: [...move.fromNodes], toNodes: [...move.toNodes] };
}

export function topologyMessage(topology: Topology): object {
  return { nodes: topology.nodes.map(nodeMessage), partitions: topology.partitions.map(partitionMessage) };
}

export function clusterMessage(info: ClusterInfo): object {
  return { ...info, nodes: info.nodes.map(nodeMessage) };
}

export function topicMessage(topic: TopicInfo): object {
  return { ...topic, config: { ...topic.config } };
}

export function describedPartition({ info, startOffset, endOffset, bytes, error }: PartitionDescription): object {
  return { info: partitionMessage(info), startOffset, endOffset, bytes, error: partError(error) };
}

export function subscriptionMessage({ name, partitions }: SubscriptionInfo): object {
  return { name, partitions: partitions.map((partition) => ({ ...partition })) };
}

/** TopicConfig as the generic codec decodes it: 64-bit numbers are text. */
export type ConfigMessage = {
  durability: number;
  retentionMs: string;
  retentionBytes: string;
  flushIntervalMs: number;
  flushMessages: number;
  retentionSchedule: string;
  retentionTimeZone: string;
  retentionPolicy: number;
};

/** The fields of a configuration that a new topic asks for. */
export function newConfig(config: ConfigMessage | null | undefined): Partial<TopicConfig> {
  if (config === null || config === undefined) return {};
  return {
    ...(config.durability === 0 ? {} : { durability: durability(config.durability) }),
    retentionMs: count(config.retentionMs, "config.retention_ms"),
    retentionBytes: count(config.retentionBytes, "config.retention_bytes"),
    flushIntervalMs: config.flushIntervalMs,
    flushMessages: config.flushMessages,
    retentionSchedule: config.retentionSchedule,
    retentionTimeZone: config.retentionTimeZone,
    ...(config.retentionPolicy === 0 ? {} : { retentionPolicy: retentionPolicy(config.retentionPolicy) }),
  };
}

const FIELDS: Readonly<Record<string, keyof TopicConfig>> = {
  durability: "durability",
  retention_ms: "retentionMs",
  retention_bytes: "retentionBytes",
  flush_interval_ms: "flushIntervalMs",
  flush_messages: "flushMessages",
  retention_schedule: "retentionSchedule",
  retention_time_zone: "retentionTimeZone",
  retention_policy: "retentionPolicy",
};

/** The fields of a configuration that an update names; all of them when it names none. */
export function changedConfig(config: ConfigMessage | null | undefined, update: readonly string[]): Partial<TopicConfig> {
  const all = newConfig(config);
  if (update.length === 0) return all;
  const changes: Record<string, number | string> = {};
  for (const name of update) {
    const field = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined;
    if (field === undefined)
      throw new Failure("INVALID_ARGUMENT", `update names ${JSON.stringify(name)}; there are ${Object.keys(FIELDS).join(", ")}`, {
        field: "update",
      });
    changes[field] = all[field] ?? CONFIG_DEFAULTS[field];
  }
  return changes as Partial<TopicConfig>;
}

function durability(value: number): 1 | 2 | 3 {
  if (value === 1 || value === 2 || value === 3) return value;
  throw new Failure("INVALID_ARGUMENT", `durability ${value} is unknown: 1 is fsync, 2 interval, 3 os`, { field: "config.durability" });
}

function retentionPolicy(value: number): 1 | 2 {
  if (value === 1 || value === 2) return value;
  throw new Failure("INVALID_ARGUMENT", `retention policy ${value} is unknown: 1 is delete, 2 archive`, {
    field: "config.retention_policy",
  });
}
