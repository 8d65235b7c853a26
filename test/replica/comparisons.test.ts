// Replicas that have not come to the same state are found while they run.

import { expect, test } from "vitest";
import type { GroupId } from "../../src/base/ids.ts";
import { encodeTrim } from "../../src/machine/stream/commands.ts";
import { RaftFrameWriter, decodeRaftFrame } from "../../src/peer/frames.ts";
import { LANE_RAFT } from "../../src/peer/transport.ts";
import { ENTRY_RECORDS, Entry, MSG_DIGEST_ANSWER, MSG_DIGEST_ASK, Message } from "../../src/raft/types.ts";
import { Digest, distance } from "../../src/replica/digest.ts";
import { eventually, GROUP, HostCluster, type TestHost } from "../support/host-cluster.ts";

const BODY = new Uint8Array(10);
const DIFFERS = "a replica differs from the majority of its group";
const UNDECIDED = "replicas differ, and no majority says which of them is right";

/** What an entry that should change nothing else brings: the next offset is wrong. */
function corrupt({ stream }: TestHost, by: number): void {
  stream.endOffset += by;
}

async function publish(host: TestHost, count: number): Promise<void> {
  for (let at = 0; at < count; at++) await host.publish(1, BODY);
}

const reasonOf = ({ host }: TestHost): string | undefined => host.quarantine.of(GROUP)?.reason;
const mismatches = ({ hosts }: HostCluster): number => hosts.reduce((sum, { host }) => sum + host.comparisons.mismatches, 0);
const compared = ({ hosts }: HostCluster): number => hosts.reduce((sum, { host }) => sum + host.comparisons.compared, 0);
const followersOf = (cluster: HostCluster, leader: TestHost): TestHost[] => cluster.hosts.filter((host) => host !== leader);
const originsOf = (cluster: HostCluster): number[] => cluster.hosts.map(({ replica }) => replica.digest.saved.origin);

test("digest: the order of entries, their content and what the machine made of them all count, and where it begins does not", () => {
  const entry = (index: number, crc: number, term = 1): Entry => new Entry(index, term, ENTRY_RECORDS, 1_700_000_000_000, BODY, crc);
  const sumOf = (entries: readonly [Entry, code: number, value: number][]): string => {
    const digest = new Digest(1, null);
    for (const [one, code, value] of entries) digest.add(one, code, value);
    return JSON.stringify(digest.saved);
  };
  const sums = [
    sumOf([]),
    sumOf([[entry(2, 7), 0, 0]]),
    sumOf([[entry(2, 8), 0, 0]]),
    sumOf([[entry(2, 7, 2), 0, 0]]),
    sumOf([[entry(2, 7), 1, 0]]),
    sumOf([[entry(2, 7), 0, 1]]),
    sumOf([[entry(3, 7), 0, 0]]),
    sumOf([
      [entry(2, 7), 0, 0],
      [entry(3, 8), 0, 1],
    ]),
    sumOf([
      [entry(2, 8), 0, 0],
      [entry(3, 7), 0, 1],
    ]),
  ];
  expect(new Set(sums).size).toBe(sums.length);
  const [early, late] = [new Digest(1, null), new Digest(50, null)];
  for (let index = 2; index <= 90; index++) {
    early.add(entry(index, index * 77), 0, index);
    if (index > 50) late.add(entry(index, index * 77), 0, index);
  }
  late.adopt(distance(late.saved, early.saved));
  for (let index = 91; index < 120; index++) for (const digest of [early, late]) digest.add(entry(index, index), 0, 2 ** 40 + index);
  expect(late.saved).toEqual(early.saved);
});

test("digest: the messages keep all 64 bits", () => {
  const message = new Message(MSG_DIGEST_ANSWER, 1, 2, 3);
  Object.assign(message, { index: 9, hint: 1, logTerm: 0xffff_ffff, commit: 0x8000_0001, context: 0x7f_ffff_ffff });
  const writer = new RaftFrameWriter();
  writer.add(GROUP, message);
  const seen: Message[] = [];
  decodeRaftFrame(Buffer.concat(writer.parts()), (_group, one) => void seen.push(one));
  expect(seen).toEqual([message]);
});

test("comparisons: while all is well replicas agree, through restarts, a snapshot and another leader", async () => {
  await using cluster = await HostCluster.start(3, { checkpointEntries: 20 });
  const leader = await cluster.leader();
  const behind = followersOf(cluster, leader)[0]!;
  await publish(leader, 60);
  await cluster.kill(behind);
  const { lastIndex } = leader.replica.raft;
  while (leader.replica.raft.firstIndex <= lastIndex + 1) {
    await publish(leader, 30);
    expect((await leader.command(encodeTrim(leader.stream.endOffset - 6))).code).toBe(0);
    // The cut follows the checkpoint, which follows the entries: a few turns later.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await cluster.start(behind);
  await cluster.settled();
  expect(behind.count("snapshot installed")).toBe(1);
  await cluster.stop(leader);
  await cluster.start(leader);
  const before = compared(cluster);
  await publish(await cluster.leader(), 10);
  await eventually(() => compared(cluster) >= before + 2, "both followers were compared with the new leader");
  await cluster.settled();
  expect(new Set(cluster.hosts.map(({ replica }) => JSON.stringify(replica.digest.saved))).size).toBe(1);
  expect([mismatches(cluster), new Set(originsOf(cluster))]).toEqual([0, new Set([1])]);
});

test("comparisons: a follower whose machine went wrong leaves service, with the reason, and is counted", async () => {
  await using cluster = await HostCluster.start(3);
  const leader = await cluster.leader();
  const [sick, well] = followersOf(cluster, leader) as [TestHost, TestHost];
  await publish(leader, 5);
  await cluster.settled();
  corrupt(sick, 3);
  await publish(leader, 1);
  await eventually(() => reasonOf(sick) !== undefined, "the follower is out of service");
  expect(reasonOf(sick)).toMatch(
    /^what was applied up to index \d+ differs from a majority of the group: digest [0-9a-f]{16}, theirs is [0-9a-f]{16}$/,
  );
  expect([leader.host.comparisons.mismatches, leader.count(DIFFERS)]).toEqual([1, 1]);
  expect([leader, well].map(reasonOf)).toEqual([undefined, undefined]);
  await publish(leader, 5);
});

test("comparisons: a leader whose machine went wrong hands over and leaves service", async () => {
  await using cluster = await HostCluster.start(3);
  const sick = await cluster.leader();
  await publish(sick, 5);
  await cluster.settled();
  corrupt(sick, 3);
  await publish(sick, 1);
  await eventually(() => reasonOf(sick) !== undefined, "the leader is out of service");
  const others = followersOf(cluster, sick);
  await eventually(() => others.some(({ replica }) => replica.isLeader), "another one leads");
  expect([sick.host.comparisons.mismatches, ...others.map(reasonOf)]).toEqual([1, undefined, undefined]);
  const leader = others.find(({ replica }) => replica.isLeader)!;
  expect(await leader.publish(1, BODY)).toEqual({ code: 0, value: 6 });
});

test("comparisons: what no entry touches is found in the slow round, and nobody wakes for it", async () => {
  await using cluster = await HostCluster.start(3);
  const leader = await cluster.leader();
  const sick = followersOf(cluster, leader)[0]!;
  await publish(leader, 5);
  await eventually(() => cluster.hosts.every(({ replica }) => !replica.awake), "the group is at rest");
  await leader.host.scrub(async () => {});
  await eventually(() => leader.replica.comparison === null, "all have answered");
  expect([mismatches(cluster), cluster.hosts.some(({ replica }) => replica.awake)]).toEqual([0, false]);
  (sick.stream as unknown as { bytesTotal: number }).bytesTotal += 1;
  await leader.host.scrub(async () => {});
  await eventually(() => reasonOf(sick) !== undefined, "the follower is out of service");
  expect(reasonOf(sick)).toMatch(/^the state up to index 7 differs/);
});

test("comparisons: where no majority agrees nobody leaves service, and it is said once", async () => {
  await using cluster = await HostCluster.start(3);
  const leader = await cluster.leader();
  await publish(leader, 5);
  await cluster.settled();
  for (const [at, host] of followersOf(cluster, leader).entries()) corrupt(host, at + 1);
  await publish(leader, 1);
  await eventually(() => leader.count(UNDECIDED) === 1, "it is said");
  await publish(leader, 1);
  await eventually(() => leader.host.comparisons.mismatches === 2, "it is found again");
  expect([leader.count(UNDECIDED), ...cluster.hosts.map(reasonOf)]).toEqual([1, undefined, undefined, undefined]);
});

test("comparisons: releases that do not know of it are left alone; whoever starts in the middle is compared from there on", async () => {
  await using cluster = await HostCluster.start(3, { checkpointEntries: 20 });
  let asked = 0;
  for (const host of cluster.hosts) {
    host.compares = false;
    host.onFrame = (_from, lane, frame) => {
      if (lane === LANE_RAFT) decodeRaftFrame(frame, (_group: GroupId, { kind }) => void (asked += kind >= MSG_DIGEST_ASK ? 1 : 0));
    };
  }
  const restart = async (host: TestHost): Promise<void> => {
    await cluster.stop(host);
    await cluster.start(host);
    await cluster.settled();
  };
  for (const host of cluster.hosts) await restart(host);
  const before = asked;
  await publish(await cluster.leader(), 30);
  await eventually(() => cluster.hosts.every(({ replica }) => !replica.awake), "the group is at rest");
  expect(asked - before).toBe(0);

  // What they saved says nothing of digests.
  for (const host of cluster.hosts) {
    host.compares = true;
    const save = host.checkpoints.save.bind(host.checkpoints);
    host.checkpoints.save = (group, checkpoint) => save(group, { ...checkpoint, digest: null });
    await publish(await cluster.leader(), 25);
    await restart(host);
  }
  await eventually(() => new Set(originsOf(cluster)).size === 1, "all begin where the leader does");
  expect(originsOf(cluster)[0]).toBeGreaterThan(1);
  const leader = await cluster.leader();
  const sick = followersOf(cluster, leader)[0]!;
  const wasCompared = compared(cluster);
  await publish(leader, 1);
  await eventually(() => compared(cluster) >= wasCompared + 2, "they are compared");
  expect(mismatches(cluster)).toBe(0);
  corrupt(sick, 1);
  await publish(leader, 1);
  await eventually(() => reasonOf(sick) !== undefined, "the follower is out of service");
});
