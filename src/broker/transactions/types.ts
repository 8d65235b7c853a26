// What the adapters above say of transactions, and hear. Plain data.

import type { GroupId } from "../../base/ids.ts";
import type { Outcome } from "../../machine/work/work.ts";
import type { Settlement } from "../work/types.ts";

export const STATE_PREPARED = 1;
export const STATE_COMMITTED = 2;
export const STATE_ROLLED_BACK = 3;
export type TransactionState = typeof STATE_PREPARED | typeof STATE_COMMITTED | typeof STATE_ROLLED_BACK;
export type Verdict = typeof STATE_COMMITTED | typeof STATE_ROLLED_BACK;

/** Records for a topic, queue or exchange; as in PublishCall. */
export type TransactionPublish = {
  readonly topic: string;
  /** -1: by `partitionKey`, or each record by its own key. */
  readonly partition: number;
  readonly partitionKey: Uint8Array | null;
  readonly records: Uint8Array;
  readonly count: number;
  /** Not null: to this exchange, and `topic` is not looked at. */
  readonly exchange: string | null;
  readonly routingKey: string;
  /** Refuse the transaction when a record goes nowhere. */
  readonly mandatory: boolean;
};
/** What becomes of messages that the caller holds. */
export type TransactionSettle = { readonly queue: string; readonly subscription: string; readonly settlements: readonly Settlement[] };

export type TransactCall = {
  readonly vhost: string;
  readonly publishes: readonly TransactionPublish[];
  readonly settles: readonly TransactionSettle[];
  /** To be decided later, by anybody who knows its id or name. */
  readonly isPrepared: boolean;
  /** Then it is rolled back by itself; 0 = a minute. */
  readonly timeoutMs: number;
  /** Unlike any other's that is not over; "" = none. */
  readonly name: string;
  /** As of a publish: the same numbers are the same transaction. 0 = none. */
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly sequence: number;
};
/** `isComplete`: what is decided has been carried out everywhere; if not, it will be. `copies`: of its records. */
export type Transacted = {
  readonly id: string;
  readonly state: TransactionState;
  readonly isComplete: boolean;
  readonly copies: number;
};

/** By its id, or by the name that its caller gave it: one of the two is "". */
export type TransactionKey = { readonly vhost: string; readonly id: string; readonly name: string };

export type TransactionInfo = {
  readonly id: string;
  readonly name: string;
  readonly state: TransactionState;
  readonly createdMs: number;
  /** When it is rolled back by itself, or else tried again; 0 = it is being carried out. */
  readonly untilMs: number;
  readonly bytes: number;
  readonly targets: readonly { readonly name: string; readonly partition: number; readonly records: number }[];
  readonly held: readonly {
    readonly queue: string;
    readonly subscription: string;
    readonly partition: number;
    readonly firstOffset: number;
    readonly count: number;
    readonly outcome: Outcome["kind"];
  }[];
};
/** `next`: where to go on; -1 at the end. */
export type TransactionPage = { readonly transactions: readonly TransactionInfo[]; readonly next: number };

/** Records for one queue or partition. */
export type TargetPart = {
  readonly group: GroupId;
  readonly name: string;
  readonly partition: number;
  readonly count: number;
  /** Empty: there is nothing to say beside the batch. */
  readonly sidecar: Uint8Array;
  readonly records: Uint8Array;
};
/** Messages of one lease. */
export type HeldPart = {
  readonly group: GroupId;
  readonly queue: string;
  readonly subscription: string;
  readonly partition: number;
  readonly consumer: number;
  readonly token: number;
  readonly from: number;
  readonly end: number;
  readonly outcome: Outcome;
};
/** A whole transaction, as its record keeps it: everything that is needed to carry it out, by whoever does so. */
export type Intent = {
  readonly name: string;
  readonly isPrepared: boolean;
  readonly createdMs: number;
  readonly targets: readonly TargetPart[];
  readonly held: readonly HeldPart[];
};
