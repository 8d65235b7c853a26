// The work subscriptions of one stream, by name. Every entry of the stream first lets time pass in each, then says what it says,
// and then what waits is given out.

import { unreachable } from "../../base/assert.ts";
import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { CONSUMERS_PER_SUBSCRIPTION_MAX, WORKS_PER_STREAM_MAX } from "../../base/limits.ts";
import { NOTHING } from "../../base/nothing.ts";
import type { FactRun } from "./sidecar.ts";
import { WORK_DEFAULTS } from "./config.ts";
import type { WorkOperation } from "./operations.ts";
import { NO_FACTS, type Facts } from "./state.ts";
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
  refuses(messages: number, bytes: number): boolean {
    for (const work of this.works.values()) if (work.refuses(messages, bytes)) return true;
    return false;
  }

  /** Records were stored from `from` to before `end`; `facts` are those of the first ones, in order. */
  enqueue(from: number, end: number, facts: readonly FactRun[], nowMs: number, bytes: number): void {
    const bytesEach = Math.ceil(bytes / (end - from));
    for (const work of this.works.values()) {
      let at = from;
      for (const run of facts) {
        work.enqueue(at, at + run.count, factsAt(run, nowMs), nowMs, bytesEach);
        at += run.count;
      }
      if (at < end) work.enqueue(at, end, NO_FACTS, nowMs, bytesEach);
    }
  }

  /** Records below this offset are gone. */
  drop(end: number, effects: WorksEffects): void {
    for (const name of this.names) this.works.get(name)!.drop(end, effects.forWork(name));
  }

  /** Returns the operation's result. */
  operate(operation: WorkOperation, stored: Stored, nowMs: number, effects: WorksEffects): number {
    if (operation.op === "tick") return 0;
    if (operation.op === "create") return this.create(operation, stored, nowMs);
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
        return work.settle(operation.consumer, operation.from, operation.end, operation.token, operation.outcome, nowMs);
      case "extend":
        return work.extend(operation.consumer, operation.from, operation.end, operation.token, operation.leaseMs, nowMs);
      case "purge":
        return work.purge(stored.endOffset);
      case "recall":
        return work.recall(operation.offset) ? 1 : 0;
      case "buried":
        return work.buried(operation.from, operation.end);
      case "revived":
        return work.revived(operation.from, operation.end);
      case "seek":
        work.seek(Math.max(operation.offset, stored.startOffset), stored.endOffset, nowMs, effects.forWork(operation.name));
        return 0;
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
  }

  static read(reader: ByteReader): Works {
    const works = new Works();
    for (let left = reader.varint(); left > 0; left--) works.put(reader.string(), Work.restore(reader));
    return works;
  }

  /** It begins with what is stored from `start` on, as if that had just come. Created again alike it stays as it is. */
  private create(
    { name, config, start }: Extract<WorkOperation, { op: "create" }>,
    { startOffset, endOffset }: Stored,
    nowMs: number,
  ): number {
    const known = this.works.get(name);
    if (known !== undefined) return known.hasConfig(config) ? 0 : WORK_DIFFERENT;
    if (this.works.size >= WORKS_PER_STREAM_MAX) return WORK_TOO_MANY;
    const work = new Work(config);
    const from = Math.max(start, startOffset);
    if (from < endOffset) work.enqueue(from, endOffset, NO_FACTS, nowMs);
    this.put(name, work);
    return 0;
  }

  private put(name: string, work: Work): void {
    if (this.works === NONE) this.works = new Map();
    this.works.set(name, work);
    this.names = [...this.names, name].sort();
  }
}

/** Times that count from when a message is stored, as times. It lives for so long from when it may be delivered. */
function factsAt({ priority, dueMs, delayMs, ttlMs, keyHash }: FactRun, nowMs: number): Facts {
  const due = delayMs > 0 ? nowMs + delayMs : dueMs;
  return { priority, dueMs: due, expiryMs: ttlMs === 0 ? 0 : Math.max(nowMs, due) + ttlMs, keyHash };
}
