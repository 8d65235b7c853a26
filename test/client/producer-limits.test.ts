// What a producer does not take, and what it gives up on.

import { expect, test } from "vitest";
import { Flotilla, type FlotillaError } from "../../src/client/index.ts";
import { MemoryCluster } from "../support/memory-cluster.ts";

test("producer: the buffer is bounded: append says so, send waits", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  cluster.script = () => "store, then hold";
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { batchRecords: 10, bufferBytesMax: 20_000 });
  let taken = 0;
  while (producer.append({ body: "x".repeat(990) })) taken += 1;
  expect(taken).toBe(20);
  let isSent = false;
  const waiting = producer.send({ body: "later" }).then(() => (isSent = true));
  await cluster.until(() => cluster.heldCount === 2);
  expect(isSent).toBe(false);
  const abort = new AbortController();
  const aborted = producer.send({ body: "never" }, { signal: abort.signal });
  abort.abort();
  await expect(aborted).rejects.toMatchObject({ code: "ABORTED", maybeApplied: false });
  cluster.script = () => "store";
  cluster.release([0]);
  await waiting;
  await producer.flush();
  const bodies = cluster.topics.get("t")![0]!.bodies();
  expect(bodies).toHaveLength(22);
  expect(bodies.at(-1)).toBe("later");
});

test("producer: a record without an answer fails it after the delivery timeout", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  cluster.script = () => "ignore";
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { deliveryTimeoutMs: 200 });
  await expect(producer.send({ body: "lost" })).rejects.toMatchObject({ code: "TIMEOUT", maybeApplied: true, retryable: false });
});

test("producer: the delivery timeout names the last failure, and knows what was certainly not stored", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  cluster.script = () => ({ error: "NO_LEADER" });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { deliveryTimeoutMs: 300 });
  const failure = await producer.send({ body: "lost" }).catch((error: unknown) => error as FlotillaError);
  expect(failure).toMatchObject({ code: "TIMEOUT", cause: { code: "NO_LEADER" } });
});

test("producer: a record that no batch can hold is refused and costs nothing else", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { batchBytes: 4_000_000 });
  producer.append({ body: "r0" });
  expect(() => producer.append({ body: Buffer.alloc(4_128_768) })).toThrow(expect.objectContaining({ code: "BATCH_TOO_LARGE" }));
  producer.append({ body: "r1" });
  // Two that fit alone and not together.
  producer.append({ body: Buffer.alloc(3_000_000) });
  producer.append({ body: Buffer.alloc(3_000_000) });
  await producer.flush();
  expect(partition!.batches.map(({ count }) => count)).toEqual([1, 2, 1].slice(0, partition!.batches.length));
  expect(partition!.endOffset).toBe(4);
});

test("producer: options out of their bounds are refused at once", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  for (const options of [
    { lingerMs: -1 },
    { batchBytes: 5_000_000 },
    { batchRecords: 0 },
    { inflightBatchesMax: 1.5 },
    { producerId: 2 ** 53, epoch: 0 },
    { producerId: 5 },
  ]) {
    await expect(client.producer("t", options), JSON.stringify(options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  }
  await expect(client.producer("none")).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
  const producer = await client.producer("t");
  expect(() => producer.append({ body: "x" }, undefined, 1)).toThrow(expect.objectContaining({ code: "UNKNOWN_PARTITION" }));
  expect(() => producer.append({ body: "x", timeMs: -1 })).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  await expect(producer.send({ body: "r0" })).resolves.toEqual({ partition: 0, offset: 0 });
});
