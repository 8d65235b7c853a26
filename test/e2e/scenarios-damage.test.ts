// Directed scenarios from peers' bugs, with real processes: files that are damaged on two of five nodes, nodes that die and
// stand still in turn. The numbers are those of test/sim/scenarios.

import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DAMAGES, find } from "../../bench/damaged-files.ts";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";
import { until, whole } from "../support/until.ts";

const NODES = 5;

let cluster: TestCluster;
let client: Flotilla;
beforeAll(async () => {
  cluster = await startCluster({
    nodes: NODES,
    env: {
      FLOTILLA_SEGMENT_BYTES: String(256 * 1024),
      FLOTILLA_SCRUB_BYTES_PER_SECOND: String(64 * 1024 * 1024),
      FLOTILLA_SCRUB_PAUSE_MS: "500",
    },
  });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
}, 60_000);
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

const loadOn = async (topic: string): Promise<NumberedLoad> => {
  await client.admin.createTopic({ name: topic, partitions: 4, replicas: NODES });
  const load = new NumberedLoad(await client.producer(topic, { lingerMs: 2 }), 20);
  load.start();
  await load.progress(4_000);
  return load;
};
const judge = async (load: NumberedLoad, topic: string): Promise<void> => {
  await load.stop();
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, topic))).toEqual([]);
};
const startAgain = async (...nodes: number[]): Promise<void> => {
  for (const node of nodes) cluster.start(node);
  await Promise.all(nodes.map((node) => cluster.ready(node)));
};
/** The same kind of damage to the same kind of file on each of the nodes. */
const damage = async (kind: string, how: string, ...nodes: number[]): Promise<void> => {
  for (const node of nodes) {
    const path = await find(kind, cluster.dataDir(node));
    expect(path, `node ${node} has a ${kind}`).not.toBeNull();
    await DAMAGES[how]!(join(cluster.dataDir(node), path!), "");
  }
};

// NATS #7567: two groups of nodes went on apart.
test("D6: two stand still, one dies, then the other two stand still: one history", { timeout: 90_000 }, async () => {
  const load = await loadOn("apart");
  for (const node of [1, 2]) cluster.signal(node, "SIGSTOP");
  await cluster.kill(3);
  // Two of five can promise nothing.
  const { length } = load.acked;
  await startAgain(3);
  await until("three of five go on", () => load.acked.length > length + 500);
  for (const node of [1, 2]) cluster.signal(node, "SIGCONT");
  for (const node of [4, 5]) cluster.signal(node, "SIGSTOP");
  await load.progress(1_000);
  for (const node of [4, 5]) cluster.signal(node, "SIGCONT");
  await whole(cluster, client);
  await judge(load, "apart");
});

// NATS #7549: 20,350 messages gone from the middle.
test("D8: records on two of five nodes are damaged, with kills: all is there, byte for byte", { timeout: 120_000 }, async () => {
  const load = await loadOn("flipped");
  for (let round = 0; round < 3; round++) {
    const [a, b, killed] = [0, 2, 1].map((step) => 1 + ((round + step) % NODES)) as [number, number, number];
    await damage("sealed segment", "flip in 20 places", a, b);
    // Once the damage is seen, these three are a majority that nothing goes on without.
    await cluster.kill(killed);
    await startAgain(killed);
    await load.progress(500);
    await until("both had it read", () => [a, b].every((node) => cluster.loggedSince(node, 0).some((line) => line.includes("damaged"))));
    await whole(cluster, client);
  }
  await judge(load, "flipped");
});

// NATS #7556: every stream that a damaged snapshot of the metadata did not name was taken for an orphan and deleted.
test("D9: the stores of two of five nodes are damaged: nothing is taken for an orphan", { timeout: 120_000 }, async () => {
  const load = await loadOn("orphans");
  const [a, b] = [4, 5];
  await Promise.all([cluster.kill(a), cluster.kill(b)]);
  await damage("store log", "flip in 20 places", a, b);
  const since = Date.now();
  await startAgain(a, b);
  await whole(cluster, client);
  for (const node of [a, b]) expect(cluster.loggedSince(node, since).filter((line) => line.includes("replica removed"))).toEqual([]);
  // Without the other two they are a majority with one more: they hold all of it.
  await Promise.all([cluster.kill(1), cluster.kill(2)]);
  await load.progress(1_000);
  await startAgain(1, 2);
  await whole(cluster, client);
  await judge(load, "orphans");
});

// NATS 2.12 (Jepsen) lost 14 % of what it had acknowledged. Power itself: `npm run chaos -- --kinds power`.
test("D10: all five die under load, again and again: nothing that was acknowledged is lost", { timeout: 120_000 }, async () => {
  const load = await loadOn("dark");
  for (let round = 0; round < 3; round++) {
    await Promise.all(cluster.nodeIds.map((node) => cluster.kill(node)));
    await startAgain(...cluster.nodeIds);
    await load.progress(1_000);
  }
  await whole(cluster, client);
  await judge(load, "dark");
});

test("D18: a follower stood still until it needs a snapshot, and the leader dies while it sends one", { timeout: 120_000 }, async () => {
  await client.admin.createTopic({ name: "behind", partitions: 1, replicas: 3, config: { retentionBytes: 512 * 1024 } });
  const { leader, replicas } = (await client.cluster.resolve("behind")).partitions[0]!;
  const follower = replicas.find((node) => node !== leader)!;
  const body = Buffer.alloc(16 * 1024, "b");
  const fill = async (count: number): Promise<void> => {
    await using producer = await client.producer("behind");
    for (let at = 0; at < count; at++) producer.append({ body });
    await producer.flush();
  };
  await fill(20);
  cluster.signal(follower, "SIGSTOP");
  const { startOffset } = (await client.getOffsets("behind"))[0]!;
  await until("the log is cut beyond it", async () => {
    await fill(50);
    return (await client.getOffsets("behind"))[0]!.startOffset > startOffset + 100;
  });
  const last = (await client.cluster.resolve("behind")).partitions[0]!.leader;
  cluster.signal(follower, "SIGCONT");
  await cluster.kill(last);
  await fill(20);
  await startAgain(last);
  await whole(cluster, client);
  await client.cluster.transferLeader({ topic: "behind", partition: 0, toNode: follower });
  const { endOffset } = (await client.getOffsets("behind"))[0]!;
  await using alone = await Flotilla.connect({ endpoints: [cluster.endpoints[follower - 1]!] });
  const [fetched] = await alone.fetch("behind", [{ partition: 0, from: { offset: endOffset - 1 } }]);
  expect(fetched!.error).toBeNull();
  expect((await alone.getOffsets("behind"))[0]!.endOffset).toBe(endOffset);
});
