// A queue as a whole: entries of its log in, deliveries and results out. What a work subscription does is tested in work/.

import fc from "fast-check";
import { expect, test } from "vitest";
import { STREAM_DUPLICATE, STREAM_FENCED, STREAM_FULL, STREAM_OK, STREAM_OUT_OF_SEQUENCE } from "../../src/machine/stream/codes.ts";
import { decodeResults, encodeRelocate, encodeTransactions, encodeTrim, encodeWork } from "../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { OVERFLOW_REJECT, WORK_DEFAULTS } from "../../src/machine/work/config.ts";
import type { WorkOperation } from "../../src/machine/work/operations.ts";
import type { Run } from "../../src/machine/work/lanes.ts";
import { CONSUMERS_PER_SUBSCRIPTION_MAX, LOST_RUNS_MAX } from "../../src/base/limits.ts";
import { QUEUE, WORK_DIFFERENT, WORK_NO_CONSUMER, WORK_TOO_MANY, WORK_UNKNOWN } from "../../src/machine/work/works.ts";
import { COMMAND, RECORDS, records, type TestEntry } from "./entries.ts";
import { MachineRun } from "./machine-run.ts";

const TERMS = { priority: 0, leaseMs: 1_000, gateway: 1, staysMs: 0 };
const queue = (): MachineRun<StreamMachine> => new MachineRun(new StreamMachine({ isQueue: true }));
const say = (...operations: WorkOperation[]): Uint8Array => encodeWork(operations);
const attach = (consumer: number, granted: number, name = QUEUE): WorkOperation => ({
  op: "attach",
  name,
  consumer,
  granted,
  terms: TERMS,
});
const ack = (consumer: number, token: number, from: number, end: number, name = QUEUE): WorkOperation => ({
  op: "settle",
  name,
  consumer,
  token,
  from,
  end,
  outcome: { kind: "ack" },
});

/** The results of the last entry. */
function results(run: MachineRun): number[] {
  return decodeResults(run.details[run.details.length - 1]!).results;
}

test("queue: what is settled is held no more, and what is not stays where it was", () => {
  const run = queue();
  run.records(records(10));
  run.command(say(attach(1, 10)));
  const { token } = run.deliveries[0]!;
  run.command(say(ack(1, token, 0, 4), ack(1, token, 6, 10)));
  expect(results(run)).toEqual([4, 4]);
  expect([run.machine.startOffset, run.machine.endOffset]).toEqual([4, 10]);
  run.command(say(ack(1, token, 4, 6)));
  expect(run.machine.startOffset).toBe(10);
  run.command(encodeTrim(0));
  expect(run.releasedTo).toBe(run.index);
});

test("queue: of a settlement of which some messages were the consumer's the others are named", () => {
  const run = queue();
  run.records(records(10));
  run.command(say(attach(1, 10)));
  const { token } = run.deliveries[0]!;
  const extend: WorkOperation = { op: "extend", name: QUEUE, consumer: 1, token, from: 0, end: 8, leaseMs: 5_000 };
  run.command(say(ack(1, token, 2, 3), ack(1, token, 5, 7), ack(1, token, 0, 10), ack(1, token, 0, 10)));
  expect(results(run)).toEqual([1, 2, 7, 0]);
  const lostOf = (place: number): readonly Run[] => decodeResults(run.details.at(-1)!).lost.of(place);
  const between = [
    { from: 2, end: 3 },
    { from: 5, end: 7 },
  ];
  expect([0, 1, 2, 3].map(lostOf)).toEqual([[], [], between, []]);
  run.records(records(3));
  run.command(say({ op: "grant", name: QUEUE, consumer: 1, granted: 20 }));
  const again = run.deliveries.at(-1)!;
  run.command(say({ ...extend, token: again.token, from: 9, end: 14 }));
  expect(results(run)).toEqual([3]);
  expect(lostOf(0)).toEqual([
    { from: 9, end: 10 },
    { from: 13, end: 14 },
  ]);
});

test("queue: what was lost of settlements is named up to a bound, and beyond it no message passes for settled that is not", () => {
  const run = queue();
  const count = 4 * LOST_RUNS_MAX;
  run.records(records(count));
  run.command(say(attach(1, count)));
  while (run.machine.works.get(QUEUE)!.counts.ready > 0) run.command(say({ op: "tick" }));
  const leases = run.deliveries;
  const all = leases.map(({ token, from, end }) => ack(1, token, from, end));
  // Every second one is gone before all are said to be done.
  const every = leases.flatMap(({ token, from, end }) =>
    Array.from({ length: (end - from) / 2 }, (_, at) => ack(1, token, from + 2 * at, from + 2 * at + 1)),
  );
  run.command(say(...every));
  run.command(say(...all));
  expect(results(run).reduce((sum, one) => sum + one, 0)).toBe(count / 2);
  const { lost } = decodeResults(run.details.at(-1)!);
  const runs = all.flatMap((_, place) => lost.of(place));
  expect(runs.length).toBeLessThanOrEqual(LOST_RUNS_MAX + all.length);
  const named = new Set(runs.flatMap(({ from, end }) => Array.from({ length: end - from }, (_, at) => from + at)));
  for (let at = 0; at < count; at += 2) expect(named.has(at)).toBe(true);
});

test("queue: it has as many consumers as it may have, and the next one is told so; one that goes makes room", () => {
  const run = queue();
  for (let first = 1; first <= CONSUMERS_PER_SUBSCRIPTION_MAX; first += 1_000)
    run.command(say(...Array.from({ length: 1_000 }, (_, at) => attach(first + at, 1))));
  const [before, next] = [CONSUMERS_PER_SUBSCRIPTION_MAX, CONSUMERS_PER_SUBSCRIPTION_MAX + 1];
  run.command(say(attach(next, 1), attach(before, 1), { op: "detach", name: QUEUE, consumer: 1 }, attach(next, 1)));
  expect(results(run)).toEqual([WORK_TOO_MANY, 0, 0, 0]);
});

test("queue: every operation has a result, also the one that nobody can carry out", () => {
  const run = queue();
  run.records(records(3));
  run.command(say({ op: "grant", name: QUEUE, consumer: 5, granted: 1 }, { op: "purge", name: "other" }, { op: "delete", name: QUEUE }));
  expect(results(run)).toEqual([WORK_NO_CONSUMER, WORK_UNKNOWN, WORK_DIFFERENT]);
  run.command(say(attach(5, 2), attach(5, 2), { op: "drain", name: QUEUE, consumer: 5 }));
  run.command(say({ op: "drain", name: QUEUE, consumer: 5 }, { op: "detach", name: QUEUE, consumer: 5 }, { op: "tick" }));
  expect(results(run)).toEqual([0, 0, 0]);
  expect(run.machine.works.get(QUEUE)!.counts).toMatchObject({ ready: 3, leased: 0, consumers: 0 });
});

test("queue: priority, delay, time to live and key travel beside the batch", () => {
  const run = queue();
  run.command(say(attach(1, 100)), 1_000);
  run.command(say({ op: "drain", name: QUEUE, consumer: 1 }), 1_000);
  run.records(records(3, { facts: [{ priority: 1 }, { priority: 9, delayMs: 50 }, { priority: 5 }] }), 1_000);
  run.records(records(3, { facts: [{ count: 2, keyHash: 7 }, { ttlMs: 20 }] }), 1_000);
  expect(run.dueMs).toBe(1_020);
  run.command(say({ op: "grant", name: QUEUE, consumer: 1, granted: 100 }), 1_010);
  expect(run.deliveries.map(({ from, end }) => [from, end])).toEqual([
    [2, 3],
    [0, 1],
    [3, 4],
    [5, 6],
  ]);
  run.command(say({ op: "tick" }), 1_050);
  expect(run.deliveries[4]).toMatchObject({ from: 1, end: 2 });
});

test("queue: it refuses what it has no room for, and a retry of what it took is none of that", () => {
  const run = queue();
  const config = { ...WORK_DEFAULTS, maxMessages: 3, overflow: OVERFLOW_REJECT } as const;
  run.command(say({ op: "alter", name: QUEUE, config }));
  expect(run.records(records(2, { id: 9 })).code).toBe(STREAM_OK);
  expect(run.records(records(2)).code).toBe(STREAM_FULL);
  expect(run.records(records(2, { id: 9 })).code).toBe(STREAM_DUPLICATE);
  expect(run.records(records(1)).code).toBe(STREAM_OK);
  expect(run.machine.endOffset).toBe(3);
});

test("queue: bytes are bounded too, and what goes to make room is the oldest", () => {
  const run = queue();
  const config = { ...WORK_DEFAULTS, maxBytes: 3 * records(1, { bytes: 100 }).length };
  run.command(say({ op: "alter", name: QUEUE, config }));
  for (let at = 0; at < 5; at++) run.records(records(1, { bytes: 100 }));
  expect([run.machine.startOffset, run.machine.works.get(QUEUE)!.counts.ready]).toEqual([2, 3]);
});

test("queue: a producer with gaps is known by its numbers, as long as they are remembered", () => {
  const run = queue();
  const send = (sequence: number): number => run.records(records(1, { id: 4, sequence, isSparse: true })).code;
  expect([send(5), send(3), send(5), send(3), send(9)]).toEqual([STREAM_OK, STREAM_OK, STREAM_DUPLICATE, STREAM_DUPLICATE, STREAM_OK]);
  for (let sequence = 10; sequence < 300; sequence++) send(sequence);
  expect([send(3), send(4), send(299)]).toEqual([STREAM_OUT_OF_SEQUENCE, STREAM_OUT_OF_SEQUENCE, STREAM_DUPLICATE]);
});

test("queue: a record that stays does not hold what lies behind it once it is stored anew", () => {
  const run = queue();
  run.records(records(2, { bytes: 100 }));
  run.command(say(attach(1, 1)));
  run.command(say(attach(2, 1_000_000)));
  let { token } = run.deliveries[0]!;
  for (let at = 0; at < 60; at++) {
    run.records(records(1, { bytes: 1024 * 1024 }));
    const delivery = run.deliveries[run.deliveries.length - 1]!;
    run.command(say(ack(2, delivery.token, delivery.from, delivery.end)));
  }
  const second = run.deliveries[1]!;
  expect(run.machine.startOffset).toBe(0);
  expect(run.releasedTo).toBe(-1);
  expect(run.machine.relocationCandidate()).toEqual([{ from: 0, end: 2 }]);
  run.command(encodeRelocate([{ from: 0, end: 2, timeMs: 5 }], new Uint8Array(200)));
  expect(run.machine.startOffset).toBe(0);
  expect([run.machine.relocatedTo(0), run.machine.relocatedTo(1), run.machine.relocatedTo(2)]).toEqual([run.index, run.index, -1]);
  expect(run.releasedTo).toBe(run.index - 1);
  expect(run.machine.relocationCandidate()).toEqual([]);
  // Its lease is what it was.
  run.command(say(ack(1, token, 0, 1)));
  expect(results(run)).toEqual([1]);
  expect([run.machine.startOffset, run.machine.relocatedTo(1)]).toEqual([1, run.index - 1]);
  ({ token } = second);
  run.command(say(ack(2, token, 1, 2)));
  expect(run.machine.startOffset).toBe(run.machine.endOffset);
  expect(run.machine.relocatedTo(1)).toBe(-1);
});

test("topic: a work subscription reads what the topic holds, and ends with it; the topic keeps its records", () => {
  const run = new MachineRun(new StreamMachine());
  run.records(records(5));
  run.command(say({ op: "create", name: "w", start: 2, config: WORK_DEFAULTS }, attach(1, 10, "w")));
  const batches = [{ count: 3, timeMs: 0, bytesEach: 1, facts: [] }];
  run.command(say({ op: "feed", name: "w", from: 2, batches }));
  run.records(records(1));
  expect(run.deliveries.map(({ subscription, from, end }) => [subscription, from, end])).toEqual([
    ["w", 2, 5],
    ["w", 5, 6],
  ]);
  run.command(say(ack(1, run.deliveries[0]!.token, 2, 5, "w")));
  expect(run.machine.startOffset).toBe(0);
  run.command(encodeTrim(6));
  expect(run.revokes).toEqual([{ subscription: "w", consumer: 1, gateway: 1, from: 5, end: 6 }]);
  run.command(say({ op: "seek", name: "w", offset: 0 }, { op: "delete", name: "w" }, { op: "purge", name: "w" }));
  expect(results(run)).toEqual([0, 0, WORK_UNKNOWN]);
});

type Move =
  | { kind: "send"; count: number }
  | { kind: "ack" | "nack"; at: number }
  | { kind: "grant" | "tick" | "leave" | "anew"; at: number };
const move: fc.Arbitrary<Move> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("send" as const), count: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom("ack" as const, "nack" as const), at: fc.nat(6) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom("grant" as const, "tick" as const, "leave" as const, "anew" as const),
      at: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

/** The entries that a history comes to: what is said next may depend on what was delivered. */
function play(moves: readonly Move[]): { run: MachineRun<StreamMachine>; entries: readonly TestEntry[] } {
  const run = queue();
  const entries: TestEntry[] = [];
  let nowMs = 1_000;
  let granted = 0;
  const enter = (kind: number, payload: Uint8Array): void => {
    const entry = { kind, timeMs: nowMs, payload };
    entries.push(entry);
    run.apply(entry);
  };
  enter(
    COMMAND,
    say(attach(1, 3), attach(2, 3), { op: "alter", name: QUEUE, config: { ...WORK_DEFAULTS, deliveryLimit: 3, deadLetters: true } }),
  );
  for (const one of moves) {
    nowMs += 7;
    if (one.kind === "send") enter(RECORDS, records(one.count, { facts: [{ priority: one.count, ttlMs: one.count === 4 ? 60 : 0 }] }));
    else if (one.kind === "ack" || one.kind === "nack") {
      const lease = run.deliveries[run.deliveries.length - 1 - one.at];
      if (lease === undefined) continue;
      const settle = ack(lease.consumer, lease.token, lease.from, lease.end);
      enter(COMMAND, say(one.kind === "ack" ? settle : ({ ...settle, outcome: { kind: "return", delayMs: 10 } } as WorkOperation)));
    } else if (one.kind === "grant") enter(COMMAND, say({ op: "grant", name: QUEUE, consumer: one.at, granted: (granted += 4) }));
    else if (one.kind === "leave") enter(COMMAND, say({ op: "detach", name: QUEUE, consumer: one.at }, attach(one.at, granted)));
    else if (one.kind === "tick") enter(COMMAND, say({ op: "tick" }));
    else if (run.machine.startOffset < run.machine.endOffset) {
      const from = run.machine.startOffset;
      enter(COMMAND, encodeRelocate([{ from, end: from + 1, timeMs: 1 }], new Uint8Array(8)));
    }
  }
  return { run, entries };
}

test("queue: a snapshot at any entry and the rest of the log give the same bytes and deliveries as the whole log", () => {
  fc.assert(
    fc.property(fc.array(move, { minLength: 1, maxLength: 40 }), (moves) => {
      const { run, entries } = play(moves);
      const whole = run.machine.snapshot();
      const replica = queue();
      for (const [at, entry] of entries.entries()) {
        replica.apply(entry);
        const restored = new MachineRun(new StreamMachine({ isQueue: true }), at + 1);
        restored.machine.restore(replica.machine.snapshot());
        expect(restored.machine.snapshot()).toEqual(replica.machine.snapshot());
        restored.applyAll(entries.slice(at + 1));
        expect(restored.machine.snapshot()).toEqual(whole);
        expect([...replica.deliveries, ...restored.deliveries]).toEqual(run.deliveries);
        restored.machine.restore(whole);
      }
    }),
    { numRuns: 60 },
  );
});

test("queue: a topic's state is none of a queue", () => {
  expect(() => new StreamMachine().restore(queue().machine.snapshot())).toThrow("none of a topic");
});

test("queue: operations of transactions go through the log and back, and a batch of a transaction is stored once", () => {
  const run = queue();
  run.records(records(3, { facts: [{ delayMs: 500 }] }), 1_000);
  run.command(say(attach(1, 10)), 1_000);
  const { token } = run.deliveries[0]!;
  const transaction = { group: 9, offset: 70 };
  const range = { from: 1, end: 3 };
  run.command(
    say(
      { op: "expedite", name: QUEUE, offset: 0, delayMs: 900, priority: 2, whilePriority: 0 },
      { op: "expedite", name: QUEUE, offset: 0, delayMs: 0, priority: 1, whilePriority: 0 },
      { op: "hold", name: QUEUE, consumer: 1, token, transaction, ...range },
      { op: "conclude", name: QUEUE, token, transaction, from: 1, end: 2, outcome: { kind: "ack" } },
      { op: "letGo", name: QUEUE, transaction },
      { op: "recall", name: QUEUE, offset: 0 },
    ),
    1_000,
  );
  expect(results(run)).toEqual([1, WORK_DIFFERENT, 2, 1, 1, 1]);
  const batch = (offset: number, group = 9): Uint8Array => records(2, { id: group, sequence: offset, isTransaction: true });
  expect([batch(70), batch(71), batch(70), batch(5)].map((payload) => run.records(payload, 1_000).code)).toEqual([
    STREAM_OK,
    STREAM_OK,
    STREAM_DUPLICATE,
    STREAM_OK,
  ]);
  const copy = new StreamMachine({ isQueue: true });
  copy.restore(run.machine.snapshot());
  expect(copy.snapshot()).toEqual(run.machine.snapshot());
  run.command(encodeTransactions({ group: 9, below: 72, unfinished: [6, 71] }), 1_000);
  expect([6, 7, 71, 72].map((offset) => run.records(batch(offset), 1_000).code)).toEqual([
    STREAM_OK,
    STREAM_DUPLICATE,
    STREAM_DUPLICATE,
    STREAM_OK,
  ]);
  expect(run.records(batch(0, 10), 1_000).code).toBe(STREAM_OK);
  expect(run.records(batch(90, 9), 1_000).code).toBe(STREAM_FENCED);
});
