// One Consume of a client on this node: attached to the group of each partition, it sends on what they give as fast as the client takes it,
// within the client's credit, and brings what the client says of it back to the group.

import { BrokerError } from "../../base/errors.ts";
import { DELIVERY_BYTES_MAX } from "../../base/limits.ts";
import { NOTHING } from "../../base/nothing.ts";
import type { WorkOperation } from "../../machine/work/operations.ts";
import { QUEUE } from "../../machine/work/works.ts";
import type { Outcome } from "../../machine/work/work.ts";
import { asBrokerError } from "../fetcher.ts";
import { sliceRecords } from "../record-scan.ts";
import { callController } from "../wait-until.ts";
import type { LeasedRun } from "./codec.ts";
import type { Gateway } from "./gateway.ts";
import { Part } from "./part.ts";
import type { RecordSlice } from "./run-reader.ts";
import {
  OUTCOME_ACK,
  OUTCOME_EXTEND,
  OUTCOME_NACK,
  OUTCOME_REJECT,
  OUTCOME_RELEASE,
  type ConsumeEvents,
  type ConsumeHandle,
  type Delivered,
  type SettleDone,
  type Settlement,
} from "./types.ts";

/** A settlement whose outcome is not known is sent again for so long. */
const SETTLE_RETRY_MS = 5_000;
const RETRY_MS = 50;

export type SessionTerms = {
  readonly partitions: readonly { readonly group: Part["group"]; readonly partition: number }[];
  readonly subscription: string;
  readonly autoAck: boolean;
  readonly leaseMs: number;
  readonly priority: number;
};

export class Session implements ConsumeHandle {
  private readonly gateway: Gateway;
  private readonly terms: SessionTerms;
  private readonly events: ConsumeEvents;
  private readonly parts: Part[];
  private readonly byPartition = new Map<number, Part>();
  /** What the client takes beyond what it was sent. */
  private messages = 0;
  private bytes = Number.POSITIVE_INFINITY;
  private attachedCount = 0;
  private nextPart = 0;
  private isOpened = false;
  private isReading = false;
  private isBlocked = false;
  private isClosed = false;
  private readonly ended = callController();

  /** Events come after the constructor has returned. */
  constructor(gateway: Gateway, terms: SessionTerms, events: ConsumeEvents) {
    this.gateway = gateway;
    this.terms = terms;
    this.events = events;
    this.parts = terms.partitions.map((place) => this.attach(place));
  }

  credit(messages: number, bytes: number): void {
    if (this.isClosed) return;
    this.messages += messages;
    if (bytes > 0) this.bytes = (Number.isFinite(this.bytes) ? this.bytes : 0) + bytes;
    this.spread();
    this.pump();
  }

  drain(): void {
    const { messages } = this;
    Promise.all(this.parts.map((part) => part.drain())).then(
      () => {
        // What was given before is still the client's.
        const owed = this.parts.reduce((sum, { pendingMessages }) => sum + pendingMessages, 0);
        const left = Math.max(0, Math.min(messages, this.messages) - owed);
        this.messages -= left;
        if (this.isClosed) return;
        this.events.drained(left);
        // Credit that came meanwhile.
        this.spread();
      },
      (error: unknown) => this.fail(asBrokerError(error)),
    );
  }

  settle(settlement: Settlement, done: SettleDone): void {
    const part = this.byPartition.get(settlement.partition);
    if (part === undefined) {
      done(new BrokerError("UNKNOWN_PARTITION", `the subscription has no partition ${settlement.partition}`), 0, NOTHING);
      return;
    }
    const operation = operationOf(settlement, this.terms.subscription, part.consumer);
    settleUntilKnown(this.gateway, part.group, operation, settlement.count, done);
  }

  resume(): void {
    this.isBlocked = false;
    this.pump();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.ended.abort();
    for (const part of this.parts) part.close();
  }

  private attach({ group, partition }: SessionTerms["partitions"][number]): Part {
    const { subscription, priority, leaseMs } = this.terms;
    const part = new Part(this.gateway, { group, partition, subscription, priority, leaseMs, staysMs: 0 }, 0, {
      attached: () => this.partAttached(),
      given: () => this.pump(),
      revoked: (_part, from, count) => {
        if (!this.isClosed) this.events.revoked(partition, from, count);
      },
      grown: ({ partitions }) => this.grow(partitions.map((row, at) => ({ group: row.group, partition: at }))),
      failed: (error) => this.fail(error),
    });
    this.byPartition.set(partition, part);
    return part;
  }

  /** The client has said once what it takes: that goes for partitions that come later, too. */
  private grow(partitions: SessionTerms["partitions"]): void {
    if (this.isClosed || partitions.length <= this.parts.length) return;
    try {
      for (const place of partitions.slice(this.parts.length)) this.parts.push(this.attach(place));
    } catch (error) {
      this.fail(asBrokerError(error));
      return;
    }
    this.spread();
  }

  private partAttached(): void {
    this.attachedCount += 1;
    if (this.isOpened || this.attachedCount < this.parts.length || this.isClosed) return;
    this.isOpened = true;
    this.events.opened();
  }

  private fail(error: BrokerError): void {
    if (this.isClosed) return;
    this.close();
    this.events.failed(error);
  }

  /** Each partition may give its share of what the client takes, and always something: nobody knows where messages will come. */
  private spread(): void {
    const share = Math.ceil(this.messages / this.parts.length);
    for (const part of this.parts) {
      const missing = share - part.outstanding - part.pendingMessages;
      if (missing > 0) part.grant(missing);
    }
  }

  private pump(): void {
    if (this.isReading || this.isBlocked || this.isClosed || this.messages <= 0 || this.bytes <= 0) return;
    const part = this.next();
    if (part === undefined) return;
    this.isReading = true;
    this.send(part).then(
      () => {
        this.isReading = false;
        this.pump();
      },
      (error: unknown) => {
        this.isReading = false;
        this.unreadable(asBrokerError(error));
      },
    );
  }

  private next(): Part | undefined {
    for (let count = 0; count < this.parts.length; count++) {
      const part = this.parts[(this.nextPart + count) % this.parts.length]!;
      if (part.pendingMessages === 0) continue;
      this.nextPart = (this.nextPart + count + 1) % this.parts.length;
      return part;
    }
    return undefined;
  }

  /** Reads what was given first, and what of it lies together, and sends it on. */
  private async send(part: Part): Promise<void> {
    const { consumer } = part;
    const first = part.pending[0]!;
    const end = endOfNeighbours(part.pending);
    const slices = await this.read(part, first.from, end);
    // Meanwhile it may have been taken back.
    if (this.isClosed || part.consumer !== consumer || part.pending[0]?.from !== first.from || part.pending[0].token !== first.token)
      return;
    if (slices === null) {
      part.takeFirst(Number.MAX_SAFE_INTEGER);
      return;
    }
    const delivered = this.take(part, slices);
    const sent = this.terms.autoAck ? await this.acknowledge(part, delivered) : delivered;
    if (this.isClosed || sent.length === 0) return;
    for (const { count, records } of sent) {
      this.messages -= count;
      this.bytes -= records.length;
    }
    this.isBlocked = !this.events.deliver(sent);
    // A partition that gave more than its share leaves room for the others.
    this.spread();
  }

  private take(part: Part, slices: readonly RecordSlice[]): Delivered[] {
    const delivered: Delivered[] = [];
    let { messages, bytes } = this;
    for (const { from, end, timeMs, records } of slices) {
      if (messages <= 0 || (bytes <= 0 && delivered.length > 0)) break;
      for (let at = from; at < end && messages > 0;) {
        const run = part.pending[0];
        if (run === undefined || run.from !== at) return delivered;
        const taken = part.takeFirst(Math.min(messages, end - at));
        delivered.push(deliveredOf(part, taken, timeMs, cut(records, { from, end }, taken)));
        messages -= taken.end - taken.from;
        at = taken.end;
      }
      bytes -= records.length;
    }
    return delivered;
  }

  /** At most once: settled before it is sent. What is the client's no more is not sent at all. */
  private async acknowledge(part: Part, delivered: readonly Delivered[]): Promise<readonly Delivered[]> {
    const { operator } = this.gateway.components;
    const name = this.terms.subscription;
    const outcome: Outcome = { kind: "ack" };
    const results = await Promise.all(
      delivered.map(({ firstOffset, count, token, consumer }) =>
        operator.ask(part.group, { op: "settle", name, consumer, token, from: firstOffset, end: firstOffset + count, outcome }),
      ),
    );
    return delivered.filter(({ count }, at) => results[at] === count);
  }

  /** Null: trimmed or dropped since, there is nothing to send. */
  private async read(part: Part, from: number, end: number): Promise<RecordSlice[] | null> {
    try {
      return await this.gateway.components.reader.readOn(part.group, from, end, DELIVERY_BYTES_MAX, this.ended.signal);
    } catch (error) {
      if (asBrokerError(error).code === "OFFSET_OUT_OF_RANGE") return null;
      throw error;
    }
  }

  private unreadable(error: BrokerError): void {
    if (this.isClosed) return;
    if (error.retryable) this.gateway.components.clock.schedule(RETRY_MS, () => this.pump());
    else this.fail(error);
  }
}

/** Says it until it is known whether it was carried out, for a while. */
export function settleUntilKnown(gateway: Gateway, group: Part["group"], operation: WorkOperation, count: number, done: SettleDone): void {
  const { operator, clock } = gateway.components;
  const deadlineMs = clock.monotonicMs() + SETTLE_RETRY_MS;
  let unknown: BrokerError | null = null;
  const attempt = (): void =>
    operator.operate(group, operation, (error, result, lost) => {
      if (error === null) {
        const applied = Math.max(0, result);
        if (applied === count) done(null, applied, NOTHING);
        // An earlier try may have settled them, or they were lost to somebody else.
        else done(unknown ?? leaseLost(count - applied), applied, lost);
        return;
      }
      if (error.maybeApplied) unknown = error;
      const gone = gateway.goneFrom(group, "name" in operation ? operation.name : QUEUE);
      if (gone !== null) done(gone, 0, NOTHING);
      else if (!error.retryable || clock.monotonicMs() >= deadlineMs) done(error, 0, NOTHING);
      else clock.schedule(RETRY_MS, attempt);
    });
  attempt();
}

export function operationOf(settlement: Settlement, subscription: string, consumer: number): WorkOperation {
  const { firstOffset, count, token, outcome, delayMs, leaseMs } = settlement;
  const range = { from: firstOffset, end: firstOffset + count };
  const held = { name: subscription, consumer, token, ...range };
  switch (outcome) {
    case OUTCOME_EXTEND:
      return { op: "extend", ...held, leaseMs };
    case OUTCOME_ACK:
      return { op: "settle", ...held, outcome: { kind: "ack" } };
    case OUTCOME_NACK:
      return { op: "settle", ...held, outcome: { kind: "return", delayMs } };
    case OUTCOME_RELEASE:
      return { op: "settle", ...held, outcome: { kind: "release" } };
    case OUTCOME_REJECT:
      return { op: "settle", ...held, outcome: { kind: "reject" } };
  }
}

function leaseLost(count: number): BrokerError {
  return new BrokerError("LEASE_LOST", `${count} of the messages are not the caller's: settled already, or their lease has ended`);
}

/** Where what was given in a row ends, as far as it lies in a row too. */
function endOfNeighbours(pending: readonly LeasedRun[]): number {
  let { end } = pending[0]!;
  for (let at = 1; at < pending.length && pending[at]!.from === end; at++) end = pending[at]!.end;
  return end;
}

function deliveredOf(part: Part, run: LeasedRun, timeMs: number, records: Uint8Array): Delivered {
  const { from, end, token, deadlineMs, deliveries } = run;
  const { partition } = part.terms;
  return { partition, firstOffset: from, count: end - from, timeMs, records, token, deadlineMs, deliveries, consumer: part.consumer };
}

/** The records of `part` out of those of `whole`. */
function cut(records: Uint8Array, whole: { from: number; end: number }, part: { from: number; end: number }): Uint8Array {
  if (part.from === whole.from && part.end === whole.end) return records;
  return sliceRecords(records, part.from - whole.from, part.end - part.from);
}
