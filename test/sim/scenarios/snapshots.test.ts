// Directed scenarios from peers' bugs: followers that need a snapshot.

import { expect, test } from "vitest";
import { Cluster } from "./cluster.ts";

/** Small files and little retention: who is away for a while finds the log cut. */
const CUTTING = { groups: 1, recordBytesMax: 4_000, retentionBytes: 10_000, thinkMs: 10, producers: 2 } as const;

/** A follower of partition 0 that was away until the log no longer reaches back to what it has; and the way to let it back. */
async function leftBehind(cluster: Cluster): Promise<{ follower: number; heal: () => void }> {
  const group = cluster.groupOf(0);
  await cluster.run(6_000);
  const leader = await cluster.leader(group);
  const follower = cluster.others(leader).at(-1)!;
  const last = cluster.replica(follower, group)!.raft.lastIndex;
  const heal = cluster.isolate(follower);
  await cluster.until("the log is cut beyond what the follower has", () =>
    cluster.others(follower).every((id) => (cluster.replica(id, group)?.checkpointIndexes[0] ?? 0) > last + 10),
  );
  return { follower, heal };
}

// etcd #18055: two snapshots within a short time; the second met the first half installed.
test("D17: a follower gets two snapshots within a short time, of two leaders", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start(CUTTING);
  const group = cluster.groupOf(0);
  cluster.load();
  const { follower, heal } = await leftBehind(cluster);
  for (const id of cluster.others(follower)) cluster.net.path(cluster.node(id).name, cluster.node(follower).name).slowUs = 150_000;
  heal();
  await cluster.until("the first snapshot is under way", () =>
    cluster.machines.some(({ host }) => (host?.get(group)?.snapshotsSending.size ?? 0) > 0),
  );
  const again = cluster.isolate(follower);
  for (const id of cluster.others(follower)) cluster.net.path(cluster.node(id).name, cluster.node(follower).name).slowUs = 0;
  const other = cluster.others(follower).find((id) => !cluster.leaders(group).includes(id))!;
  const target = { vhost: "", topic: "t", partition: 0, toNode: other };
  await cluster.call(other, (broker, signal) => broker.transferLeader(target, signal), 20_000);
  const from = cluster.replica(other, group)!.checkpointIndexes[0]!;
  await cluster.until("the log is cut once more", () => cluster.replica(other, group)!.checkpointIndexes[0]! > from);
  again();
  await cluster.verify();
  expect(cluster.said("snapshot installed").filter((note) => note.includes(` node${follower} `)).length).toBeGreaterThan(0);
});

test("D18: a follower was away until it needs a snapshot, and the leader dies while it sends it", { timeout: 60_000 }, async () => {
  for (const how of ["kill", "power"] as const) {
    const cluster = await Cluster.start(CUTTING);
    const group = cluster.groupOf(0);
    cluster.load();
    const { follower, heal } = await leftBehind(cluster);
    const leader = await cluster.leader(group, cluster.others(follower));
    cluster.net.path(cluster.node(leader).name, cluster.node(follower).name).slowUs = 150_000;
    heal();
    await cluster.until("the snapshot is under way", () => (cluster.replica(leader, group)?.snapshotsSending.size ?? 0) > 0);
    await cluster.run(200);
    expect(cluster.replica(leader, group)!.snapshotsSending.size).toBe(1);
    cluster.crash(how, leader);
    await cluster.run(3_000);
    cluster.startNodes(leader);
    await cluster.verify();
  }
});

// Not of a peer: the connection for bulk goes dead while the one for consensus lives, so that nobody misses the node.
test("a follower needs a snapshot, and only the bulk connections to it are dead: that is noticed", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ ...CUTTING, thinkMs: 2 });
  const group = cluster.groupOf(0);
  cluster.load();
  await cluster.run(6_000);
  const leader = await cluster.leader(group);
  const follower = cluster.others(leader).at(-1)!;
  for (const id of cluster.others(follower)) {
    // Of each pair the main connection is the first.
    const [, bulk] = cluster.net.between(cluster.node(id).name, cluster.node(follower).name);
    bulk!.isHalfOpen = true;
    bulk!.other!.isHalfOpen = true;
  }
  cluster.node(follower).disk.mood.stalledUntilUs = cluster.world.nowUs + 5_000_000;
  await cluster.until("it needs what is no longer in memory", () =>
    cluster.machines.some(({ host }) => (host?.get(group)?.snapshotsSending.size ?? 0) > 0),
  );
  await cluster.run(6_000);
  await cluster.verify();
  expect(cluster.nemesis.counts.get("felt: stream half-open")).toBeGreaterThan(0);
});
