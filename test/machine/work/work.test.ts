import fc from "fast-check";
import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../../src/base/bytes.ts";
import { WORK_DEFAULTS, type WorkConfig } from "../../../src/machine/work/config.ts";
import type { Run } from "../../../src/machine/work/lanes.ts";
import { NO_FACTS, type Facts } from "../../../src/machine/work/state.ts";
import { Work, type Outcome, type WorkEffects } from "../../../src/machine/work/work.ts";

const CONFIG: WorkConfig = { ...WORK_DEFAULTS, deliveryLimit: 0, keyOrder: false, deadLetters: true };
const TERMS = { priority: 0, leaseMs: 1_000, gateway: 1, staysMs: 0 };

type Delivered = { consumer: number; from: number; end: number; token: number; deadlineMs: number; deliveries: number };

/** A subscription under test, with a clock, and what it sent. */
class Bench {
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

const offsetsOf = (delivered: readonly Delivered[]): number[] =>
  delivered.flatMap(({ from, end }) => Array.from({ length: end - from }, (_, at) => from + at));

test("work: a message goes to one consumer, and is gone once that has settled it", () => {
  const bench = new Bench();
  bench.attach(1, 10);
  const [lease] = bench.send(3);
  expect(lease).toEqual({ consumer: 1, from: 0, end: 3, token: bench.token, deadlineMs: bench.nowMs + 1_000, deliveries: 1 });
  expect(bench.attach(2, 10)).toEqual([]);
  expect(bench.settle(lease!, { kind: "ack" }, { from: 1, end: 2 })).toBe(1);
  expect(bench.work.floor).toBe(0);
  expect(bench.settle(lease!, { kind: "ack" })).toBe(2);
  expect(bench.settle(lease!, { kind: "ack" })).toBe(0);
  expect([bench.work.floor, bench.work.counts.leased]).toEqual([-1, 0]);
});

test("work: only who holds a message settles it, and only under the token that it came with (Q3)", () => {
  const bench = new Bench();
  bench.attach(1, 1, { leaseMs: 50 });
  const [old] = bench.send(1);
  bench.entry(() => {}, 50);
  expect(bench.revoked).toEqual([{ consumer: 1, from: 0, end: 1 }]);
  const [again] = bench.attach(2, 1);
  expect(again).toMatchObject({ consumer: 2, from: 0, deliveries: 2 });
  expect(again!.token).toBeGreaterThan(old!.token);
  expect(bench.settle(old!, { kind: "ack" })).toBe(0);
  expect(bench.settle({ ...again!, consumer: 1 }, { kind: "ack" })).toBe(0);
  expect(bench.settle({ ...again!, token: old!.token }, { kind: "ack" })).toBe(0);
  expect(bench.settle(again!, { kind: "ack" })).toBe(1);
});

test("work: an extended lease ends when it was extended to, and not before", () => {
  const bench = new Bench();
  bench.attach(1, 1, { leaseMs: 100 });
  const [lease] = bench.send(1);
  bench.entry((work) => expect(work.extend(1, 0, 1, lease!.token, 500, bench.nowMs)).toBe(1), 90);
  bench.entry(() => {}, 499);
  expect(bench.revoked).toEqual([]);
  bench.entry(() => {}, 1);
  expect(bench.revoked).toHaveLength(1);
});

test("work: what comes back goes to its place, before what came later", () => {
  const bench = new Bench();
  bench.attach(1, 2);
  const [lease] = bench.send(4);
  bench.settle(lease!, { kind: "return", delayMs: 0 }, { from: 0, end: 1 });
  expect(bench.entry((work) => bench.credit(work, 1, 3))).toMatchObject([
    { from: 0, end: 1, deliveries: 2 },
    { from: 2, end: 4, deliveries: 1 },
  ]);
});

test("work: the highest priority first, and of one priority in order", () => {
  const bench = new Bench();
  bench.send(2);
  bench.send(2, { priority: 31 });
  bench.send(2, { priority: 7 });
  expect(offsetsOf(bench.attach(1, 6))).toEqual([2, 3, 4, 5, 0, 1]);
});

test("work: a delayed message is never early, nor one that waits after a return", () => {
  const bench = new Bench({ backOff: 2, backOffMs: 100, backOffMaxMs: 300 });
  bench.attach(1, 100);
  const dueMs = bench.nowMs + 500;
  expect(bench.send(1, { dueMs })).toEqual([]);
  expect(bench.work.nextMs).toBe(dueMs);
  expect(bench.entry(() => {}, dueMs - 1 - bench.nowMs)).toEqual([]);
  let [lease] = bench.entry(() => {}, 1);
  expect(lease).toMatchObject({ from: 0, deliveries: 1 });
  for (const waitMs of [100, 200, 300, 300]) {
    bench.settle(lease!, { kind: "return", delayMs: -1 });
    expect(bench.entry(() => {}, waitMs - 1)).toEqual([]);
    [lease] = bench.entry(() => {}, 1);
    expect(lease).toMatchObject({ from: 0 });
  }
});

test("work: at the delivery limit a message is dead, once, and stays until it is buried", () => {
  const bench = new Bench({ deliveryLimit: 3 });
  bench.attach(1, 100);
  let [lease] = bench.send(2);
  bench.settle(lease!, { kind: "ack" }, { from: 1, end: 2 });
  for (let round = 1; round <= 3; round++) {
    expect(lease!.deliveries).toBe(round);
    bench.settle(lease!, { kind: "return", delayMs: 0 }, { from: 0, end: 1 });
    lease = bench.delivered[bench.delivered.length - 1];
  }
  expect(bench.work.state.deadFrom(0, 10)).toEqual([{ run: { from: 0, end: 1 }, reason: 2, deliveries: 3 }]);
  expect(bench.work.floor).toBe(0);
  bench.entry((work) => expect(work.buried(0, 5)).toBe(1));
  bench.entry((work) => expect(work.buried(0, 5)).toBe(0));
  expect(bench.work.floor).toBe(-1);
});

test("work: what has expired is not delivered, whether it waits, is delayed or comes back", () => {
  const bench = new Bench();
  bench.send(1, { expiryMs: bench.nowMs + 100 });
  bench.send(1, { expiryMs: bench.nowMs + 100, dueMs: bench.nowMs + 5_000 });
  bench.entry(() => {}, 100);
  expect(bench.work.state.deadFrom(0, 10)).toEqual([{ run: { from: 0, end: 2 }, reason: 3, deliveries: 0 }]);
  bench.attach(1, 5);
  const [lease] = bench.send(1, { expiryMs: bench.nowMs + 100 });
  bench.entry(() => {}, 200);
  expect(bench.work.counts).toMatchObject({ leased: 1, dead: 2 });
  bench.settle(lease!, { kind: "return", delayMs: 0 });
  expect(bench.work.counts).toMatchObject({ leased: 0, ready: 0, dead: 3 });
});

test("work: of one key one message at a time, in order, and the others meanwhile", () => {
  const bench = new Bench({ keyOrder: true });
  bench.attach(1, 10);
  bench.attach(2, 10);
  bench.send(3, { keyHash: 7 });
  bench.send(1, { keyHash: 8 });
  expect(offsetsOf(bench.delivered)).toEqual([0, 3]);
  const first = bench.delivered[0]!;
  bench.settle(first, { kind: "return", delayMs: 0 });
  expect(bench.delivered[2]).toMatchObject({ from: 0, deliveries: 2 });
  for (const next of [1, 2]) {
    bench.settle(bench.delivered[bench.delivered.length - 1]!, { kind: "ack" });
    expect(bench.delivered[bench.delivered.length - 1]).toMatchObject({ from: next, end: next + 1 });
  }
});

test("work: of one key those that wait for their turn have it by priority, before any that comes later", () => {
  const bench = new Bench({ keyOrder: true });
  bench.attach(1, 10);
  for (const priority of [0, 0, 9, 9]) bench.send(1, { keyHash: 7, priority });
  const passed: number[] = [];
  const pass = (): void => {
    const lease = bench.delivered[bench.delivered.length - 1]!;
    passed.push(lease.from);
    bench.settle(lease, { kind: "ack" });
  };
  pass();
  bench.send(1, { keyHash: 7, priority: 9 });
  for (let left = 4; left > 0; left--) pass();
  expect(passed).toEqual([0, 2, 3, 4, 1]);
});

test("work: one whose turn it is and that expires before anybody takes it passes the turn on", () => {
  const bench = new Bench({ keyOrder: true });
  bench.attach(1, 1);
  bench.send(1, { keyHash: 7 });
  bench.send(1, { keyHash: 7, expiryMs: bench.nowMs + 50 });
  bench.send(1, { keyHash: 7 });
  bench.entry((work) => void work.grant(1, 3, bench.nowMs));
  bench.entry((work) => void work.drain(1));
  bench.settle(bench.delivered[0]!, { kind: "ack" });
  expect(bench.work.counts).toMatchObject({ ready: 1, parked: 1 });
  bench.entry(() => {}, 100);
  expect(bench.work.counts).toMatchObject({ ready: 1, parked: 0 });
  bench.attach(2, 1);
  expect(bench.delivered[1]).toMatchObject({ from: 2 });
});

test("work: a single active consumer has all, and another takes over when it goes", () => {
  const bench = new Bench({ singleActive: true });
  bench.attach(1, 1);
  bench.attach(2, 10);
  expect(bench.send(3)).toMatchObject([{ consumer: 1, from: 0, end: 1 }]);
  expect(bench.detach(1)).toMatchObject([
    { consumer: 2, from: 0, end: 1, deliveries: 2 },
    { consumer: 2, from: 1, end: 3, deliveries: 1 },
  ]);
});

test("work: beyond its length the oldest of the lowest priority go", () => {
  const bench = new Bench({ maxMessages: 3 });
  bench.send(2, { priority: 5 });
  bench.send(3);
  expect(bench.work.state.deadFrom(0, 10)).toEqual([{ run: { from: 2, end: 4 }, reason: 4, deliveries: 0 }]);
  expect(offsetsOf(bench.attach(1, 9))).toEqual([0, 1, 4]);
});

type Step =
  | { do: "send"; count: number; priority: number; delayMs: number; ttlMs: number; keyHash: number }
  | { do: "attach" | "detach"; id: number }
  | { do: "credit"; id: number; messages: number }
  | { do: "settle"; at: number; outcome: Outcome; part: number }
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
      case "purge":
        bench.entry((work) => void work.purge(step.amount));
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

test("work: what came to the limit is kept without dead letters too, and waits again when somebody says so; the rest is gone", () => {
  const bench = new Bench({ deadLetters: false, deliveryLimit: 1 });
  bench.attach(1, 100);
  const [lease] = bench.send(3, { priority: 4, expiryMs: bench.nowMs + 500 });
  bench.settle(lease!, { kind: "return", delayMs: 0 }, { from: 0, end: 1 });
  bench.settle(lease!, { kind: "reject" }, { from: 1, end: 2 });
  expect(bench.work.counts).toMatchObject({ dead: 1, leased: 1 });
  bench.entry(() => {}, 600);
  expect(bench.entry((work) => expect(work.revived(0, 3)).toBe(1))).toMatchObject([{ from: 0, deliveries: 1 }]);
});

test("work: a consumer that came for a while takes what there is until its time is up, and is gone when it has settled that", () => {
  const bench = new Bench();
  bench.send(1);
  const [lease] = bench.attach(1, 5, { staysMs: 100 });
  expect(lease).toMatchObject({ from: 0 });
  expect(bench.work.nextMs).toBe(bench.nowMs + 100);
  bench.entry(() => {}, 100);
  expect(bench.send(1)).toEqual([]);
  expect(bench.settle(lease!, { kind: "ack" })).toBe(1);
  expect(bench.work.counts).toMatchObject({ ready: 1, consumers: 0 });
});

test("work: without key order those that waited for their turn wait no longer; from now on nobody does", () => {
  const bench = new Bench({ keyOrder: true });
  bench.attach(1, 10);
  bench.send(3, { keyHash: 7 });
  expect(offsetsOf(bench.delivered)).toEqual([0]);
  bench.entry((work) => work.alter({ ...CONFIG, keyOrder: false }));
  bench.send(1, { keyHash: 7 });
  expect(offsetsOf(bench.delivered)).toEqual([0, 1, 2, 3]);
});

test("work: a grant that comes again changes nothing, nor does a smaller one", () => {
  const bench = new Bench();
  bench.send(10);
  bench.attach(1, 0);
  for (const total of [3, 3, 2]) bench.entry((work) => void work.grant(1, total, bench.nowMs));
  expect(offsetsOf(bench.delivered)).toEqual([0, 1, 2]);
  bench.entry((work) => expect(work.drain(1)).toBe(3));
  bench.entry((work) => void work.grant(1, 4, bench.nowMs));
  expect(offsetsOf(bench.delivered)).toEqual([0, 1, 2, 3]);
});

test("work: the expired go at once however many there are, out of whatever they wait for", () => {
  const bench = new Bench({ keyOrder: true, deadLetters: false });
  bench.send(100_000, { expiryMs: bench.nowMs + 50 });
  bench.send(2, { expiryMs: bench.nowMs + 50, keyHash: 3 });
  bench.send(1, { keyHash: 3 });
  bench.attach(1, 0);
  bench.entry(() => {}, 100);
  expect(bench.work.counts).toMatchObject({ ready: 1, parked: 0, delayed: 0, dead: 0 });
  expect(bench.entry((work) => bench.credit(work, 1, 5))).toMatchObject([{ from: 100_002 }]);
});
