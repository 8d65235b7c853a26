import { expect, test } from "vitest";
import { Flotilla, FlotillaError, type ReceivedRecord } from "../../src/client/index.ts";
import { startCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";

const record = (key: string, number: number, offset: number): ReceivedRecord => ({
  partition: 0,
  offset,
  storedMs: 0,
  body: Buffer.from(`${key} ${number}`),
  key: null,
  headers: [],
  timeMs: 0,
  contentType: "",
  correlationId: "",
  replyTo: "",
  messageId: "",
  routingKey: "",
  priority: 0,
  deliverAtMs: 0,
  delayMs: 0,
  ttlMs: 0,
});

test("checker: a lost, doubled, reordered or misplaced record is found", () => {
  const acked = [0, 1, 2].map((number) => ({ key: "k", number, partition: 0, offset: number }));
  const good = [record("k", 0, 0), record("k", 1, 1), record("k", 2, 2)];
  expect(violations(acked, good)).toEqual([]);
  expect(violations(acked, good.slice(0, 2))).toHaveLength(1);
  expect(violations(acked, [...good, record("k", 2, 3)]).join()).toContain("L2");
  expect(violations(acked, [record("k", 1, 0), record("k", 0, 1), record("k", 2, 2)]).join()).toContain("L3");
  expect(violations(acked, [record("k", 0, 0), record("k", 1, 2), record("k", 2, 3)]).join()).toContain("L4");
});

const STOPPED_MS = 6_000;

test("kill: a node whose process is stopped keeps nobody waiting for long", { timeout: 90_000 }, async () => {
  await using cluster = await startCluster({ nodes: 3 });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: "orders", partitions: 3, replicas: 3 });
  const load = new NumberedLoad(await client.producer("orders", { lingerMs: 2 }), 20);
  load.start();
  await load.progress(2_000);
  for (const victim of cluster.nodeIds) {
    cluster.signal(victim, "SIGSTOP");
    const until = Date.now() + STOPPED_MS;
    while (Date.now() < until) await load.progress(20);
    // All partitions go on while the process still stands still.
    expect(load.silentMs).toBeLessThan(STOPPED_MS / 2);
    cluster.signal(victim, "SIGCONT");
    await cluster.ready(victim);
    await load.progress(1_000);
  }
  await load.stop();
  expect(load.longestGapMs).toBeLessThan(STOPPED_MS);
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, "orders"))).toEqual([]);
});

test(
  "kill: leaders die under load, then all nodes at once: every acked record is there exactly once, in order",
  { timeout: 120_000 },
  async () => {
    await using cluster = await startCluster({ nodes: 3 });
    await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
    await client.admin.createTopic({ name: "orders", partitions: 4, replicas: 3 });
    const producer = await client.producer("orders", { lingerMs: 2 });
    const load = new NumberedLoad(producer, 20);
    load.start();
    for (let round = 0; round < 3; round++) {
      await load.progress(2_000);
      const victim = await cluster.leaderOf("orders", round);
      await cluster.kill(victim);
      await load.progress(2_000);
      cluster.start(victim);
      await cluster.ready(victim);
    }
    await load.progress(2_000);
    await Promise.all(cluster.nodeIds.map((node) => cluster.kill(node)));
    for (const node of cluster.nodeIds) cluster.start(node);
    await Promise.all(cluster.nodeIds.map((node) => cluster.ready(node)));
    await load.progress(2_000);
    await load.stop();
    for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, "orders"))).toEqual([]);
    expect(load.acked.length).toBeGreaterThan(16_000);
  },
);

test(
  "kill: a topic made while a node is away for a moment waits for it; of one that stays away it says so",
  { timeout: 60_000 },
  async () => {
    await using cluster = await startCluster({ nodes: 3 });
    await using client = await Flotilla.connect({ endpoints: cluster.endpoints.slice(0, 2) });
    await cluster.kill(3);
    const creating = client.admin.createTopic({ name: "waits", partitions: 3, replicas: 3 });
    cluster.start(3);
    await creating;
    await cluster.kill(3);
    await expect(client.admin.createTopic({ name: "in-vain", replicas: 3 })).rejects.toMatchObject({ code: "NOT_ENOUGH_NODES" });
  },
);

test(
  "start: topics made through every node of a new cluster as soon as it answers get their three replicas",
  { timeout: 60_000 },
  async () => {
    await using cluster = await startCluster({ nodes: 3, absent: [1, 2, 3] });
    for (const node of cluster.nodeIds) cluster.start(node);
    const replicas = cluster.endpoints.map(async (endpoint, at) => {
      await using client = await connected(endpoint);
      return (await client.admin.createTopic({ name: `topic-${at}`, partitions: 2 })).topic.replicas;
    });
    expect(await Promise.all(replicas)).toEqual([3, 3, 3]);
  },
);

/** As soon as the node takes a connection. */
async function connected(endpoint: string): Promise<Flotilla> {
  for (;;) {
    try {
      return await Flotilla.connect({ endpoints: [endpoint] });
    } catch (error) {
      if (!(error instanceof FlotillaError) || error.code !== "UNREACHABLE") throw error;
    }
  }
}
