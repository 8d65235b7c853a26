// A replica behind the start of the leader's log (points 20 to 24): it gets the checkpoint at which that log begins, over
// the bulk lane of real links, and goes on from there.

import { join } from "node:path";
import { expect, test } from "vitest";
import { encodeCommitOffset, encodeTrim } from "../../src/machine/stream/commands.ts";
import { LANE_BULK } from "../../src/peer/transport.ts";
import { Checkpoints } from "../../src/store/checkpoints.ts";
import { LevelKv } from "../../src/store/level-kv.ts";
import { eventually, GROUP, HostCluster, type TestHost } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(200, "x");
/** Every twentieth entry a checkpoint: the log can be cut soon. */
const SETTINGS = { checkpointEntries: 20 };

async function publish(host: TestHost, entries: number): Promise<void> {
  for (let left = entries; left > 0; left--) {
    const { code } = await host.publish(3, BODY);
    expect(code).toBe(0);
  }
}

/** Publishes and trims until the leader's log begins after `index`. */
async function cutBeyond(leader: TestHost, index: number): Promise<void> {
  while (leader.replica.raft.firstIndex <= index + 1) {
    await publish(leader, 30);
    expect((await leader.command(encodeTrim(leader.stream.endOffset - 6))).code).toBe(0);
    // The cut follows the checkpoint, which follows the entries: a few turns later.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Stops a follower and moves the leader's log past it. */
async function leaveBehind(cluster: HostCluster): Promise<{ leader: TestHost; behind: TestHost }> {
  const leader = await cluster.leader();
  await publish(leader, 10);
  await cluster.settled();
  const behind = cluster.hosts.find((host) => host !== leader)!;
  const { lastIndex } = behind.replica.raft;
  await cluster.stop(behind);
  await cutBeyond(leader, lastIndex);
  return { leader, behind };
}

function expectSame(hosts: readonly TestHost[]): void {
  const [first, ...others] = hosts.map(({ stream }) => Buffer.from(stream.snapshot()).toString("hex"));
  for (const other of others) expect(other).toBe(first);
}

test("a follower behind the start of the log gets a snapshot and then entries", async () => {
  await using cluster = await HostCluster.start(3, SETTINGS);
  const { leader, behind } = await leaveBehind(cluster);
  await cluster.start(behind);
  await cluster.settled();
  expect(behind.count("snapshot installed")).toBe(1);
  expectSame(cluster.hosts);
  // It votes and counts like before: with the other follower gone, the two are the majority.
  await cluster.stop(cluster.hosts.find((host) => host !== leader && host !== behind)!);
  await publish(await cluster.leader(), 20);
  await cluster.settled();
  expectSame([leader, behind]);

  // What was installed is there after a restart: no second snapshot.
  await cluster.stop(behind);
  await cluster.start(behind);
  await cluster.settled();
  expect(behind.count("snapshot installed")).toBe(1);
  expectSame([leader, behind]);
});

test("a snapshot whose link breaks in the middle is sent again", async () => {
  await using cluster = await HostCluster.start(3, { checkpointEntries: 200 });
  const first = await cluster.leader();
  // Cursors with much to say make a snapshot of several frames.
  for (let number = 0; number < 1_000; number++) {
    const { code } = await first.command(
      encodeCommitOffset({ subscription: `s${number}`, offset: 0, metadata: "m".repeat(4_096), reset: false }),
    );
    expect(code).toBe(0);
  }
  const { leader, behind } = await leaveBehind(cluster);
  let frames = 0;
  let breaks = 0;
  behind.onFrame = (from, lane) => {
    if (lane !== LANE_BULK) return;
    frames += 1;
    if (breaks === 3 || frames < 2) return;
    frames = 0;
    breaks += 1;
    behind.links.removePeer(from);
    setImmediate(() => behind.links.setPeer(from, "127.0.0.1", leader.port));
  };
  await cluster.start(behind);
  await cluster.settled();
  expect(breaks).toBe(3);
  expect(frames).toBeGreaterThan(3);
  expect(behind.count("snapshot installed")).toBe(1);
  expectSame(cluster.hosts);
});

test("a saved snapshot that does not belong to the entries held is not what a replica starts from", async () => {
  await using cluster = await HostCluster.start(3);
  const leader = await cluster.leader();
  await publish(leader, 30);
  await cluster.settled();
  const behind = cluster.hosts.find((host) => host !== leader)!;
  const { lastIndex, term } = behind.replica.raft;
  const { configuration } = behind.replica;
  // As a leader of a later term sent it, and the process died before its log was replaced.
  const other = await HostCluster.start(1);
  await publish(await other.leader(), 7);
  const snapshot = other.hosts[0]!.stream.snapshot();
  await other[Symbol.asyncDispose]();
  const checkpoint = { index: lastIndex, term: term + 1, configuration, machineVersion: 1, timeMs: Date.now(), snapshot };
  await cluster.stop(behind);
  const kv = await LevelKv.open(join(behind.directory, "store"));
  await new Checkpoints(kv).save(GROUP, checkpoint);
  await kv.close();
  await cluster.start(behind);
  await publish(await cluster.leader(), 1);
  await cluster.settled();
  await eventually(() => behind.stream.endOffset === leader.stream.endOffset, "the replica has everything");
  expectSame(cluster.hosts);
});
