// What nobody should say to a queue: a clear error, a bounded cost, nothing lost, nobody else harmed.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Flotilla, type FlotillaErrorCode, type WorkSettings } from "../../../src/client/index.ts";
import { startCluster, type TestCluster } from "../../support/cluster.ts";

let cluster: TestCluster;
let client: Flotilla;
let names = 0;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.queues.createQueue({ name: "witness" });
});

// Whatever was said: a queue beside it works, and no node is gone.
afterEach(async () => {
  await client.publish("witness", [{ body: "still here" }]);
  const [message] = await client.receive("witness", { maxWaitMs: 5_000 });
  await message!.ack();
  for (const node of cluster.nodeIds) expect(cluster.isRunning(node)).toBe(true);
});

afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

async function queue(settings: Partial<WorkSettings> = {}): Promise<string> {
  const name = `q${++names}`;
  await client.queues.createQueue({ name, settings });
  return name;
}

const refused = async (work: Promise<unknown>, code: FlotillaErrorCode, says?: string): Promise<void> => {
  await expect(work).rejects.toMatchObject({ code, ...(says === undefined ? {} : { message: expect.stringContaining(says) }) });
};

test("bad input: an acknowledgement of what is unknown, foreign, expired or acknowledged already", async () => {
  const [mine, other] = [await queue(), await queue()];
  await client.publish(mine, [{ body: "1" }]);
  await client.publish(other, [{ body: "2" }]);
  const [message] = await client.receive(mine, { leaseMs: 1_000 });
  await refused(client.receive("no-such-queue"), "UNKNOWN_QUEUE", "flotilla queue create");
  const [foreign] = await client.receive(other);
  Object.defineProperty(foreign!, "consumer", { value: 12_345 });
  await refused(foreign!.ack(), "LEASE_LOST");
  Object.defineProperty(foreign!, "token", { value: 0 });
  Object.assign(foreign!, { isSettled: false });
  await refused(foreign!.ack(), "INVALID_ARGUMENT", "token");
  const [again] = await client.receive(mine, { maxWaitMs: 5_000 });
  await refused(message!.ack(), "LEASE_LOST");
  await again!.ack();
  Object.assign(again!, { isSettled: false });
  await refused(again!.ack(), "LEASE_LOST");
  expect((await client.queues.describeQueue(other)).queue.counts).toMatchObject({ leased: 1 });
});

test("bad input: a nack loop costs what the limit allows, and the message is kept", async () => {
  const name = await queue({ deliveryLimit: 50 });
  await client.publish(name, [{ body: "poison" }]);
  await using consumer = await client.queueConsumer(name);
  for await (const message of consumer) {
    await message.nack();
    if (message.attempt === 50) break;
  }
  expect((await client.queues.describeQueue(name)).queue.counts).toMatchObject({ ready: 0, dead: 1 });
});

test.each<{ what: string; record: object; says: string }>([
  { what: "a priority out of range", record: { priority: 32 }, says: "0..31" },
  { what: "a delay of more than a year", record: { delayMs: 400 * 86_400_000 }, says: "delay_ms" },
  { what: "a time of more than a year ahead", record: { deliverAtMs: 9_999_999_999_999 }, says: "deliver_at_ms" },
  { what: "a time and a delay", record: { deliverAtMs: 1, delayMs: 1 }, says: "one of the two" },
  { what: "a time to live of more than a year", record: { ttlMs: 400 * 86_400_000 }, says: "ttl_ms" },
])("bad input: $what", async ({ record, says }) => {
  const name = await queue();
  await refused(client.publish(name, [{ body: "good" }, { body: "bad", ...record }]), "INVALID_ARGUMENT", says);
  expect((await client.queues.describeQueue(name)).endOffset).toBe(0);
});

test("bad input: numbers below zero never leave the client, and are refused by the server", async () => {
  const name = await queue();
  await refused(client.publish(name, [{ body: "bad", delayMs: -1 }]), "INVALID_ARGUMENT", "delayMs");
  await refused(client.queues.createQueue({ name: `${name}b`, settings: { ttlMs: -5 } }), "INVALID_ARGUMENT", "ttl_ms");
});

test("bad input: a queue is declared again with other settings, or as something else", async () => {
  const name = await queue({ ttlMs: 1_000 });
  expect((await client.queues.createQueue({ name, settings: { ttlMs: 1_000 } })).created).toBe(false);
  await refused(client.queues.createQueue({ name, settings: { ttlMs: 2_000 } }), "EXISTS_DIFFERENT", "ttlMs is 1000, not 2000");
  await refused(client.queues.createQueue({ name, settings: { ttlMs: 1_000 }, replicas: 1 }), "EXISTS_DIFFERENT", "replicas is 3, not 1");
  // Who does not say how many copies there are to be takes those that there are.
  await client.queues.createQueue({ name: `${name}.single`, replicas: 1 });
  expect((await client.queues.createQueue({ name: `${name}.single` })).created).toBe(false);
  await refused(client.admin.createTopic({ name }), "TOPIC_EXISTS", "queue");
  await refused(client.queues.createQueue({ name: "not a name" }), "INVALID_NAME");
});

test("bad input: a queue in use is not deleted when that was the condition", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "1" }]);
  const consumer = await client.queueConsumer(name);
  await (await consumer.next())!.release();
  await refused(client.queues.deleteQueue(name, { ifUnused: true }), "CONFLICT", "1 consumers");
  await consumer.close();
  await refused(client.queues.deleteQueue(name, { ifEmpty: true }), "CONFLICT", "1 messages");
  await client.queues.purgeQueue(name);
  await client.queues.deleteQueue(name, { ifEmpty: true, ifUnused: true });
  await refused(client.queues.deleteQueue(name), "UNKNOWN_QUEUE");
});

test("bad input: a queue is deleted under its consumers: they are told so", async () => {
  const name = await queue();
  const consumer = await client.queueConsumer(name);
  const told = refused(consumer.next(), "UNKNOWN_QUEUE", "deleted");
  await client.queues.deleteQueue(name);
  await client.queues.createQueue({ name });
  await told;
  await refused(consumer.next(), "UNKNOWN_QUEUE");
  await client.queues.deleteQueue(name);
});

test("bad input: exchanges bound in a circle ask each other once", async () => {
  const name = await queue();
  for (const exchange of ["c1", "c2", "c3"]) await client.queues.createExchange({ name: exchange, type: "fanout" });
  for (const [source, destination] of [
    ["c1", "c2"],
    ["c2", "c3"],
    ["c3", "c1"],
  ] as const)
    await client.queues.createBinding({ source, destination, toExchange: true });
  await client.queues.createBinding({ source: "c3", destination: name });
  const { routed } = await client.publishToExchange("c1", [{ body: "round" }]);
  expect(routed).toBe(1);
});

test("bad input: a routing key of 255 characters is the longest, in a publish, a record and a binding", async () => {
  const name = await queue();
  await client.queues.createBinding({ source: "amq.direct", destination: name, routingKey: "k".repeat(255) });
  const publish = (routingKey: string): Promise<{ routed: number }> =>
    client.publishToExchange("amq.direct", [{ body: "1" }], { routingKey });
  expect((await publish("k".repeat(255))).routed).toBe(1);
  await refused(publish("k".repeat(256)), "INVALID_ARGUMENT", "255");
  await refused(client.publishToExchange("amq.direct", [{ body: "1", routingKey: "k".repeat(256) }]), "INVALID_ARGUMENT", "255");
  await refused(
    client.queues.createBinding({ source: "amq.direct", destination: name, routingKey: "k".repeat(256) }),
    "INVALID_ARGUMENT",
    "255",
  );
});

test("bad input: 10,000 headers pass where nobody looks at them, and are refused where somebody would", async () => {
  const name = await queue();
  const headers = Array.from({ length: 10_000 }, (_, at) => ({ name: `h${at}`, value: Buffer.from("v") }));
  await client.publish(name, [{ body: "many", headers }]);
  const [message] = await client.receive(name, { autoAck: true });
  expect(message!.headers).toHaveLength(10_000);
  await client.queues.createBinding({ source: "amq.headers", destination: name, headers: { h1: "v" } });
  await refused(client.publishToExchange("amq.headers", [{ body: "many", headers }]), "MALFORMED_BATCH", "headers");
});

test("bad input: a consumer that never acknowledges, and one that never reads, keep nobody else from their messages", async () => {
  const name = await queue();
  const idle = await client.queueConsumer(name, { prefetch: 10, leaseMs: 1_000, extendMsMax: 0 });
  await client.publish(
    name,
    Array.from({ length: 100 }, (_, at) => ({ body: Buffer.alloc(10_000, at) })),
  );
  await using worker = await client.queueConsumer(name, { prefetch: 20 });
  let done = 0;
  for await (const message of worker) {
    await message.ack().catch(() => done--);
    done += 1;
    // Those of the idle one come when its leases end, again and again.
    if (done >= 90) break;
  }
  expect(done).toBeGreaterThanOrEqual(90);
  await idle.close({ timeoutMs: 100 });
});

test("bad input: credit beyond the bound, settlements before the beginning, and a second beginning end the stream with a reason", async () => {
  const name = await queue();
  await refused(client.queueConsumer(name, { prefetch: 65_537 }), "INVALID_ARGUMENT", "prefetch");
  await refused(client.queueConsumer(name, { leaseMs: 10 }), "INVALID_ARGUMENT", "leaseMs");
  await refused(client.receive(name, { maxMessages: 5_000 }), "INVALID_ARGUMENT", "max_messages");
  await refused(client.receive(name, { leaseMs: 5 }), "INVALID_ARGUMENT", "lease_ms");
  await refused(client.queueConsumer("no-such-queue"), "UNKNOWN_QUEUE", "flotilla queue create");
});

test("bad input: what is bound, changed or deleted and is not there is named", async () => {
  const name = await queue();
  await refused(client.queues.createBinding({ source: "nope", destination: name }), "UNKNOWN_OBJECT", "exchange");
  await refused(client.queues.createBinding({ source: "amq.direct", destination: "nope" }), "UNKNOWN_OBJECT", "queue");
  await refused(client.queues.createBinding({ source: "", destination: name }), "CONFLICT", "default exchange");
  await refused(client.queues.deleteBinding({ source: "amq.direct", destination: name, routingKey: "never" }), "UNKNOWN_OBJECT");
  await refused(client.queues.deleteExchange("amq.topic"), "CONFLICT");
  await refused(client.queues.deleteVhost("/"), "CONFLICT");
  await refused(client.queues.createExchange({ name: "amq.own", type: "direct" }), "INVALID_NAME");
  await refused(
    client.queues.setSchedule({ name: "s", cron: "not cron", exchange: "", routingKey: name, record: { body: "" } }),
    "INVALID_ARGUMENT",
    "cron",
  );
  await refused(
    client.queues.setSchedule({
      name: "s",
      cron: "* * * * *",
      timeZone: "Mars/Base",
      exchange: "",
      routingKey: name,
      record: { body: "" },
    }),
    "INVALID_ARGUMENT",
    "time_zone",
  );
  await refused(client.queues.updateQueue(name, { reset: ["nothing" as keyof WorkSettings] }), "INVALID_ARGUMENT", '"nothing"');
  await refused(client.queues.updateQueue(name, { settings: { deadLetterExchange: "not a name" } }), "INVALID_NAME");
  await refused(client.queues.updateQueue(name, { settings: { deadLetterKey: "k".repeat(256) } }), "INVALID_ARGUMENT", "255");
});

test("bad input: a queue is not treated as a topic", async () => {
  const name = await queue();
  await refused(client.admin.expandTopic(name, 2), "INVALID_ARGUMENT", "is a queue");
  await refused(client.admin.updateTopic(name, { retentionBytes: 1 }), "INVALID_ARGUMENT", "UpdateQueue");
  await refused(client.admin.deleteTopic(name), "INVALID_ARGUMENT", "flotilla queue");
});

test("bad input: schedules and policies of definitions that lack what they need, or have nonsense", async () => {
  const schedule = { name: "s", cron: "* * * * * *", timeZone: "UTC", exchange: "", routingKey: "witness", records: "0a00" };
  const flotilla_schedules = [
    { ...schedule, records: undefined },
    { ...schedule, records: "0a0" },
    { ...schedule, records: "zz" },
    { ...schedule, cron: undefined },
    { ...schedule, cron: 7 },
    { ...schedule, timeZone: "Mars" },
  ];
  const policies = [{ name: "p", pattern: "x", priority: "high", definition: {} }];
  const { created, problems } = await client.queues.importDefinitions(JSON.stringify({ flotilla_schedules, policies }));
  expect([created, problems.length]).toEqual([0, 7]);
  expect(await client.queues.listSchedules()).toEqual([]);
});

test("bad input: as many subscriptions as a topic may have, and then a refusal", async () => {
  await client.admin.createTopic({ name: "many", partitions: 1 });
  let refusedAt = -1;
  for (let at = 0; at < 300 && refusedAt < 0; at += 20)
    await Promise.all(
      Array.from({ length: 20 }, async (_, more) => {
        try {
          await client.queues.createWorkSubscription({ topic: "many", name: `w${at + more}` });
        } catch (error) {
          expect(error).toMatchObject({ code: "TOO_MANY" });
          refusedAt = at;
        }
      }),
    );
  expect(refusedAt).toBe(240);
}, 120_000);

test("bad input: transactions with parts that are nobody's, of too many, or of others", async () => {
  const [name, to] = [await queue(), await queue()];
  await client.publish(name, [{ body: "1" }, { body: "2" }, { body: "3" }]);
  const [one, two, three] = await client.receive(name, { maxMessages: 3, leaseMs: 60_000 });
  const held = client
    .transaction({ timeoutMs: 60_000 })
    .publish(to, [{ body: "x" }])
    .ack(one!);
  expect(() => held.ack(one!)).toThrow("in the transaction already");
  const id = await held.prepare();
  expect(() => held.publish(to, [{ body: "y" }])).toThrow("sent already");
  await refused(client.transaction().ack(one!).commit(), "LEASE_LOST");
  // What a transaction holds is no consumer's, whoever says so.
  const holder = Number(id.split("-")[1]) + 1;
  Object.defineProperty(one!, "consumer", { value: holder });
  Object.assign(one!, { isSettled: false });
  await refused(one!.ack(), "LEASE_LOST");
  await refused(one!.extend(1_000), "LEASE_LOST");
  Object.assign(one!, { isSettled: false });
  await refused(
    client
      .transaction()
      .publish(to, [{ body: "z" }])
      .ack(one!)
      .commit(),
    "LEASE_LOST",
  );
  Object.defineProperty(two!, "token", { value: 0 });
  await refused(client.transaction().ack(two!).commit(), "INVALID_ARGUMENT", "token");
  Object.defineProperty(three!, "consumer", { value: 0 });
  await refused(client.transaction().ack(three!).commit(), "INVALID_ARGUMENT", "consumer");
  const many = client.transaction();
  for (let at = 0; at < 1_025; at++) many.publish(to, [{ body: "x" }]);
  await refused(many.commit(), "INVALID_ARGUMENT", "1024 parts");
  await refused(client.transaction().publish(to, []).commit(), "MALFORMED_BATCH", "no records");
  expect((await client.browse(to)).messages).toEqual([]);
  await client.transactions.commit(id);
  expect((await client.browse(to)).messages).toHaveLength(1);
  expect((await client.queues.describeQueue(name)).queue.counts).toMatchObject({ dead: 0 });
});
