import fc from "fast-check";
import { expect, test } from "vitest";
import { Flotilla, FlotillaError, type Producer } from "../../src/client/index.ts";
import { STREAM_OK } from "../../src/machine/stream/codes.ts";
import { Producers } from "../../src/machine/stream/producers.ts";
import { MemoryCluster, type Arrival, type Fate } from "../support/memory-cluster.ts";

type Outcome = { readonly body: string; readonly error: FlotillaError | null; readonly partition: number; readonly offset: number };

/** Appends numbered records `from..to-1`; their outcomes come into `outcomes` in the order they are reported. */
function append(producer: Producer, from: number, to: number, outcomes: Outcome[], partition?: (number: number) => number): void {
  for (let number = from; number < to; number++) {
    const body = `r${number}`;
    producer.append({ body }, (error, placed, offset) => outcomes.push({ body, error, partition: placed, offset }), partition?.(number));
  }
}

const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, at) => `r${from + at}`);

/** Records stand where their outcomes say, once each, in order. */
function expectStored(cluster: MemoryCluster, topic: string, outcomes: readonly Outcome[]): void {
  const bodies = cluster.topics.get(topic)!.map((partition) => partition.bodies());
  for (const { body, error, partition, offset } of outcomes) {
    expect(error, body).toBeNull();
    if (offset >= 0) expect(bodies[partition]![offset], body).toBe(body);
    expect(
      bodies[partition]!.filter((one) => one === body),
      body,
    ).toHaveLength(1);
  }
  for (const list of bodies)
    expect(list.map((body) => Number(body.slice(1)))).toEqual(list.map((body) => Number(body.slice(1))).sort((a, b) => a - b));
  expect(bodies.flat()).toHaveLength(outcomes.length);
}

/** The first `fates.length` arrivals get these, the others are stored. */
function scripted(fates: readonly Fate[]): (arrival: Arrival) => Fate {
  let at = 0;
  return () => fates[at++] ?? "store";
}

const cases: { name: string; fates: Fate[] }[] = [
  { name: "nothing goes wrong", fates: [] },
  { name: "the stream drops before anything is stored", fates: ["drop"] },
  { name: "the stream drops after a batch was stored", fates: ["store, then drop"] },
  { name: "the stream drops several times in a row", fates: ["store", "store, then drop", "store, then drop", "drop", "store, then drop"] },
  { name: "the leader changes, nothing stored", fates: ["store", { error: "LEADER_CHANGED" }, { error: "LEADER_CHANGED" }] },
  {
    name: "the leader changes, stored all the same",
    fates: [{ error: "LEADER_CHANGED", isStored: true }, "store", { error: "NODE_UNREACHABLE", isStored: true }],
  },
  { name: "there is no leader for a while", fates: Array.from({ length: 6 }, () => ({ error: "NO_LEADER" as const })) },
  { name: "the node is overloaded in the middle", fates: ["store", "store", { error: "OVERLOADED" }, "store", { error: "DISK_FULL" }] },
];

for (const { name, fates } of cases) {
  test(`producer: every record once and in order when ${name}`, async () => {
    using cluster = await MemoryCluster.start(2);
    cluster.createTopic("t", 1);
    cluster.script = scripted(fates);
    await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
    const producer = await client.producer("t", { batchRecords: 10 });
    const outcomes: Outcome[] = [];
    append(producer, 0, 205, outcomes);
    await producer.flush();
    expect(outcomes.map(({ body }) => body)).toEqual(numbers(0, 205));
    expectStored(cluster, "t", outcomes);
    expect(cluster.arrivals.length).toBeGreaterThanOrEqual(21);
  });
}

test("producer: every record once and in order, whatever the network does", { timeout: 120_000 }, async () => {
  const fate = fc.constantFrom<Fate>(
    "store",
    "store",
    "store",
    "drop",
    "store, then drop",
    { error: "LEADER_CHANGED" },
    { error: "LEADER_CHANGED", isStored: true },
    { error: "NO_LEADER" },
    { error: "TIMEOUT", isStored: true },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fate, { maxLength: 25 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 0, max: 1 }),
      async (fates, partitions, inflightBatchesMax, lingerMs) => {
        using cluster = await MemoryCluster.start(1);
        cluster.createTopic("t", partitions);
        cluster.script = scripted(fates);
        await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
        const producer = await client.producer("t", { batchRecords: 5, inflightBatchesMax, lingerMs });
        const outcomes: Outcome[] = [];
        append(producer, 0, 150, outcomes, (number) => number % partitions);
        await producer.flush();
        expectStored(cluster, "t", outcomes);
        for (let partition = 0; partition < partitions; partition++) {
          const reported = outcomes.filter((one) => one.partition === partition).map(({ body }) => Number(body.slice(1)));
          expect(reported).toEqual([...reported].sort((a, b) => a - b));
        }
      },
    ),
    { numRuns: 25 },
  );
});

for (const watched of [0, 1]) {
  test(`producer: what a node that froze left unanswered goes to the next leader, watching ${watched === 0 ? "that very node" : "another one"}`, async () => {
    using cluster = await MemoryCluster.start(3);
    cluster.createTopic("t", 2);
    // The first of these is watched for news of leaders; 1 leads.
    await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[watched]!] });
    const producer = await client.producer("t", { batchRecords: 10 });
    const outcomes: Outcome[] = [];
    append(producer, 0, 100, outcomes);
    await producer.flush();
    cluster.script = ({ node, partition }) => (node === 1 && partition === 0 ? "store, then hold" : "store");
    append(producer, 100, 200, outcomes);
    await cluster.until(() => cluster.heldCount >= 1);
    cluster.freezeNode(1);
    append(producer, 200, 300, outcomes);
    for (const partition of [0, 1]) cluster.moveLeader("t", partition, 3);
    const began = performance.now();
    await producer.flush();
    expect(performance.now() - began).toBeLessThan(1_500);
    // And once it has heard of the new leader from another node, there.
    for (let next = 300; !cluster.arrivals.some(({ node }) => node === 3); next++) {
      append(producer, next, next + 1, outcomes);
      await producer.flush();
    }
    expect(performance.now() - began).toBeLessThan(4_500);
    expectStored(cluster, "t", outcomes);
  });
}

test("producer: what a node says that is cut off from the others is not believed of them", async () => {
  using cluster = await MemoryCluster.start(3);
  const [partition] = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!] });
  const producer = await client.producer("t", { batchRecords: 10 });
  await producer.send({ body: "r0" });
  // 1 leads, and is the one that is watched. The others go on without it.
  cluster.script = ({ node }) => (node === 1 ? "ignore" : "store");
  const outcomes: Outcome[] = [];
  append(producer, 1, 51, outcomes);
  await cluster.until(() => cluster.arrivals.length > 1);
  cluster.cutOffNode(1);
  cluster.moveLeader("t", 0, 3);
  const began = performance.now();
  await producer.flush();
  expect(performance.now() - began).toBeLessThan(1_000);
  expect(partition!.bodies()).toEqual(numbers(0, 51));
  expect(cluster.arrivals.at(-1)).toMatchObject({ node: 3 });
  // And who watches nobody else is told so by that node alone: nothing is sent to it.
  const late = await client.producer("t", { batchRecords: 10 });
  await late.send({ body: "r51" });
  expect(cluster.arrivals.at(-1)).toMatchObject({ node: 3 });
});

test("producer: a node that was given up is used again as soon as the cluster has it back", async () => {
  using cluster = await MemoryCluster.start(3);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { lingerMs: 0 });
  await producer.send({ body: "r0" });
  cluster.freezeNode(1);
  await producer.send({ body: "r1" });
  expect(cluster.arrivals.at(-1)!.node).not.toBe(1);
  const began = performance.now();
  cluster.thawNode(1);
  for (let number = 2; cluster.arrivals.at(-1)!.node !== 1; number++) await producer.send({ body: `r${number}` });
  // It still leads.
  expect(performance.now() - began).toBeLessThan(1_500);
});

test("producer: a node that lost the leader's may be the one that is cut off, so another one is tried", async () => {
  using cluster = await MemoryCluster.start(3);
  cluster.createTopic("t", 1);
  cluster.script = ({ node }) => (node === 1 ? { error: "NODE_UNREACHABLE" } : "store");
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { lingerMs: 0 });
  await producer.send({ body: "r0" });
  expect(cluster.arrivals.map(({ node }) => node)).toEqual([1, expect.not.toSatisfy((node) => node === 1)]);
});

test("producer: acknowledgements of partitions may overtake each other", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 3);
  cluster.script = () => "store, then hold";
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { batchRecords: 2 });
  const outcomes: Outcome[] = [];
  append(producer, 0, 30, outcomes, (number) => number % 3);
  await cluster.until(() => cluster.heldCount === 15);
  cluster.release([2, 0, 1]);
  await producer.flush();
  expect(outcomes.map(({ partition }) => partition)).toEqual([...Array(10).fill(2), ...Array(10).fill(0), ...Array(10).fill(1)]);
  expectStored(cluster, "t", outcomes);
});

test("producer: a node dies with batches under way and comes back", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { batchRecords: 10 });
  const outcomes: Outcome[] = [];
  append(producer, 0, 50, outcomes);
  await producer.flush();
  cluster.script = () => "store, then hold";
  append(producer, 50, 100, outcomes);
  await cluster.until(() => cluster.heldCount === 5);
  cluster.stopNode(1);
  cluster.script = () => "store";
  append(producer, 100, 150, outcomes);
  await cluster.startNode(1);
  await producer.flush();
  expect(outcomes.map(({ body }) => body)).toEqual(numbers(0, 150));
  expectStored(cluster, "t", outcomes);
});

test("producer: goes to the new leader when the leader moves, under load", async () => {
  using cluster = await MemoryCluster.start(2);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!] });
  const producer = await client.producer("t", { batchRecords: 5 });
  const outcomes: Outcome[] = [];
  let next = 0;
  // Ten batches are under way at any time.
  const load = (): void => {
    append(producer, next, next + 5, outcomes);
    next += 5;
  };
  for (let turn = 0; turn < 10; turn++) load();
  const feed = setInterval(load, 1);
  await cluster.until(() => cluster.arrivals.length > 20);
  expect(new Set(cluster.arrivals.map(({ node }) => node))).toEqual(new Set([1]));
  cluster.moveLeader("t", 0, 2);
  await cluster.until(() => cluster.arrivals.slice(-10).every(({ node }) => node === 2));
  clearInterval(feed);
  await producer.flush();
  expectStored(cluster, "t", outcomes);
});

test("producer: until a connection to a new leader stands the node in use passes the batches on", async () => {
  using cluster = await MemoryCluster.start(2);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!] });
  const producer = await client.producer("t", { lingerMs: 0 });
  await producer.send({ body: "r0" });
  await cluster.muteNode(2);
  cluster.moveLeader("t", 0, 2);
  const began = performance.now();
  // News of the new leader come in between.
  for (let number = 1; number <= 100; number++) {
    await producer.send({ body: `r${number}` });
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(performance.now() - began).toBeLessThan(1_500);
  // Several at a time, as always.
  const before = cluster.arrivals.length;
  cluster.script = () => "store, then hold";
  const sent = [producer.send({ body: "r101" })];
  await cluster.until(() => cluster.heldCount === 1);
  sent.push(producer.send({ body: "r102" }));
  void producer.flush();
  await cluster.until(() => cluster.heldCount === 2);
  cluster.release([0]);
  await Promise.all(sent);
  expect(cluster.arrivals.length - before).toBe(2);
  expect(new Set(cluster.arrivals.map(({ node }) => node))).toEqual(new Set([1]));
});

test("producer: when the node in use goes, one to which a connection stands is better than a leader that is yet to be reached", async () => {
  using cluster = await MemoryCluster.start(3);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: [cluster.endpoints[2]!, cluster.endpoints[0]!] });
  const producer = await client.producer("t", { lingerMs: 0 });
  for (let number = 0; cluster.arrivals.at(-1)?.node !== 1; number++) await producer.send({ body: `r${number}` });
  await cluster.muteNode(2);
  cluster.moveLeader("t", 0, 2);
  await producer.send({ body: "last" });
  cluster.stopNode(1);
  const began = performance.now();
  await producer.send({ body: "more" });
  expect(cluster.arrivals.at(-1)!.node).toBe(3);
  expect(performance.now() - began).toBeLessThan(1_500);
});

test("producer: a leader that cannot be reached is passed by, through another node", async () => {
  using cluster = await MemoryCluster.start(3);
  cluster.createTopic("t", 1)[0]!.leader = 3;
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  cluster.script = ({ node }) => (node === 3 ? "drop" : "store");
  const producer = await client.producer("t", { batchRecords: 5 });
  const outcomes: Outcome[] = [];
  append(producer, 0, 100, outcomes);
  await producer.flush();
  expectStored(cluster, "t", outcomes);
  expect(cluster.arrivals.some(({ node }) => node !== 3)).toBe(true);
});

test("producer: one forgotten by the partition goes on under the next epoch", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { batchRecords: 5 });
  const outcomes: Outcome[] = [];
  append(producer, 0, 20, outcomes);
  await producer.flush();
  partition!.producers = new Producers();
  append(producer, 20, 60, outcomes);
  await producer.flush();
  expect(outcomes.map(({ body }) => body)).toEqual(numbers(0, 60));
  expectStored(cluster, "t", outcomes);
  expect(cluster.arrivals.at(-1)).toMatchObject({ epoch: 1, sequence: 35 });
});

test("producer: forgotten with a batch whose outcome is unknown, it ends rather than store that one twice", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { batchRecords: 5 });
  await producer.send({ body: "r0" });
  cluster.script = () => {
    cluster.script = () => "store";
    return "store, then drop";
  };
  const outcomes: Outcome[] = [];
  append(producer, 1, 6, outcomes);
  await cluster.until(() => partition!.endOffset === 6);
  partition!.producers = new Producers();
  await expect(producer.flush()).rejects.toMatchObject({ code: "PRODUCER_UNKNOWN" });
  expect(partition!.bodies()).toEqual(numbers(0, 6));
  expect(outcomes.every(({ error }) => error?.code === "PRODUCER_UNKNOWN")).toBe(true);
});

test("producer: a fixed id is fenced off by a higher epoch", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const old = await client.producer("t", { producerId: 7, epoch: 1 });
  await old.send({ body: "r0" });
  const next = await client.producer("t", { producerId: 7, epoch: 2 });
  await next.send({ body: "r1" });
  await expect(old.send({ body: "lost" })).rejects.toMatchObject({ code: "FENCED_PRODUCER", retryable: false });
  expect(() => old.append({ body: "lost" })).toThrow(expect.objectContaining({ code: "FENCED_PRODUCER" }));
  await next.send({ body: "r2" });
  expect(partition!.bodies()).toEqual(numbers(0, 3));
  expect(partition!.producers.judge({ count: 1, producerId: 7, producerEpoch: 2, sequence: 2 }).code).toBe(STREAM_OK);
});

test("producer: records of one key go to one partition, in order; without a key all partitions get some", async () => {
  using cluster = await MemoryCluster.start(1);
  const partitions = cluster.createTopic("t", 4);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await using producer = await client.producer("t", { batchRecords: 3 });
  for (let number = 0; number < 200; number++) producer.append({ key: `k${number % 10}`, body: `k${number % 10}-${number}` });
  await producer.flush();
  const all = partitions.map((partition) => partition.bodies());
  for (let key = 0; key < 10; key++) {
    const holders = all.filter((bodies) => bodies.some((body) => body.startsWith(`k${key}-`)));
    expect(holders, `k${key}`).toHaveLength(1);
    const order = holders[0]!.filter((body) => body.startsWith(`k${key}-`)).map((body) => Number(body.split("-")[1]));
    expect(order).toEqual(Array.from({ length: 20 }, (_, at) => key + at * 10));
  }
  const before = partitions.map(({ endOffset }) => endOffset);
  for (let number = 0; number < 60; number++) producer.append({ body: "no key" });
  await producer.flush();
  expect(partitions.map(({ endOffset }, at) => endOffset - before[at]!)).toEqual([15, 15, 15, 15]);
});

test("producer: flush waits for what was taken before it, not for what comes after", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { lingerMs: 60_000 });
  const outcomes: Outcome[] = [];
  append(producer, 0, 3, outcomes);
  cluster.script = ({ sequence }) => (sequence < 3 ? "store" : "store, then hold");
  const flushed = producer.flush();
  append(producer, 3, 4, outcomes);
  await flushed;
  expect(outcomes.map(({ body }) => body)).toEqual(numbers(0, 3));
  const last = producer.flush();
  await cluster.until(() => cluster.heldCount === 1);
  cluster.release([0]);
  await last;
  expect(outcomes).toHaveLength(4);
});

test("producer: close sends what waits; afterwards nothing is taken", async () => {
  using cluster = await MemoryCluster.start(1);
  cluster.createTopic("t", 1);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { lingerMs: 60_000 });
  const outcomes: Outcome[] = [];
  append(producer, 0, 5, outcomes);
  await producer.close();
  expectStored(cluster, "t", outcomes);
  expect(outcomes).toHaveLength(5);
  expect(() => producer.append({ body: "late" })).toThrow(expect.objectContaining({ code: "CLOSED" }));
  await expect(producer.send({ body: "late" })).rejects.toMatchObject({ code: "CLOSED" });
});

test("producer: without idempotence a batch is sent once, and the producer lives on", async () => {
  using cluster = await MemoryCluster.start(1);
  const [partition] = cluster.createTopic("t", 1);
  cluster.script = scripted(["store", { error: "NO_LEADER" }, "store, then drop"]);
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  const producer = await client.producer("t", { batchRecords: 1, idempotent: false, inflightBatchesMax: 1 });
  const outcomes: Outcome[] = [];
  append(producer, 0, 8, outcomes);
  await producer.flush();
  expect(outcomes.map(({ body, error }) => [body, error?.code ?? null])).toEqual([
    ["r0", null],
    ["r1", "NO_LEADER"],
    ["r2", "UNREACHABLE"],
    ...numbers(3, 8).map((body) => [body, null]),
  ]);
  expect(partition!.bodies()).toEqual(["r0", ...numbers(2, 8)]);
  expect(cluster.arrivals.every(({ producerId }) => producerId === 0)).toBe(true);
});
