// What transactions hold, and delayed messages that get another time.

import { expect, test } from "vitest";
import { HOLDER_OFFSET_MAX, holderOf, nodeOfGateway } from "../../../src/base/ids.ts";
import { TRANSACTION_MARKS_MAX } from "../../../src/base/limits.ts";
import { HOLD_MS } from "../../../src/machine/work/holds.ts";
import { Bench } from "./work-bench.ts";

const TRANSACTION = { group: 9, offset: 4 };

function heldBench(): { bench: Bench; token: number } {
  const bench = new Bench();
  bench.attach(1, 3);
  const [lease] = bench.send(3);
  bench.entry((work) => expect(work.handover.hold(1, { from: 0, end: 2 }, lease!.token, TRANSACTION, bench.nowMs)).toBe(2));
  return { bench, token: lease!.token };
}

test("ids: a transaction's holder has an id that no consumer of a node has, and each transaction another one", () => {
  const ids = [0, 1, 2 ** 23 - 1, 2 ** 23, 2 ** 40, HOLDER_OFFSET_MAX].map(holderOf);
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect([Number.isSafeInteger(id), nodeOfGateway(Math.floor(id / 2 ** 23)), id > 0]).toEqual([true, 0, true]);
});

test("handover: what a transaction holds is nobody else's, whatever becomes of the consumer, and ends with no lease", () => {
  const { bench, token } = heldBench();
  expect(bench.settle({ consumer: 1, from: 0, end: 2, token, deadlineMs: 0, deliveries: 1 }, { kind: "ack" })).toBe(0);
  bench.entry((work) => expect(work.extend(holderOf(4), 0, 2, token, 5, bench.nowMs)).toBe(0));
  bench.detach(1);
  bench.restart();
  bench.attach(2, 10);
  bench.entry(() => {}, 100_000);
  expect(bench.delivered.filter(({ consumer }) => consumer === 2).map(({ from }) => from)).not.toContain(0);
  expect(bench.work.state.describe(0, 2, 2)).toMatchObject([{ run: { from: 0, end: 2 }, consumer: holderOf(4), deliveries: 1 }]);
  expect(bench.work.counts.consumers).toBe(1);
  bench.entry(() => {}, HOLD_MS);
  expect(bench.work.state.holds.size).toBe(0);
});

test("handover: held again it stays held; another transaction, another token and a part of others' do not take it", () => {
  const { bench, token } = heldBench();
  const hold = (run: { from: number; end: number }, consumer: number, of: number, offset: number): number => {
    let held = 0;
    bench.entry((work) => (held = work.handover.hold(consumer, run, of, { group: 9, offset }, bench.nowMs)));
    return held;
  };
  expect(hold({ from: 0, end: 2 }, 1, token, 4)).toBe(2);
  expect(hold({ from: 0, end: 3 }, 1, token, 5)).toBe(0);
  expect(hold({ from: 0, end: 2 }, holderOf(4), token, 5)).toBe(0);
  expect(hold({ from: 2, end: 3 }, 1, token + 1, 5)).toBe(0);
  expect(hold({ from: 2, end: 4 }, 1, token, 5)).toBe(0);
  expect(hold({ from: 2, end: 3 }, 1, token, 5)).toBe(1);
});

test("handover: settled by the transaction it is as settled by its consumer, and once", () => {
  const { bench, token } = heldBench();
  const conclude = (run: { from: number; end: number }, kind: "ack" | "reject"): number => {
    let settled = 0;
    bench.entry((work) => (settled = work.handover.conclude(run, token, TRANSACTION, { kind }, bench.nowMs)));
    return settled;
  };
  expect(conclude({ from: 0, end: 1 }, "ack")).toBe(1);
  expect(conclude({ from: 0, end: 1 }, "ack")).toBe(0);
  expect(conclude({ from: 1, end: 2 }, "reject")).toBe(1);
  expect(bench.work.state.holds.size).toBe(0);
  expect(bench.work.counts).toMatchObject({ leased: 1, dead: 1 });
});

test("handover: rolled back it is as if it had never been delivered, and what the transaction asks for later comes too late", () => {
  const { bench, token } = heldBench();
  bench.entry((work) => expect(work.handover.letGo(TRANSACTION, bench.nowMs)).toBe(2));
  bench.entry((work) => expect(work.handover.hold(1, { from: 2, end: 3 }, token, TRANSACTION, bench.nowMs)).toBe(0));
  bench.entry((work) => expect(work.handover.letGo(TRANSACTION, bench.nowMs)).toBe(0));
  expect(bench.attach(2, 10)).toMatchObject([{ from: 0, end: 2, deliveries: 1 }]);
  bench.restart();
  bench.entry((work) => expect(work.handover.hold(1, { from: 2, end: 3 }, token, TRANSACTION, bench.nowMs)).toBe(0));
});

test("handover: what is dropped with its log is held no more", () => {
  const { bench } = heldBench();
  bench.entry((work) => work.drop(3, { deliver: () => {}, revoke: () => {} }));
  expect([bench.work.state.holds.size, bench.work.counts.leased]).toEqual([0, 0]);
});

test("handover: with as many rolled back in no order as may be known, no more are begun until some are known to be over", () => {
  const bench = new Bench();
  bench.attach(1, 10);
  const [lease] = bench.send(2);
  bench.entry((work) => {
    const { marks } = work.state.holds;
    for (let at = 0; at < TRANSACTION_MARKS_MAX; at++) marks.add({ group: 9, offset: at * 2 });
    expect(work.handover.letGo({ group: 9, offset: 2_000_001 }, bench.nowMs)).toBe(-1);
    expect(work.handover.hold(1, { from: 0, end: 1 }, lease!.token, { group: 9, offset: 7 }, bench.nowMs)).toBe(-1);
    marks.settle(9, 500_000, [5, 6, 7, 9]);
    expect(marks.runs).toBe(4);
    expect([5, 6, 7, 8, 9, 11].map((offset) => marks.has({ group: 9, offset }))).toEqual([false, true, false, true, false, true]);
    expect(work.handover.hold(1, { from: 0, end: 1 }, lease!.token, { group: 9, offset: 7 }, bench.nowMs)).toBe(1);
  });
});

test("expedite: a delayed message goes at once or waits anew, with another priority while it has the one that was meant", () => {
  const bench = new Bench();
  bench.send(3, { dueMs: 10_000 });
  bench.entry((work) => {
    expect(work.expedite(1, 0, 5, 3, bench.nowMs)).toBe(-1);
    expect(work.expedite(1, 0, 5, 0, bench.nowMs)).toBe(1);
    expect(work.expedite(1, 0, 5, -1, bench.nowMs)).toBe(0);
    expect(work.expedite(2, 300, -1, -1, bench.nowMs)).toBe(1);
    expect(work.expedite(7, 0, -1, -1, bench.nowMs)).toBe(0);
  });
  bench.restart();
  expect(bench.work.state.describe(0, 10, 3)).toMatchObject([
    { run: { from: 0, end: 1 }, untilMs: 10_000, priority: 0 },
    { run: { from: 1, end: 2 }, untilMs: 0, priority: 5 },
    { run: { from: 2, end: 3 }, untilMs: bench.nowMs + 300, priority: 0 },
  ]);
  expect(bench.attach(1, 10)).toMatchObject([{ from: 1, end: 2 }]);
  expect(bench.entry(() => {}, 298)).toEqual([]);
  expect(bench.entry(() => {}, 1)).toMatchObject([{ from: 2, end: 3 }]);
});

test("expedite: a message lives as long as it would have, from when it may be delivered", () => {
  const bench = new Bench();
  bench.send(1, { dueMs: 10_000, expiryMs: 10_500 });
  bench.entry((work) => void work.expedite(0, 100, -1, -1, bench.nowMs));
  bench.entry(() => {}, 599);
  expect(bench.work.counts).toMatchObject({ ready: 1, dead: 0 });
  bench.entry(() => {}, 1);
  expect(bench.work.counts).toMatchObject({ ready: 0, dead: 1 });
});

test("recall: what waits is taken back, be it delayed or not; what is held is not", () => {
  const bench = new Bench();
  bench.send(1, { dueMs: 10_000 });
  bench.send(1);
  bench.entry((work) => {
    expect([work.recall(0), work.recall(1), work.recall(0), work.recall(5)]).toEqual([true, true, false, false]);
  });
  const { bench: held } = heldBench();
  held.entry((work) => expect(work.recall(0)).toBe(false));
});
