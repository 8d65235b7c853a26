// What a node answers for the groups that it leads, or believes to lead.

import { expect, test } from "vitest";
import { Pacer } from "../../src/base/pacer.ts";
import { LocalGroups } from "../../src/broker/local-groups.ts";
import { systemClock } from "../../src/server/system-clock.ts";
import { GROUP, HostCluster } from "../support/host-cluster.ts";

test("an offset that a newer leader has given out is not denied by one that has yet to notice", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  const local = new LocalGroups(host.host, systemClock, new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock));
  const fetch = async (offset: number) =>
    (await local.fetch([{ group: GROUP, from: 0, value: offset }], 1_000, 0, new AbortController().signal))[0]!;
  await host.publish(2, Buffer.from("x"));
  const barrier = host.host.readBarrier.bind(host.host);

  // It leads no longer, and the barrier is how it finds out.
  host.host.readBarrier = (_group, done) => done(false);
  expect((await fetch(3)).error?.code).toBe("NO_LEADER");
  // It leads, and has yet to apply what the one before it had committed.
  host.host.readBarrier = (group, done) => void host.publish(2, Buffer.from("y")).then(() => barrier(group, done));
  expect(await fetch(3)).toMatchObject({ error: null, nextOffset: 4 });
  host.host.readBarrier = barrier;
  expect((await fetch(9)).error?.code).toBe("OFFSET_OUT_OF_RANGE");
});

test("a leader that has applied nothing of its own term yet tells of no end before it knows what was acknowledged", async () => {
  await using cluster = await HostCluster.start(1);
  const host = await cluster.leader();
  const local = new LocalGroups(host.host, systemClock, new Pacer({ sliceMs: 8, waitingMax: 10 }, systemClock));
  const fetch = async () => (await local.fetch([{ group: GROUP, from: 0, value: 0 }], 1_000, 0, new AbortController().signal))[0]!;
  await host.publish(2, Buffer.from("x"));
  const barrier = host.host.readBarrier.bind(host.host);
  let asked = 0;
  host.host.readBarrier = (group, done) => {
    asked += 1;
    void host.publish(2, Buffer.from("y")).then(() => barrier(group, done));
  };
  expect([(await fetch()).endOffset, asked]).toEqual([2, 0]);
  host.host.get(GROUP)!.appliedTerm -= 1;
  expect([(await fetch()).endOffset, asked]).toEqual([4, 1]);
});
