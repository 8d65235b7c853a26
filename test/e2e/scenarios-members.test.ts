// Directed scenarios from peers' bugs, with real processes: who is a member, and of what. The numbers are those of
// test/sim/scenarios, where the same runs in virtual time with every fault at will.

import { rm } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";
import { textOf, until, whole } from "../support/until.ts";

const PATIENCE_MS = 3_000;

let cluster: TestCluster;
let client: Flotilla;
const start = async (nodes: number): Promise<void> => {
  cluster = await startCluster({ nodes });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
};
beforeEach(() => {
  cluster = undefined!;
  client = undefined!;
});
afterEach(async () => {
  await client?.close();
  await cluster?.[Symbol.asyncDispose]();
});

const startAgain = async (...nodes: number[]): Promise<void> => {
  for (const node of nodes) cluster.start(node);
  await Promise.all(nodes.map((node) => cluster.ready(node)));
};
const publishVia = async (node: number, topic: string, text: string): Promise<void> => {
  await using one = await Flotilla.connect({ endpoints: [cluster.endpoints[node - 1]!] });
  await one.publish(topic, [{ body: text }], { partition: 0, signal: AbortSignal.timeout(PATIENCE_MS) });
};
const judge = async (load: NumberedLoad, topic: string, nodes = cluster.nodeIds): Promise<void> => {
  await load.stop();
  for (const node of nodes) expect(violations(load.acked, await readAll(cluster.endpoints[node - 1]!, topic))).toEqual([]);
};

// RabbitMQ #15725.
test("D1: a member comes back with an empty disk: it refuses to begin anew", { timeout: 90_000 }, async () => {
  await start(3);
  await client.admin.createTopic({ name: "t", partitions: 2, replicas: 3 });
  const load = new NumberedLoad(await client.producer("t", { lingerMs: 2 }), 10);
  load.start();
  await load.progress(1_000);
  await load.stop();
  await Promise.all([cluster.kill(2), cluster.kill(3)]);
  await rm(cluster.dataDir(2), { recursive: true });
  const since = Date.now();
  cluster.start(2);
  await until("it has asked to join", () => cluster.outputOf(2).includes("waiting to join the cluster"));
  // With node 1 it would be a majority, if it were taken for who it was.
  await expect(publishVia(1, "t", "in-vain 0")).rejects.toThrow(/./);
  await expect(cluster.ready(2, PATIENCE_MS)).rejects.toThrow(/./);
  expect(cluster.loggedSince(2, since).filter((line) => line.includes("founds the cluster"))).toEqual([]);
  await startAgain(3);
  await cluster.ready(2);
  await whole(cluster, client);
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, "t"))).toEqual([]);
});

// RabbitMQ #12366.
test("D2: a topic is deleted and made again while a replica is down: nothing of the old one comes back", { timeout: 90_000 }, async () => {
  await start(4);
  await client.admin.createTopic({ name: "again", partitions: 1, replicas: 3 });
  await client.publish(
    "again",
    Array.from({ length: 20 }, (_, at) => ({ body: `old ${at}` })),
  );
  const away = await cluster.leaderOf("again", 0);
  const [asked, other] = cluster.nodeIds.filter((node) => node !== away) as [number, number];
  await cluster.kill(away);
  await client.admin.deleteTopic("again");
  await client.admin.createTopic({ name: "again", partitions: 1, replicas: 3 });
  await publishVia(asked, "again", "new 0");
  await startAgain(away);
  await whole(cluster, client);
  // The node that was away gets a replica of the new one, and leads it.
  await client.cluster.moveReplicas({ topic: "again", partition: 0, nodes: [away, asked, other] });
  await whole(cluster, client);
  await client.cluster.transferLeader({ topic: "again", partition: 0, toNode: away });
  await publishVia(asked, "again", "new 1");
  for (const endpoint of cluster.endpoints) expect(textOf(await readAll(endpoint, "again"))).toEqual(["new 0", "new 1"]);
});

// NATS #7545. A process that stands still is as good as cut off.
test("D7: a node is cut off, three are killed, a fourth is removed: nothing is lost", { timeout: 120_000 }, async () => {
  await start(5);
  await client.admin.createTopic({ name: "t", partitions: 4, replicas: 3 });
  const load = new NumberedLoad(await client.producer("t", { lingerMs: 2 }), 20);
  load.start();
  await load.progress(2_000);
  cluster.signal(1, "SIGSTOP");
  await Promise.all([1, 2, 3].map((node) => cluster.kill(node)));
  for (const node of [1, 2, 3]) cluster.start(node);
  await Promise.all([1, 2, 3].map((node) => cluster.ready(node)));
  await client.cluster.drainNode(4, { drained: true, moveReplicas: true });
  await cluster.kill(2);
  await load.progress(500);
  await startAgain(2);
  await whole(cluster, client);
  await until("node 4 holds nothing", async () => (await client.cluster.describe()).nodes.find(({ id }) => id === 4)!.replicas === 0);
  await cluster.kill(4);
  await until("node 4 may be forgotten", () => client.cluster.forgetNode(4).then(() => true));
  await load.progress(2_000);
  await rm(cluster.dataDir(4), { recursive: true });
  await startAgain(4);
  await judge(load, "t");
});

// KIP-966: a set of replicas in sync that shrinks to one. Here there is no such set: a partition that was moved to one node is that node's.
test("D11: the last replica dies: nobody answers in its place", { timeout: 90_000 }, async () => {
  await start(3);
  await client.admin.createTopic({ name: "t", partitions: 1, replicas: 3 });
  const load = new NumberedLoad(await client.producer("t", { lingerMs: 2 }), 10);
  load.start();
  await load.progress(500);
  await client.cluster.moveReplicas({ topic: "t", partition: 0, nodes: [1] });
  await whole(cluster, client);
  await load.progress(500);
  await load.stop();
  await cluster.kill(1);
  for (const node of [2, 3]) await expect(publishVia(node, "t", "in-vain 0")).rejects.toThrow(/./);
  await using survivor = await Flotilla.connect({ endpoints: [cluster.endpoints[1]!] });
  expect((await survivor.cluster.resolve("t")).partitions[0]!.leader).toBe(0);
  // Where it is nobody can tell, so nobody says that it is where it is to be.
  expect(await survivor.cluster.listMoves()).toMatchObject([{ topic: "t", partition: 0, fromNodes: [], toNodes: [1] }]);
  await startAgain(1);
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, "t"))).toEqual([]);
});

// The sentence "all is well" must not come from a node that hears nothing of the group: an operator would stop the next node.
test("a leader without a majority steps down: nodes without a replica know it too", { timeout: 90_000 }, async () => {
  await start(4);
  await client.admin.createTopic({ name: "t", partitions: 1, replicas: 2 });
  await whole(cluster, client);
  const { leader, replicas } = (await client.cluster.resolve("t")).partitions[0]!;
  const follower = replicas.find((node) => node !== leader)!;
  const stranger = cluster.nodeIds.find((node) => !replicas.includes(node))!;
  await using asked = await Flotilla.connect({ endpoints: [cluster.endpoints[stranger - 1]!] });
  expect((await asked.cluster.resolve("t")).partitions[0]!.leader).toBe(leader);
  await cluster.kill(follower);
  await until("it has heard of it", async () => (await asked.cluster.resolve("t")).partitions[0]!.leader === 0);
  expect((await asked.cluster.describe()).leaderlessGroups).toBe(1);
  expect(await asked.cluster.listMoves()).toMatchObject([{ topic: "t", partition: 0, fromNodes: [] }]);
  await startAgain(follower);
  await whole(cluster, client);
});
