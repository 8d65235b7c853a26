// Leaderships on their way to other nodes: what is proposed meanwhile, and what becomes of them when a node stops or dies.

import { expect, test } from "vitest";
import { HOST_NOT_LEADER } from "../../src/replica/types.ts";
import { eventually, GROUP, HostCluster } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(100, "x");
/** What only ticks end lasts for so long. */
const LONG_MS = 5_000;
const LONG = { electionTicks: LONG_MS / 10 };

test("transfer: what is proposed on the way is told that another one leads, not that it was too much", async () => {
  await using cluster = await HostCluster.start(3);
  const leader = await cluster.leader();
  await leader.publish(1, BODY);
  await cluster.settled();
  const heir = cluster.hosts.find((host) => host !== leader)!;
  expect(leader.host.transferLeadership(GROUP, heir.id)).toBe(true);
  const answers = await Promise.all([leader.publish(1, BODY), leader.publish(1, BODY)]);
  for (const { code } of answers) expect(code).toBe(HOST_NOT_LEADER);
  expect(await cluster.leader()).toBe(heir);
  expect(heir.stream.endOffset).toBe(1);
});

test("transfer: when it comes to nothing what was proposed meanwhile goes on where it is", async () => {
  await using cluster = await HostCluster.start(3);
  const leader = await cluster.leader();
  await leader.publish(1, BODY);
  await cluster.settled();
  const heir = cluster.hosts.find((host) => host !== leader)!;
  heir.onFrame = () => false;
  expect(leader.host.transferLeadership(GROUP, heir.id)).toBe(true);
  const answers = await Promise.all([leader.publish(1, BODY), leader.publish(1, BODY)]);
  expect(answers).toEqual([
    { code: 0, value: 1 },
    { code: 0, value: 2 },
  ]);
});

test("transfer: whoever proposed before it hears the outcome from the leader that took the proposal", async () => {
  await using cluster = await HostCluster.start(3);
  for (let round = 0; round < 20; round++) {
    const leader = await cluster.leader();
    await cluster.settled();
    const heir = cluster.hosts.find((host) => host !== leader)!;
    const before = leader.replica.raft.lastIndex;
    const answers = Array.from({ length: 10 }, () => leader.publish(1, BODY));
    // They are in the log, and nobody has confirmed them yet.
    while (leader.replica.raft.lastIndex === before) await new Promise((resolve) => setImmediate(resolve));
    expect(leader.host.transferLeadership(GROUP, heir.id)).toBe(true);
    for (const { code } of await Promise.all(answers)) expect(code, `round ${round}`).toBe(0);
    await eventually(() => heir.replica.isLeader, "the heir leads");
  }
});

test("transfer: a host that stops sends on what comes to it later", async () => {
  await using cluster = await HostCluster.start(3);
  const stopping = await cluster.leader();
  await cluster.settled();
  expect(await stopping.host.handOverLeaders(5_000)).toBe(0);
  // The next leader has not heard that this one goes.
  const next = await cluster.leader();
  const { term } = next.replica.raft;
  expect(next.host.transferLeadership(GROUP, stopping.id)).toBe(true);
  await eventually(() => stopping.replica.raft.term > term, "it comes back");
  await eventually(() => cluster.hosts.some((host) => host !== stopping && host.replica.isLeader), "it goes on");
});

test("transfer: one whose heir is lost goes on where it is at once", async () => {
  await using cluster = await HostCluster.start(3, LONG);
  const leader = await cluster.leader();
  await cluster.settled();
  const heir = cluster.hosts.find((host) => host !== leader)!;
  heir.onFrame = () => false;
  expect(leader.host.transferLeadership(GROUP, heir.id)).toBe(true);
  const answer = leader.publish(1, BODY);
  await cluster.kill(heir);
  const beganMs = performance.now();
  expect((await answer).code).toBe(0);
  expect(performance.now() - beganMs).toBeLessThan(LONG_MS / 2);
});

test("transfer: an heir that dies with the votes of all is replaced at once", async () => {
  await using cluster = await HostCluster.start(3, LONG);
  const leader = await cluster.leader();
  await cluster.settled();
  const heir = cluster.hosts.find((host) => host !== leader)!;
  // It stands, and never hears that it was elected.
  const { term } = leader.replica.raft;
  heir.onFrame = () => heir.replica.raft.term === term;
  expect(leader.host.transferLeadership(GROUP, heir.id)).toBe(true);
  const others = cluster.hosts.filter((host) => host !== heir);
  await eventually(
    () => others.every(({ replica }) => replica.raft.term === heir.replica.raft.term && replica.raft.leader === 0),
    "they voted",
  );
  await cluster.kill(heir);
  const beganMs = performance.now();
  await eventually(() => others.some(({ replica }) => replica.isLeader), "one of the others leads");
  expect(performance.now() - beganMs).toBeLessThan(LONG_MS / 2);
});
