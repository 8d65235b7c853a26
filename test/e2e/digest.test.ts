// A node's memory lies: the state that it keeps of one partition is wrong, and no file and no checksum shows it.

import { afterAll, beforeAll, expect, test } from "vitest";
import { setTimeout as delay } from "node:timers/promises";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";

const TOPIC = "orders";
const SICK = 2;
const HEAL_MS = 40_000;

let cluster: TestCluster;
let client: Flotilla;
let load: NumberedLoad;

beforeAll(async () => {
  const hook = new URL("../support/corrupt-state.mjs", import.meta.url).href;
  cluster = await startCluster({ nodes: 3, env: { NODE_OPTIONS: `--import=${hook}` } });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: TOPIC, partitions: 4, replicas: 3 });
  load = new NumberedLoad(await client.producer(TOPIC, { lingerMs: 2 }), 20);
  load.start();
  await load.progress(1_000);
});
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + HEAL_MS; !(await condition()); await delay(50))
    if (Date.now() > end) throw new Error(`${what}: not within ${HEAL_MS} ms; ${cluster.outputOf(SICK)}`);
}

const total = async (name: string): Promise<number> => {
  const counts = await Promise.all(cluster.nodeIds.map((node) => cluster.metric(node, name)));
  return counts.reduce((sum, one) => sum + one, 0);
};

test("digest: a replica whose state went wrong in memory is found, counted, taken out of service and healed, under load", async () => {
  await until(async () => (await total("flotilla_digests_compared_total")) > 10, "replicas compare");
  expect(await total("flotilla_digest_mismatches_total")).toBe(0);
  // It has to follow until it is found: what a leader has wrong it would tell its producers.
  await client.cluster.drainNode(SICK);
  const isLed = async (): Promise<boolean> => {
    const { partitions } = await client.cluster.resolve(TOPIC);
    return partitions.every(({ leader }) => leader !== 0 && leader !== SICK);
  };
  await until(isLed, "others lead all of it");
  cluster.signal(SICK, "SIGUSR2");
  await until(async () => (await cluster.metric(SICK, "flotilla_replicas_damaged_total")) === 1, "the replica leaves service");
  expect(await total("flotilla_digest_mismatches_total")).toBe(1);
  expect(cluster.outputOf(SICK)).toMatch(/differs from a majority of the group: digest/);
  await until(async () => (await cluster.metric(SICK, "flotilla_replicas_quarantined")) === 0, "it has a successor");
  await until(async () => (await client.cluster.listMoves().catch(() => ["unknown"])).length === 0, "the successor has everything");
  await load.progress(1_000);
  await load.stop();
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, TOPIC))).toEqual([]);
  expect(await total("flotilla_digest_mismatches_total")).toBe(1);
});
