// What a stall of the event loop does to groups: nothing, if it is as long for all; and applying never is one.

import { expect, test } from "vitest";
import { LOG_WRITE_ENTRIES_MAX, PROPOSALS_PER_ROUND_MAX, UNCOMMITTED_ENTRIES_MAX } from "../../src/base/limits.ts";
import { HOST_OVERLOADED } from "../../src/replica/types.ts";
import { eventually, HostCluster, type TestHost } from "../support/host-cluster.ts";

const TINY = new Uint8Array(2);

/** Holds the event loop, as a long computation does. */
function block(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

const terms = (cluster: HostCluster): number[] => cluster.hosts.map(({ replica }) => replica.raft.term);

test("stall: hosts that stall together, for many election timeouts, elect nobody and lose no link", async () => {
  // An election timeout is 100 to 200 ms here, silence of a node is suspicion after 500 ms.
  await using cluster = await HostCluster.start(3);
  const leader = await cluster.leader();
  await leader.publish(1, TINY);
  await cluster.settled();
  const before = terms(cluster);
  const downs = cluster.hosts.map((host) => host.downs);
  for (let count = 0; count < 3; count++) {
    block(1_500);
    expect((await leader.publish(1, TINY)).code).toBe(0);
  }
  await cluster.settled();
  expect(terms(cluster)).toEqual(before);
  expect(cluster.hosts.map((host) => host.downs)).toEqual(downs);
  expect((await cluster.leader()).id).toBe(leader.id);
});

test("stall: a turn that a finished write begins, before what lies unread, does not tick; the one after that does, once", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  const { raft } = host.replica;
  let ticks = 0;
  raft.tick = () => void (ticks += 1);
  await host.publish(1, TINY);
  // The tick timer is due, many times over: the write's end, which asks for a turn at once, comes first.
  const turnsOfWrites: number[] = [];
  const lane = host.host["dataLane"]["components"];
  const turn = lane.turn.bind(lane);
  Object.assign(lane, {
    turn: () => {
      host.host["turn"]["tickDue"] = true;
      const before = ticks;
      turn();
      turnsOfWrites.push(ticks - before);
    },
  });
  const before = ticks;
  const published = host.publish(1, TINY);
  block(200);
  await published;
  expect(turnsOfWrites).toEqual([0]);
  await eventually(() => ticks > before, "the deferred turn ticks");
});

/** The longest time between two turns of the event loop while `work` is under way, in ms. */
async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  let isRunning = true;
  const turn = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (isRunning) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  isRunning = false;
  return longest;
}

/** Many tiny entries in one group, so many at a time. */
async function fill(host: TestHost, entries: number): Promise<void> {
  for (let left = entries; left > 0; left -= 5_000) await Promise.all(Array.from({ length: 5_000 }, () => host.publish(1, TINY)));
}

test("stall: a replica that replays many tiny entries from its log lets the loop turn in between", async () => {
  await using cluster = await HostCluster.start(1, { checkpointEntries: 1_000_000, checkpointBytes: 2 ** 40 });
  const host = cluster.hosts[0]!;
  await cluster.leader();
  await fill(host, 60_000);
  await cluster.kill(host);
  const applied = host.replica.applied;
  await cluster.start(host);
  const began = performance.now();
  const longest = await longestTurn(() => eventually(() => host.replica.applied >= applied, "all is applied again"));
  const whole = performance.now() - began;
  // Of one go, the longest turn would be all of it.
  expect(longest).toBeLessThan(Math.max(whole / 3, 60));
});

test("stall: what is proposed at once goes to the log in bounded writes, in order; what is too much at once is refused", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  await host.publish(1, TINY);
  const writes: number[] = [];
  const { log } = host.host["dataLane"];
  const append = log.append.bind(log);
  Object.assign(log, {
    append: (groups: readonly { readonly entries: readonly unknown[] }[], ...rest: [boolean, (error: Error | null) => void]) => {
      writes.push(groups.reduce((sum, { entries }) => sum + entries.length, 0));
      append(groups as never, ...rest);
    },
  });
  const count = UNCOMMITTED_ENTRIES_MAX + 100;
  const outcomes = await Promise.all(Array.from({ length: count }, () => host.publish(1, TINY)));
  const taken = outcomes.filter(({ code }) => code === 0);
  expect(taken).toHaveLength(UNCOMMITTED_ENTRIES_MAX);
  expect(taken.map(({ value }) => value)).toEqual(taken.map((_, at) => at + 1));
  expect(outcomes.filter(({ code }) => code === HOST_OVERLOADED)).toHaveLength(100);
  expect(Math.max(...writes)).toBeLessThanOrEqual(LOG_WRITE_ENTRIES_MAX + PROPOSALS_PER_ROUND_MAX);
});
