// All groups share one slice of a turn for applying and saving: on a clock of our own, where everything has its price.

import { expect, test } from "vitest";
import { ENTRY_NOOP, Entry } from "../../src/raft/types.ts";
import { Applier } from "../../src/replica/applier.ts";
import { Digest } from "../../src/replica/digest.ts";
import { CommitTimer } from "../../src/replica/timings.ts";
import { ApplyQueue } from "../../src/replica/apply-queue.ts";
import { ReadAhead } from "../../src/replica/read-ahead.ts";
import type { Replica } from "../../src/replica/replica.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const SLICE_MS = 8;

/** As much of a replica as the queue looks at. */
type Group = {
  name: string;
  applied: number;
  committedTo: number;
  applying: boolean;
  reading: boolean;
  closed: boolean;
  isDue: boolean;
  waitsForDisk: boolean;
  /** What is applied next makes a save due. */
  becomesDue: boolean;
};

class Scene {
  readonly loop = new FakeLoop();
  readonly log: string[] = [];
  /** Milliseconds that one entry takes, and saving a state. */
  entryMs = 1;
  saveMs = 20;
  readonly queue = new ApplyQueue({
    clock: this.loop,
    worked: () => {},
    applier: { run: (replica, deadlineMs) => this.apply(replica as unknown as Group, deadlineMs) },
    checkpointer: {
      isDue: (replica) => (replica as unknown as Group).isDue,
      save: (replica) => this.save(replica as unknown as Group),
      cut: () => {},
    },
  });

  group(name: string, entries: number, isDue = false): Group {
    const group = {
      name,
      applied: 0,
      committedTo: entries,
      applying: false,
      reading: false,
      closed: false,
      isDue,
      waitsForDisk: false,
      becomesDue: false,
    };
    this.queue.add(group as unknown as Replica);
    return group;
  }

  /** What happens in one turn, and how long it takes. */
  turn(): { log: string[]; ms: number } {
    const began = this.loop.nowMs;
    this.log.length = 0;
    this.queue.run(began + SLICE_MS);
    return { log: [...this.log], ms: this.loop.nowMs - began };
  }

  private apply(group: Group, deadlineMs: number): void {
    if (group.waitsForDisk) {
      group.reading = true;
      return;
    }
    const from = group.applied;
    while (group.applied < group.committedTo) {
      group.applied += 1;
      this.loop.nowMs += this.entryMs;
      if (this.loop.nowMs > deadlineMs) break;
    }
    if (group.becomesDue) group.isDue = true;
    group.becomesDue = false;
    this.log.push(`${group.name} ${group.applied - from}`);
  }

  private save(group: Group): Promise<void> {
    group.isDue = false;
    this.loop.nowMs += this.saveMs;
    this.log.push(`save ${group.name}`);
    return Promise.resolve();
  }
}

test("apply queue: a turn ends when its time is up, for all groups together, and who had nothing of it is next", () => {
  const scene = new Scene();
  scene.group("a", 100);
  scene.group("b", 5);
  scene.group("c", 100);
  expect(scene.turn()).toEqual({ log: ["a 9"], ms: 9 });
  expect(scene.turn()).toEqual({ log: ["b 5", "c 4"], ms: 9 });
  expect(scene.turn().log).toEqual(["a 9"]);
  expect(scene.turn().log).toEqual(["c 9"]);
});

test("apply queue: a thousand groups with a little each are applied in slices, all of them", () => {
  const scene = new Scene();
  const groups = Array.from({ length: 1_000 }, (_, at) => scene.group(`g${at}`, 1));
  let turns = 0;
  for (; !scene.queue.isEmpty; turns++) expect(scene.turn().ms).toBeLessThanOrEqual(SLICE_MS + 1);
  expect(turns).toBeGreaterThan(100);
  expect(groups.every(({ applied }) => applied === 1)).toBe(true);
});

test("apply queue: of states that are due one is saved in a turn when it takes the turn's time, before anything else is applied", () => {
  const scene = new Scene();
  const groups = ["a", "b", "c"].map((name) => scene.group(name, 3, true));
  expect(scene.turn()).toEqual({ log: ["save a"], ms: 20 });
  expect(scene.turn().log).toEqual(["save b"]);
  expect(scene.turn().log).toEqual(["save c"]);
  expect(scene.turn().log).toEqual(["a 3", "b 3", "c 3"]);
  expect(scene.queue.isEmpty).toBe(true);
  expect(groups.every(({ applying }) => !applying)).toBe(true);
});

test("apply queue: a group that falls quiet with its state due is saved all the same; one that waits for the disk is not asked again", () => {
  const scene = new Scene();
  scene.saveMs = 1;
  const quiet = scene.group("quiet", 2);
  const reading = scene.group("reading", 5);
  reading.waitsForDisk = true;
  scene.turn();
  expect(scene.queue.isEmpty).toBe(true);
  quiet.committedTo = 3;
  scene.queue.add(quiet as unknown as Replica);
  quiet.becomesDue = true;
  expect(scene.turn().log).toEqual(["quiet 1"]);
  expect(scene.turn().log).toEqual(["save quiet"]);
  expect([quiet.applied, reading.applied, scene.queue.isEmpty]).toEqual([3, 0, true]);
});

test("apply queue: a closed group is left out", () => {
  const scene = new Scene();
  scene.group("a", 100);
  const closed = scene.group("closed", 100);
  scene.turn();
  closed.closed = true;
  expect(scene.turn().log).toEqual(["a 9"]);
});

test("applier: one group's entries are applied until the time is up, and a little more at most; entries from disk as well", () => {
  const loop = new FakeLoop();
  const entry = (index: number): Entry => new Entry(index, 1, ENTRY_NOOP, 0, new Uint8Array(0), 0);
  const applier = new Applier({
    // Every look at the clock finds a millisecond gone.
    clock: { monotonicMs: () => (loop.nowMs += 1), wallMs: () => 0, schedule: () => ({ cancel: () => {} }), defer: () => {} },
    logOf: () => expect.unreachable("all entries are here"),
    commits: new CommitTimer(),
    events: expect.unreachable as never,
    touched: () => {},
    damaged: () => {},
    reached: () => {},
  });
  for (const isOnDisk of [false, true]) {
    const fromDisk = new ReadAhead();
    const group = {
      descriptor: { kind: "stream" },
      ...{ applied: 0, committedTo: 10_000, timeMs: 0, reading: false, closed: false },
      ...{ appliedEntriesSinceCheckpoint: 0, appliedBytesSinceCheckpoint: 0 },
      fromDisk,
      digest: new Digest(0, null),
      askedAt: 0,
      cache: { get: (index: number) => (isOnDisk ? undefined : entry(index)) },
      pending: { size: 0 },
      raft: { appliedTo: () => {}, hasReady: () => false },
      serveReads: () => {},
    };
    if (isOnDisk) fromDisk.put(Array.from({ length: 10_000 }, (_, at) => entry(at + 1)));
    applier.run(group as unknown as Replica, loop.nowMs + SLICE_MS);
    expect(group.applied).toBeGreaterThan(0);
    expect(group.applied).toBeLessThan(1_000);
    const { applied } = group;
    applier.run(group as unknown as Replica, loop.nowMs + SLICE_MS);
    expect(group.applied).toBe(2 * applied);
  }
});
