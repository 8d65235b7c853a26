// What counts as a change of a replica, so that the checks look at it.

import { expect, test } from "vitest";
import type { ReplicaHost } from "../../src/replica/host.ts";
import { HostWatch } from "./host-watch.ts";

type Fake = {
  applied: number;
  queue: number[];
  raft: { term: number; role: number; commitIndex: number; lastIndex: number; configuration: object };
};

function replica(): Fake {
  return { applied: 1, queue: [], raft: { term: 1, role: 0, commitIndex: 1, lastIndex: 1, configuration: {} } };
}

function watched(count: number): { watch: HostWatch; replicas: Map<number, Fake>; looked: () => unknown[] } {
  const replicas = new Map(Array.from({ length: count }, (_, group) => [group, replica()]));
  const watch = new HostWatch({ replicas, groups: () => replicas.values() } as unknown as ReplicaHost);
  return { watch, replicas, looked: () => [...watch.look()] };
}

test("the watch of a host passes on what is new, and then nothing until something changes", () => {
  const { replicas, looked } = watched(3);
  expect(looked()).toEqual([...replicas.values()]);
  expect(looked()).toEqual([]);
});

test.each<[name: string, change: (one: Fake) => void]>([
  ["term", ({ raft }) => (raft.term += 1)],
  ["role", ({ raft }) => (raft.role = 3)],
  ["commit index", ({ raft }) => (raft.commitIndex += 1)],
  ["commit index that falls", ({ raft }) => (raft.commitIndex -= 1)],
  ["end of the log", ({ raft }) => (raft.lastIndex += 1)],
  ["members", ({ raft }) => (raft.configuration = {})],
  ["applied", (one) => (one.applied += 1)],
])("the watch of a host passes on a replica with another %s, once", (_name, change) => {
  const { replicas, looked } = watched(3);
  looked();
  const one = replicas.get(1)!;
  change(one);
  expect(looked()).toEqual([one]);
  expect(looked()).toEqual([]);
});

test("the watch of a host passes on a replica as long as proposals wait in it", () => {
  const { replicas, looked } = watched(2);
  looked();
  replicas.get(0)!.queue.push(1);
  expect(looked()).toEqual([replicas.get(0)]);
  expect(looked()).toEqual([replicas.get(0)]);
  replicas.get(0)!.queue.pop();
  expect(looked()).toEqual([]);
});

test("the watch of a host passes on a replica that took the place of another one, however alike", () => {
  const { replicas, looked } = watched(2);
  looked();
  replicas.delete(1);
  expect(looked()).toEqual([]);
  const next = replica();
  replicas.set(1, next);
  const [seen, ...others] = looked();
  expect(seen).toBe(next);
  expect(others).toEqual([]);
});
