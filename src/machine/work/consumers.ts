// Who takes messages of a subscription, and how many more each has room for. Those of the highest priority are served first, in
// turn; of a subscription with a single active consumer one is, and the others wait to take its place.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { CONSUMER_CREDIT_MAX } from "../../base/limits.ts";
import { RunMap } from "./run-map.ts";

export type ConsumerTerms = {
  /** -128..127 as they come; higher ones are served first. */
  readonly priority: number;
  /** How long it may keep a message, in milliseconds, unless it extends the lease. */
  readonly leaseMs: number;
  /** The node that it is connected to, and that node's start: what comes of `gatewayOf`. */
  readonly gateway: number;
  /** For how long it takes messages, in milliseconds of the log; then it is gone once it has settled what it took. 0 = until it is detached. */
  readonly staysMs: number;
};

export class Consumer {
  readonly id: number;
  readonly terms: ConsumerTerms;
  /** When it takes no more; 0 = not by itself. */
  readonly untilMs: number;
  /** How many messages it may be given in all, and how many it was given: both only rise, so saying either again changes nothing. */
  granted = 0;
  given = 0;
  /** What it has: offsets. */
  held = new RunMap(0);

  constructor(id: number, terms: ConsumerTerms, untilMs: number) {
    this.id = id;
    this.terms = terms;
    this.untilMs = untilMs;
  }

  /** How many more messages it takes. */
  get credit(): number {
    return Math.max(0, this.granted - this.given);
  }

  /** It came for a while, takes no more and has nothing left. */
  get isDone(): boolean {
    return this.untilMs > 0 && this.credit === 0 && this.held.size === 0;
  }
}

export class Consumers {
  private isSingle: boolean;
  private readonly consumers = new Map<number, Consumer>();
  /** Those with credit by priority, in the order in which they are served next. */
  private readonly turns = new Map<number, Set<number>>();
  /** The only one that is served; 0 = none. Of use only with a single active consumer. */
  private active = 0;

  constructor(isSingle: boolean) {
    this.isSingle = isSingle;
  }

  get size(): number {
    return this.consumers.size;
  }

  get activeId(): number {
    return this.active;
  }

  get(id: number): Consumer | undefined {
    return this.consumers.get(id);
  }

  all(): IterableIterator<Consumer> {
    return this.consumers.values();
  }

  alter(isSingle: boolean): void {
    if (isSingle && !this.isSingle) this.active = this.heir();
    if (!isSingle) this.active = 0;
    this.isSingle = isSingle;
  }

  attach(id: number, terms: ConsumerTerms, nowMs: number): Consumer {
    const consumer = new Consumer(id, terms, terms.staysMs > 0 ? nowMs + terms.staysMs : 0);
    this.consumers.set(id, consumer);
    if (this.isSingle && this.active === 0) this.active = id;
    return consumer;
  }

  detach(id: number): void {
    const consumer = this.consumers.get(id);
    if (consumer === undefined) return;
    this.consumers.delete(id);
    this.leaveTurn(consumer);
    if (this.active === id) this.active = this.heir();
  }

  /** It may be given so many in all. Less than was said before changes nothing. */
  grant(consumer: Consumer, total: number): void {
    consumer.granted = Math.max(consumer.granted, Math.min(total, consumer.given + CONSUMER_CREDIT_MAX));
    if (consumer.credit > 0) this.turnOf(consumer.terms.priority).add(consumer.id);
  }

  /** It takes no more: what room it had is gone. */
  drain(consumer: Consumer): void {
    consumer.granted = consumer.given;
    this.leaveTurn(consumer);
  }

  /** Who is served next, and how many share what there is with it; undefined when nobody has room. */
  next(): { consumer: Consumer; sharing: number } | undefined {
    if (this.isSingle) {
      const consumer = this.consumers.get(this.active);
      return consumer !== undefined && consumer.credit > 0 ? { consumer, sharing: 1 } : undefined;
    }
    let best = Number.NEGATIVE_INFINITY;
    for (const priority of this.turns.keys()) if (priority > best) best = priority;
    const turn = this.turns.get(best);
    if (turn === undefined) return undefined;
    const [id] = turn;
    return { consumer: this.consumers.get(id!)!, sharing: turn.size };
  }

  /** It was given so many; it is served again after all others that wait with it. */
  served(consumer: Consumer, messages: number): void {
    consumer.given += messages;
    this.leaveTurn(consumer);
    if (consumer.credit > 0) this.turnOf(consumer.terms.priority).add(consumer.id);
  }

  write(writer: ByteWriter): void {
    writer.varint(this.active).varint(this.consumers.size);
    // In the order in which they came: that is state.
    for (const [id, { terms, untilMs, granted, given, held }] of this.consumers) {
      writer.varint(id);
      writeTerms(writer, terms);
      writer.varint(untilMs).varint(granted).varint(given);
      held.write(writer);
    }
    const used = [...this.turns].sort(([a], [b]) => a - b);
    writer.varint(used.length);
    for (const [priority, turn] of used) {
      writer.u8(priority + 128).varint(turn.size);
      for (const id of turn) writer.varint(id);
    }
  }

  static read(isSingle: boolean, reader: ByteReader): Consumers {
    const consumers = new Consumers(isSingle);
    consumers.active = reader.varint();
    for (let left = reader.varint(); left > 0; left--) {
      const consumer = new Consumer(reader.varint(), readTerms(reader), reader.varint());
      consumer.granted = reader.varint();
      consumer.given = reader.varint();
      consumer.held = RunMap.read(0, reader);
      consumers.consumers.set(consumer.id, consumer);
    }
    for (let left = reader.varint(); left > 0; left--) {
      const turn = consumers.turnOf(reader.u8() - 128);
      for (let ids = reader.varint(); ids > 0; ids--) turn.add(reader.varint());
    }
    return consumers;
  }

  private turnOf(priority: number): Set<number> {
    let turn = this.turns.get(priority);
    if (turn === undefined) this.turns.set(priority, (turn = new Set()));
    return turn;
  }

  private leaveTurn({ id, terms: { priority } }: Consumer): void {
    const turn = this.turns.get(priority);
    if (turn?.delete(id) === true && turn.size === 0) this.turns.delete(priority);
  }

  /** The one of the highest priority that has waited longest. */
  private heir(): number {
    let heir: Consumer | undefined;
    for (const consumer of this.consumers.values()) {
      const [ahead, rank] = [heir?.terms.priority ?? Number.NEGATIVE_INFINITY, consumer.terms.priority];
      if (rank > ahead) heir = consumer;
    }
    return heir?.id ?? 0;
  }
}

export function writeTerms(writer: ByteWriter, { priority, leaseMs, gateway, staysMs }: ConsumerTerms): void {
  writer
    .u8(priority + 128)
    .varint(leaseMs)
    .varint(gateway)
    .varint(staysMs);
}

export function readTerms(reader: ByteReader): ConsumerTerms {
  return {
    priority: reader.u8() - 128,
    leaseMs: reader.varint(),
    gateway: reader.varint(),
    staysMs: reader.varint(),
  };
}
