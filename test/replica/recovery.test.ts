// Who is brought up to date first, and how much of it may be under way: the scheduler alone, with a clock of its own.

import { expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { RECOVERY_BYTES_MAX, RECOVERY_GROUPS_MAX, RECOVERY_PIECE_BYTES, RECOVERY_TARGET_BYTES_MAX } from "../../src/base/limits.ts";
import { Recovery, type RecoveryJob, type RecoverySlot } from "../../src/replica/recovery.ts";
import { TestClock } from "../support/test-clock.ts";

const NODE = 2 as NodeId;
const OTHER = 3 as NodeId;
const PIECES_MAX = RECOVERY_TARGET_BYTES_MAX / RECOVERY_PIECE_BYTES;

/** Has as many whole pieces to send as it is told to. */
class TestJob implements RecoveryJob {
  readonly name: string;
  readonly node: NodeId;
  readonly rank: number;
  readonly isCatalog: boolean;
  readonly isSnapshot: boolean;
  readonly slot: RecoverySlot;
  left: number;
  sent = 0;
  losses: boolean[] = [];
  private readonly pieceBytes: number;
  private readonly log: string[];

  constructor(
    recovery: Recovery,
    log: string[],
    what: { name: string; pieces: number; node?: NodeId; rank?: number; isCatalog?: boolean; isSnapshot?: boolean; pieceBytes?: number },
  ) {
    this.name = what.name;
    this.node = what.node ?? NODE;
    this.rank = what.rank ?? 0;
    this.isCatalog = what.isCatalog ?? false;
    this.isSnapshot = what.isSnapshot ?? false;
    this.pieceBytes = what.pieceBytes ?? RECOVERY_PIECE_BYTES;
    this.left = what.pieces;
    this.log = log;
    this.slot = recovery.enter(this);
    this.slot.wants();
  }

  send(): void {
    this.log.push(this.name);
    this.left -= 1;
    this.sent += 1;
    this.slot.sized(this.pieceBytes);
    if (this.left > 0) this.slot.wants();
  }

  lost(isUp: boolean): void {
    this.losses.push(isUp);
    this.slot.leave();
  }

  answered(clock: TestClock, pieces = 1): void {
    this.slot.answered(pieces * this.pieceBytes, clock.nowMs);
  }
}

function setUp(bytesPerSecond = 0): { clock: TestClock; recovery: Recovery; log: string[] } {
  const clock = new TestClock();
  const recovery = new Recovery(bytesPerSecond, { clock });
  recovery.laneUp(NODE);
  recovery.laneUp(OTHER);
  return { clock, recovery, log: [] };
}

test("recovery: so many groups at a time, the catalog at once, then by what is missing", () => {
  const { clock, recovery, log } = setUp();
  const active = Array.from({ length: RECOVERY_GROUPS_MAX }, (_, at) => new TestJob(recovery, log, { name: `first-${at}`, pieces: 1 }));
  new TestJob(recovery, log, { name: "learner", pieces: 1, rank: 2 ** 52 });
  new TestJob(recovery, log, { name: "large", pieces: 1, rank: 1_000_000 });
  new TestJob(recovery, log, { name: "small", pieces: 1, rank: 10 });
  expect(log).toEqual(active.map(({ name }) => name));
  new TestJob(recovery, log, { name: "catalog", pieces: 1, isCatalog: true });
  expect(log.at(-1)).toBe("catalog");
  for (const job of active) {
    job.answered(clock);
    job.slot.leave();
  }
  expect(log.slice(-3)).toEqual(["small", "large", "learner"]);
  expect(recovery.groupsOf(NODE)).toBe(4);
});

test("recovery: bytes under way to one node, and to all, have a bound; answers make room", () => {
  const { clock, recovery, log } = setUp();
  const job = new TestJob(recovery, log, { name: "a", pieces: 1_000 });
  expect(job.sent).toBe(PIECES_MAX);
  job.answered(clock, 2);
  expect(job.sent).toBe(PIECES_MAX + 2);
  expect(recovery.bytesUnderWay).toBe(RECOVERY_TARGET_BYTES_MAX);
  for (let node = 10; node < 20; node++) {
    recovery.laneUp(node as NodeId);
    new TestJob(recovery, log, { name: `to-${node}`, pieces: 1_000, node: node as NodeId });
  }
  expect(recovery.bytesUnderWay).toBe(RECOVERY_BYTES_MAX);
  job.slot.leave();
  // What one gives back the others get.
  expect(recovery.bytesUnderWay).toBe(RECOVERY_BYTES_MAX);
});

test("recovery: a piece smaller or larger than asked for is accounted as it is", () => {
  const { recovery, log } = setUp();
  const small = new TestJob(recovery, log, { name: "small", pieces: 3, pieceBytes: 10 });
  expect(recovery.bytesUnderWay).toBe(30);
  small.slot.leave();
  const large = new TestJob(recovery, log, { name: "large", pieces: 100, pieceBytes: 4 * RECOVERY_PIECE_BYTES });
  expect(recovery.bytesUnderWay).toBeLessThan(RECOVERY_TARGET_BYTES_MAX + 4 * RECOVERY_PIECE_BYTES);
  large.slot.leave();
  expect(recovery.bytesUnderWay).toBe(0);
});

test("recovery: groups take turns, and so do nodes", () => {
  const { clock, recovery, log } = setUp();
  const jobs = ["a", "b"].map((name) => new TestJob(recovery, log, { name, pieces: 1_000 }));
  log.length = 0;
  jobs[0]!.answered(clock, 4);
  expect(log.filter((name) => name === "b")).toHaveLength(2);
});

test("recovery: never faster than the rate, beyond a burst", () => {
  const rate = 8 * RECOVERY_PIECE_BYTES;
  const { clock, recovery, log } = setUp(rate);
  const job = new TestJob(recovery, log, { name: "a", pieces: 1_000 });
  const answer = (): void => job.answered(clock, job.sent);
  answer();
  const burst = job.sent;
  expect(burst).toBeLessThanOrEqual(PIECES_MAX + 1);
  for (let tenths = 0; tenths < 100; tenths++) {
    clock.advance(100);
    answer();
  }
  expect(job.sent - burst).toBeGreaterThanOrEqual(78);
  expect(job.sent - burst).toBeLessThanOrEqual(81);
  // New entries come in: so much more may be fetched.
  const before = job.sent;
  for (let tenths = 0; tenths < 10; tenths++) {
    recovery.earned(RECOVERY_PIECE_BYTES);
    clock.advance(100);
    answer();
  }
  expect(job.sent - before).toBeGreaterThanOrEqual(17);
});

test("recovery: one snapshot at a time to a node, two in all; entries of others go on meanwhile", () => {
  const { recovery, log } = setUp();
  const snapshots = ["s1", "s2"].map((name) => new TestJob(recovery, log, { name, pieces: 1, isSnapshot: true }));
  new TestJob(recovery, log, { name: "entries", pieces: 1, rank: 5 });
  expect(log).toEqual(["s1", "entries"]);
  new TestJob(recovery, log, { name: "s3", pieces: 1, node: OTHER, isSnapshot: true });
  recovery.laneUp(4 as NodeId);
  new TestJob(recovery, log, { name: "s4", pieces: 1, node: 4 as NodeId, isSnapshot: true });
  expect(log).toEqual(["s1", "entries", "s3"]);
  snapshots[0]!.slot.leave();
  expect(log).toHaveLength(4);
});

test("recovery: a new lane, a lost node and a missing answer end what was under way, and give back its bytes", () => {
  const { clock, recovery, log } = setUp();
  const moved = new TestJob(recovery, log, { name: "moved", pieces: 1 });
  recovery.laneUp(NODE);
  expect(moved.losses).toEqual([true]);
  const gone = new TestJob(recovery, log, { name: "gone", pieces: 1 });
  recovery.nodeDown(NODE);
  expect(gone.losses).toEqual([false]);
  const early = new TestJob(recovery, log, { name: "early", pieces: 1 });
  expect(early.sent).toBe(0);
  recovery.laneUp(NODE);
  expect(early.sent).toBe(1);
  clock.advance(9_000);
  recovery.tick();
  expect(early.losses).toEqual([]);
  clock.advance(2_000);
  recovery.tick();
  expect(early.losses).toEqual([true]);
  expect(recovery.bytesUnderWay).toBe(0);
  expect(recovery.groupsOf(NODE)).toBe(0);
});
