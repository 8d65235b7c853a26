// A work subscription under test, driven as the entries of a log would.

import { expect } from "vitest";
import { ByteReader, ByteWriter } from "../../../src/base/bytes.ts";
import { WORK_DEFAULTS, type WorkConfig } from "../../../src/machine/work/config.ts";
import type { Run } from "../../../src/machine/work/lanes.ts";
import type { Facts } from "../../../src/machine/work/state.ts";
import { Work, type Outcome, type WorkEffects } from "../../../src/machine/work/work.ts";

const NO_FACTS: Facts = { priority: 0, dueMs: 0, expiryMs: 0, keyHash: 0 };

export const CONFIG: WorkConfig = { ...WORK_DEFAULTS, deliveryLimit: 0, keyOrder: false, deadLetters: true };
const TERMS = { priority: 0, leaseMs: 1_000, gateway: 1, staysMs: 0 };

export type Delivered = { consumer: number; from: number; end: number; token: number; deadlineMs: number; deliveries: number };

/** A subscription under test, with a clock, and what it sent. */
export class Bench {
  work: Work;
  nowMs = 1_000;
  token = 0;
  end = 0;
  readonly delivered: Delivered[] = [];
  /** What each consumer was granted so far. */
  readonly granted = new Map<number, number>();
  readonly revoked: { consumer: number; from: number; end: number }[] = [];
  private readonly effects: WorkEffects = {
    deliver: (consumer, run, token, deadlineMs, deliveries) =>
      this.delivered.push({ consumer: consumer.id, ...run, token, deadlineMs, deliveries }),
    revoke: (consumer, run) => this.revoked.push({ consumer: consumer.id, ...run }),
  };

  constructor(config: Partial<WorkConfig> = {}) {
    this.work = new Work({ ...CONFIG, ...config });
  }

  /** One entry of the log: time passes, something is said, what waits is given out. Returns what was delivered by it. */
  entry(say: (work: Work) => void = () => {}, afterMs = 1): Delivered[] {
    this.nowMs += afterMs;
    this.token += 1;
    const before = this.delivered.length;
    this.work.advance(this.nowMs, this.effects);
    say(this.work);
    this.work.serve(this.token, this.nowMs, this.effects);
    return this.delivered.slice(before);
  }

  send(count: number, facts: Partial<Facts> = {}): Delivered[] {
    const from = this.end;
    this.end += count;
    return this.entry((work) => work.enqueue(from, from + count, { ...NO_FACTS, ...facts }, this.nowMs));
  }

  attach(id: number, credit: number, terms: Partial<typeof TERMS> = {}): Delivered[] {
    return this.entry((work) => {
      work.attach(id, { ...TERMS, ...terms }, this.nowMs);
      this.credit(work, id, credit);
    });
  }

  credit(work: Work, id: number, messages: number): void {
    const total = (this.granted.get(id) ?? 0) + messages;
    if (work.grant(id, total, this.nowMs)) this.granted.set(id, total);
  }

  detach(id: number): Delivered[] {
    this.granted.delete(id);
    return this.entry((work) => void work.detach(id, this.nowMs));
  }

  settle(lease: Delivered, outcome: Outcome, run: Run = lease): number {
    let settled = 0;
    this.entry((work) => (settled = work.settle(lease.consumer, run.from, run.end, lease.token, outcome, this.nowMs)));
    return settled;
  }

  snapshot(): Uint8Array {
    const writer = new ByteWriter();
    this.work.snapshot(writer);
    return writer.finish();
  }

  restart(): void {
    const bytes = this.snapshot();
    this.work = Work.restore(new ByteReader(bytes));
    expect(this.snapshot()).toEqual(bytes);
  }
}
