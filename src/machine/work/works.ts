// The work subscriptions of one stream, by name. Every entry of the stream first lets time pass in each, then says what it says,
// and then what waits is given out.

import { unreachable } from "../../base/assert.ts";
import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { CONSUMERS_PER_SUBSCRIPTION_MAX, WORKS_PER_STREAM_MAX } from "../../base/limits.ts";
import { NOTHING } from "../../base/nothing.ts";
import { feed, Tail, type FedBatch } from "./backlog.ts";
import type { Run } from "./lanes.ts";
import type { TransactionMarks } from "../transaction-marks.ts";
import type { FactRun } from "./sidecar.ts";
import { WORK_DEFAULTS } from "./config.ts";
import type { WorkOperation } from "./operations.ts";
import { WorkState } from "./state.ts";
import { Work, type WorkEffects } from "./work.ts";

/** The name of a queue's own subscription. */
export const QUEUE = "";

/** Results of operations; what counts something is that count. */
export const WORK_UNKNOWN = -1;
export const WORK_NO_CONSUMER = -2;
export const WORK_TOO_MANY = -3;
export const WORK_DIFFERENT = -4;

/** What goes out, and of which subscription. */
export type WorksEffects = { forWork(name: string): WorkEffects };
/** The offsets that the stream holds. */
export type Stored = { readonly startOffset: number; readonly endOffset: number };

/** Shared by streams without any; never written to. */
const NONE = new Map<string, Work>();

export class Works {
  /** Most streams have none. */
  private works: Map<string, Work> = NONE;
  private names: readonly string[] = NOTHING;
  /** Only while some have a backlog. */
  private tail: Tail | null = null;

  /** Those of a queue: its own. */
  static ofQueue(): Works {
    const works = new Works();
    works.put(QUEUE, new Work(WORK_DEFAULTS));
    return works;
  }

  get size(): number {
    return this.works.size;
  }

  get(name: string): Work | undefined {
    return this.works.get(name);
  }

  /** By name, ascending by code unit. */
  list(): readonly string[] {
    return this.names;
  }

  /** The first offset at or after this one that some subscription still needs; -1 when none needs any. */
  unsettledFrom(offset: number): number {
    let first = -1;
    for (const { state } of this.works.values()) {
      const at = state.unsettledFrom(offset);
      if (at >= 0 && (first < 0 || at < first)) first = at;
    }
    return first;
  }

  /** When something is due by itself in any; -1 = nothing is. */
  get nextMs(): number {
    let next = -1;
    for (const { nextMs } of this.works.values()) if (nextMs >= 0 && (next < 0 || nextMs < next)) next = nextMs;
    return next;
  }

  advance(nowMs: number, effects: WorksEffects): void {
    for (const name of this.names) this.works.get(name)!.advance(nowMs, effects.forWork(name));
  }

  serve(token: number, nowMs: number, effects: WorksEffects): void {
    for (const name of this.names) this.works.get(name)!.serve(token, nowMs, effects.forWork(name));
  }

  /** Some subscription has no room for them, and refuses what comes then. */
  refuses(messages: number, bytes: number, endOffset: number): boolean {
    for (const work of this.works.values()) if (work.refuses(messages, bytes, endOffset)) return true;
    return false;
  }

  /**
   * Records were stored from `from` to before `end`; `facts` are those of the first ones, in order, or null when nobody looked. Those who
   * have been given all before have these at once; for the others, and without facts for all, they are backlog.
   */
  enqueue(from: number, end: number, facts: readonly FactRun[] | null, nowMs: number, bytes: number): void {
    if (facts === null) {
      this.tail = null;
      return;
    }
    const batch = { count: end - from, timeMs: nowMs, bytesEach: Math.ceil(bytes / (end - from)), facts };
    let hasBacklog = false;
    for (const work of this.works.values())
      if (work.state.fedTo === from) feed(work, from, batch, nowMs);
      else hasBacklog = true;
    if (hasBacklog) (this.tail ??= new Tail()).add({ ...batch, from });
  }

  /** Records below this offset are gone; the stream ends at `endOffset`. */
  drop(end: number, endOffset: number, nowMs: number, effects: WorksEffects): void {
    for (const name of this.names) {
      const work = this.works.get(name)!;
      work.drop(end, effects.forWork(name));
      this.tail?.join(work, nowMs);
    }
    this.tidy(endOffset);
  }

  /** The most runs that any of them takes to know which transactions are over, and whose these are. */
  get marks(): TransactionMarks | undefined {
    let most: TransactionMarks | undefined;
    for (const { state } of this.works.values()) if (state.holds.marks.runs > (most?.runs ?? 0)) most = state.holds.marks;
    return most;
  }

  /** As in TransactionMarks. */
  settleTransactions(group: number, below: number, unfinished: readonly number[]): void {
    for (const { state } of this.works.values()) state.holds.marks.settle(group, below, unfinished);
  }

  /** Returns the operation's result. Of a settlement or an extension the messages that were not the consumer's are added to `lost`. */
  operate(operation: WorkOperation, stored: Stored, nowMs: number, effects: WorksEffects, lost: Run[] = []): number {
    const result = this.carryOut(operation, stored, nowMs, effects, lost);
    const isOfBacklog = operation.op === "create" || operation.op === "seek" || operation.op === "feed";
    if (isOfBacklog && result >= 0) this.tail?.join(this.works.get(operation.name)!, nowMs);
    if (isOfBacklog || operation.op === "purge" || operation.op === "delete") this.tidy(stored.endOffset);
    return result;
  }

  private carryOut(operation: WorkOperation, stored: Stored, nowMs: number, effects: WorksEffects, lost: Run[]): number {
    if (operation.op === "tick") return 0;
    if (operation.op === "create") return this.create(operation, stored);
    const work = this.works.get(operation.name);
    if (work === undefined) return WORK_UNKNOWN;
    switch (operation.op) {
      case "alter":
        work.alter(operation.config);
        return 0;
      case "delete":
        // A queue without its own subscription would be none.
        if (operation.name === QUEUE) return WORK_DIFFERENT;
        this.works.delete(operation.name);
        this.names = this.names.filter((name) => name !== operation.name);
        return 0;
      case "attach":
        if (work.counts.consumers >= CONSUMERS_PER_SUBSCRIPTION_MAX && work.state.consumers.get(operation.consumer) === undefined)
          return WORK_TOO_MANY;
        work.attach(operation.consumer, operation.terms, nowMs);
        work.grant(operation.consumer, operation.granted, nowMs);
        return 0;
      case "grant":
        return work.grant(operation.consumer, operation.granted, nowMs) ? 0 : WORK_NO_CONSUMER;
      case "drain": {
        const given = work.drain(operation.consumer);
        return given < 0 ? WORK_NO_CONSUMER : given;
      }
      case "detach":
        return work.detach(operation.consumer, nowMs) ? 0 : WORK_NO_CONSUMER;
      case "settle":
        return work.settle(operation.consumer, operation.from, operation.end, operation.token, operation.outcome, nowMs, lost);
      case "extend":
        return work.extend(operation.consumer, operation.from, operation.end, operation.token, operation.leaseMs, nowMs, lost);
      case "purge":
        return work.purge(stored.endOffset);
      case "recall":
        return work.recall(operation.offset) ? 1 : 0;
      case "expedite": {
        const { offset, delayMs, priority, whilePriority } = operation;
        const done = work.expedite(offset, delayMs, priority, whilePriority, nowMs);
        return done < 0 ? WORK_DIFFERENT : done;
      }
      case "hold": {
        const { consumer, token, transaction } = operation;
        return orTooMany(work.handover.hold(consumer, operation, token, transaction, nowMs));
      }
      case "conclude":
        return work.handover.conclude(operation, operation.token, operation.transaction, operation.outcome, nowMs);
      case "letGo":
        return orTooMany(work.handover.letGo(operation.transaction, nowMs));
      case "buried":
        return work.buried(operation.from, operation.end);
      case "revived":
        return work.revived(operation.from, operation.end);
      case "seek":
        // What of a queue is settled may be gone from anywhere.
        if (operation.name === QUEUE) return WORK_DIFFERENT;
        work.seek(offsetIn(stored, operation.offset), stored.endOffset, effects.forWork(operation.name));
        return 0;
      case "feed":
        return this.feed(work, operation.from, operation.batches, stored, nowMs);
      default:
        return unreachable(operation, "operation");
    }
  }

  write(writer: ByteWriter): void {
    writer.varint(this.works.size);
    for (const name of this.names) {
      writer.string(name);
      this.works.get(name)!.snapshot(writer);
    }
    if (this.works.size > 0) (this.tail ?? new Tail()).write(writer);
  }

  static read(reader: ByteReader): Works {
    const works = new Works();
    for (let left = reader.varint(); left > 0; left--) works.put(reader.string(), Work.restore(reader));
    if (works.size > 0) works.tail = Tail.read(reader);
    return works;
  }

  /** What is stored from `start` on is its backlog. Created again alike it stays as it is. */
  private create({ name, config, start }: Extract<WorkOperation, { op: "create" }>, stored: Stored): number {
    const known = this.works.get(name);
    if (known !== undefined) return known.hasConfig(config) ? 0 : WORK_DIFFERENT;
    if (this.works.size >= WORKS_PER_STREAM_MAX) return WORK_TOO_MANY;
    this.put(name, new Work(config, new WorkState(config, offsetIn(stored, start))));
    return 0;
  }

  /** Only what comes next in its backlog; returns how many messages that was. Said again it changes nothing. */
  private feed(work: Work, from: number, batches: readonly FedBatch[], { endOffset }: Stored, nowMs: number): number {
    const count = batches.reduce((sum, batch) => sum + batch.count, 0);
    if (from !== work.state.fedTo || from + count > endOffset) return 0;
    let at = from;
    for (const batch of batches) {
      feed(work, at, batch, nowMs);
      at += batch.count;
    }
    return count;
  }

  /** Without a backlog nobody needs the newest batches. */
  private tidy(endOffset: number): void {
    for (const { state } of this.works.values()) if (state.fedTo < endOffset) return;
    this.tail = null;
  }

  private put(name: string, work: Work): void {
    if (this.works === NONE) this.works = new Map();
    this.works.set(name, work);
    this.names = [...this.names, name].sort();
  }
}

/** Where a subscription that begins at `offset` does so. */
function offsetIn({ startOffset, endOffset }: Stored, offset: number): number {
  return Math.min(Math.max(offset, startOffset), endOffset);
}

function orTooMany(result: number): number {
  return result < 0 ? WORK_TOO_MANY : result;
}
