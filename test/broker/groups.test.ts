// What the leader of a topic's first partition remembers of the members of its groups.

import { expect, test } from "vitest";
import type { GroupId } from "../../src/base/ids.ts";
import { Groups, SESSION_MS, type GroupsComponents } from "../../src/broker/groups.ts";
import { decodeStreamCommand } from "../../src/machine/stream/commands.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { MachineRun } from "../machine/machine-run.ts";
import { TestClock } from "../support/test-clock.ts";

const GROUP = 5 as GroupId;

/** One node that leads the stream, where everything that is proposed is applied at once. */
function bench(): {
  readonly groups: Groups;
  readonly clock: TestClock;
  readonly proposed: unknown[];
  readonly replica: { isLeader: boolean };
  readonly remembered: () => number;
} {
  const run = new MachineRun(new StreamMachine());
  const clock = new TestClock();
  const replica = { group: GROUP, isLeader: true, descriptor: { kind: "stream" }, machine: run.machine };
  const proposed: unknown[] = [];
  const host = {
    groups: () => [replica],
    get: () => replica,
    propose: (_group: GroupId, _kind: number, payload: Uint8Array, done: (code: number) => void) => {
      proposed.push(decodeStreamCommand(payload));
      done(run.command(payload).code);
    },
    readBarrier: (_group: GroupId, done: (isLeader: boolean) => void) => done(true),
  };
  const topic = { partitions: [{ group: GROUP }] };
  const components = {
    nodeId: 1,
    host,
    catalog: { group: () => ({ topic, partition: 0 }) },
    router: { leader: () => Promise.resolve(1) },
    clock,
    existing: () => topic,
  };
  const groups = new Groups(components as unknown as GroupsComponents);
  const remembered = (): number => [...groups["heardMs"].values()].reduce((sum, heard) => sum + heard.size, 0);
  return { groups, clock, proposed, replica, remembered };
}

const { signal } = new AbortController();
const member = (name: string): { vhost: string; topic: string; group: string; member: string; released: number[] } => ({
  vhost: "/",
  topic: "t",
  group: "g",
  member: name,
  released: [],
});

test("groups: nothing is remembered of members that left by themselves, nor where another node leads", async () => {
  const { groups, clock, replica, remembered } = bench();
  for (let at = 0; at < 20; at++) {
    await groups.sync(member(`m${at}`), signal);
    if (at > 0) await groups.leave(member(`m${at}`), signal);
  }
  clock.advance(1_000);
  groups.upkeep();
  expect(remembered()).toBe(1);
  replica.isLeader = false;
  groups.upkeep();
  expect(remembered()).toBe(0);
});

test("groups: a member that is not heard of leaves, and one that is stays", async () => {
  const { groups, clock, proposed } = bench();
  await groups.sync(member("silent"), signal);
  await groups.sync(member("lively"), signal);
  clock.advance(SESSION_MS / 2);
  groups.upkeep();
  await groups.sync(member("lively"), signal);
  clock.advance(SESSION_MS / 2);
  proposed.length = 0;
  groups.upkeep();
  expect(proposed).toMatchObject([{ operation: { op: "leave", group: "g", member: "silent" } }]);
});
