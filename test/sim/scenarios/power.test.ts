// Directed scenarios from peers' bugs: power, pauses, and processes that end at the worst moment.

import { expect, test } from "vitest";
import { Cluster } from "./cluster.ts";
import type { Death } from "../sim-node.ts";

// NATS #7567: two nodes paused, a third lost power, then the other two paused: two groups of nodes went on apart.
test("D6: two are paused, one loses power, then the other two are paused: one history", { timeout: 60_000 }, async () => {
  for (const seed of [1, 2, 3]) {
    const cluster = await Cluster.start({ nodes: 5, seed });
    cluster.load();
    await cluster.run(1_000);
    cluster.pause(3_000, 1, 2);
    await cluster.run(200);
    cluster.crash("power", 3);
    await cluster.run(800);
    cluster.startNodes(3);
    await cluster.run(2_200);
    cluster.pause(4_000, 4, 5);
    await cluster.run(5_000);
    await cluster.verify();
  }
});

// NATS 2.12 (Jepsen): a coordinated loss of power under load lost 14 % of what had been acknowledged.
test(
  "D10: the whole cluster loses power under load, again and again: nothing that was acknowledged is lost",
  { timeout: 60_000 },
  async () => {
    const cluster = await Cluster.start({ thinkMs: 20, producers: 2 });
    cluster.load();
    for (let round = 0; round < 8; round++) {
      const acked = cluster.acked;
      await cluster.until("batches are acknowledged", () => cluster.acked > acked + 30);
      await cluster.run(37 * round);
      cluster.crash("power", 1, 2, 3);
      await cluster.run(100);
      cluster.startNodes();
    }
    await cluster.verify();
  },
);

// etcd #14370: a single node acknowledged what it had written and not synced; a crash in between lost it.
test.each(["before", "after"] as const)(
  "D15: one node alone loses power %s a sync: what it acknowledged is there",
  { timeout: 60_000 },
  async (moment) => {
    const cluster = await Cluster.start({ nodes: 1, groups: 2, thinkMs: 20 });
    cluster.load();
    for (let round = 1; round <= 12; round++) {
      const acked = cluster.acked;
      await cluster.until("a batch is acknowledged", () => cluster.acked > acked);
      cluster.node(1).life!.diesAt = { kind: "sync", moment, left: 1 + (round % 4), how: "power" };
      await cluster.until("the power is gone", () => !cluster.node(1).isUp);
      await cluster.run(50);
      cluster.startNodes(1);
    }
    await cluster.verify();
  },
);

// etcd #17780, #14685: a crash in the middle of a compaction, or of defragmentation, left a state that went back, or could not be
// read. Here: at every kind of effect of which checkpoints, cuts of the log and reused files consist.
test.each(["batch, synced", "batch", "rename", "remove", "sync folder", "truncate", "open"])(
  "D16: a process ends at a `%s` while states are saved and the log is cut: it comes back with all of it",
  { timeout: 120_000 },
  async (kind) => {
    const cluster = await Cluster.start({ thinkMs: 10, recordBytesMax: 4_000, retentionBytes: 20_000 });
    cluster.load();
    let deaths = 0;
    for (let round = 0; round < 12; round++) {
      const id = 1 + (round % 3);
      const how: Death = round % 2 === 0 ? "power" : "kill";
      cluster.node(id).life!.diesAt = { kind, moment: round % 4 < 2 ? "before" : "after", left: 1 + (round % 3), how };
      await cluster.run(3_000);
      if (!cluster.node(id).isUp) deaths += 1;
      else cluster.node(id).life!.diesAt = null;
      cluster.startNodes(id);
      await cluster.run(500);
    }
    expect(deaths).toBeGreaterThan(0);
    await cluster.verify();
  },
);
