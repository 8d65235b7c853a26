// A follower that comes back: what it misses is read from the log and sent on the bulk lane, within bounds, and the switch
// to live appends is clean. Real hosts, logs and links; the frames between them are watched.

import { expect, test } from "vitest";
import type { GroupId } from "../../src/base/ids.ts";
import { RECOVERY_PIECE_BYTES, RECOVERY_TARGET_BYTES_MAX } from "../../src/base/limits.ts";
import { LANE_BULK, LANE_RAFT } from "../../src/peer/transport.ts";
import { ENTRY_RECORDS, MSG_APPEND, MSG_APPEND_RESPONSE, type Message } from "../../src/raft/types.ts";
import { decodeRaftFrame } from "../../src/peer/frames.ts";
import { eventually, GROUP, HostCluster, records, type TestHost } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(64 * 1024, "x");
const ENTRIES = 640;
const BULK_DELAY_MS = 10;
/** Nothing old stays in memory. */
const SETTINGS = { tailCacheBytesMax: 1024 * 1024, checkpointEntries: 100_000 };

async function publish(host: TestHost, entries: number): Promise<void> {
  const outcomes = await Promise.all(Array.from({ length: entries }, () => host.publish(1, BODY)));
  for (const { code } of outcomes) expect(code).toBe(0);
}

/** One follower misses 40 MiB. */
async function leaveBehind(cluster: HostCluster): Promise<{ leader: TestHost; behind: TestHost }> {
  const leader = await cluster.leader();
  await publish(leader, 1);
  await cluster.settled();
  const behind = cluster.hosts.find((host) => host !== leader)!;
  await cluster.stop(behind);
  for (let left = ENTRIES; left > 0; left -= 80) await publish(leader, 80);
  return { leader, behind };
}

function messagesOf(lane: number, frame: Uint8Array): Message[] {
  const messages: Message[] = [];
  if (lane === LANE_RAFT || frame[0] === 2)
    decodeRaftFrame(lane === LANE_RAFT ? frame : frame.subarray(1), (_, message) => messages.push(message));
  return messages;
}

const bytesOf = (message: Message): number => (message.entries ?? []).reduce((sum, { payload }) => sum + payload.length, 0);

test("catch-up: old entries come on the bulk lane, within the bounds, and live appends follow without a gap", async () => {
  await using cluster = await HostCluster.start(3, SETTINGS);
  const { leader, behind } = await leaveBehind(cluster);
  let bulkBytes = 0;
  let largest = 0;
  let underWay = 0;
  let cached = 0;
  let rejected = 0;
  behind.onFrame = (from, lane, frame) => {
    underWay = Math.max(underWay, leader.host.recovery.bytesUnderWay);
    cached = Math.max(cached, leader.replica.cache.bytes);
    if (lane !== LANE_BULK) return true;
    for (const message of messagesOf(lane, frame)) {
      bulkBytes += bytesOf(message);
      largest = Math.max(largest, bytesOf(message));
    }
    // The slower lane, so that live appends would overtake what is on it.
    setTimeout(() => behind.host.links.onFrame(from, lane, frame), BULK_DELAY_MS);
    return false;
  };
  leader.onFrame = (from, lane, frame) => {
    if (lane !== LANE_RAFT || from !== behind.id) return;
    for (const { kind, reject } of messagesOf(lane, frame)) if (kind === MSG_APPEND_RESPONSE && reject) rejected += 1;
  };
  await cluster.start(behind);
  // The load goes on meanwhile.
  let isBehind = true;
  const load = (async () => {
    while (isBehind) await publish(leader, 4);
  })();
  await eventually(() => behind.replica.applied + 100 >= leader.replica.applied && behind.replica.applied > ENTRIES, "it has caught up");
  isBehind = false;
  await load;
  await cluster.settled();
  expect(bulkBytes).toBeGreaterThan(ENTRIES * BODY.length * 0.9);
  expect(largest).toBeLessThanOrEqual(RECOVERY_PIECE_BYTES);
  // A piece may be a little larger in memory than asked for.
  expect(underWay).toBeLessThanOrEqual(RECOVERY_TARGET_BYTES_MAX + RECOVERY_PIECE_BYTES);
  expect(cached).toBeLessThan(4 * SETTINGS.tailCacheBytesMax);
  // Nothing overtook anything, and the leader knew where it stood.
  expect(rejected).toBe(0);
  expect(leader.host.recovery.bytesUnderWay).toBe(0);
  expect(leader.host.recovery.groupsOf(behind.id)).toBe(0);
  expect(behind.stream.endOffset).toBe(leader.stream.endOffset);
});

test("catch-up: a piece that is lost on the way is sent again", async () => {
  await using cluster = await HostCluster.start(3, SETTINGS);
  const { leader, behind } = await leaveBehind(cluster);
  let bulk = 0;
  behind.onFrame = (_from, lane) => lane !== LANE_BULK || ++bulk !== 3;
  await cluster.start(behind);
  await cluster.settled();
  expect(bulk).toBeGreaterThan(3);
  expect(behind.stream.endOffset).toBe(leader.stream.endOffset);
});

test("catch-up: a follower that confirms nothing gets no more than the bound, and the rest once it does", { timeout: 60_000 }, async () => {
  // Each group alone may have 8 MiB under way.
  const groups = 3;
  await using cluster = await HostCluster.start(3, SETTINGS, groups);
  const { leader, behind } = await leaveBehind(cluster);
  const payload = records(1, BODY);
  for (let group = GROUP + 1; group < GROUP + groups; group++) {
    await eventually(() => {
      for (const { host } of cluster.hosts)
        if (host.get(group as GroupId)?.isLeader === true) host.transferLeadership(group as GroupId, leader.id);
      return leader.host.get(group as GroupId)!.isLeader;
    }, "the same host leads all groups");
    for (let count = 0; count < 300; count += 50)
      await Promise.all(Array.from({ length: 50 }, () => leader.propose(ENTRY_RECORDS, payload, group as GroupId)));
  }
  let isDeaf = false;
  let sentBytes = 0;
  let unheard = 0;
  behind.onFrame = (_from, lane, frame) => {
    if (lane !== LANE_BULK) return;
    for (const message of messagesOf(lane, frame)) sentBytes += bytesOf(message);
    isDeaf = sentBytes > RECOVERY_PIECE_BYTES;
  };
  // Its answers are lost, but for the first ones: a leader that has yet to find out where it stands sends one piece only.
  leader.onFrame = (from, lane, frame) => {
    if (from !== behind.id || lane !== LANE_RAFT || !isDeaf) return true;
    for (const { kind } of messagesOf(lane, frame)) if (kind === MSG_APPEND_RESPONSE) unheard += 1;
    return false;
  };
  await cluster.start(behind);
  const bound = RECOVERY_TARGET_BYTES_MAX + RECOVERY_PIECE_BYTES;
  // One answer may stand for several pieces.
  await eventually(() => sentBytes > RECOVERY_PIECE_BYTES && unheard > 0, "more than a piece was sent, and answered");
  await publish(leader, 100);
  expect(sentBytes).toBeLessThanOrEqual(bound);
  expect(leader.host.recovery.bytesUnderWay).toBeLessThanOrEqual(bound);
  leader.onFrame = () => {};
  await cluster.settled();
  for (let group = GROUP; group < GROUP + groups; group++) {
    const [here, there] = [behind, leader].map((host) => host.host.get(group as GroupId)!);
    await eventually(() => here!.applied === there!.applied, `group ${group} has caught up`);
  }
});

test("catch-up: live appends carry no old entries", async () => {
  await using cluster = await HostCluster.start(3, SETTINGS);
  const { leader, behind } = await leaveBehind(cluster);
  let old = 0;
  behind.onFrame = (from, lane, frame) => {
    if (lane !== LANE_RAFT || from !== leader.id) return;
    for (const message of messagesOf(lane, frame))
      if (message.kind === MSG_APPEND && message.lastEntry > message.index && message.lastEntry < ENTRIES / 2) old += 1;
  };
  await cluster.start(behind);
  await cluster.settled();
  expect(old).toBe(0);
});
