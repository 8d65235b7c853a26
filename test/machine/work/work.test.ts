import { expect, test } from "vitest";
import { ByteReader } from "../../../src/base/bytes.ts";
import { Work } from "../../../src/machine/work/work.ts";
import { Bench, CONFIG, type Delivered } from "./work-bench.ts";

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

test("work: what is due in one entry, and how much of it, a state that was read knows as well as one that saw what was settled before", () => {
  const bench = new Bench();
  const many = 16_400;
  bench.attach(1, 3 * many, { leaseMs: 100_000 });
  for (let at = 0; at < many; at++) bench.settle(bench.send(1)[0]!, { kind: "ack" });
  const [lease] = bench.send(10);
  // Every other one is settled: what one entry gave is many leases by now.
  const given = [1, 2, 3].flatMap(() => bench.send(10_930));
  const everyOther = given.flatMap(({ from, end, ...of }) =>
    offsetsOf([{ from, end, ...of }])
      .filter((at) => at % 2 === 0)
      .map((at) => ({ ...of, from: at, end: at + 1 })),
  );
  bench.entry((work) => {
    for (const { consumer, from, end, token } of everyOther) work.settle(consumer, from, end, token, { kind: "ack" }, bench.nowMs);
    work.extend(1, lease!.from, lease!.end, lease!.token, 90_000, bench.nowMs);
  });
  const read = new Bench();
  read.work = Work.restore(new ByteReader(bench.snapshot()));
  [read.nowMs, read.token, read.end] = [bench.nowMs, bench.token, bench.end];
  for (const one of [bench, read]) one.entry(() => {}, 200_000);
  expect(Buffer.compare(bench.snapshot(), read.snapshot())).toBe(0);
  expect(bench.work.counts.leased).toBe(12);
  for (const one of [bench, read]) one.entry();
  expect(Buffer.compare(bench.snapshot(), read.snapshot())).toBe(0);
});
