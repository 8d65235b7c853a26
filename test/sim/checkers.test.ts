// Each checker on a history that must fail.

import { expect, test } from "vitest";
import type { GroupId } from "../../src/base/ids.ts";
import { RECORD_STATE } from "../../src/log/segment-format.ts";
import { WriteBuffer } from "../../src/log/write-buffer.ts";
import { Message, MSG_APPEND_RESPONSE, MSG_VOTE_RESPONSE, type Configuration } from "../../src/raft/types.ts";
import { checkpointKey } from "../../src/store/keys.ts";
import { DurableLog, DurableReplicas } from "./durable-log.ts";
import { History, type SentBatch } from "./history.ts";
import { check } from "./memory-checks.ts";
import { PromiseChecks, type Promising } from "./promise-checks.ts";
import { ReplicaChecks, type ReplicaView } from "./replica-checks.ts";
import { KvStorage } from "./sim-kv.ts";

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

type Fields = { isLeader?: boolean; applied?: number; term?: number; commit?: number; state?: string; voters?: number[]; ahead?: number };

const members = (voters: number[], votersOutgoing: number[] = []): Configuration => ({
  voters,
  votersOutgoing,
  learners: [],
  learnersNext: [],
  autoLeave: false,
});

/** `ahead`: what the core has taken over beyond what is applied. */
function replica({ isLeader = false, applied = 1, term = 1, commit = 5, state = "s", voters = [1, 2, 3], ahead = 0 }: Fields): ReplicaView {
  return {
    group: 1,
    isLeader,
    applied,
    raft: { term, commitIndex: commit, lastIndex: 9, applied: applied + ahead },
    machine: { snapshot: () => bytes(state) },
    configuration: members(voters),
  };
}

test("R1: two leaders in one term", () => {
  const checks = new ReplicaChecks();
  checks.look("a", [replica({ isLeader: true })]);
  checks.look("b", [replica({ isLeader: true, term: 2 })]);
  expect(() => checks.look("b", [replica({ isLeader: true })])).toThrow("R1");
  // Started again.
  expect(() => checks.look("a", [replica({ isLeader: true })])).toThrow("R1");
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

test("R4: two states at an index that is looked at only at the end", () => {
  const checks = new ReplicaChecks();
  checks.look("a", [replica({ applied: 5 })]);
  checks.look("b", [replica({ applied: 5, state: "other" })]);
  checks.compare("a", [replica({ applied: 5 })]);
  expect(() => checks.compare("b", [replica({ applied: 5, state: "other" })])).toThrow("R4");
});

test("R6: two memberships at one index, unless a snapshot is about to take the place of one", () => {
  const checks = new ReplicaChecks();
  checks.look("a", [replica({ applied: 4 })]);
  checks.look("b", [replica({ applied: 4, voters: [1, 2], ahead: 3 })]);
  expect(() => checks.look("b", [replica({ applied: 4, voters: [1, 2] })])).toThrow("R6");
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

test("L0: retention that takes too much, and a stream without it that begins later", () => {
  const history = acked("a", "b");
  history.fetched({ ...WHERE, offset: 1 }, { batches: [], startOffset: 1, endOffset: 2, nextOffset: 1 });
  expect(() => history.retained("t", 0, 0)).toThrow("L0");
  expect(() => history.retained("t", 0, 10_000)).toThrow("L0");
  history.retained("t", 0, 10);
});

test("L0: a stream that holds less than it is to keep, whatever comes later", () => {
  const stream = (startOffset: number, held: number): ReplicaView => ({
    ...replica({}),
    machine: { snapshot: () => bytes("s"), startOffset, bytes: held },
  });
  new ReplicaChecks(100).look("a", [stream(5, 100)]);
  new ReplicaChecks().look("a", [stream(0, 3)]);
  expect(() => new ReplicaChecks(100).look("a", [stream(5, 99)])).toThrow("L0");
  expect(() => new ReplicaChecks().look("a", [stream(5, 99)])).toThrow("L0");
});

test("L2: a retry of the newest batch that is not told where it is", () => {
  const history = new History();
  const batch = sent(history, 0, "a");
  expect(() => history.acknowledged(batch, -1, true)).toThrow("L2");
});

const GROUP = 7;

/** A node with one replica, of which entries 1..`lastIndex` of term 1 are on disk; and the checks. */
function promised(lastIndex: number): { checks: PromiseChecks; replicas: DurableReplicas; replica: Promising } {
  const replicas = new DurableReplicas();
  const checks = new PromiseChecks(replicas);
  const replica = { group: GROUP, self: 1, term: 1, vote: 1, commitIndex: 0, firstIndex: 1, lastIndex, termAt: (): number => 1 };
  replicas.put(GROUP, checks.opened("a", replica, Number.POSITIVE_INFINITY));
  return { checks, replicas, replica };
}

function answer(kind: 2 | 4, term: number, index: number): Message {
  const message = new Message(kind, 1, 2, term);
  message.index = index;
  return message;
}

test("R3: an answer that leaves before what it promises is on disk", () => {
  const { checks } = promised(5);
  checks.sent("a", GROUP, answer(MSG_APPEND_RESPONSE, 1, 5), true);
  expect(() => checks.sent("a", GROUP, answer(MSG_APPEND_RESPONSE, 1, 6), true)).toThrow("R3");
  expect(() => checks.sent("a", GROUP, answer(MSG_VOTE_RESPONSE, 2, 0), true)).toThrow("R3");
  expect(() => checks.sent("a", GROUP, answer(MSG_VOTE_RESPONSE, 1, 0), true)).toThrow("R3");
});

test("R3: a restart that knows less than was promised, unless damage passes for torn", () => {
  const { checks, replica } = promised(5);
  checks.sent("a", GROUP, answer(MSG_APPEND_RESPONSE, 1, 5), true);
  expect(() => checks.opened("a", { ...replica, lastIndex: 4 }, Number.POSITIVE_INFINITY)).toThrow("R3");
  expect(() => checks.opened("a", { ...replica, term: 0 }, Number.POSITIVE_INFINITY)).toThrow("R3");
  checks.opened("a", { ...replica, lastIndex: 4 }, 5);
});

test("L6 and R2: a leader commits what no majority has on disk, or what is of another term", () => {
  const { checks, replicas, replica } = promised(5);
  const leads = { ...replica, commitIndex: 5 };
  expect(() => checks.committed("a", leads, [members([1, 2, 3])])).toThrow("L6");
  replicas.put(GROUP, { ...replicas.of(GROUP, 1)!, replica: 2 });
  checks.committed("a", leads, [members([1, 2, 3])]);
  expect(() => checks.committed("a", leads, [members([1, 2, 3], [1, 4, 5])])).toThrow("L6");
  expect(() => checks.committed("a", { ...leads, term: 2 }, [members([1, 2, 3])])).toThrow("R2");
});

test("R6: memberships whose majorities do not meet, that differ at one index, and two changes at one time", () => {
  const { checks } = promised(5);
  checks.changed("a", GROUP, 3, members([1, 2, 3]), members([1, 2, 4], [1, 2, 3]));
  checks.changed("a", GROUP, 4, members([1, 2, 4], [1, 2, 3]), members([1, 2, 4]));
  expect(() => checks.changed("a", GROUP, 5, members([1, 2, 4]), members([1, 5, 6]))).toThrow("R6");
  expect(() => checks.changed("b", GROUP, 4, members([1, 2, 4], [1, 2, 3]), members([1, 2, 3]))).toThrow("R6");
  expect(() => checks.pendingChanges("a", GROUP, 2)).toThrow("R6");
});

test("R6: a change that takes effect before it is on disk that it is committed", () => {
  const { checks, replicas } = promised(5);
  replicas.of(GROUP, 1)!.commit = 4;
  checks.takesEffect("a", GROUP, 1, 4);
  expect(() => checks.takesEffect("a", GROUP, 1, 5)).toThrow("R6");
});

test("R7: an older life that comes back, a message for another life, a group's number that is given out again", () => {
  const { checks, replica, replicas } = promised(5);
  const successor = { ...replica, self: 1 + 1024, term: 0, vote: 0, lastIndex: 0 };
  replicas.put(GROUP, checks.opened("a", successor, Number.POSITIVE_INFINITY));
  // It had no time to write anything.
  checks.opened("a", replica, Number.POSITIVE_INFINITY);
  replicas.put(GROUP, checks.opened("a", { ...successor, term: 1 }, Number.POSITIVE_INFINITY));
  expect(() => checks.opened("a", replica, Number.POSITIVE_INFINITY)).toThrow("R7");
  expect(() => checks.received("a", GROUP, 1 + 1024, new Message(1, 2, 1, 1))).toThrow("R7");
  checks.named(GROUP, "partition 0 of t of yesterday");
  expect(() => checks.named(GROUP, "partition 0 of t of today")).toThrow("R7");
});

test("R8: a state that goes while the log begins at it, and a cut before its state is durable", () => {
  const failures: string[] = [];
  const store = new KvStorage();
  const key = (index: number): string => Buffer.from(checkpointKey(GROUP as GroupId, index)).toString("latin1");
  const log = new DurableLog("a", {
    replicas: new DurableReplicas(),
    nowMs: () => 0,
    failed: (error) => void failures.push(error.message.slice(0, 2)),
    store: () => store,
  });
  const cutAt = (index: number): void => {
    const buffer = new WriteBuffer();
    buffer.begin({ salt: 1, position: 0, header: null, sinks: [] });
    buffer.state({
      type: RECORD_STATE,
      group: GROUP,
      replica: 1,
      term: 1,
      vote: 1,
      commit: 9,
      trimIndex: index,
      trimTerm: 1,
      lastIndex: 9,
    });
    buffer.end(1);
    const file = {};
    log.wrote(file, buffer.parts());
    log.syncing(file)();
  };
  store.write([[key(5), bytes("state")]], true);
  cutAt(5);
  expect(failures).toEqual([]);
  store.write([[key(8), bytes("state")]], false);
  cutAt(8);
  expect(failures).toEqual(["R8"]);
  store.write([[key(9), bytes("state")]], true);
  store.write([[key(8), null]], false);
  log.stored([key(8)], store);
  expect(failures).toEqual(["R8", "R8"]);
});

test("R2: two entries of one index and term", () => {
  const replicas = new DurableReplicas();
  expect(replicas.agrees(GROUP, 3, 1, 17)).toBe(true);
  expect(replicas.agrees(GROUP, 3, 1, 17)).toBe(true);
  expect(replicas.agrees(GROUP, 3, 2, 18)).toBe(true);
  // A write of an older leader that comes late.
  expect(replicas.agrees(GROUP, 3, 1, 17)).toBe(true);
  expect(replicas.agrees(GROUP, 3, 2, 19)).toBe(false);
});

test("S1: more waits than is allowed", () => {
  check("group 7 on a", { what: "proposals", held: 10, most: 10 });
  expect(() => check("group 7 on a", { what: "proposals", held: 11, most: 10 })).toThrow("S1");
});
