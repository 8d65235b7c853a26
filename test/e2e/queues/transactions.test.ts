// Transactions on a real cluster: all of it or none, by one call or in two phases, from any node.

import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeBatch, Flotilla, type FlotillaError } from "../../../src/client/index.ts";
import { startCluster, type TestCluster } from "../../support/cluster.ts";

let cluster: TestCluster;
let client: Flotilla;
let made = 0;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
}, 60_000);
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

const text = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();

async function queue(settings: Parameters<Flotilla["queues"]["createQueue"]>[0]["settings"] = {}): Promise<string> {
  const name = `tq${++made}`;
  await client.queues.createQueue({ name, settings });
  return name;
}

async function topic(partitions: number): Promise<string> {
  const name = `tt${++made}`;
  await client.admin.createTopic({ name, partitions });
  return name;
}

async function inQueue(name: string): Promise<string[]> {
  return (await client.browse(name)).messages.map(text).sort();
}

async function inTopic(name: string): Promise<string[]> {
  const { partitions } = await client.admin.describeTopic(name);
  const fetched = await client.fetch(
    name,
    partitions.map((_, partition) => ({ partition, from: "earliest" as const })),
  );
  return fetched
    .flatMap(({ batches, partition }) =>
      batches.flatMap(({ bytes, baseOffset, storedMs }) => decodeBatch(bytes, { partition, baseOffset, storedMs }).map(text)),
    )
    .sort();
}

async function counts(name: string): Promise<{ ready: number; leased: number }> {
  const { ready, leased } = (await client.queues.describeQueue(name)).queue.counts!;
  return { ready, leased };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "done",
    (error: unknown) => (error as FlotillaError).code,
  );
}

test("transaction: what is published to queues, topics and exchanges in one is in all of them, each once, and by keys", async () => {
  const [a, b] = [await queue(), await topic(3)];
  await client.queues.createExchange({ name: "tx-fan", type: "fanout" });
  const bound = await queue();
  await client.queues.createBinding({ source: "tx-fan", destination: bound });
  await client.queues.createBinding({ source: "tx-fan", destination: a });
  const keyed = ["x", "y", "z"].map((key) => ({ key, body: key }));
  const tx = client
    .transaction()
    .publish(a, [{ body: "1" }, { body: "2", priority: 3 }])
    .publish(b, keyed);
  const done = await tx.publishToExchange("tx-fan", [{ body: "e" }]).commit();
  expect(done).toMatchObject({ state: "committed", complete: true, routed: 7 });
  expect([await inQueue(a), await inTopic(b), await inQueue(bound)]).toEqual([["1", "2", "e"], ["x", "y", "z"], ["e"]]);
  // As a producer would have placed them.
  const producer = await client.producer(b);
  const placed = await Promise.all(keyed.map(({ key }) => producer.send({ key, body: `${key}'` })));
  for (const [at, { key }] of keyed.entries()) {
    const [part] = await client.fetch(b, [{ partition: placed[at]!.partition, from: "earliest" }]);
    expect(Buffer.concat(part!.batches.map(({ bytes }) => Buffer.from(bytes))).includes(`${key}\x12`)).toBe(true);
  }
  await expect.poll(() => client.transactions.list()).toEqual([]);
  const [first] = await client.receive(a);
  expect(text(first!)).toBe("2");
});

test("transaction: a message is taken and what it leads to is published, both or neither; there is room for another one then", async () => {
  const [from, to] = [await queue(), await queue()];
  await client.publish(from, [{ body: "a" }, { body: "b" }, { body: "c" }]);
  await using consumer = await client.queueConsumer(from, { prefetch: 1 });
  for (const expected of ["a", "b"]) {
    const message = (await consumer.next())!;
    expect(text(message)).toBe(expected);
    expect(
      await client
        .transaction()
        .publish(to, [{ body: expected.toUpperCase() }])
        .ack(message)
        .commit(),
    ).toMatchObject({
      state: "committed",
      complete: true,
    });
  }
  const last = (await consumer.next())!;
  await client
    .transaction()
    .publish(to, [{ body: "C" }])
    .nack(last, { delayMs: 0 })
    .commit();
  const again = (await consumer.next())!;
  expect([text(again), again.attempt]).toEqual(["c", 2]);
  expect(
    await codeOf(
      client
        .transaction()
        .publish("nowhere", [{ body: "x" }])
        .ack(again)
        .commit(),
    ),
  ).toBe("UNKNOWN_TOPIC");
  const released = (await consumer.next())!;
  expect([text(released), released.attempt]).toEqual(["c", 2]);
  await released.ack();
  expect(await inQueue(to)).toEqual(["A", "B", "C"]);
  await expect.poll(() => counts(from)).toEqual({ ready: 0, leased: 0 });
});

test("transaction: put together and dropped, its messages come again, to a consumer and to whoever received them", async () => {
  const from = await queue();
  await client.publish(from, [{ body: "a" }]);
  await using consumer = await client.queueConsumer(from, { prefetch: 1 });
  const message = (await consumer.next())!;
  client
    .transaction()
    .publish(from, [{ body: "b" }])
    .ack(message)
    .rollback();
  const again = (await consumer.next())!;
  expect([text(again), again.attempt]).toEqual(["a", 1]);
  await again.release();
  await consumer.close();
  const [received] = await client.receive(from, { maxWaitMs: 5_000, leaseMs: 600_000 });
  client.transaction().ack(received!).rollback();
  const [back] = await client.receive(from, { maxWaitMs: 5_000 });
  expect([text(back!), back!.attempt]).toEqual(["a", 1]);
});

test("transaction: one that settles what is somebody else's by now publishes nothing, and lets go of the rest", async () => {
  const [one, other, to] = [await queue(), await queue(), await queue()];
  await client.publish(one, [{ body: "a" }]);
  await client.publish(other, [{ body: "b" }]);
  const [mine] = await client.receive(one, { leaseMs: 60_000 });
  const [lost] = await client.receive(other, { leaseMs: 1_000 });
  const tx = client
    .transaction()
    .publish(to, [{ body: "x" }])
    .ack(mine!)
    .ack(lost!);
  await expect.poll(() => counts(other), { timeout: 5_000 }).toEqual({ ready: 1, leased: 0 });
  expect(await codeOf(tx.commit())).toBe("LEASE_LOST");
  await expect.poll(() => counts(one)).toEqual({ ready: 1, leased: 0 });
  expect([await inQueue(to), (await client.receive(one))[0]!.attempt]).toEqual([[], 1]);
});

test("transaction: prepared it holds, and anybody commits it or rolls it back by its id or name; the first verdict stands", async () => {
  const [from, to] = [await queue(), await queue()];
  await client.publish(from, [{ body: "a" }, { body: "b" }]);
  const messages = await client.receive(from, { maxMessages: 2, leaseMs: 1_000 });
  const id = await client
    .transaction({ timeoutMs: 60_000 })
    .publish(to, [{ body: "A" }])
    .ack(messages[0]!)
    .prepare();
  const named = client
    .transaction({ name: "pay-7", timeoutMs: 60_000 })
    .publish(to, [{ body: "B" }])
    .ack(messages[1]!);
  const second = await named.prepare();
  const listed = await client.transactions.list();
  expect(listed.map((one) => [one.id, one.name, one.state, one.targets, one.holds.length])).toEqual([
    [id, "", "prepared", [{ name: to, partition: 0, records: 1 }], 1],
    [second, "pay-7", "prepared", [{ name: to, partition: 0, records: 1 }], 1],
  ]);
  expect((await client.transactions.describe({ name: "pay-7" })).id).toBe(second);
  expect(
    await codeOf(
      client
        .transaction({ name: "pay-7" })
        .publish(to, [{ body: "x" }])
        .prepare(),
    ),
  ).toBe("EXISTS_DIFFERENT");
  expect([await inQueue(to), await counts(from)]).toEqual([[], { ready: 0, leased: 2 }]);
  await using elsewhere = await Flotilla.connect({ endpoints: [cluster.endpoints[2]!] });
  expect(await elsewhere.transactions.commit(id)).toMatchObject({ complete: true });
  await elsewhere.transactions.rollback({ name: "pay-7" });
  expect(await inQueue(to)).toEqual(["A"]);
  expect(await counts(from)).toEqual({ ready: 1, leased: 0 });
  expect(["done", "UNKNOWN_TRANSACTION"]).toContain(await codeOf(client.transactions.commit(id)));
  expect(["TRANSACTION_ENDED", "UNKNOWN_TRANSACTION"]).toContain(await codeOf(client.transactions.commit(second)));
  await expect.poll(() => codeOf(client.transactions.describe(second))).toBe("UNKNOWN_TRANSACTION");
  expect((await client.receive(from))[0]!.attempt).toBe(1);
});

test("transaction: of those that ask for one name at one time one gets it", async () => {
  const to = await queue();
  const prepare = (at: number): Promise<string> =>
    client
      .transaction({ name: "mine" })
      .publish(to, [{ body: String(at) }])
      .prepare();
  const outcomes = await Promise.allSettled([0, 1, 2, 3, 4].map(prepare));
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  for (const outcome of outcomes) if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "EXISTS_DIFFERENT" });
  await client.transactions.commit({ name: "mine" });
  expect(await inQueue(to)).toHaveLength(1);
});

test("transaction: prepared and forgotten it is rolled back when its time is up", async () => {
  const [from, to] = [await queue(), await queue()];
  await client.publish(from, [{ body: "a" }]);
  const [message] = await client.receive(from);
  const id = await client
    .transaction({ timeoutMs: 500 })
    .publish(to, [{ body: "A" }])
    .ack(message!)
    .prepare();
  await expect.poll(() => counts(from), { timeout: 10_000 }).toEqual({ ready: 1, leased: 0 });
  await expect.poll(() => codeOf(client.transactions.commit(id)), { timeout: 10_000 }).toBe("UNKNOWN_TRANSACTION");
  expect(await inQueue(to)).toEqual([]);
});

test("transaction: where one target is full it is decided and comes there later; where one was deleted it does not wait for it", async () => {
  const [full, free] = [await queue({ maxMessages: 1, overflow: "reject-publish" }), await queue()];
  await client.publish(full, [{ body: "0" }]);
  const done = await client
    .transaction()
    .publish(full, [{ body: "1" }])
    .publish(free, [{ body: "1" }])
    .commit();
  expect(done).toMatchObject({ state: "committed", complete: false });
  expect([await inQueue(full), await inQueue(free)]).toEqual([["0"], ["1"]]);
  expect((await client.transactions.list()).map(({ state }) => state)).toEqual(["committed"]);
  expect(await codeOf(client.transactions.rollback(done.id))).toBe("TRANSACTION_ENDED");
  const [first] = await client.receive(full);
  await first!.ack();
  await expect.poll(() => inQueue(full), { timeout: 20_000 }).toEqual(["1"]);
  await expect.poll(() => client.transactions.list(), { timeout: 20_000 }).toEqual([]);
  expect(await inQueue(free)).toEqual(["1"]);
  const gone = await queue();
  const id = await client
    .transaction()
    .publish(gone, [{ body: "2" }])
    .publish(free, [{ body: "2" }])
    .prepare();
  await client.queues.deleteQueue(gone);
  await client.transactions.commit(id);
  await expect.poll(() => inQueue(free), { timeout: 20_000 }).toEqual(["1", "2"]);
  await expect.poll(() => client.transactions.list(), { timeout: 20_000 }).toEqual([]);
}, 90_000);

test("transaction: what is wrong with it is said before anything happens, and the broker's own names are nobody's", async () => {
  const to = await queue();
  const cases: [string, () => Promise<unknown>][] = [
    ["INVALID_ARGUMENT", () => client.transaction().commit()],
    [
      "UNKNOWN_TOPIC",
      () =>
        client
          .transaction()
          .publish(to, [{ body: "x" }])
          .publish("nowhere", [{ body: "x" }])
          .commit(),
    ],
    [
      "UNKNOWN_EXCHANGE",
      () =>
        client
          .transaction()
          .publish(to, [{ body: "x" }])
          .publishToExchange("nowhere", [{ body: "x" }])
          .commit(),
    ],
    [
      "UNROUTABLE",
      () =>
        client
          .transaction()
          .publish(to, [{ body: "x" }])
          .publishToExchange("", [{ body: "x" }], { routingKey: "nowhere", mandatory: true })
          .commit(),
    ],
    [
      "INVALID_ARGUMENT",
      () =>
        client
          .transaction({ timeoutMs: 86_400_001 })
          .publish(to, [{ body: "x" }])
          .prepare(),
    ],
    [
      "INVALID_ARGUMENT",
      () =>
        client
          .transaction({ name: "n".repeat(129) })
          .publish(to, [{ body: "x" }])
          .prepare(),
    ],
    [
      "BATCH_TOO_LARGE",
      () =>
        client
          .transaction()
          .publishToExchange("tx-fan", [{ body: Buffer.alloc(2_500_000) }])
          .commit(),
    ],
    [
      "UNKNOWN_VHOST",
      () =>
        client
          .transaction({ vhost: "none" })
          .publish(to, [{ body: "x" }])
          .commit(),
    ],
    ["UNKNOWN_TRANSACTION", () => client.transactions.commit("7-7-abc")],
    ["INVALID_ARGUMENT", () => client.transactions.commit("what")],
    ["UNKNOWN_TRANSACTION", () => client.transactions.rollback({ name: "nobody's" })],
    ["INVALID_NAME", () => client.queues.createQueue({ name: "flotilla.mine" })],
    ["INVALID_NAME", () => client.admin.createTopic({ name: "flotilla.mine" })],
    ["INVALID_NAME", () => client.queues.createExchange({ name: "flotilla.mine", type: "fanout" })],
    ["INVALID_NAME", () => client.queues.createBinding({ source: "tx-fan", destination: "flotilla.transactions" })],
    ["INVALID_NAME", () => client.publish("flotilla.transactions", [{ body: "x" }])],
    ["INVALID_NAME", () => client.receive("flotilla.transactions")],
    ["INVALID_NAME", () => client.queues.purgeQueue("flotilla.transactions")],
    ["INVALID_NAME", () => client.queues.deleteQueue("flotilla.transactions")],
    ["INVALID_NAME", () => client.recall("flotilla.transactions", 0)],
  ];
  for (const [code, work] of cases) expect(await codeOf(work())).toBe(code);
  expect(await client.publishToExchange("", [{ body: "x" }], { routingKey: "flotilla.transactions" })).toEqual({ routed: 0 });
  expect(await inQueue(to)).toEqual([]);
  expect((await client.queues.listQueues()).map(({ name }) => name)).toContain("flotilla.transactions");
  expect((await client.queues.exportDefinitions()).includes("flotilla.transactions")).toBe(false);
});

test("expedite: a message that is delayed for an hour comes now", async () => {
  const name = await queue();
  await client.publish(name, [
    { body: "late", delayMs: 3_600_000 },
    { body: "later", delayMs: 3_600_000 },
  ]);
  expect(await client.expedite(name, 0)).toBe(true);
  expect(await client.expedite(name, 1, { delayMs: 60_000, priority: 4 })).toBe(true);
  expect(text((await client.receive(name))[0]!)).toBe("late");
  expect(await client.expedite(name, 0)).toBe(false);
  expect((await client.browse(name)).messages.map((one) => [text(one), one.state])).toContainEqual(["later", "delayed"]);
});
