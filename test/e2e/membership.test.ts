// Replicas and leaders on the move, nodes that come and go: under load, over real processes.

import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";
import { flotilla } from "../support/run.ts";

let cluster: TestCluster;
let client: Flotilla;
let load: NumberedLoad;
const TOPIC = "orders";

beforeAll(async () => {
  cluster = await startCluster({ nodes: 4 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: TOPIC, partitions: 4, replicas: 3 });
  load = new NumberedLoad(await client.producer(TOPIC, { lingerMs: 2 }), 20);
  load.start();
  await load.progress(2_000);
}, 60_000);
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

const cli = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await flotilla(cluster.endpoints.join(","), ["cluster", ...args]);
  expect([code, stderr.toString()], args.join(" ")).toEqual([0, ""]);
  return stdout.toString();
};
const replicasOf = async (partition: number): Promise<readonly number[]> =>
  (await client.cluster.resolve(TOPIC)).partitions[partition]!.replicas;
const nodeInfo = async (node: number) => (await client.cluster.describe()).nodes.find(({ id }) => id === node);

test("membership: a leader that was moved stays where it is", { timeout: 30_000 }, async () => {
  const before = await replicasOf(0);
  const to = before.find((node) => node !== before[0])!;
  expect(await cli("transfer", TOPIC, "--partition", "0", "--to", String(to))).toContain(`node ${to} leads`);
  expect((await replicasOf(0))[0]).toBe(to);
  // Leaders go back to where they are wanted after five rounds of a second.
  const until = Date.now() + 7_000;
  while (Date.now() < until) {
    expect(await cluster.leaderOf(TOPIC, 0)).toBe(to);
    await load.progress(200);
  }
});

test("membership: a partition moves to another node under load, its leader too", { timeout: 60_000 }, async () => {
  for (const partition of [1, 2]) {
    const before = await replicasOf(partition);
    const free = cluster.nodeIds.find((node) => !before.includes(node))!;
    // Of one the leader's replica goes, of the other a follower's.
    const from = partition === 1 ? await cluster.leaderOf(TOPIC, partition) : before.at(-1)!;
    expect(await cli("move", TOPIC, "--partition", String(partition), "--from", String(from), "--to", String(free))).toContain(
      "is on nodes",
    );
    const after = before.map((node) => (node === from ? free : node));
    expect(await replicasOf(partition)).toEqual(after);
    expect(JSON.parse(await cli("moves", "--output", "json"))).toEqual([]);
    await load.progress(500);
    expect(after).toContain(await cluster.leaderOf(TOPIC, partition));
  }
});

test("membership: a node is drained of leaders, then of replicas, and forgotten", { timeout: 90_000 }, async () => {
  const victim = await cluster.leaderOf(TOPIC, 3);
  await cli("drain", String(victim));
  expect(await nodeInfo(victim)).toMatchObject({ drained: true, leaders: 0 });
  await cli("undrain", String(victim));
  expect(await nodeInfo(victim)).toMatchObject({ drained: false });
  await cli("drain", String(victim), "--replicas");
  expect(await nodeInfo(victim)).toMatchObject({ drained: true, leaders: 0, replicas: 0 });
  for (let partition = 0; partition < 4; partition++) expect(await replicasOf(partition)).not.toContain(victim);
  const running = await flotilla(cluster.endpoints.join(","), ["cluster", "forget", String(victim)]);
  expect([running.code, running.stderr.toString()]).toEqual([1, expect.stringContaining("stop it first")]);
  await cluster.stop(victim);
  await cli("forget", String(victim));
  expect((await client.cluster.describe()).nodes.map(({ id }) => id)).toEqual(cluster.nodeIds.filter((node) => node !== victim));
  await load.progress(2_000);
});

test("membership: after all that nothing is lost, doubled or out of order, through any node", { timeout: 60_000 }, async () => {
  await load.stop();
  const nodes = (await client.cluster.describe()).nodes;
  for (const { endpoint } of nodes) expect(violations(load.acked, await readAll(endpoint, TOPIC))).toEqual([]);
  for (const node of cluster.nodeIds) expect(cluster.loggedSince(node, 0).filter((line) => line.includes("damaged"))).toEqual([]);
  expect(load.acked.length).toBeGreaterThan(6_000);
});
