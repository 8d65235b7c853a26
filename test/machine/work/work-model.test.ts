// Whatever is said to a work subscription: what becomes of each message is told from what was said and seen alone.

import fc from "fast-check";
import { expect, test } from "vitest";
import { holderOf } from "../../../src/base/ids.ts";
import type { WorkConfig } from "../../../src/machine/work/config.ts";
import type { Run } from "../../../src/machine/work/lanes.ts";
import type { Outcome } from "../../../src/machine/work/work.ts";
import { Bench, CONFIG, type Delivered } from "./work-bench.ts";

type Step =
  | { do: "send"; count: number; priority: number; delayMs: number; ttlMs: number; keyHash: number }
  | { do: "attach" | "detach"; id: number }
  | { do: "credit"; id: number; messages: number }
  | { do: "settle"; at: number; outcome: Outcome; part: number }
  | { do: "expedite"; offset: number; delayMs: number; priority: number }
  | { do: "hold"; at: number; part: number; transaction: number }
  | { do: "conclude"; at: number; outcome: Outcome }
  | { do: "letGo"; transaction: number }
  | { do: "purge" | "bury" | "wait"; amount: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      count: fc.integer({ min: 1, max: 6 }),
      priority: fc.integer({ min: 0, max: 2 }),
      delayMs: fc.constantFrom(0, 0, 0, 30),
      ttlMs: fc.constantFrom(0, 0, 0, 40),
      keyHash: fc.integer({ min: 0, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("attach" as const, "detach" as const), id: fc.integer({ min: 1, max: 3 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("credit" as const),
      id: fc.integer({ min: 1, max: 3 }),
      messages: fc.integer({ min: 1, max: 8 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("settle" as const),
      at: fc.nat(30),
      part: fc.nat(3),
      outcome: fc.constantFrom<Outcome>(
        { kind: "ack" },
        { kind: "ack" },
        { kind: "return", delayMs: -1 },
        { kind: "return", delayMs: 0 },
        { kind: "release" },
        { kind: "reject" },
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("expedite" as const),
      offset: fc.nat(40),
      delayMs: fc.constantFrom(0, 20),
      priority: fc.integer({ min: -1, max: 2 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("hold" as const),
      at: fc.nat(10),
      part: fc.nat(3),
      transaction: fc.integer({ min: 1_000, max: 1_003 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("conclude" as const),
      at: fc.nat(3),
      outcome: fc.constantFrom<Outcome>({ kind: "ack" }, { kind: "return", delayMs: 0 }, { kind: "reject" }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("letGo" as const), transaction: fc.integer({ min: 1_000, max: 1_003 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("purge" as const, "bury" as const), amount: fc.nat(40) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), amount: fc.integer({ min: 1, max: 60 }) }) },
);

/** What is known of a message from what was said and seen alone. */
type Fate = {
  priority: number;
  keyHash: number;
  dueMs: number;
  expiryMs: number;
  deliveries: number;
  holder: Delivered | null;
  isGone: boolean;
};

class Observer {
  readonly fates: Fate[] = [];
  /** What transactions were given to hold, and which were rolled back. */
  private readonly held: { offset: number; run: Run; token: number }[] = [];
  private readonly over = new Set<number>();
  private readonly bench: Bench;
  private readonly config: WorkConfig;

  constructor(bench: Bench, config: WorkConfig) {
    this.bench = bench;
    this.config = config;
  }

  take(step: Step): void {
    const { bench, fates } = this;
    const seen = bench.delivered.length;
    const revoked = bench.revoked.length;
    switch (step.do) {
      case "send": {
        const facts = {
          priority: step.priority,
          keyHash: step.keyHash,
          dueMs: step.delayMs === 0 ? 0 : bench.nowMs + 1 + step.delayMs,
          expiryMs: step.ttlMs === 0 ? 0 : bench.nowMs + 1 + step.ttlMs,
        };
        for (let left = step.count; left > 0; left--) fates.push({ ...facts, deliveries: 0, holder: null, isGone: false });
        bench.send(step.count, facts);
        break;
      }
      case "attach":
        bench.attach(step.id, 2, { leaseMs: 50 });
        break;
      case "detach":
        for (const fate of fates) if (fate.holder?.consumer === step.id) fate.holder = null;
        bench.detach(step.id);
        break;
      case "credit":
        bench.entry((work) => bench.credit(work, step.id, step.messages));
        break;
      case "settle":
        this.settle(step);
        break;
      case "expedite":
        this.expedite(step);
        break;
      case "hold":
        this.hold(step);
        break;
      case "conclude":
        this.conclude(step);
        break;
      case "letGo":
        this.letGo(step.transaction);
        break;
      case "purge":
        bench.entry((work) => void work.purge(Math.min(step.amount, bench.end)));
        break;
      case "bury":
        bench.entry((work) => void work.buried(0, step.amount));
        break;
      case "wait":
        bench.entry(() => {}, step.amount);
    }
    for (const { from, end } of bench.revoked.slice(revoked)) for (let at = from; at < end; at++) fates[at]!.holder = null;
    for (const delivery of bench.delivered.slice(seen)) this.delivered(delivery);
  }

  private settle({ at, outcome, part }: Extract<Step, { do: "settle" }>): void {
    const { bench, fates } = this;
    const lease = bench.delivered[bench.delivered.length - 1 - at];
    if (lease === undefined) return;
    const run = { from: Math.min(lease.from + part, lease.end - 1), end: lease.end };
    const isDue = lease.deadlineMs <= bench.nowMs + 1;
    const held = fates.slice(run.from, run.end).filter(({ holder }) => holder?.token === lease.token && holder.consumer === lease.consumer);
    for (const fate of held) {
      fate.holder = null;
      if (outcome.kind === "ack" && !isDue) fate.isGone = true;
      if (outcome.kind === "release" && !isDue) fate.deliveries -= 1;
    }
    expect(bench.settle(lease, outcome, run)).toBe(isDue ? 0 : held.length);
  }

  private expedite({ offset, delayMs, priority }: Extract<Step, { do: "expedite" }>): void {
    const { bench, fates } = this;
    let done = 0;
    bench.entry((work) => (done = work.expedite(offset, delayMs, priority, -1, bench.nowMs)));
    if (done === 0) return;
    const fate = fates[offset]!;
    expect([fate.holder, fate.isGone]).toEqual([null, false]);
    fate.dueMs = bench.nowMs + delayMs;
    // It lives as long as before, from when it may be delivered: that is told by a test of its own.
    fate.expiryMs = 0;
  }

  private hold({ at, part, transaction: offset }: Extract<Step, { do: "hold" }>): void {
    const { bench, fates } = this;
    const lease = bench.delivered[bench.delivered.length - 1 - at];
    if (lease === undefined) return;
    const run = { from: Math.min(lease.from + part, lease.end - 1), end: lease.end };
    const isDue = lease.deadlineMs <= bench.nowMs + 1;
    const isOurs = ({ holder }: Fate): boolean =>
      holder?.token === lease.token && (holder.consumer === holderOf(offset) || (holder.consumer === lease.consumer && !isDue));
    const all = !this.over.has(offset) && fates.slice(run.from, run.end).every(isOurs);
    let held = 0;
    bench.entry((work) => (held = work.handover.hold(lease.consumer, run, lease.token, { group: 9, offset }, bench.nowMs)));
    expect(held).toBe(all ? run.end - run.from : 0);
    if (!all) return;
    for (const fate of fates.slice(run.from, run.end)) fate.holder = { ...lease, consumer: holderOf(offset) };
    this.held.push({ offset, run, token: lease.token });
  }

  private conclude({ at, outcome }: Extract<Step, { do: "conclude" }>): void {
    const { bench, fates } = this;
    const one = this.held[this.held.length - 1 - at];
    if (one === undefined) return;
    const { offset, run, token } = one;
    const ours = fates.slice(run.from, run.end).filter(({ holder }) => holder?.consumer === holderOf(offset) && holder.token === token);
    for (const fate of ours) {
      fate.holder = null;
      if (outcome.kind === "ack") fate.isGone = true;
    }
    bench.entry((work) => expect(work.handover.conclude(run, token, { group: 9, offset }, outcome, bench.nowMs)).toBe(ours.length));
  }

  private letGo(offset: number): void {
    const { bench, fates } = this;
    const ours = fates.filter(({ holder }) => holder?.consumer === holderOf(offset));
    this.over.add(offset);
    for (const fate of ours) {
      fate.holder = null;
      fate.deliveries -= 1;
    }
    bench.entry((work) => expect(work.handover.letGo({ group: 9, offset }, bench.nowMs)).toBe(ours.length));
  }

  private delivered(delivery: Delivered): void {
    const { bench, fates, config } = this;
    for (let at = delivery.from; at < delivery.end; at++) {
      const fate = fates[at]!;
      // Two owners (Q2), settled ones again (Q4), early (Q8), late (Q7), and the count of deliveries.
      expect([fate.holder, fate.isGone]).toEqual([null, false]);
      expect(fate.dueMs).toBeLessThanOrEqual(bench.nowMs);
      if (fate.expiryMs > 0) expect(fate.expiryMs).toBeGreaterThan(bench.nowMs);
      fate.deliveries += 1;
      expect(delivery.deliveries).toBe(fate.deliveries);
      if (config.deliveryLimit > 0) expect(fate.deliveries).toBeLessThanOrEqual(config.deliveryLimit);
      if (config.keyOrder && fate.keyHash > 0)
        expect(fates.filter(({ keyHash, holder }) => keyHash === fate.keyHash && holder !== null)).toEqual([]);
      fate.holder = delivery;
    }
  }

  /** Everything is somewhere, once (Q1). */
  conserve(): void {
    const { ready, leased, delayed, parked, dead } = this.bench.work.counts;
    expect(leased).toBe(this.fates.filter(({ holder }) => holder !== null).length);
    expect(ready + leased + delayed + parked + dead).toBeLessThanOrEqual(this.fates.filter(({ isGone }) => !isGone).length);
  }
}

test.each<Partial<WorkConfig>>([
  {},
  { deliveryLimit: 2, backOff: 1, backOffMs: 20, backOffMaxMs: 60 },
  { keyOrder: true, deliveryLimit: 3 },
  { singleActive: true, maxMessages: 10 },
  { deadLetters: false, keyOrder: true, ttlMs: 80 },
])("work: whatever is said, no message has two owners, comes early, late or again, or goes missing: %j", (given) => {
  const config = { ...CONFIG, ...given };
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), fc.nat(120), (steps, cut) => {
      const bench = new Bench(config);
      const observer = new Observer(bench, { ...config });
      for (const [at, one] of steps.entries()) {
        if (at === cut) bench.restart();
        observer.take(one);
        observer.conserve();
      }
    }),
    { numRuns: 150 },
  );
});

test("work: a state that was written and read at any step goes on to the same state and the same deliveries, byte for byte", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
      const config = { ...CONFIG, keyOrder: true, deliveryLimit: 3 };
      const run = (cut: number): { bytes: Uint8Array; delivered: readonly Delivered[] } => {
        const bench = new Bench(config);
        const observer = new Observer(bench, config);
        for (const [at, one] of steps.entries()) {
          if (at === cut) bench.restart();
          observer.take(one);
        }
        return { bytes: bench.snapshot(), delivered: bench.delivered };
      };
      const whole = run(-1);
      for (let cut = 0; cut < steps.length; cut++) expect(run(cut)).toEqual(whole);
    }),
    { numRuns: 40 },
  );
});
