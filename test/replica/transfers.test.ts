// What is proposed while a leadership is on its way to another node.

import { expect, test } from "vitest";
import { HOST_NOT_LEADER } from "../../src/replica/types.ts";
import { GROUP, HostCluster } from "../support/host-cluster.ts";

const BODY = Buffer.alloc(100, "x");

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
