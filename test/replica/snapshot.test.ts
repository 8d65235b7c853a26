// A replica behind the start of the leader's log (points 20 to 24): it gets the checkpoint at which that log begins, over
// the bulk lane of real links, and goes on from there.

import { join } from "node:path";
import { expect, test } from "vitest";
import { RECOVERY_PIECE_BYTES } from "../../src/base/limits.ts";
import { encodeCommitOffset, encodeTrim } from "../../src/machine/stream/commands.ts";
import { LANE_BULK } from "../../src/peer/transport.ts";
import { BULK_CHUNK } from "../../src/replica/snapshot-codec.ts";
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

/** Cursors with much to say make a snapshot of several chunks. */
async function fillCursors(leader: TestHost): Promise<void> {
  for (let number = 0; number < 1_000; number++) {
    const { code } = await leader.command(
      encodeCommitOffset({ subscription: `s${number}`, offset: 0, metadata: "m".repeat(4_096), reset: false, generation: 0 }),
    );
    expect(code).toBe(0);
  }
}

/** A frame that carries a piece of a snapshot. */
const isChunk = (lane: number, frame: Uint8Array): boolean => lane === LANE_BULK && frame[0] === BULK_CHUNK && frame.length > 1_000;

test("a snapshot goes on where its link broke: every chunk is taken in once", async () => {
  await using cluster = await HostCluster.start(3, { checkpointEntries: 200 });
  await fillCursors(await cluster.leader());
  const { leader, behind } = await leaveBehind(cluster);
  let chunks = 0;
  let bytes = 0;
  let breaks = 0;
  behind.onFrame = (from, lane, frame) => {
    if (!isChunk(lane, frame)) return;
    chunks += 1;
    bytes += frame.length;
    if (breaks === 3) return;
    breaks += 1;
    setImmediate(() => {
      behind.links.removePeer(from);
      behind.links.setPeer(from, "127.0.0.1", leader.port);
    });
  };
  await cluster.start(behind);
  await cluster.settled();
  expect(breaks).toBe(3);
  const whole = leader.stream.snapshot().length;
  expect(chunks).toBe(Math.ceil(whole / RECOVERY_PIECE_BYTES));
  expect(bytes).toBeLessThan(whole * 1.01);
  expect(behind.count("snapshot installed")).toBe(1);
  expectSame(cluster.hosts);
});

test("a damaged chunk of a snapshot is noticed and sent again", async () => {
  await using cluster = await HostCluster.start(3, { checkpointEntries: 200 });
  await fillCursors(await cluster.leader());
  const { behind } = await leaveBehind(cluster);
  let chunks = 0;
  behind.onFrame = (_from, lane, frame) => {
    if (isChunk(lane, frame) && ++chunks === 2) frame[500_000]! ^= 1;
  };
  await cluster.start(behind);
  await cluster.settled();
  expect(behind.count("a chunk of a snapshot arrived damaged and is asked for again")).toBe(1);
  expect(behind.count("snapshot installed")).toBe(1);
  expectSame(cluster.hosts);
});

test("the log is not cut beyond a snapshot that is on its way, and is afterwards", async () => {
  // A slow way, so that much happens meanwhile.
  await using cluster = await HostCluster.start(3, { checkpointEntries: 20, catchUpBytesPerSecond: 3 * 1024 * 1024 });
  await fillCursors(await cluster.leader());
  const { leader, behind } = await leaveBehind(cluster);
  let began = false;
  behind.onFrame = (_from, lane, frame) => {
    began ||= isChunk(lane, frame);
  };
  await cluster.start(behind);
  await eventually(() => began, "the snapshot is on its way");
  const { firstIndex } = leader.replica.raft;
  while (behind.count("snapshot installed") === 0) {
    // Enough for the machine to release what it was asked to trim.
    await Promise.all(Array.from({ length: 200 }, () => leader.publish(3, BODY)));
    expect((await leader.command(encodeTrim(leader.stream.endOffset - 6))).code).toBe(0);
    if (behind.count("snapshot installed") === 0) expect(leader.replica.raft.firstIndex).toBe(firstIndex);
  }
  await cluster.settled();
  await cutBeyond(leader, firstIndex);
  await cluster.settled();
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
  const checkpoint = { index: lastIndex, term: term + 1, configuration, machineVersion: 1, timeMs: Date.now(), digest: null, snapshot };
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
