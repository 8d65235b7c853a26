// What a group at rest does when one of its members' nodes is lost.

import { expect, test } from "vitest";
import { eventually, HostCluster } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(100, "x");

test("rest: a group sleeps on when a follower dies, serves as before, and wakes when it has no majority left", async () => {
  await using cluster = await HostCluster.start(3, { restTicks: 20 });
  const leader = await cluster.leader();
  await leader.publish(1, BODY);
  const [first, second] = cluster.hosts.filter((host) => host !== leader);
  await eventually(() => cluster.hosts.every(({ replica }) => !replica.awake), "the group rests");
  await cluster.kill(first!);
  await eventually(() => leader.downs === 1 && second!.downs === 1, "both have noticed");
  expect([leader.replica.awake, second!.replica.awake]).toEqual([false, false]);
  expect(await leader.publish(1, BODY)).toEqual({ code: 0, value: 1 });
  await eventually(() => !leader.replica.awake && !second!.replica.awake, "it rests again");
  // What it missed comes when it is back.
  await cluster.start(first!);
  await eventually(() => first!.stream.endOffset === 2, "the one that was away has everything");
  await eventually(() => cluster.hosts.every(({ replica }) => !replica.awake), "the group rests once more");
  await cluster.kill(first!);
  await cluster.kill(second!);
  await eventually(() => !leader.replica.isLeader, "it finds out that it leads nobody");
});
