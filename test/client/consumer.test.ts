import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { Flotilla, type Consumer, type ReceivedRecord } from "../../src/client/index.ts";
import { MemoryCluster } from "../support/memory-cluster.ts";

const text = ({ body }: ReceivedRecord): string => Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, at) => `r${from + at}`);

/** Stores records `from..to-1` as batches of `size`. */
function store(cluster: MemoryCluster, partition: number, from: number, to: number, size: number): void {
  for (let at = from; at < to; at += size) {
    const bodies = numbers(at, Math.min(at + size, to));
    cluster.store(
      "t",
      partition,
      bodies.map((body) => ({ body })),
    );
  }
}

async function take(consumer: Consumer, count: number): Promise<ReceivedRecord[]> {
  const records: ReceivedRecord[] = [];
  for await (const record of consumer) {
    records.push(record);
    if (records.length === count) break;
  }
  return records;
}

test("consumer: reads everything once, in order, with offsets, and waits for what comes", async () => {
  using cluster = await MemoryCluster.start(2);
  const partitions = cluster.createTopic("t", 3);
  partitions[1]!.leader = 2;
  for (let partition = 0; partition < 3; partition++) store(cluster, partition, 0, 50, 7);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { from: "earliest" });
  const records = await take(consumer, 150);
  const later = take(consumer, 2);
  cluster.store("t", 2, [{ body: "r50", key: "k" }, { body: "r51" }]);
  records.push(...(await later));
  for (let partition = 0; partition < 3; partition++) {
    const mine = records.filter((record) => record.partition === partition);
    expect(mine.map(text)).toEqual(numbers(0, partition === 2 ? 52 : 50));
    expect(mine.map(({ offset }) => offset)).toEqual(mine.map((_, at) => at));
  }
  expect(records.at(-2)!.key).toEqual(Buffer.from("k"));
  expect([...consumer.positions()].sort(([a], [b]) => a - b)).toEqual([
    [0, 50],
    [1, 50],
    [2, 52],
  ]);
  expect(consumer.lag(2)).toBe(0);
  // Each node is asked for what it leads.
  for (const { node, positions } of cluster.fetches) expect(positions.every((partition) => (partition === 1) === (node === 2))).toBe(true);
});

test("consumer: leaves a leader that froze for the next one", async () => {
  using cluster = await MemoryCluster.start(2);
  cluster.createTopic("t", 1);
  store(cluster, 0, 0, 10, 5);
  // Node 1 leads, and is the one that is watched for news of leaders.
  await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!] });
  await using consumer = await client.consumer("t", { from: "earliest", maxWaitMs: 100 });
  const records = await take(consumer, 10);
  cluster.freezeNode(1);
  cluster.moveLeader("t", 0, 2);
  store(cluster, 0, 10, 20, 5);
  const began = performance.now();
  records.push(...(await take(consumer, 10)));
  expect(records.map(text)).toEqual(numbers(0, 20));
  // Within the time that a fetch may take, and not when the connection turns out to be dead.
  expect(performance.now() - began).toBeLessThan(15_000);
});

const starts = [
  { name: "the earliest record", from: "earliest" as const, expected: "r10" },
  { name: "the end", from: "latest" as const, expected: "r30" },
  { name: "an offset", from: { offset: 12 }, expected: "r12" },
  { name: "an offset inside a batch", from: { offset: 17 }, expected: "r17" },
  { name: "an offset of its partition", from: new Map([[0, 23]]), expected: "r23" },
];
for (const { name, from, expected } of starts) {
  test(`consumer: begins at ${name}`, async () => {
    using cluster = await MemoryCluster.start(1);
    const [partition] = cluster.createTopic("t", 1);
    store(cluster, 0, 0, 30, 5);
    partition!.startOffset = 10;
    partition!.batches.splice(0, 2);
    await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
    await using consumer = await client.consumer("t", { from });
    const first = take(consumer, 1);
    await cluster.until(() => cluster.fetches.length > 0);
    cluster.store("t", 0, [{ body: "r30" }]);
    const [record] = await first;
    expect(text(record!)).toBe(expected);
    expect(record!.offset).toBe(Number(expected.slice(1)));
  });
}

test("consumer: offsets may have gaps between batches", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  store(cluster, 0, 0, 30, 5);
  partition!.batches.splice(2, 2);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { from: "earliest" });
  const records = await take(consumer, 20);
  expect(records.map(({ offset }) => `r${offset}`)).toEqual([...numbers(0, 10), ...numbers(20, 30)]);
  expect(records.map(text)).toEqual(records.map(({ offset }) => `r${offset}`));
});

test("consumer: an offset that is no longer held is a typed error with the partition, unless a policy says where to go on", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  store(cluster, 0, 0, 30, 5);
  partition!.startOffset = 10;
  partition!.batches.splice(0, 2);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  for (const offset of [9, 31]) {
    await using strict = await client.consumer("t", { from: { offset } });
    await expect(take(strict, 1), String(offset)).rejects.toMatchObject({
      name: "FlotillaError",
      code: "OFFSET_OUT_OF_RANGE",
      details: { partition: "0" },
      retryable: false,
    });
  }
  await using lenient = await client.consumer("t", { from: { offset: 3 }, onOutOfRange: "earliest" });
  expect((await take(lenient, 20)).map(text)).toEqual(numbers(10, 30));
});

test("consumer: goes on with the new leader, and nothing comes twice", async () => {
  using cluster = await MemoryCluster.start(2);
  cluster.createTopic("t", 2);
  await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!] });
  await using consumer = await client.consumer("t", { from: "earliest", maxWaitMs: 100 });
  const seen: ReceivedRecord[] = [];
  for (let round = 0; round < 6; round++) {
    for (let partition = 0; partition < 2; partition++) store(cluster, partition, round * 10, round * 10 + 10, 3);
    cluster.moveLeader("t", 0, 1 + (round % 2));
    cluster.moveLeader("t", 1, 2 - (round % 2));
    seen.push(...(await take(consumer, 20)));
  }
  for (let partition = 0; partition < 2; partition++)
    expect(seen.filter((record) => record.partition === partition).map(text)).toEqual(numbers(0, 60));
  expect(new Set(cluster.fetches.map(({ node }) => node))).toEqual(new Set([1, 2]));
});

test("consumer: a node that dies is waited for; failures of a partition pass", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  store(cluster, 0, 0, 10, 5);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { from: "earliest", maxWaitMs: 50 });
  const records = await take(consumer, 10);
  cluster.stopNode(1);
  const later = take(consumer, 10);
  store(cluster, 0, 10, 20, 5);
  cluster.fetchErrors.set(0, "NO_LEADER");
  await cluster.startNode(1);
  const before = cluster.fetches.length;
  await cluster.until(() => cluster.fetches.length >= before + 2 || cluster.fetchErrors.size === 0);
  cluster.fetchErrors.clear();
  records.push(...(await later));
  expect(records.map(text)).toEqual(numbers(0, 20));
});

test("consumer: commits what was handed out, and a successor begins there", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  store(cluster, 0, 0, 30, 10);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { subscription: "s" });
  // In the middle of a batch: what the reader has not seen must not count.
  expect((await take(consumer, 13)).map(text)).toEqual(numbers(0, 13));
  await consumer.commit();
  expect(partition!.committed.get("s")).toBe(13);
  await using successor = await client.consumer("t", { subscription: "s" });
  expect((await take(successor, 17)).map(text)).toEqual(numbers(13, 30));
  // Back on purpose.
  successor.seek(0, { offset: 5 });
  expect((await take(successor, 1)).map(text)).toEqual(["r5"]);
  await successor.commit();
  expect(partition!.committed.get("s")).toBe(6);
});

test("consumer: an automatic commit counts only what the reader came back from", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  store(cluster, 0, 0, 30, 10);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const consumer = await client.consumer("t", { subscription: "s", autoCommit: { intervalMs: 5 } });
  let handled = 0;
  const failing = (async () => {
    for await (const record of consumer) {
      if (record.offset === 17) {
        await cluster.until(() => partition!.committed.get("s") === 17);
        throw new Error("the reader fails here");
      }
      handled += 1;
    }
  })();
  await expect(failing).rejects.toThrow("the reader fails here");
  await consumer.close();
  expect(handled).toBe(17);
  expect(partition!.committed.get("s")).toBe(17);
});

test("consumer: a partition that cannot tell its committed offset is asked again, not read from the beginning", async () => {
  using cluster = await MemoryCluster.start(1);
  const partitions = cluster.createTopic("t", 2);
  for (let partition = 0; partition < 2; partition++) store(cluster, partition, 0, 10, 5);
  for (const { committed } of partitions) committed.set("s", 8);
  cluster.offsetErrors.set(1, "NO_LEADER");
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { subscription: "s" });
  expect((await take(consumer, 4)).map(({ offset }) => offset).sort((a, b) => a - b)).toEqual([8, 8, 9, 9]);
});

test("consumer: a seek drops what was fetched ahead of that partition only", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 2);
  for (let partition = 0; partition < 2; partition++) store(cluster, partition, 0, 20, 5);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { from: "earliest" });
  const first = await take(consumer, 40);
  expect(first).toHaveLength(40);
  consumer.seek(0, { offset: 18 });
  expect((await take(consumer, 2)).map(({ partition, offset }) => [partition, offset])).toEqual([
    [0, 18],
    [0, 19],
  ]);
  consumer.seek(1, "earliest");
  expect((await take(consumer, 20)).map(({ partition }) => partition)).toEqual(Array(20).fill(1));
  expect(() => consumer.seek(2, "latest")).toThrow(expect.objectContaining({ code: "UNKNOWN_PARTITION" }));
});

test("consumer: fetches ahead only so far", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  for (let batch = 0; batch < 40; batch++) cluster.store("t", 0, [{ body: "x".repeat(10_000) }]);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { from: "earliest", readAheadBytes: 80_000 });
  const batches = consumer.batches();
  const { value } = await batches.next();
  expect(value.records).toHaveLength(1);
  // Four batches an answer: two answers are over the bound, and the next is asked for at half of it.
  await cluster.until(() => cluster.fetches.length >= 2);
  await client.getOffsets("t");
  expect(cluster.fetches.length).toBeLessThanOrEqual(3);
  let read = 1;
  for await (const batch of batches) {
    read += batch.count;
    if (read === 40) break;
  }
  expect(cluster.fetches.length).toBeGreaterThanOrEqual(10);
});

test("consumer: ends at an abort and at a close, and fails on a topic that is gone", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const abort = new AbortController();
  const aborted = await client.consumer("t", { from: "earliest", signal: abort.signal });
  const reading = take(aborted, 1);
  abort.abort();
  expect(await reading).toEqual([]);
  const early = await client.consumer("t", { from: "earliest", signal: AbortSignal.abort() });
  expect(await take(early, 1)).toEqual([]);
  const closed = await client.consumer("t", { from: "earliest" });
  const waiting = take(closed, 1);
  await closed.close();
  expect(await waiting).toEqual([]);
  await using orphan = await client.consumer("t", { from: "earliest", maxWaitMs: 10 });
  cluster.topics.delete("t");
  await expect(take(orphan, 1)).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
  await expect(client.consumer("t", { from: "earliest" })).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
});

test("consumer: reads partitions that are added, from their beginning", async () => {
  using cluster = await MemoryCluster.start(1);
  const partitions = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using consumer = await client.consumer("t", { from: "latest" });
  const [extra] = cluster.createTopic("other", 1);
  partitions.push(extra!);
  cluster.store("t", 1, [{ body: "new" }]);
  cluster.moveLeader("t", 1, 1);
  const [record] = await take(consumer, 1);
  expect([record!.partition, text(record!)]).toEqual([1, "new"]);
});

test("consumer: one that is closed leaves nothing at the signal that could have ended it", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const { signal } = new AbortController();
  for (let count = 0; count < 3; count++) await (await client.consumer("t", { from: "earliest", signal })).close();
  expect(getEventListeners(signal, "abort")).toEqual([]);
});
