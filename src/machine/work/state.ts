// What a work subscription knows of its messages, and what can be asked of it. Who changes it is `work.ts`.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { readWorkConfig, writeWorkConfig, type WorkConfig } from "./config.ts";
import { Consumers, type Consumer } from "./consumers.ts";
import { Holds } from "./holds.ts";
import { KeyOrder } from "./key-order.ts";
import { Lanes, type Run } from "./lanes.ts";
import { NOWHERE, RunMap, type Place } from "./run-map.ts";
import { Sizes } from "./sizes.ts";

const FORMAT = 1;

/** What a message brings with it; 0 = nothing of the kind. */
export type Facts = {
  /** 0..31. */ readonly priority: number;
  /** Not before this time. */ readonly dueMs: number;
  /** Not at or after this time. */ readonly expiryMs: number;
  /** Of the key, 1..2^32-1. */ readonly keyHash: number;
};

export const DEAD_REJECTED = 1;
export const DEAD_LIMIT = 2;
export const DEAD_EXPIRED = 3;
export const DEAD_OVERFLOW = 4;
export type DeadReason = typeof DEAD_REJECTED | typeof DEAD_LIMIT | typeof DEAD_EXPIRED | typeof DEAD_OVERFLOW;

/** Columns of `leases` and `facts`. */
export const CONSUMER = 0;
export const TOKEN = 1;
export const DEADLINE = 2;
export const PRIORITY = 0;
export const EXPIRY = 1;

export type WorkCounts = {
  readonly ready: number;
  readonly leased: number;
  readonly delayed: number;
  readonly parked: number;
  readonly dead: number;
  readonly consumers: number;
};

export const STATE_SETTLED = 0;
export const STATE_READY = 1;
export const STATE_LEASED = 2;
export const STATE_DELAYED = 3;
export const STATE_PARKED = 4;
export const STATE_DEAD = 5;
export type MessageState =
  | typeof STATE_SETTLED
  | typeof STATE_READY
  | typeof STATE_LEASED
  | typeof STATE_DELAYED
  | typeof STATE_PARKED
  | typeof STATE_DEAD;

/** Of messages that are alike and follow each other. `untilMs`: when the lease ends, or when it is due; 0 = never by itself. */
export type MessageInfo = {
  readonly run: Run;
  readonly state: MessageState;
  readonly deliveries: number;
  readonly priority: number;
  readonly untilMs: number;
  readonly expiryMs: number;
  readonly consumer: number;
  readonly reason: number;
};

export type Lease = { readonly run: Run; readonly token: number; readonly deadlineMs: number; readonly deliveries: number };

export class WorkState {
  config: WorkConfig;
  /**
   * The next offset of the stream to be enqueued. What is stored from it on is the backlog: nothing is known of it yet, and it waits in the
   * log. Invariant: all that is known of messages is of those below it.
   */
  fedTo: number;
  lanes = new Lanes();
  leases = new RunMap(3);
  delayed = new RunMap(1);
  /** Of messages that were delivered before: how often. */
  deliveries = new RunMap(1);
  facts = new RunMap(2);
  keys = new KeyOrder();
  dead = new RunMap(1);
  sizes = new Sizes();
  consumers: Consumers;
  /** What transactions hold. */
  holds = new Holds();
  /** When somebody last came, went or took something, by the log's time. */
  lastUsedMs = 0;

  constructor(config: WorkConfig, fedTo = 0) {
    this.config = config;
    this.fedTo = fedTo;
    this.consumers = new Consumers(config.singleActive);
  }

  get counts(): WorkCounts {
    return {
      ready: this.lanes.size,
      leased: this.leases.size,
      delayed: this.delayed.size,
      parked: this.keys.size,
      dead: this.dead.size,
      consumers: this.consumers.size,
    };
  }

  /** The same, with the backlog of a stream that ends at `endOffset` among the ready ones: they wait for a consumer, as far as is known. */
  countsTo(endOffset: number): WorkCounts {
    const { counts } = this;
    return { ...counts, ready: counts.ready + this.backlogTo(endOffset) };
  }

  /** Messages of the stream, which ends at `endOffset`, that were not enqueued yet. */
  backlogTo(endOffset: number): number {
    return Math.max(0, endOffset - this.fedTo);
  }

  /** Who has a lease of this id: a consumer, or what holds it for a transaction. */
  ownerOf(id: number): Consumer {
    return (this.consumers.get(id) ?? this.holds.get(id))!;
  }

  /** Messages that wait for a consumer, their time or their turn. */
  get waiting(): number {
    return this.lanes.size + this.delayed.size + this.keys.size;
  }

  /** The first message at or after `offset` that is not settled; -1 when all are. */
  unsettledFrom(offset: number): number {
    let first = this.lanes.from(offset);
    for (const map of [this.leases, this.delayed, this.dead, this.keys.parked]) {
      if (map.size === 0) continue;
      const place = map.next(offset);
      if (place === NOWHERE) continue;
      const at = Math.max(offset, map.from(place));
      if (first < 0 || at < first) first = at;
    }
    return first;
  }

  /** The dead messages from `offset` on, at most `max` runs: whoever leads brings them to where they are to go. */
  deadFrom(offset: number, max: number): { run: Run; reason: DeadReason; deliveries: number }[] {
    const found = [];
    for (let place = this.dead.next(offset); place !== NOWHERE && found.length < max;) {
      const run = { from: Math.max(offset, this.dead.from(place)), end: this.dead.end(place) };
      found.push({ run, reason: this.dead.value(place, 0) as DeadReason, deliveries: this.deliveries.get(run.from, 0, 0) });
      place = this.dead.next(run.end);
    }
    return found;
  }

  /** What the consumer holds, ascending. */
  leasesOf(consumer: number): Lease[] {
    const held = this.consumers.get(consumer)?.held;
    const found: Lease[] = [];
    if (held === undefined) return found;
    for (let place = held.next(0); place !== NOWHERE; place = held.next(held.end(place)))
      eachOf(this.leases, { from: held.from(place), end: held.end(place) }, (run, lease) => {
        const [token, deadlineMs] = [this.leases.value(lease, TOKEN), this.leases.value(lease, DEADLINE)];
        this.eachDelivered(run, (part, before) => found.push({ run: part, token, deadlineMs, deliveries: before + 1 }));
      });
    return found;
  }

  /** The messages of the run, part by part, with how often those of each part were delivered and came back. */
  eachDelivered({ from, end }: Run, then: (run: Run, deliveries: number) => void): void {
    let at = from;
    eachOf(this.deliveries, { from, end }, (run, place) => {
      if (run.from > at) then({ from: at, end: run.from }, 0);
      then(run, this.deliveries.value(place, 0));
      at = run.end;
    });
    if (at < end) then({ from: at, end }, 0);
  }

  /** What is known of the messages from `offset` on that are not settled, at most `max` of them; of the backlog up to `endOffset` nothing is. */
  describe(offset: number, max: number, endOffset: number): MessageInfo[] {
    const found: MessageInfo[] = [];
    let left = max;
    for (let at = this.unsettledFrom(offset); left > 0 && at >= 0; at = this.unsettledFrom(at)) {
      const info = this.infoOf(at, at + left);
      found.push(info);
      left -= info.run.end - info.run.from;
      at = info.run.end;
    }
    const from = Math.max(offset, this.fedTo);
    if (left > 0 && from < endOffset) found.push(ofBacklog({ from, end: Math.min(endOffset, from + left) }));
    return found;
  }

  snapshot(writer: ByteWriter): void {
    writer.u8(FORMAT);
    writeWorkConfig(writer, this.config);
    writer.varint(this.fedTo);
    this.lanes.write(writer);
    for (const map of [this.leases, this.delayed, this.deliveries, this.facts, this.dead]) map.write(writer);
    this.keys.write(writer);
    this.sizes.write(writer);
    this.consumers.write(writer);
    this.holds.write(writer);
    writer.varint(this.lastUsedMs);
  }

  static restore(reader: ByteReader): WorkState {
    const format = reader.u8();
    if (format !== FORMAT) throw new DecodeError(`work subscription of format ${format}, this release knows ${FORMAT}`);
    const state = new WorkState(readWorkConfig(reader), reader.varint());
    state.lanes = Lanes.read(reader);
    state.leases = RunMap.read(3, reader);
    state.delayed = RunMap.read(1, reader);
    state.deliveries = RunMap.read(1, reader);
    state.facts = RunMap.read(2, reader);
    state.dead = RunMap.read(1, reader);
    state.keys = KeyOrder.read(reader);
    state.sizes = Sizes.read(reader);
    state.consumers = Consumers.read(state.config.singleActive, reader);
    state.holds = Holds.read(reader);
    state.lastUsedMs = reader.varint();
    return state;
  }

  /** Of the message, which is not settled, and of those before `end` that are like it. */
  private infoOf(offset: number, end: number): MessageInfo {
    const { leases, delayed, dead, keys, facts } = this;
    let state: MessageState = STATE_READY;
    let last = this.lanes.runEnd(offset);
    let [untilMs, consumer, reason] = [0, 0, 0];
    for (const [map, is] of [
      [leases, STATE_LEASED],
      [delayed, STATE_DELAYED],
      [dead, STATE_DEAD],
      [keys.parked, STATE_PARKED],
    ] as const) {
      const place = map.find(offset);
      if (place === NOWHERE) continue;
      state = is;
      last = map.end(place);
      if (is === STATE_LEASED) [consumer, untilMs] = [map.value(place, CONSUMER), map.value(place, DEADLINE)];
      else if (is === STATE_DELAYED) untilMs = map.value(place, 0);
      else if (is === STATE_DEAD) reason = map.value(place, 0);
    }
    last = Math.min(last, end, alikeUntil(this.deliveries, offset), alikeUntil(facts, offset));
    return {
      run: { from: offset, end: last },
      state,
      deliveries: this.deliveries.get(offset, 0, 0) + (state === STATE_LEASED ? 1 : 0),
      priority: facts.get(offset, PRIORITY, 0),
      untilMs,
      expiryMs: facts.get(offset, EXPIRY, 0),
      consumer,
      reason,
    };
  }
}

function ofBacklog(run: Run): MessageInfo {
  return { run, state: STATE_READY, deliveries: 0, priority: 0, untilMs: 0, expiryMs: 0, consumer: 0, reason: 0 };
}

/** What of the offsets is in the map, run by run; `then` may change the map at them. */
export function eachOf(map: RunMap, { from, end }: Run, then: (run: Run, place: Place) => void): void {
  if (map.size === 0) return;
  for (let at = from; at < end;) {
    const place = map.next(at);
    if (place === NOWHERE || map.from(place) >= end) return;
    const run = { from: Math.max(at, map.from(place)), end: Math.min(end, map.end(place)) };
    at = run.end;
    then(run, place);
  }
}

/** What of the run has facts, and the priority of each part. */
export function partsOf(facts: RunMap, run: Run): (Run & { readonly priority: number })[] {
  const parts: (Run & { readonly priority: number })[] = [];
  eachOf(facts, run, (part, place) => parts.push({ ...part, priority: facts.value(place, PRIORITY) }));
  return parts;
}

/** Up to here the map says the same of every offset as of this one. */
function alikeUntil(map: RunMap, offset: number): number {
  const place = map.next(offset);
  if (place === NOWHERE) return Number.MAX_SAFE_INTEGER;
  return map.from(place) > offset ? map.from(place) : map.end(place);
}
