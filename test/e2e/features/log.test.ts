// A topic as a log: partitions and offsets, every way of reading it, how durable a publish is, growing and moving; and that a cluster is its
// nodes and nothing else.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { expect, test } from "vitest";
import { decodeBatch, Flotilla, type Consumer } from "../../../src/client/index.ts";
import { feature, text } from "../../support/feature.ts";

const at = feature();

async function topic(partitions = 1): Promise<string> {
  const name = at.name("t");
  await at.client.admin.createTopic({ name, partitions });
  return name;
}

async function read(consumer: Consumer, count: number): Promise<string[]> {
  const seen: string[] = [];
  for await (const record of consumer) {
    seen.push(text(record));
    if (seen.length === count) break;
  }
  return seen;
}

/** SIGKILL of all nodes at one time; resolves with a client of those that come back. */
async function killedAndBack(): Promise<Flotilla> {
  await Promise.all(at.cluster.nodeIds.map((node) => at.cluster.kill(node)));
  for (const node of at.cluster.nodeIds) at.cluster.start(node);
  await Promise.all(at.cluster.nodeIds.map((node) => at.cluster.ready(node)));
  return Flotilla.connect({ endpoints: at.cluster.endpoints });
}

/** What one fetch brings of partition 0. */
async function fetched(client: Flotilla, name: string, from: number | "earliest" | { timeMs: number }, maxBytes = 0): Promise<string[]> {
  const [part] = await client.fetch(name, [{ partition: 0, from: typeof from === "number" ? { offset: from } : from }], { maxBytes });
  expect(part!.error).toBeNull();
  return part!.batches.flatMap((batch) => decodeBatch(batch.bytes, batch).map(text));
}

test("topics, partitions, offsets: offsets of a partition have no gaps, and a key stays in one partition", async () => {
  const t = await topic(4);
  const producer = await at.client.producer(t);
  const placed = await Promise.all(Array.from({ length: 100 }, (_, index) => producer.send({ body: String(index), key: `k${index % 7}` })));
  const partitionOf = new Map<string, number>();
  placed.forEach(({ partition }, index) => {
    const key = `k${index % 7}`;
    expect(partitionOf.get(key) ?? partition).toBe(partition);
    partitionOf.set(key, partition);
  });
  for (let partition = 0; partition < 4; partition++) {
    const offsets = placed.filter((one) => one.partition === partition).map(({ offset }) => offset);
    expect(offsets.sort((a, b) => a - b)).toEqual(offsets.map((_, index) => index));
  }
});

test("pull: a reader asks when it likes, and gets nothing that it did not ask for", async () => {
  const t = await topic();
  await at.client.publish(t, [{ body: "1" }, { body: "2" }]);
  expect(await fetched(at.client, t, "earliest")).toEqual(["1", "2"]);
  const [end] = await at.client.fetch(t, [{ partition: 0, from: { offset: 2 } }]);
  expect(end).toMatchObject({ batches: [], nextOffset: 2, startOffset: 0, endOffset: 2 });
  const waiting = at.client.fetch(t, [{ partition: 0, from: { offset: 2 } }], { maxWaitMs: 20_000 });
  await at.client.publish(t, [{ body: "3" }]);
  expect((await waiting)[0]).toMatchObject({ nextOffset: 3 });
});

test("real push to consumer: what is published reaches a consumer that said once how much it takes, however long it is idle", async () => {
  const q = await at.queue();
  await using consumer = await at.client.queueConsumer(q, { prefetch: 10 });
  const delays: number[] = [];
  for (let round = 0; round < 5; round++) {
    const next = consumer.next();
    // Longer than any poll of a client that looks now and then.
    await new Promise((resolve) => setTimeout(resolve, 200));
    const beganMs = performance.now();
    await at.client.publish(q, [{ body: String(round) }]);
    const message = (await next)!;
    delays.push(performance.now() - beganMs);
    await message.ack();
  }
  expect(delays.sort((a, b) => a - b)[0], `pushed after ${delays.map(Math.round).join()} ms`).toBeLessThan(100);
});

test("random read by offset / time: any record that is held, at once", async () => {
  const t = await topic();
  const producer = await at.client.producer(t, { lingerMs: 0, batchRecords: 1 });
  for (let index = 0; index < 50; index++) await producer.send({ body: String(index) });
  for (const offset of [49, 0, 17]) {
    const [part] = await at.client.fetch(t, [{ partition: 0, from: { offset } }]);
    const [batch] = part!.batches;
    const records = decodeBatch(batch!.bytes, batch!);
    expect(records.map((record) => [record.offset, text(record)])).toContainEqual([offset, String(offset)]);
    const byTime = await at.client.getOffsets(t, { timeMs: batch!.storedMs });
    expect(byTime[0]!.timeOffset).toBeLessThanOrEqual(offset);
    const [first] = await fetched(at.client, t, { timeMs: batch!.storedMs });
    expect(Number(first)).toBeLessThanOrEqual(offset);
  }
  expect((await at.client.getOffsets(t, { timeMs: Date.now() + 3_600_000 }))[0]!.timeOffset).toBe(50);
  const [beyond] = await at.client.fetch(t, [{ partition: 0, from: { offset: 51 } }]);
  expect(beyond!.error).toMatchObject({ code: "OFFSET_OUT_OF_RANGE" });
});

test("bulk pull: one fetch brings as many bytes as are asked for, of many partitions", async () => {
  const t = await topic(4);
  for (let partition = 0; partition < 4; partition++)
    for (let batch = 0; batch < 8; batch++) await at.client.publish(t, [{ body: Buffer.alloc(64 * 1024, batch) }], { partition });
  const positions = [0, 1, 2, 3].map((partition) => ({ partition, from: "earliest" as const }));
  const bytes = async (maxBytes: number): Promise<number> =>
    (await at.client.fetch(t, positions, { maxBytes })).reduce(
      (sum, part) => sum + part.batches.reduce((of, { bytes: held }) => of + held.length, 0),
      0,
    );
  expect(await bytes(3_000_000)).toBeGreaterThan(2_000_000);
  const some = await bytes(300_000);
  expect(some).toBeGreaterThan(200_000);
  expect(some).toBeLessThan(450_000);
});

test("client-held offsets: a reader that knows its place needs nothing of the server", async () => {
  const t = await topic();
  await at.client.publish(t, [{ body: "a" }, { body: "b" }, { body: "c" }]);
  await using first = await at.client.consumer(t, { from: "earliest" });
  expect(await read(first, 2)).toEqual(["a", "b"]);
  await using later = await at.client.consumer(t, { from: { offset: 2 } });
  expect(await read(later, 1)).toEqual(["c"]);
  expect(await at.client.admin.listSubscriptions(t)).toEqual([]);
});

test.each([
  { mode: "fsync", flags: "--durability fsync", config: { durability: "fsync" } },
  { mode: "os", flags: "--durability os", config: { durability: "os" } },
  {
    mode: "interval, unflushThreshold and unflushInterval",
    flags: "--durability interval --flush-interval 250ms --flush-messages 100",
    config: { durability: "interval", flushIntervalMs: 250, flushMessages: 100 },
  },
])("flushTxLogAtCommit, $mode: it is set, shown and changed, and survives a SIGKILL of all nodes", async ({ flags, config }) => {
  const t = at.name("t");
  await at.done(`topic create ${t} --partitions 1 ${flags}`);
  expect(await at.json(`topic describe ${t}`)).toMatchObject({ config });
  const producer = await at.client.producer(t);
  const sent = Array.from({ length: 300 }, (_, index) => String(index));
  await Promise.all(sent.map((body) => producer.send({ body })));
  await using client = await killedAndBack();
  await using consumer = await client.consumer(t, { from: "earliest" });
  expect(await read(consumer, 300)).toEqual(sent);
  await at.done(`topic update ${t} --durability fsync`);
  expect(await at.json(`topic describe ${t}`)).toMatchObject({ config: { durability: "fsync" } });
});

test.each([
  { bound: "bytes", flags: "--retention-bytes 256KiB" },
  { bound: "time", flags: "--retention-time 2s" },
])("deletePolicy, delete by $bound: the oldest records go, and who reads from earliest begins behind them", async ({ flags }) => {
  const t = at.name("t");
  await at.done(`topic create ${t} --partitions 1 ${flags}`);
  for (let batch = 0; batch < 20; batch++) await at.client.publish(t, [{ body: Buffer.alloc(64 * 1024, batch) }]);
  const offsets = async (): Promise<{ startOffset: number; endOffset: number }> => (await at.client.getOffsets(t))[0]!;
  await expect.poll(async () => (await offsets()).startOffset, { timeout: 30_000 }).toBeGreaterThanOrEqual(15);
  expect((await offsets()).endOffset).toBe(20);
  const [gone] = await at.client.fetch(t, [{ partition: 0, from: { offset: 0 } }]);
  expect(gone!.error).toMatchObject({ code: "OFFSET_OUT_OF_RANGE" });
  await using reader = await at.client.consumer(t, { from: "earliest" });
  await at.client.publish(t, [{ body: "next" }]);
  for await (const record of reader) {
    expect(record.offset).toBeGreaterThanOrEqual(15);
    break;
  }
});

test("persistence per message: every message of a queue is on disk, and there after a SIGKILL of all nodes", async () => {
  const q = await at.queue();
  await at.client.publish(q, [
    { body: "1", priority: 4 },
    { body: "2", headers: [{ name: "h", value: Buffer.from("v") }] },
  ]);
  await using client = await killedAndBack();
  const messages = await client.receive(q, { maxMessages: 5, maxWaitMs: 10_000 });
  expect(messages.map((message) => [text(message), message.priority, message.attempt])).toEqual([
    ["1", 4, 1],
    ["2", 0, 1],
  ]);
  for (const message of messages) await message.ack();
});

test("transparent expansion and migration: a topic grows and moves under its producer and its reader, and neither sees an error", async () => {
  const t = at.name("t");
  await at.client.admin.createTopic({ name: t, partitions: 2, replicas: 1 });
  const producer = await at.client.producer(t);
  await using reader = await at.client.consumer(t, { from: "earliest" });
  const total = 2_000;
  const sending = (async () => {
    for (let index = 0; index < total; index += 20) {
      await Promise.all(Array.from({ length: 20 }, (_, more) => producer.send({ body: String(index + more), key: `k${more}` })));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  const reading = read(reader, total);
  await at.client.admin.expandTopic(t, 4);
  const leader = await at.cluster.leaderOf(t, 0);
  const to = at.cluster.nodeIds.find((node) => node !== leader)!;
  await at.done(`cluster move ${t} --partition 0 --from ${leader} --to ${to}`);
  await expect.poll(() => at.cluster.leaderOf(t, 0), { timeout: 30_000 }).toBe(to);
  await sending;
  const seen = await reading;
  expect(new Set(seen).size).toBe(total);
  expect((await at.json<{ partitions: { endOffset: number }[] }>(`topic describe ${t}`)).partitions).toHaveLength(4);
}, 90_000);

test("no ZooKeeper: a cluster of three processes speaks with itself and its clients, and with nobody else", () => {
  const pids = at.cluster.nodeIds.map((node) => at.cluster.pid(node));
  const sockets = (pid: number): Set<string> =>
    new Set(
      readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
        } catch {
          return []; // Closed since.
        }
      }),
    );
  const table = (pid: number): { local: number; remote: number; state: string; inode: string }[] =>
    ["tcp", "tcp6"].flatMap((kind) =>
      readFileSync(`/proc/${pid}/net/${kind}`, "utf8")
        .trim()
        .split("\n")
        .slice(1)
        .map((line) => {
          const [, local = "", remote = "", state = "", , , , , , inode = ""] = line.trim().split(/\s+/);
          return { local: Number.parseInt(local.split(":")[1]!, 16), remote: Number.parseInt(remote.split(":")[1]!, 16), state, inode };
        }),
    );
  const own = pids.flatMap((pid) => {
    const mine = sockets(pid);
    return table(pid).filter(({ inode }) => mine.has(inode));
  });
  const listening = new Set(own.filter(({ state }) => state === "0A").map(({ local }) => local));
  expect(listening.size).toBe(9);
  const strangers = own.filter(({ state, local, remote }) => state === "01" && !listening.has(local) && !listening.has(remote));
  expect(own.some(({ state }) => state === "01")).toBe(true);
  expect(strangers).toEqual([]);
});
