// A message that a consumer of a queue holds, and what it can say of it.

import { DecodedRecord, decodeRecords, type ReceivedRecord } from "./records.ts";
import type { Delivery, Outcome, WorkTarget } from "./work-wire.ts";

/** Says what became of messages; resolves once the queue has it, rejects with LEASE_LOST when they are the caller's no more. */
export type Settle = (message: Message, outcome: Outcome, detail?: { delayMs?: number | undefined; leaseMs?: number }) => Promise<void>;

/** Who a message came by. */
export type MessageOwner = {
  readonly target: WorkTarget;
  readonly settle: Settle;
  /** A transaction settles it: from here on nothing else is said of it. Throws LEASE_LOST when that cannot be any more. */
  claim(message: Message): void;
  /** The transaction has settled it; or did not, and holds it no more: then it goes back. */
  concluded(message: Message, isSettled: boolean): void;
};

export interface Message extends ReceivedRecord {
  /** Fencing token: rises with every lease of a partition. */
  readonly token: number;
  /** Deliveries, this one included. */
  readonly attempt: number;
  /** It was delivered before, or may have been. */
  readonly redelivered: boolean;
  /** When the lease ends, milliseconds since 1970; an extension moves it. */
  readonly deadlineMs: number;
  /** Done: the queue forgets it. */
  ack(): Promise<void>;
  /** Not done: it goes back to its place, at once, after `delayMs`, or by the back-off of the queue. */
  nack(options?: { delayMs?: number }): Promise<void>;
  /** As if it had never been delivered. */
  release(): Promise<void>;
  /** Of no use: a dead letter, where the queue has a place for those. */
  reject(): Promise<void>;
  /** The lease lasts so much longer from now on. */
  extend(leaseMs: number): Promise<void>;
}

/** What all messages of one delivery have in common: kept once, as a consumer holds thousands of messages. */
type Lease = {
  readonly token: number;
  readonly attempt: number;
  readonly deadlineMs: number;
  readonly consumer: number;
  /** The stream that it came by: of another one it is not this consumer's any more. */
  readonly life: number;
  readonly owner: MessageOwner;
};

export class LeasedMessage extends DecodedRecord implements Message {
  private readonly lease: Lease;
  /** Where the lease ends since it was extended; 0 = it was not. */
  private extendedToMs = 0;
  /** When it came, and from its handing out on when that was: milliseconds of the consumer's own count. */
  sinceMs: number;
  /** It was said what became of it. */
  isSettled = false;

  private constructor(partition: number, offset: number, storedMs: number, lease: Lease, sinceMs: number) {
    super(partition, offset, storedMs);
    this.lease = lease;
    this.sinceMs = sinceMs;
  }

  /** The messages of one delivery. Throws MALFORMED_BATCH if a producer sent nonsense. */
  static allOf(delivery: Delivery, life: number, sinceMs: number, owner: MessageOwner): LeasedMessage[] {
    const { partition, firstOffset, timeMs, records, token, attempt, deadlineMs, consumer } = delivery;
    const lease: Lease = { token, attempt, deadlineMs, consumer, life, owner };
    return decodeRecords(records, partition, firstOffset, (offset) => new LeasedMessage(partition, offset, timeMs, lease, sinceMs));
  }

  get token(): number {
    return this.lease.token;
  }

  get attempt(): number {
    return this.lease.attempt;
  }

  get consumer(): number {
    return this.lease.consumer;
  }

  get life(): number {
    return this.lease.life;
  }

  get deadlineMs(): number {
    return this.extendedToMs === 0 ? this.lease.deadlineMs : this.extendedToMs;
  }

  set deadlineMs(timeMs: number) {
    this.extendedToMs = timeMs;
  }

  get owner(): MessageOwner {
    return this.lease.owner;
  }

  get redelivered(): boolean {
    return this.attempt > 1;
  }

  ack(): Promise<void> {
    return this.lease.owner.settle(this, "ack");
  }

  nack({ delayMs }: { delayMs?: number } = {}): Promise<void> {
    return this.lease.owner.settle(this, "nack", { delayMs });
  }

  release(): Promise<void> {
    return this.lease.owner.settle(this, "release");
  }

  reject(): Promise<void> {
    return this.lease.owner.settle(this, "reject");
  }

  extend(leaseMs: number): Promise<void> {
    return this.lease.owner.settle(this, "extend", { leaseMs });
  }
}
