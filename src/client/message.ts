// A message that a consumer of a queue holds, and what it can say of it.

import type { ReceivedRecord } from "./records.ts";
import type { Outcome } from "./work-wire.ts";

/** Says what became of messages; resolves once the queue has it, rejects with LEASE_LOST when they are the caller's no more. */
export type Settle = (message: Message, outcome: Outcome, detail?: { delayMs?: number | undefined; leaseMs?: number }) => Promise<void>;

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

export class LeasedMessage implements Message {
  readonly partition!: number;
  readonly offset!: number;
  readonly storedMs!: number;
  readonly body!: Uint8Array;
  readonly key!: Uint8Array | null;
  readonly headers!: ReceivedRecord["headers"];
  readonly timeMs!: number;
  readonly contentType!: string;
  readonly correlationId!: string;
  readonly replyTo!: string;
  readonly messageId!: string;
  readonly routingKey!: string;
  readonly priority!: number;
  readonly deliverAtMs!: number;
  readonly delayMs!: number;
  readonly ttlMs!: number;
  readonly token: number;
  readonly attempt: number;
  readonly consumer: number;
  /** The stream that it came by: of another one it is not this consumer's any more. */
  readonly life: number;
  deadlineMs: number;
  /** When it came, and from its handing out on when that was: milliseconds since 1970. */
  sinceMs: number;
  /** It was said what became of it. */
  isSettled = false;
  private readonly settle: Settle;

  constructor(
    record: ReceivedRecord,
    lease: {
      readonly token: number;
      readonly attempt: number;
      readonly deadlineMs: number;
      readonly consumer: number;
      readonly life: number;
      readonly sinceMs: number;
    },
    settle: Settle,
  ) {
    Object.assign(this, record);
    this.token = lease.token;
    this.attempt = lease.attempt;
    this.deadlineMs = lease.deadlineMs;
    this.consumer = lease.consumer;
    this.life = lease.life;
    this.sinceMs = lease.sinceMs;
    this.settle = settle;
  }

  get redelivered(): boolean {
    return this.attempt > 1;
  }

  ack(): Promise<void> {
    return this.settle(this, "ack");
  }

  nack({ delayMs }: { delayMs?: number } = {}): Promise<void> {
    return this.settle(this, "nack", { delayMs });
  }

  release(): Promise<void> {
    return this.settle(this, "release");
  }

  reject(): Promise<void> {
    return this.settle(this, "reject");
  }

  extend(leaseMs: number): Promise<void> {
    return this.settle(this, "extend", { leaseMs });
  }
}
