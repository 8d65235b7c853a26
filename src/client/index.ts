// The public door of the client library, and the one barrel of the project.

export { Flotilla, type ConnectOptions } from "./flotilla.ts";
export { Producer, type Placed, type ProducerOptions, type RecordCallback } from "./producer.ts";
export { Consumer, type ConsumerOptions, type ReceivedBatch } from "./consumer.ts";
export { FlotillaError, type FlotillaErrorCode } from "./errors.ts";
export { decodeBatch, hashKey, type Header, type OutgoingRecord, type ReceivedRecord } from "./records.ts";
export type { FetchedBatch, FetchedPartition, FetchFrom, FetchPosition } from "./wire.ts";
export type {
  AdminClient,
  CallOptions,
  ClusterClient,
  ClusterInfo,
  NodeDisk,
  DamagedReplica,
  Durability,
  PartitionDescription,
  PartitionOffsets,
  ReplicaMove,
  SubscriptionInfo,
  TopicConfig,
  TopicInfo,
} from "./admin.ts";
export type { NodeInfo, PartitionInfo, Topology } from "./topology.ts";
