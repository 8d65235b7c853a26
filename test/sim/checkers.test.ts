// Each checker on a history that must fail.

import { expect, test } from "vitest";
import { History, type SentBatch } from "./history.ts";
import { ReplicaChecks, type ReplicaView } from "./replica-checks.ts";

const WHERE = { topic: "t", partition: 0 };
const bytes = (text: string): Uint8Array => Buffer.from(text);

function sent(history: History, sequence: number, text: string, producer = 1): SentBatch {
  return history.sending({ ...WHERE, producer, sequence, count: 1 }, bytes(text));
}

/** One fetch from the first of these offsets on. */
function read(history: History, batches: readonly (readonly [offset: number, text: string])[]): void {
  const last = batches.at(-1)![0] + 1;
  history.fetched(
    { ...WHERE, offset: batches[0]![0] },
    {
      batches: batches.map(([baseOffset, text]) => ({ baseOffset, count: 1, records: bytes(text) })),
      startOffset: 0,
      endOffset: last,
      nextOffset: last,
    },
  );
}

function acked(...texts: string[]): History {
  const history = new History();
  texts.forEach((text, at) => history.acknowledged(sent(history, at, text), at, false));
  return history;
}

test("a right history passes", () => {
  const history = acked("a", "b");
  read(history, [
    [0, "a"],
    [1, "b"],
  ]);
  history.complete("t", 0, 2);
  expect(history.missing("t", 0, new Set([0, 1]))).toEqual([]);
});

test("L0: an acknowledged batch that is nowhere, or that its producer is asked for again", () => {
  expect(acked("a", "b").missing("t", 0, new Set([0]))).toHaveLength(1);
  expect(() => acked("a", "b").complete("t", 0, 1)).toThrow("L0");
  const history = new History();
  const batch = sent(history, 0, "a");
  expect(() => history.refused(batch, "OUT_OF_SEQUENCE")).toThrow("L0");
});

test("L1: records that nobody sent", () => {
  expect(() => read(acked("a"), [[0, "b"]])).toThrow("L1");
});

test("L2: the same batch at two places", () => {
  const history = acked("a", "b");
  expect(() =>
    read(history, [
      [1, "b"],
      [2, "a"],
    ]),
  ).toThrow("L2");
});

test("L3: a producer's batches out of their order", () => {
  const history = new History();
  const [first, second] = [sent(history, 0, "a"), sent(history, 1, "b")];
  history.acknowledged(first, 5, false);
  expect(() => history.acknowledged(second, 3, false)).toThrow("L3");
  const other = new History();
  sent(other, 0, "a");
  sent(other, 1, "b");
  read(other, [
    [0, "b"],
    [1, "a"],
  ]);
  expect(() => other.complete("t", 0, 2)).toThrow("L3");
});

test("L4: two batches at one offset", () => {
  const history = acked("a");
  sent(history, 0, "z", 2);
  expect(() => read(history, [[0, "z"]])).toThrow("L4");
});

test("L5: a reader that skips", () => {
  const history = acked("a", "b", "c");
  expect(() =>
    read(history, [
      [0, "a"],
      [2, "c"],
    ]),
  ).toThrow("L5");
});

test("L6: an end that goes back", () => {
  expect(() => acked("a", "b").endSeen(WHERE, 1, 2)).toThrow("L6");
});

test("L7: a committed offset that goes back, and one that nobody committed", () => {
  const history = new History();
  history.committing("s", 5);
  history.committed("s", 5);
  expect(() => history.commitSeen("s", 4, 5)).toThrow("L7");
  expect(() => history.commitSeen("s", 9, 5)).toThrow("L1");
});

type Fields = { isLeader?: boolean; applied?: number; term?: number; commit?: number; state?: string };

function replica({ isLeader = false, applied = 1, term = 1, commit = 5, state = "s" }: Fields): ReplicaView {
  return { group: 1, isLeader, applied, raft: { term, commitIndex: commit, lastIndex: 9 }, machine: { snapshot: () => bytes(state) } };
}

test("R1: two leaders in one term", () => {
  const checks = new ReplicaChecks();
  checks.look("a", [replica({ isLeader: true })]);
  checks.look("b", [replica({ isLeader: true, term: 2 })]);
  expect(() => checks.look("b", [replica({ isLeader: true })])).toThrow("R1");
});

test("R2: more is applied than is committed", () => {
  expect(() => new ReplicaChecks().look("a", [replica({ applied: 6 })])).toThrow("R2");
});

test("R4: two states at one index", () => {
  const checks = new ReplicaChecks();
  checks.look("a", [replica({ applied: 4 })]);
  checks.look("b", [replica({ applied: 4 })]);
  expect(() => checks.look("c", [replica({ applied: 4, state: "other" })])).toThrow("R4");
});

test("R4 and L6: a replica goes back", () => {
  for (const [field, low, name] of [
    ["applied", 2, "R4"],
    ["commit", 4, "L6"],
    ["term", 0, "R1"],
  ] as const) {
    const checks = new ReplicaChecks();
    const one = { ...replica({ applied: 3 }) };
    checks.look("a", [one]);
    const back = { applied: 3, commit: 5, term: 1, [field]: low };
    Object.assign(one, replica(back));
    expect(() => checks.look("a", [one]), field).toThrow(name);
  }
});
