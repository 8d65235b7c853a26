// Transactions while nodes are killed without warning, again and again: in the end each one is in all of its targets or in none, each part once,
// those that were acknowledged in all, and what was to be settled is settled exactly where its transaction took effect.

import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { decodeBatch, Flotilla, FlotillaError } from "../../../src/client/index.ts";
import { startCluster, type TestCluster } from "../../support/cluster.ts";

const text = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();
const SETTLING_MS = 60_000;

/** How often each body is in a queue, or in a topic. */
type Found = ReadonlyMap<string, number>;

async function inQueue(client: Flotilla, queue: string): Promise<Found> {
  const found = new Map<string, number>();
  for (let from: number | undefined = 0; from !== undefined;) {
    const page: Awaited<ReturnType<Flotilla["browse"]>> = await client.browse(queue, { fromOffset: from, maxMessages: 1_000 });
    for (const message of page.messages) found.set(text(message), (found.get(text(message)) ?? 0) + 1);
    from = page.next;
  }
  return found;
}

async function inTopic(client: Flotilla, topic: string): Promise<Found> {
  const found = new Map<string, number>();
  const { partitions } = await client.admin.describeTopic(topic);
  for (const { info, endOffset } of partitions)
    for (let offset = 0; offset < endOffset;) {
      const { partition } = info;
      const [part] = await client.fetch(topic, [{ partition, from: { offset } }]);
      for (const { bytes, baseOffset, storedMs } of part!.batches)
        for (const record of decodeBatch(bytes, { partition, baseOffset, storedMs }))
          found.set(text(record), (found.get(text(record)) ?? 0) + 1);
      offset = part!.nextOffset;
    }
  return found;
}

/** Kills one node after the other, whoever it is, until it is told to stop; then all are up again. */
async function killing(cluster: TestCluster, until: { done: boolean }, pauseMs: number): Promise<number> {
  let kills = 0;
  for (let node = 1; !until.done; node = (node % 3) + 1) {
    await delay(pauseMs);
    await cluster.kill(node);
    kills += 1;
    await delay(pauseMs / 2);
    cluster.start(node);
    await cluster.ready(node);
  }
  return kills;
}

/** Who knows what became of it: committed, not carried out, or nobody. */
type Outcome = "committed" | "refused" | "unknown";

async function outcomeOf(work: Promise<unknown>): Promise<Outcome> {
  try {
    await work;
    return "committed";
  } catch (error) {
    if (!(error instanceof FlotillaError)) throw error;
    return error.maybeApplied ? "unknown" : "refused";
  }
}

function judge(outcomes: ReadonlyMap<string, Outcome>, targets: readonly Found[]): void {
  for (const [body, outcome] of outcomes) {
    const copies = targets.map((found) => found.get(body) ?? 0);
    const expected = outcome === "committed" ? 1 : outcome === "refused" ? 0 : copies[0]!;
    expect(copies, `${body} was ${outcome}`).toEqual(targets.map(() => expected));
    expect(expected, body).toBeLessThanOrEqual(1);
  }
}

async function nothingIsLeft(client: Flotilla): Promise<void> {
  await expect.poll(() => client.transactions.list().catch((error: unknown) => [String(error)]), { timeout: SETTLING_MS }).toEqual([]);
}

test("transactions: nodes are killed while transactions publish to two queues and a topic; each is everywhere or nowhere, once", async () => {
  await using cluster = await startCluster({ nodes: 3 });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  for (const name of ["a", "b"]) await client.queues.createQueue({ name });
  await client.admin.createTopic({ name: "t", partitions: 2 });
  const outcomes = new Map<string, Outcome>();
  const until = { done: false };
  let next = 0;
  const worker = async (): Promise<void> => {
    while (!until.done) {
      const body = `tx-${next++}`;
      const tx = client
        .transaction()
        .publish("a", [{ body }])
        .publish("b", [{ body, priority: next % 3 }])
        .publish("t", [{ body, key: body }]);
      outcomes.set(body, await outcomeOf(tx.commit()));
    }
  };
  const workers = Promise.all(Array.from({ length: 6 }, worker));
  const killer = killing(cluster, until, 700);
  await delay(12_000);
  until.done = true;
  expect(await killer).toBeGreaterThan(2);
  await workers;
  await nothingIsLeft(client);
  const committed = [...outcomes.values()].filter((outcome) => outcome === "committed").length;
  expect(committed).toBeGreaterThan(50);
  judge(outcomes, [await inQueue(client, "a"), await inQueue(client, "b"), await inTopic(client, "t")]);
}, 180_000);

test("transactions: nodes are killed while messages are taken, published on and acknowledged; each comes out once, in both queues", async () => {
  await using cluster = await startCluster({ nodes: 3 });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  for (const name of ["in", "out", "log"]) await client.queues.createQueue({ name, settings: { deliveryLimit: 0 } });
  const bodies = Array.from({ length: 400 }, (_, at) => `m-${at}`);
  await client.publish(
    "in",
    bodies.map((body) => ({ body })),
  );
  const until = { done: false };
  const killer = killing(cluster, until, 900);
  const consumers = await Promise.all([0, 1].map(() => client.queueConsumer("in", { prefetch: 8, leaseMs: 5_000 })));
  const working = consumers.map(async (consumer) => {
    for await (const message of consumer) {
      const body = text(message);
      // Whatever became of it: what did not take effect comes again.
      await outcomeOf(client.transaction().publish("out", [{ body }]).publish("log", [{ body }]).ack(message).commit());
    }
  });
  const left = async (): Promise<number> => {
    const { ready, leased, delayed } = (await client.queues.describeQueue("in")).queue.counts!;
    return ready + leased + delayed;
  };
  await expect.poll(() => left().catch(() => -1), { timeout: 90_000, interval: 500 }).toBe(0);
  until.done = true;
  expect(await killer).toBeGreaterThan(1);
  await nothingIsLeft(client);
  await Promise.all(consumers.map((consumer) => consumer.close()));
  await Promise.all(working);
  const once = new Map(bodies.map((body) => [body, 1]));
  expect(await inQueue(client, "out")).toEqual(once);
  expect(await inQueue(client, "log")).toEqual(once);
}, 240_000);

test("transactions: one that is prepared outlives all nodes, and what it holds with it", async () => {
  await using cluster = await startCluster({ nodes: 3 });
  const before = await Flotilla.connect({ endpoints: cluster.endpoints });
  for (const name of ["in", "out"]) await before.queues.createQueue({ name });
  await before.publish("in", [{ body: "a" }, { body: "b" }]);
  const [a, b] = await before.receive("in", { maxMessages: 2, leaseMs: 1_000 });
  const first = await before
    .transaction({ timeoutMs: 600_000 })
    .publish("out", [{ body: "A" }])
    .ack(a!)
    .prepare();
  const second = await before
    .transaction({ timeoutMs: 600_000 })
    .publish("out", [{ body: "B" }])
    .ack(b!)
    .prepare();
  await before.close();
  await Promise.all(cluster.nodeIds.map((node) => cluster.kill(node)));
  for (const node of cluster.nodeIds) cluster.start(node);
  await Promise.all(cluster.nodeIds.map((node) => cluster.ready(node)));
  await using after = await Flotilla.connect({ endpoints: cluster.endpoints });
  expect((await after.transactions.list()).map(({ id, state }) => [id, state])).toEqual([
    [first, "prepared"],
    [second, "prepared"],
  ]);
  expect((await after.queues.describeQueue("in")).queue.counts).toMatchObject({ ready: 0, leased: 2, consumers: 0 });
  await after.transactions.commit(first);
  await after.transactions.rollback(second);
  await nothingIsLeft(after);
  expect([...(await inQueue(after, "out")).keys()]).toEqual(["A"]);
  expect([...(await inQueue(after, "in")).keys()]).toEqual(["b"]);
}, 120_000);
