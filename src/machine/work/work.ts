// One work subscription of a stream: every message goes to one consumer, which holds it under a lease until it says what became
// of it. All of it is replicated state, so a new leader knows who holds what, and a delivery costs no entry of its own.

import { assert } from "../../base/assert.ts";
import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { PRIORITY_MAX } from "../../base/limits.ts";
import { backOffAfter, OVERFLOW_REJECT, sameWorkConfig, type WorkConfig } from "./config.ts";
import type { Consumer, ConsumerTerms } from "./consumers.ts";
import { Dues } from "./dues.ts";
import { Handover } from "./handover.ts";
import { KeyOrder } from "./key-order.ts";
import type { Run } from "./lanes.ts";
import { Places } from "./places.ts";
import { NOWHERE, type Place } from "./run-map.ts";
import {
  CONSUMER,
  DEAD_EXPIRED,
  DEAD_LIMIT,
  DEAD_REJECTED,
  DEADLINE,
  eachOf,
  partsOf,
  PRIORITY,
  TOKEN,
  WorkState,
  type Facts,
  type WorkCounts,
} from "./state.ts";

/** One consumer is given so many messages before the next one is served. */
const TURN_MESSAGES_MAX = 256;
/** Messages that one entry looks at for whom to give them to; the next entry goes on. */
const LOOKED_AT_MAX = 16_384;
/** Messages that wait for another one of their key; with more, what comes after them waits too, of whatever key. */
const PARKED_MAX = 32_768;
const EVERYTHING: Run = { from: 0, end: Number.MAX_SAFE_INTEGER };

/** What a consumer says of messages that it holds. */
export type Outcome =
  | { readonly kind: "ack" }
  /** It goes back to its place, or waits first: as long as is said here (milliseconds), or by the back-off when that is -1. */
  | { readonly kind: "return"; readonly delayMs: number }
  /** As if it had never been delivered. */
  | { readonly kind: "release" }
  | { readonly kind: "reject" };

export interface WorkEffects {
  /** These are the consumer's, under this token, until the deadline; `deliveries` counts this one. The leader sends them. */
  deliver(consumer: Consumer, run: Run, token: number, deadlineMs: number, deliveries: number): void;
  /** The consumer's lease ended by itself. */
  revoke(consumer: Consumer, run: Run): void;
}

export class Work {
  readonly state: WorkState;
  /** What transactions have to say. */
  readonly handover: Handover;
  private readonly dues: Dues;
  private readonly places: Places;

  constructor(config: WorkConfig, state = new WorkState(config)) {
    this.state = state;
    this.dues = new Dues(state);
    this.places = new Places(state, this.dues);
    this.handover = new Handover(state, this.dues, (holder, { from, end }, outcome, nowMs) => this.end(holder, from, end, outcome, nowMs));
  }

  get counts(): WorkCounts {
    return this.state.counts;
  }

  /** The lowest offset that is not settled; -1 when all are. */
  get floor(): number {
    return this.state.unsettledFrom(0);
  }

  /** When something is due by itself; -1 = nothing is. The leader then has an entry written, whatever it says: time is in it. */
  get nextMs(): number {
    return this.canServe() ? 0 : this.dues.nextMs;
  }

  /** There is no room for them, and what comes is to be refused then. The stream ends at `endOffset`: the backlog waits too. */
  refuses(messages: number, bytes: number, endOffset: number): boolean {
    const { config, sizes } = this.state;
    if (config.overflow !== OVERFLOW_REJECT) return false;
    const { maxMessages, maxBytes } = config;
    const waiting = this.state.waiting + this.state.backlogTo(endOffset);
    return (maxMessages > 0 && waiting + messages > maxMessages) || (maxBytes > 0 && sizes.total + bytes > maxBytes);
  }

  /** The next messages, of one batch that was stored at `storedMs`, and alike; each counts for `bytesEach` bytes. */
  enqueue(from: number, end: number, facts: Facts, nowMs: number, bytesEach = 0, storedMs = nowMs): void {
    const { state } = this;
    assert(facts.priority <= PRIORITY_MAX && from === state.fedTo && from < end, "messages have a legal priority, and come in order");
    state.fedTo = end;
    const { ttlMs, keyOrder, maxBytes } = state.config;
    const ownMs = ttlMs === 0 ? 0 : Math.max(storedMs, facts.dueMs) + ttlMs;
    const expiryMs = facts.expiryMs === 0 || ownMs === 0 ? Math.max(facts.expiryMs, ownMs) : Math.min(facts.expiryMs, ownMs);
    if (facts.priority > 0 || expiryMs > 0) state.facts.assign(from, end, facts.priority, expiryMs);
    if (expiryMs > 0 && expiryMs <= nowMs) {
      this.places.kill(from, end, DEAD_EXPIRED);
      return;
    }
    if (expiryMs > 0) this.dues.expiries.push(expiryMs, from, end);
    if (facts.keyHash > 0 && keyOrder) state.keys.add(from, end, facts.keyHash);
    if (maxBytes > 0) state.sizes.add(from, end, bytesEach);
    if (facts.dueMs > nowMs) this.places.delay(from, end, facts.dueMs);
    else state.lanes.add(facts.priority, from, end);
    this.places.bound();
  }

  hasConfig(config: WorkConfig): boolean {
    return sameWorkConfig(this.state.config, config);
  }

  /** What is there stays as it was stored; who is active stays it. Without key order nobody waits for the one before it any more. */
  alter(config: WorkConfig): void {
    const { state } = this;
    const unordered = state.config.keyOrder && !config.keyOrder ? state.keys.parked : null;
    state.config = config;
    state.consumers.alter(config.singleActive);
    if (unordered !== null) {
      state.keys = new KeyOrder();
      eachOf(unordered, EVERYTHING, (run) => this.places.ready(run.from, run.end));
    }
    this.places.bound();
  }

  /** Attached again it stays as it is. */
  attach(id: number, terms: ConsumerTerms, nowMs: number): void {
    const { state } = this;
    state.lastUsedMs = nowMs;
    if (state.consumers.get(id) !== undefined) return;
    const { untilMs } = state.consumers.attach(id, terms, nowMs);
    if (untilMs > 0) this.dues.departures.push(untilMs, id, id + 1);
  }

  /** The consumer may be given so many messages in all. False when there is no such consumer. */
  grant(id: number, total: number, nowMs: number): boolean {
    const { state } = this;
    const consumer = state.consumers.get(id);
    if (consumer === undefined) return false;
    state.lastUsedMs = nowMs;
    state.consumers.grant(consumer, total);
    return true;
  }

  /** What room is left is taken back. Returns how many messages it was given in all; -1 when there is no such consumer. */
  drain(id: number): number {
    const consumer = this.state.consumers.get(id);
    if (consumer === undefined) return -1;
    this.state.consumers.drain(consumer);
    return consumer.given;
  }

  /** The consumer is gone: what it holds goes back to its place. False when there is no such consumer. */
  detach(id: number, nowMs: number): boolean {
    const { state } = this;
    const consumer = state.consumers.get(id);
    if (consumer === undefined) return false;
    state.lastUsedMs = nowMs;
    const { held } = consumer;
    for (let place = held.next(0); place !== NOWHERE; place = held.next(0))
      this.end(consumer, held.from(place), held.end(place), { kind: "return", delayMs: 0 }, nowMs);
    state.consumers.detach(id);
    return true;
  }

  /** Returns to how many messages it applied: those that this consumer holds under this token. The others are added to `lost`. */
  settle(id: number, from: number, end: number, token: number, outcome: Outcome, nowMs: number, lost: Run[] = []): number {
    const consumer = this.state.consumers.get(id);
    if (consumer === undefined) return 0;
    const settled = this.eachHeld(id, from, end, token, lost, (run) => this.end(consumer, run.from, run.end, outcome, nowMs));
    if (consumer.isDone) this.state.consumers.detach(id);
    return settled;
  }

  /** Returns for how many messages: those that this consumer holds under this token. The others are added to `lost`. */
  extend(id: number, from: number, end: number, token: number, leaseMs: number, nowMs: number, lost: Run[] = []): number {
    const { leases, consumers } = this.state;
    if (consumers.get(id) === undefined) return 0;
    return this.eachHeld(id, from, end, token, lost, (run) => {
      leases.assign(run.from, run.end, id, token, nowMs + leaseMs);
      this.dues.leases.push(nowMs + leaseMs, run.from, run.end);
    });
  }

  /** Does what is due by now. Of every entry, before what it says. */
  advance(nowMs: number, effects: WorkEffects): void {
    const { state, dues } = this;
    const { expiries, departures } = dues;
    for (let due = expiries.pop(nowMs); due !== undefined; due = expiries.pop(nowMs)) this.places.expire(due, nowMs);
    dues.take(dues.leases, state.leases, DEADLINE, nowMs, (run, place) => this.expireLease(run, place, nowMs, effects));
    dues.take(dues.delays, state.delayed, 0, nowMs, (run) => {
      state.delayed.clear(run.from, run.end);
      this.places.ready(run.from, run.end);
    });
    for (let due = departures.pop(nowMs); due !== undefined; due = departures.pop(nowMs)) this.depart(due.from, nowMs);
    this.places.bound();
  }

  /** Gives what waits to those who have room, until there is nothing, or no room. `token` rises from call to call. */
  serve(token: number, nowMs: number, effects: WorkEffects): void {
    const { lanes, consumers } = this.state;
    let left = LOOKED_AT_MAX;
    while (left > 0 && this.canServe()) {
      const { consumer, sharing } = consumers.next()!;
      const share = Math.ceil(lanes.size / sharing);
      const run = lanes.take(Math.min(share, consumer.credit, TURN_MESSAGES_MAX))!;
      left -= run.end - run.from;
      this.eachAllowed(run, (from, end) => this.give(consumer, from, end, token, nowMs, effects));
    }
  }

  /**
   * Drops what waits before `end`, in the log, for a consumer, its time or its turn; what is leased or dead stays. Returns how many
   * messages.
   */
  purge(end: number): number {
    const { state } = this;
    const unfed = state.backlogTo(end);
    state.fedTo = Math.max(state.fedTo, end);
    return unfed + this.places.takeBack(0, end);
  }

  /** A message that waits, for its time, its turn or a consumer, is taken back. False when it does not: somebody has it, or it is gone. */
  recall(offset: number): boolean {
    return this.places.takeBack(offset, offset + 1) > 0;
  }

  /** As in Places. */
  expedite(offset: number, delayMs: number, priority: number, whilePriority: number, nowMs: number): number {
    return this.places.expedite(offset, delayMs, priority, whilePriority, nowMs);
  }

  /** They are where they were to go. Returns how many of them were dead. */
  buried(from: number, end: number): number {
    const { dead } = this.state;
    let buried = 0;
    eachOf(dead, { from, end }, (run) => {
      buried += dead.clear(run.from, run.end);
      this.places.forget(run.from, run.end);
    });
    return buried;
  }

  /** They wait again, as if they had never been delivered. Returns how many of them were dead. */
  revived(from: number, end: number): number {
    const { dead, deliveries, facts } = this.state;
    let revived = 0;
    eachOf(dead, { from, end }, (run) => {
      revived += dead.clear(run.from, run.end);
      deliveries.clear(run.from, run.end);
      // What has expired would be dead again at once: it counts anew, as something that does not.
      for (const part of partsOf(facts, run))
        if (part.priority > 0) facts.assign(part.from, part.end, part.priority, 0);
        else facts.clear(part.from, part.end);
      this.places.ready(run.from, run.end);
    });
    return revived;
  }

  /** Nothing below `end` is there any more, whoever holds it. */
  drop(end: number, effects: WorkEffects): void {
    const { leases, dead, holds } = this.state;
    eachOf(leases, { from: 0, end }, (run, place) => {
      const consumer = this.state.ownerOf(leases.value(place, CONSUMER));
      leases.clear(run.from, run.end);
      consumer.held.clear(run.from, run.end);
      this.places.forget(run.from, run.end);
      holds.close(consumer);
      effects.revoke(consumer, run);
    });
    eachOf(dead, { from: 0, end }, (run) => {
      dead.clear(run.from, run.end);
      this.places.forget(run.from, run.end);
    });
    this.purge(end);
  }

  /** From `start` on everything up to the stream's end is to be delivered anew, and nothing before it: it is backlog. */
  seek(start: number, endOffset: number, effects: WorkEffects): void {
    this.drop(endOffset, effects);
    this.state.fedTo = start;
  }

  snapshot(writer: ByteWriter): void {
    this.state.snapshot(writer);
  }

  static restore(reader: ByteReader): Work {
    const state = WorkState.restore(reader);
    return new Work(state.config, state);
  }

  private canServe(): boolean {
    const { lanes, keys, consumers } = this.state;
    return lanes.size > 0 && keys.size < PARKED_MAX && consumers.next() !== undefined;
  }

  /** Of the range what the consumer holds under the token; what lies between is added to `lost`. Returns how many messages it holds. */
  private eachHeld(id: number, from: number, end: number, token: number, lost: Run[], then: (run: Run) => void): number {
    let held = 0;
    let at = from;
    eachOf(this.state.leases, { from, end }, (run, place) => {
      if (!this.isHeld(place, id, token)) return;
      if (run.from > at) lost.push({ from: at, end: run.from });
      at = run.end;
      held += run.end - run.from;
      then(run);
    });
    if (at < end) lost.push({ from: at, end });
    return held;
  }

  private isHeld(place: Place, id: number, token: number): boolean {
    const { leases } = this.state;
    return leases.value(place, CONSUMER) === id && leases.value(place, TOKEN) === token;
  }

  private depart(id: number, nowMs: number): void {
    const { consumers } = this.state;
    const consumer = consumers.get(id);
    if (consumer === undefined || consumer.untilMs === 0 || consumer.untilMs > nowMs) return;
    consumers.drain(consumer);
    if (consumer.isDone) consumers.detach(id);
  }

  /** Of messages with keys only those whose turn it is go out; the others are parked. */
  private eachAllowed({ from, end }: Run, give: (from: number, end: number) => void): void {
    let first = from;
    const { keys, facts } = this.state;
    for (const offset of keys.keyed(from, end)) {
      if (keys.claim(offset, facts.get(offset, PRIORITY, 0))) continue;
      if (first < offset) give(first, offset);
      first = offset + 1;
    }
    if (first < end) give(first, end);
  }

  private give(consumer: Consumer, from: number, end: number, token: number, nowMs: number, effects: WorkEffects): void {
    const { state } = this;
    state.consumers.served(consumer, end - from);
    const deadlineMs = nowMs + consumer.terms.leaseMs;
    // Of those that were delivered before each run has a count of its own.
    state.eachDelivered({ from, end }, (run, before) => effects.deliver(consumer, run, token, deadlineMs, before + 1));
    state.leases.assign(from, end, consumer.id, token, deadlineMs);
    consumer.held.assign(from, end);
    this.dues.leases.push(deadlineMs, from, end);
  }

  /** The lease of the offsets, all of which the consumer holds, ends. */
  private end(consumer: Consumer, from: number, end: number, outcome: Outcome, nowMs: number): void {
    this.state.leases.clear(from, end);
    consumer.held.clear(from, end);
    switch (outcome.kind) {
      case "ack":
        this.places.forget(from, end);
        return;
      case "reject":
        this.countDelivery(from, end, () => {});
        this.places.kill(from, end, DEAD_REJECTED);
        return;
      case "release":
        this.places.back(from, end, 0, nowMs);
        return;
      case "return":
        this.countDelivery(from, end, (run, deliveries) => {
          const { config } = this.state;
          const waitMs = outcome.delayMs >= 0 ? outcome.delayMs : backOffAfter(deliveries, config);
          if (config.deliveryLimit > 0 && deliveries >= config.deliveryLimit) this.places.kill(run.from, run.end, DEAD_LIMIT);
          else this.places.back(run.from, run.end, waitMs, nowMs);
        });
    }
  }

  /** One more for each; `then` is told of those that have had as many. */
  private countDelivery(from: number, end: number, then: (run: Run, deliveries: number) => void): void {
    const { state } = this;
    const counted: { run: Run; deliveries: number }[] = [];
    state.eachDelivered({ from, end }, (run, before) => counted.push({ run, deliveries: before + 1 }));
    for (const { run, deliveries } of counted) {
      state.deliveries.assign(run.from, run.end, deliveries);
      then(run, deliveries);
    }
  }

  private expireLease(run: Run, place: Place, nowMs: number, effects: WorkEffects): void {
    const { leases, consumers, holds } = this.state;
    const consumer = this.state.ownerOf(leases.value(place, CONSUMER));
    this.end(consumer, run.from, run.end, { kind: "return", delayMs: -1 }, nowMs);
    effects.revoke(consumer, run);
    holds.close(consumer);
    if (consumer.isDone) consumers.detach(consumer.id);
  }
}
