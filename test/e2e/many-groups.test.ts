// Hundreds of groups on three real nodes: made in bulk, at rest, a node killed and started again, all deleted.

import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { LevelKv } from "../../src/store/level-kv.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";

const TOPICS = 4;
const PARTITIONS = 100;
const GROUPS = TOPICS * PARTITIONS;

async function everywhere(cluster: TestCluster, nodes: readonly number[], name: string, wanted: (value: number) => boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const values = await Promise.all(nodes.map((node) => cluster.metric(node, name)));
    if (values.every(wanted)) return;
    if (Date.now() > deadline) throw new Error(`${name} is ${values.join()} on nodes ${nodes.join()}`);
    await delay(20);
  }
}

async function allLed(cluster: TestCluster, nodes: readonly number[]): Promise<void> {
  await everywhere(cluster, nodes, "flotilla_groups_leaderless", (count) => count === 0);
}

test("many groups: they rest, lose a node, get it back, and leave nothing behind when they are deleted", { timeout: 120_000 }, async () => {
  await using cluster = await startCluster({ nodes: 3 });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const names = Array.from({ length: TOPICS }, (_, at) => `many-${at}`);
  await Promise.all(names.map((name) => client.admin.createTopic({ name, partitions: PARTITIONS, replicas: 3 })));
  const all = cluster.nodeIds;
  await allLed(cluster, all);
  await everywhere(cluster, all, "flotilla_groups_resting", (count) => count === GROUPS + 1);

  // A group at rest serves at once, and the others sleep on.
  await client.publish(names[0]!, [{ body: "one" }], { partition: 7 });
  expect(await cluster.metric(1, "flotilla_groups_resting")).toBeGreaterThan(GROUPS - 10);

  await cluster.kill(2);
  await everywhere(cluster, [1, 3], "flotilla_peers_up", (count) => count === 1);
  await allLed(cluster, [1, 3]);
  // With a node away they rest as well.
  await everywhere(cluster, [1, 3], "flotilla_groups_resting", (count) => count === GROUPS + 1);
  await client.publish(names[0]!, [{ body: "two" }], { partition: 7 });
  cluster.start(2);
  await cluster.ready(2);
  await everywhere(cluster, [2], "flotilla_groups", (count) => count === GROUPS + 1);
  await everywhere(cluster, all, "flotilla_groups_resting", (count) => count === GROUPS + 1);
  // What was published meanwhile is on the node that was away: with another one gone it is still there.
  await cluster.kill(3);
  await everywhere(cluster, [1, 2], "flotilla_peers_up", (count) => count === 1);
  await allLed(cluster, [1, 2]);
  expect((await client.getOffsets(names[0]!)).find(({ partition }) => partition === 7)!.endOffset).toBe(2);
  cluster.start(3);
  await cluster.ready(3);

  for (const name of names) await client.admin.deleteTopic(name);
  await everywhere(cluster, all, "flotilla_groups", (count) => count === 1);
  await everywhere(cluster, all, "flotilla_groups_held", (count) => count === 0);
  await everywhere(cluster, all, "flotilla_leaders_known", (count) => count === 1);
  await Promise.all(all.map((node) => cluster.stop(node)));
  for (const node of all) {
    const kv = await LevelKv.open(join(cluster.dataDir(node), "store"));
    const groups = [...(await kv.keys(new Uint8Array([0x63]))), ...(await kv.keys(new Uint8Array([0x64])))].map((key) =>
      new DataView(key.buffer, key.byteOffset).getUint32(1),
    );
    await kv.close();
    expect(
      [...new Set(groups)].filter((group) => group !== 0),
      `checkpoints left on node ${node}`,
    ).toEqual([]);
  }
});
