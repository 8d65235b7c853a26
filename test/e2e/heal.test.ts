// What is lost or damaged on one node comes back from the others by itself, under load, and nothing is ever served wrong.

import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";
import { eventually } from "../support/host-cluster.ts";

let cluster: TestCluster;
let client: Flotilla;
let load: NumberedLoad;
const TOPIC = "orders";

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3, env: { FLOTILLA_SEGMENT_BYTES: String(4 * 1024 * 1024) } });
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

/** No partition of the topic that is under load is on its way to other replicas any more. */
async function healed(): Promise<void> {
  let left = -1;
  const look = async (): Promise<void> => {
    const moves = await client.cluster.listMoves().catch(() => null);
    left = moves === null ? 1 : moves.filter(({ topic }) => topic === TOPIC).length;
    if (left > 0) setTimeout(() => void look(), 100);
  };
  await look();
  await eventually(() => left === 0, "all replicas are where they are to be");
}

/** Turns a bit of this text, which one file of the data log holds, the other way; and again back. */
async function bitOf(directory: string, text: string): Promise<() => Promise<void>> {
  const folder = join(directory, "log");
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const at = (await readFile(path)).indexOf(text);
    if (at === -1) continue;
    return async () => {
      const bytes = await readFile(path);
      bytes[at]! ^= 0x10;
      await writeFile(path, bytes);
    };
  }
  throw new Error("the text is in no file");
}

test("heal: a node whose disk was emptied comes back under its number and fetches everything", { timeout: 90_000 }, async () => {
  await cluster.kill(2);
  await rm(cluster.dataDir(2), { recursive: true });
  cluster.start(2);
  await cluster.ready(2);
  await healed();
  await load.progress(1_000);
  // Now the others are needed no more: one of them may go.
  await cluster.kill(3);
  await load.progress(1_000);
  cluster.start(3);
  await cluster.ready(3);
});

test(
  "heal: what only one node has is never given up: no part of it is served wrong, and all of it once the bit is right",
  {
    timeout: 90_000,
  },
  async () => {
    await client.admin.createTopic({ name: "alone", partitions: 1, replicas: 1 });
    const bodies = Array.from({ length: 300 }, (_, at) => `alone ${at} ${"x".repeat(200)}`);
    await client.publish(
      "alone",
      bodies.map((body) => ({ body })),
      { partition: 0 },
    );
    const victim = (await client.cluster.resolve("alone")).partitions[0]!.leader;
    // Until something follows it, a damaged batch cannot be told from one that the crash has torn.
    await load.progress(500);
    await cluster.kill(victim);
    const flip = await bitOf(cluster.dataDir(victim), bodies[150]!);
    await flip();
    cluster.start(victim);
    await cluster.ready(victim);
    await healed();
    await load.progress(500);
    await expect(client.publish("alone", [{ body: "more" }], { partition: 0, signal: AbortSignal.timeout(1_000) })).rejects.toThrow(/./);
    await expect(readAll(cluster.endpoints[0]!, "alone")).rejects.toThrow(/./);
    // Every node says so, and why.
    let shown: object[] = [];
    const look = async (): Promise<void> => {
      shown = [...(await client.cluster.describe()).damages];
      if (shown.length === 0) setTimeout(() => void look(), 100);
    };
    await look();
    await eventually(() => shown.length > 0, "the damage is shown");
    expect(shown).toEqual([
      expect.objectContaining({ node: victim, topic: "alone", partition: 0, reason: expect.stringContaining("damaged") }),
    ]);

    await cluster.kill(victim);
    await flip();
    cluster.start(victim);
    await cluster.ready(victim);
    const received = await readAll(cluster.endpoints[0]!, "alone");
    expect(received.map(({ body }) => Buffer.from(body).toString())).toEqual(bodies);
  },
);

test("heal: nothing is lost, doubled or out of order, through any node", { timeout: 60_000 }, async () => {
  await load.stop();
  for (const [at, endpoint] of cluster.endpoints.entries()) {
    const received = await readAll(endpoint, TOPIC).catch((error: unknown) => {
      throw new Error(`node ${at + 1}: ${cluster.outputOf(at + 1)}`, { cause: error });
    });
    expect(violations(load.acked, received)).toEqual([]);
  }
});
