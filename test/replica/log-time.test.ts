// What a leader stamps when clocks jump.

import { expect, test } from "vitest";
import { replicaId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import { machineFor } from "../../src/machine/registry.ts";
import type { RaftNode } from "../../src/raft/raft-node.ts";
import { Digest } from "../../src/replica/digest.ts";
import { Replica } from "../../src/replica/replica.ts";
import { DURABILITY_FSYNC } from "../../src/replica/types.ts";

const HOUR_MS = 3_600_000;

function replicaAt(timeMs: number): Replica {
  const self = replicaId(1 as NodeId, 0);
  const members = { voters: [self], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
  const descriptor = { group: 2 as GroupId, kind: "stream", self, members, preferred: false, durability: DURABILITY_FSYNC } as const;
  const start = { applied: 0, timeMs, configuration: members, hardState: { term: 0, vote: 0, commit: 0 }, digest: new Digest(0, null) };
  return new Replica(descriptor, {} as RaftNode, machineFor("stream"), start);
}

test("group time: it is the wall clock's where that is not behind", () => {
  const replica = replicaAt(1_000);
  expect(replica.logMs(1_000, 5)).toBe(1_000);
  expect(replica.logMs(1_700, 6)).toBe(1_700);
});

test("group time: after a clock that was ahead it goes on at half its pace, however often it is asked, until the wall clock is there", () => {
  const aheadMs = 10 * HOUR_MS;
  const replica = replicaAt(aheadMs);
  let stampedMs = 0;
  for (let ms = 0; ms <= HOUR_MS; ms += 60_000) {
    for (const monotonicMs of [ms, ms + 0.2, ms + 0.9]) {
      const nowMs = replica.logMs(9 * HOUR_MS + ms, monotonicMs);
      expect(nowMs).toBeGreaterThanOrEqual(stampedMs);
      stampedMs = nowMs;
      // What it stamped was applied.
      replica.timeMs = Math.max(replica.timeMs, nowMs);
    }
    expect(stampedMs).toBe(aheadMs + ms / 2);
  }
  expect(replica.logMs(11 * HOUR_MS, 2 * HOUR_MS)).toBe(11 * HOUR_MS);
});

test("group time: a clock that jumps back a second time is held against where the group is by then", () => {
  const replica = replicaAt(5_000);
  expect(replica.logMs(1_000, 100)).toBe(5_000);
  replica.timeMs = 9_000;
  expect(replica.logMs(1_100, 200)).toBe(9_000);
  expect(replica.logMs(1_200, 300)).toBe(9_050);
});
