// What lies in a stream before a work subscription knows of it: fed a piece at a time while records come, and put back by seeks.

import fc from "fast-check";
import { expect, test } from "vitest";
import { FEED_TAIL_RUNS_MAX } from "../../../src/base/limits.ts";
import { decodeResults, encodeTrim, encodeWork } from "../../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../../src/machine/stream/stream.ts";
import type { FedBatch } from "../../../src/machine/work/backlog.ts";
import { OVERFLOW_REJECT, WORK_DEFAULTS, type WorkConfig } from "../../../src/machine/work/config.ts";
import type { WorkOperation } from "../../../src/machine/work/operations.ts";
import type { FactRun } from "../../../src/machine/work/sidecar.ts";
import type { Work } from "../../../src/machine/work/work.ts";
import { COMMAND, RECORDS, records, type RecordsOptions, type TestEntry } from "../entries.ts";
import { MachineRun } from "../machine-run.ts";

const NAME = "w";
const LEASE_MS = 1_000_000;
const CONFIG: WorkConfig = { ...WORK_DEFAULTS, deliveryLimit: 0, deadLetters: true };
type Stored = Omit<FactRun, "count"> & { readonly timeMs: number };
const PLAIN = { priority: 0, dueMs: 0, delayMs: 0, ttlMs: 0, keyHash: 0 };

/** A topic with what was stored in it, for whoever feeds it. */
class Topic {
  readonly run = new MachineRun(new StreamMachine());
  readonly entries: TestEntry[] = [];
  readonly stored: Stored[] = [];
  nowMs = 1_000;

  get work(): Work {
    return this.run.machine.works.get(NAME)!;
  }

  publish(facts: readonly Partial<FactRun>[], options: RecordsOptions = {}): number {
    const { code } = this.enter(RECORDS, records(facts.length, { ...options, facts: options.isScanned === false ? [] : facts }));
    if (code === 0) for (const fact of facts) this.stored.push({ ...PLAIN, ...fact, timeMs: this.nowMs });
    return code;
  }

  say(...operations: WorkOperation[]): number[] {
    this.enter(COMMAND, encodeWork(operations));
    return decodeResults(this.run.details.at(-1)!).results;
  }

  trim(offset: number): void {
    this.enter(COMMAND, encodeTrim(offset));
  }

  create(start = 0, config: Partial<WorkConfig> = {}): void {
    this.say({ op: "create", name: NAME, start, config: { ...CONFIG, ...config } });
  }

  /** `staysMs` 0: until it is detached. */
  attach(consumer: number, granted: number): void {
    const terms = { gateway: 1, priority: 0, leaseMs: LEASE_MS, staysMs: 0 };
    this.say({ op: "attach", name: NAME, consumer, terms, granted });
  }

  /** What whoever leads says after a look at the log, of at most so many records. */
  feed(max: number, from = this.work.state.fedTo): WorkOperation {
    const batches: FedBatch[] = this.stored
      .slice(from, from + max)
      .map(({ timeMs, ...facts }) => ({ count: 1, timeMs, bytesEach: 10, facts: [{ count: 1, ...facts }] }));
    return { op: "feed", name: NAME, from, batches };
  }

  delivered(after = 0): number[] {
    return this.run.deliveries.slice(after).flatMap(({ from, end }) => Array.from({ length: end - from }, (_, at) => from + at));
  }

  ackAll(): void {
    for (const { consumer, from, end, token } of this.run.deliveries)
      this.say({ op: "settle", name: NAME, consumer, from, end, token, outcome: { kind: "ack" } });
  }

  private enter(kind: number, payload: Uint8Array): { code: number } {
    const entry = { kind, timeMs: this.nowMs, payload };
    this.entries.push(entry);
    return this.run.apply(entry);
  }
}

test("backlog: what was stored before the subscription is fed with its priorities and keys, and counts as ready until then", () => {
  const topic = new Topic();
  topic.publish([{ keyHash: 7 }, { keyHash: 7 }, {}, { priority: 5 }], { isScanned: false });
  topic.create();
  topic.attach(1, 10);
  expect(topic.delivered()).toEqual([]);
  expect(topic.work.state.countsTo(4)).toMatchObject({ ready: 4, parked: 0 });
  expect(topic.work.state.describe(1, 10, 4)).toMatchObject([{ run: { from: 1, end: 4 }, state: 1, deliveries: 0 }]);
  expect(topic.say(topic.feed(10))).toEqual([4]);
  expect(topic.delivered()).toEqual([3, 0, 2]);
  expect(topic.work.state.countsTo(4)).toMatchObject({ ready: 0, leased: 3, parked: 1 });
});

test("backlog: what is said of anything but what comes next changes nothing", () => {
  const topic = new Topic();
  topic.publish([{}, {}, {}, {}]);
  topic.create();
  const [first, later, beyond] = [topic.feed(2, 0), topic.feed(2, 2), topic.feed(2, 0)];
  expect(topic.say(later)).toEqual([0]);
  expect(topic.say(first)).toEqual([2]);
  expect(topic.say(first, beyond)).toEqual([0, 0]);
  const tooMany = { ...topic.feed(2), batches: [{ count: 3, timeMs: 1, bytesEach: 1, facts: [] }] } as WorkOperation;
  expect(topic.say(tooMany)).toEqual([0]);
  expect(topic.say(later)).toEqual([2]);
  expect(topic.work.counts.ready).toBe(4);
});

test("backlog: records that come between a look at the log and what is said of it are neither lost nor doubled, and from then on go directly", () => {
  const topic = new Topic();
  topic.publish([{ keyHash: 7 }, {}]);
  topic.create();
  topic.attach(1, 100);
  const looked = topic.feed(10);
  topic.publish([{ keyHash: 7 }, { priority: 3 }]);
  topic.publish([{}]);
  expect(topic.delivered()).toEqual([]);
  expect(topic.say(looked)).toEqual([2]);
  expect(topic.work.state.fedTo).toBe(5);
  expect(topic.delivered()).toEqual([3, 0, 1, 4]);
  topic.publish([{ priority: 9 }]);
  expect(topic.delivered(3).at(-1)).toBe(5);
});

test("backlog: a batch that nobody looked at is left to be fed, and what comes after it waits behind it", () => {
  const topic = new Topic();
  topic.create();
  topic.attach(1, 100);
  topic.publish([{ keyHash: 7 }]);
  topic.publish([{ keyHash: 7 }, {}], { isScanned: false });
  topic.publish([{ keyHash: 7 }]);
  expect(topic.delivered()).toEqual([0]);
  topic.say(topic.feed(1));
  expect(topic.work.state.fedTo).toBe(2);
  topic.say(topic.feed(1));
  expect(topic.work.state.fedTo).toBe(4);
  expect(topic.delivered()).toEqual([0, 2]);
  topic.ackAll();
  topic.ackAll();
  expect(topic.delivered()).toEqual([0, 2, 1, 3]);
});

test("backlog: delays and times to live count from when a record was stored", () => {
  const topic = new Topic();
  topic.publish([{ delayMs: 500 }, { delayMs: 5_000 }, { ttlMs: 400 }, { ttlMs: 4_000 }, { delayMs: 300, ttlMs: 400 }], {
    isScanned: false,
  });
  topic.create();
  topic.attach(1, 100);
  topic.nowMs += 1_000;
  topic.say(topic.feed(10));
  // Two have expired, and one of them after it was due.
  expect(topic.delivered()).toEqual([0, 3]);
  expect(topic.work.state.deadFrom(0, 10)).toMatchObject([
    { run: { from: 2, end: 3 }, reason: 3 },
    { run: { from: 4, end: 5 }, reason: 3 },
  ]);
  topic.nowMs += 3_999;
  topic.say({ op: "tick" });
  expect(topic.delivered()).toEqual([0, 3]);
  topic.nowMs += 1;
  topic.say({ op: "tick" });
  expect(topic.delivered()).toEqual([0, 3, 1]);
});

test("backlog: the subscription's own time to live counts from when a record was stored too", () => {
  const topic = new Topic();
  topic.publish([{}]);
  topic.nowMs += 1_000;
  topic.publish([{}]);
  topic.create(0, { ttlMs: 1_000 });
  topic.attach(1, 100);
  topic.say(topic.feed(10));
  expect(topic.delivered()).toEqual([1]);
});

test("backlog: purge, trim and seek move on from where they say", () => {
  const topic = new Topic();
  topic.publish([{}, {}, {}, {}, {}, {}]);
  topic.create(1);
  expect(topic.work.state.fedTo).toBe(1);
  topic.trim(2);
  expect(topic.work.state.fedTo).toBe(2);
  topic.say(topic.feed(1));
  expect(topic.say({ op: "purge", name: NAME })).toEqual([4]);
  expect(topic.work.state.countsTo(6).ready).toBe(0);
  topic.attach(1, 100);
  topic.publish([{}]);
  expect(topic.delivered()).toEqual([6]);
  topic.say({ op: "seek", name: NAME, offset: 0 });
  expect([topic.work.state.fedTo, topic.work.counts.leased]).toEqual([2, 0]);
  topic.say(topic.feed(10));
  expect(topic.delivered(1)).toEqual([2, 3, 4, 5, 6]);
  topic.say({ op: "seek", name: NAME, offset: 1_000 });
  expect(topic.work.state.fedTo).toBe(7);
});

test("backlog: of the newest batches only so much is kept, and who then is fed up to them has the rest", () => {
  const topic = new Topic();
  topic.publish([{}]);
  topic.create();
  const runs = 1_000;
  for (let at = 0; at < 12; at++) topic.publish(Array.from({ length: runs }, (_, key) => ({ keyHash: key + 1 })));
  const kept = Math.floor(FEED_TAIL_RUNS_MAX / (runs + 1));
  const first = topic.run.machine.endOffset - kept * runs;
  while (topic.work.state.fedTo < first - 1) topic.say(topic.feed(Math.min(4_000, first - 1 - topic.work.state.fedTo)));
  expect(topic.work.state.fedTo).toBe(first - 1);
  topic.say(topic.feed(1));
  expect(topic.work.state.fedTo).toBe(topic.run.machine.endOffset);
});

test("backlog: where what comes is refused it counts as what waits, and nothing of it is dropped", () => {
  const topic = new Topic();
  topic.publish([{}, {}, {}]);
  topic.create(0, { maxMessages: 2, overflow: OVERFLOW_REJECT });
  expect(topic.publish([{}])).not.toBe(0);
  topic.say(topic.feed(10));
  expect(topic.work.counts).toMatchObject({ ready: 3, dead: 0 });
  topic.attach(1, 2);
  expect(topic.publish([{}])).toBe(0);
});

type Step =
  | { do: "publish"; records: { keyHash: number; priority: number }[]; isScanned: boolean }
  | { do: "look"; max: number }
  | { do: "feed" | "purge" }
  | { do: "seek" | "trim"; part: number }
  | { do: "settle"; at: number; outcome: "ack" | "return" }
  | { do: "grant"; consumer: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("publish" as const),
      records: fc.array(fc.record({ keyHash: fc.nat(2), priority: fc.nat(2) }), { minLength: 1, maxLength: 4 }),
      isScanned: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("look" as const), max: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("feed" as const) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("settle" as const),
      at: fc.nat(5),
      outcome: fc.constantFrom("ack" as const, "ack" as const, "return" as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("grant" as const), consumer: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("seek" as const, "trim" as const), part: fc.nat(100) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("purge" as const) }) },
);

/** What a subscription is to do, told from what was said and seen alone. */
class Observer {
  readonly topic = new Topic();
  private readonly looked: WorkOperation[] = [];
  private readonly holders = new Map<number, { consumer: number; token: number }>();
  /** Settled or dropped since the last seek. */
  private gone = new Set<number>();
  private begin = 0;
  private readonly granted = [0, 0, 0, 0];
  private seen = 0;

  constructor() {
    this.topic.publish([{ keyHash: 1 }, { keyHash: 1, priority: 1 }, {}], { isScanned: false });
    this.topic.create();
    for (const consumer of [1, 2, 3]) this.topic.attach(consumer, 0);
  }

  take(step: Step): void {
    const { topic } = this;
    const end = topic.run.machine.endOffset;
    switch (step.do) {
      case "publish":
        topic.publish(step.records, { isScanned: step.isScanned });
        break;
      case "look":
        if (topic.work.state.fedTo < end) this.looked.push(topic.feed(step.max));
        break;
      case "feed": {
        const said = this.looked.shift();
        if (said !== undefined) topic.say(said);
        break;
      }
      case "settle":
        this.settle([...this.holders.keys()][step.at] ?? -1, step.outcome);
        break;
      case "grant":
        this.grant(step.consumer, 3);
        break;
      case "purge":
        for (let at = this.begin; at < end; at++) if (!this.holders.has(at)) this.gone.add(at);
        topic.say({ op: "purge", name: NAME });
        break;
      case "seek":
        this.begin = Math.max(topic.run.machine.startOffset, Math.floor((end * step.part) / 100));
        this.gone = new Set();
        this.holders.clear();
        topic.say({ op: "seek", name: NAME, offset: this.begin });
        break;
      case "trim": {
        const start = Math.floor((end * step.part) / 300);
        for (let at = 0; at < start; at++) this.holders.delete(at);
        this.begin = Math.max(this.begin, start);
        topic.trim(start);
      }
    }
    this.check();
  }

  /** Everything is fed, delivered and settled, once. */
  finish(): void {
    const { topic } = this;
    for (let left = 500; left > 0; left--) {
      if (topic.work.state.fedTo < topic.run.machine.endOffset) topic.say(topic.feed(7));
      this.check();
      this.grant(1, 5);
      this.check();
      for (const offset of this.holders.keys()) this.settle(offset, "ack");
      this.check();
    }
    const left = topic.stored.map((_, at) => at).filter((at) => at >= this.begin && !this.gone.has(at));
    expect(left).toEqual([]);
    expect(topic.work.counts).toMatchObject({ ready: 0, leased: 0, parked: 0, dead: 0 });
  }

  private grant(consumer: number, messages: number): void {
    this.granted[consumer]! += messages;
    this.topic.say({ op: "grant", name: NAME, consumer, granted: this.granted[consumer]! });
  }

  private settle(offset: number, outcome: "ack" | "return"): void {
    const lease = this.holders.get(offset);
    if (lease === undefined) return;
    this.holders.delete(offset);
    if (outcome === "ack") this.gone.add(offset);
    const said = outcome === "ack" ? { kind: outcome } : { kind: outcome, delayMs: 0 };
    expect(this.topic.say({ op: "settle", name: NAME, ...lease, from: offset, end: offset + 1, outcome: said })).toEqual([1]);
  }

  private check(): void {
    const { topic, holders, gone } = this;
    const { stored } = topic;
    const { fedTo } = topic.work.state;
    let lowest = Number.MAX_SAFE_INTEGER;
    for (const { consumer, token, from, end } of topic.run.deliveries.slice(this.seen))
      for (let at = from; at < end; at++) {
        const { keyHash, priority } = stored[at]!;
        expect([at < fedTo, at >= this.begin, holders.has(at), gone.has(at)]).toEqual([true, true, false, false]);
        if (keyHash > 0) {
          expect([...holders.keys()].filter((other) => stored[other]!.keyHash === keyHash)).toEqual([]);
          for (let before = this.begin; before < at; before++)
            if (stored[before]!.keyHash === keyHash && stored[before]!.priority === priority) expect(gone.has(before)).toBe(true);
        }
        lowest = Math.min(lowest, priority);
        holders.set(at, { consumer, token });
      }
    this.seen = topic.run.deliveries.length;
    // What has no key waits for nobody: while it does, nothing of a lower priority goes.
    for (let at = this.begin; at < fedTo; at++)
      if (stored[at]!.keyHash === 0 && stored[at]!.priority > lowest) expect(holders.has(at) || gone.has(at)).toBe(true);
  }
}

test("backlog: whatever is published, fed and put back, each message comes once, in the order of its key, and one of a key at a time", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
      const observer = new Observer();
      for (const one of steps) observer.take(one);
      observer.finish();
    }),
    { numRuns: 200 },
  );
});

test("backlog: a state that was written and read after any entry goes on to the same state and the same deliveries", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
      const observer = new Observer();
      for (const one of steps) observer.take(one);
      const { entries, run } = observer.topic;
      for (let cut = 0; cut < entries.length; cut++) {
        const before = new MachineRun(new StreamMachine()).applyAll(entries.slice(0, cut));
        const machine = new StreamMachine();
        machine.restore(before.machine.snapshot());
        const after = new MachineRun(machine, cut).applyAll(entries.slice(cut));
        expect(after.machine.snapshot()).toEqual(run.machine.snapshot());
        expect([...before.deliveries, ...after.deliveries]).toEqual(run.deliveries);
      }
    }),
    { numRuns: 40 },
  );
});
