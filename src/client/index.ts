// The public door of the client library, and the one barrel of the project.

export { Flotilla, type BrowsedMessage, type ConnectOptions, type ReceiveOptions } from "./flotilla.ts";
export { Producer, type Placed, type ProducerOptions, type RecordCallback } from "./producer.ts";
export { Consumer, type ConsumerOptions, type ReceivedBatch } from "./consumer.ts";
export { ExchangeProducer, type ExchangeProducerOptions, type RoutedRecord } from "./exchange-producer.ts";
export { GroupConsumer, type GroupConsumerOptions } from "./group-consumer.ts";
export type { RedriveOptions, Redriven } from "./redrive.ts";
export { QueueConsumer, type QueueConsumerOptions } from "./queue-consumer.ts";
export type { Message } from "./message.ts";
export {
  Transaction,
  TransactionsClient,
  type Transacted,
  type TransactionInfo,
  type TransactionKey,
  type TransactionOptions,
  type TransactionState,
} from "./transaction.ts";
export type { MessageState } from "./work-wire.ts";
export type {
  BackOff,
  Binding,
  ConsumerInfo,
  ExchangeInfo,
  ExchangeType,
  HeadersMatch,
  Overflow,
  Policy,
  QueueAdminClient,
  QueueDescription,
  QueueInfo,
  Route,
  Schedule,
  ScheduleInfo,
  StartAt,
  VhostDescription,
  VhostInfo,
  WorkCounts,
  WorkSettings,
  WorkSubscriptionDescription,
  WorkSubscriptionInfo,
} from "./queue-admin.ts";
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
  GroupDescription,
  PartitionDescription,
  PartitionOffsets,
  ReplicaMove,
  RetentionPolicy,
  SubscriptionInfo,
  TopicConfig,
  TopicInfo,
} from "./admin.ts";
export type { NodeInfo, PartitionInfo, Topology } from "./topology.ts";
