// What the adapters above say to queues and work subscriptions, and hear from them. Plain data.

import type { BrokerError } from "../../base/errors.ts";
import type { DeclaredSettings, WorkSettings } from "../../machine/catalog/settings.ts";
import type { Run } from "../../machine/work/lanes.ts";
import type { MessageState, WorkCounts } from "../../machine/work/state.ts";
import type { PartitionInfo } from "../types.ts";

export type { DeclaredSettings, WorkSettings } from "../../machine/catalog/settings.ts";
export type { WorkCounts } from "../../machine/work/state.ts";

/** A queue, or with a name of a subscription a topic's work subscription. vhost "" is "/". */
export type WorkTarget = { readonly vhost: string; readonly queue: string; readonly subscription: string };

/** Messages in a row, out of one stored batch, under one lease. */
export type Delivered = {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
  readonly timeMs: number;
  /** Encoded RecordBatch. */
  readonly records: Uint8Array;
  readonly token: number;
  readonly deadlineMs: number;
  readonly deliveries: number;
  readonly consumer: number;
};

export const OUTCOME_ACK = 1;
export const OUTCOME_NACK = 2;
export const OUTCOME_RELEASE = 3;
export const OUTCOME_REJECT = 4;
export const OUTCOME_EXTEND = 5;
export type SettleOutcome =
  | typeof OUTCOME_ACK
  | typeof OUTCOME_NACK
  | typeof OUTCOME_RELEASE
  | typeof OUTCOME_REJECT
  | typeof OUTCOME_EXTEND;

export type Settlement = {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
  readonly token: number;
  readonly outcome: SettleOutcome;
  /** Of a nack: how long it waits; -1 = by the back-off. */
  readonly delayMs: number;
  /** Of an extension. */
  readonly leaseMs: number;
  /** Who received it; a stream knows its own. */
  readonly consumer: number;
};

/** `messages`: how many of them were the caller's still, and are settled; where some were, `lost` are those of which the error tells. */
export type SettleDone = (error: BrokerError | null, messages: number, lost: readonly Run[]) => void;
export type Settled = { readonly error: BrokerError | null; readonly messages: number; readonly lost: readonly Run[] };

export type ConsumeCall = WorkTarget & {
  readonly autoAck: boolean;
  readonly leaseMs: number;
  /** -128..127. */
  readonly priority: number;
  readonly direct: boolean;
};

/** What a consumer hears; called from within a turn of the event loop, never before `consume` has returned. */
export type ConsumeEvents = {
  opened(): void;
  /** False: it takes no more until `resume` is called. The records are valid for as long as they are kept. */
  deliver(delivered: readonly Delivered[]): boolean;
  revoked(partition: number, firstOffset: number, count: number): void;
  /** Credit was taken back: so many messages. */
  drained(messages: number): void;
  /** It is over. */
  failed(error: BrokerError): void;
};

export interface ConsumeHandle {
  /** Adds to what may be delivered. `bytes` 0: messages alone count. */
  credit(messages: number, bytes: number): void;
  drain(): void;
  settle(settlement: Settlement, done: SettleDone): void;
  /** What could not be delivered goes on. */
  resume(): void;
  /** The consumer is gone; what it holds goes back. */
  close(): void;
}

export type ReceiveCall = WorkTarget & {
  readonly maxMessages: number;
  readonly maxWaitMs: number;
  readonly leaseMs: number;
  readonly autoAck: boolean;
};

export type BrowseCall = WorkTarget & { readonly partition: number; readonly fromOffset: number; readonly maxMessages: number };
export type Browsed = {
  readonly firstOffset: number;
  readonly count: number;
  readonly timeMs: number;
  readonly records: Uint8Array;
  readonly state: MessageState;
  readonly deliveries: number;
  readonly priority: number;
  readonly untilMs: number;
  readonly expiryMs: number;
  readonly reason: string;
};
/** `next`: where to go on; -1 at the end. */
export type BrowsePage = { readonly messages: readonly Browsed[]; readonly next: number };

export type QueueInfo = {
  readonly vhost: string;
  readonly name: string;
  readonly replicas: number;
  readonly declared: DeclaredSettings;
  readonly settings: WorkSettings;
  /** "" = none. */
  readonly policy: string;
  readonly createdMs: number;
  readonly durability: 1 | 2 | 3;
  readonly counts: WorkCounts | null;
};
export type WorkInfo = {
  readonly topic: string;
  readonly name: string;
  readonly declared: DeclaredSettings;
  readonly settings: WorkSettings;
  readonly createdMs: number;
  readonly counts: WorkCounts | null;
};
/** `partitions`: what it holds in each; null where nobody leads it. `consumers`: those of one partition. */
export type WorkDescription = {
  readonly subscription: WorkInfo;
  readonly partitions: readonly (WorkCounts | null)[];
  readonly consumers: readonly ConsumerInfo[];
};
export type ConsumerInfo = {
  readonly id: number;
  readonly node: number;
  readonly priority: number;
  readonly credit: number;
  readonly held: number;
  readonly active: boolean;
};
export type QueueDescription = {
  readonly queue: QueueInfo;
  readonly partition: PartitionInfo;
  readonly consumers: readonly ConsumerInfo[];
  readonly startOffset: number;
  readonly endOffset: number;
  readonly bytes: number;
  readonly lastUsedMs: number;
};
/** Where a subscription begins: as in a Fetch, 0 offset, 1 time, 2 earliest, 3 latest. */
export type StartAt = { readonly from: 0 | 1 | 2 | 3; readonly value: number };

export type GroupSync = { readonly vhost: string; readonly topic: string; readonly group: string; readonly member: string };
export type GroupAssignment = {
  readonly generation: number;
  readonly partitions: readonly number[];
  readonly revoked: readonly number[];
  readonly sessionMs: number;
};
