// Two releases in one cluster, whose machines go by different rules (raft checklist, point 31).

import { expect, test } from "vitest";
import { NEXT_VERSION } from "../releases.ts";
import { Cluster } from "./cluster.ts";

const versions = (cluster: Cluster): number[] =>
  cluster.machines.map(({ id }) => cluster.replica(id, cluster.groupOf(0))?.machine.version ?? 0);

test(
  "a rolling upgrade under kills and partitions: the new rules are in force once all know them, from one entry on",
  { timeout: 60_000 },
  async () => {
    const cluster = await Cluster.start();
    cluster.load();
    for (const id of [3, 1, 2]) {
      await cluster.run(1_500);
      expect(versions(cluster)).toEqual([1, 1, 1]);
      cluster.node(id).release = "next";
      cluster.crash(id === 1 ? "power" : "kill", id);
      await cluster.run(300);
      cluster.startNodes(id);
      const heal = cluster.isolate(1 + (id % 3));
      await cluster.run(700);
      heal();
      await cluster.whole();
    }
    // The leader proposes it; it dies as often as it can.
    for (let round = 0; round < 3; round++) {
      const leader = await cluster.leader(cluster.groupOf(0));
      await cluster.run(300 + 200 * round);
      cluster.crash("power", leader);
      await cluster.run(200);
      cluster.startNodes(leader);
    }
    await cluster.until("the new rules are in force", () => versions(cluster).every((version) => version === NEXT_VERSION));
    await cluster.verify();
  },
);

test("a node of an older release finds newer rules in force: it says so, and applies nothing", { timeout: 60_000 }, async () => {
  const cluster = new Cluster();
  for (const machine of cluster.machines) machine.release = "next";
  cluster.startNodes();
  await cluster.until("every node is ready", () => cluster.machines.every(({ broker }) => broker?.ready === true));
  await cluster.createTopic("t", cluster.options.groups, 3);
  cluster.load();
  await cluster.until("the new rules are in force", () => versions(cluster).every((version) => version === NEXT_VERSION));
  cluster.crash("kill", 2);
  cluster.node(2).release = "old";
  await cluster.run(500);
  cluster.startNodes(2);
  await cluster.until("it refuses", () => cluster.nemesis.counts.get("felt: release too old") === 1);
  expect(cluster.said("start this node with a newer release").length).toBeGreaterThan(0);
  cluster.startNodes(2);
  await cluster.verify();
});
