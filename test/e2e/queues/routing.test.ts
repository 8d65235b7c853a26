// Exchanges, subscriptions of topics, consumer groups, policies, schedules and definitions on three real nodes.

import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla } from "../../../src/client/index.ts";
import { startCluster, type TestCluster } from "../../support/cluster.ts";

let cluster: TestCluster;
let client: Flotilla;
let names = 0;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
});

afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

const unique = (what: string): string => `${what}${++names}`;
const text = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();

async function queues(count: number): Promise<string[]> {
  const made = Array.from({ length: count }, () => unique("q"));
  await Promise.all(made.map((name) => client.queues.createQueue({ name })));
  return made;
}

async function bodies(queue: string): Promise<string[]> {
  return (await client.receive(queue, { maxMessages: 1_000, autoAck: true })).map(text).sort();
}

test("exchange: a record goes to every queue that is bound for it, once, from whichever node", async () => {
  const [a, b, c] = (await queues(3)) as [string, string, string];
  const exchange = unique("x");
  await client.queues.createExchange({ name: exchange, type: "topic" });
  await client.queues.createBinding({ source: exchange, destination: a, routingKey: "eu.#" });
  await client.queues.createBinding({ source: exchange, destination: a, routingKey: "#.new" });
  await client.queues.createBinding({ source: exchange, destination: b, routingKey: "*.new" });
  await client.queues.createBinding({ source: exchange, destination: c, routingKey: "us.#" });
  for (const endpoint of cluster.endpoints) {
    await using other = await Flotilla.connect({ endpoints: [endpoint] });
    const { routed } = await other.publishToExchange(exchange, [{ body: "1" }, { body: "2", routingKey: "us.old" }], {
      routingKey: "eu.new",
    });
    expect(routed).toBe(3);
  }
  expect([await bodies(a), await bodies(b), await bodies(c)]).toEqual([
    ["1", "1", "1"],
    ["1", "1", "1"],
    ["2", "2", "2"],
  ]);
});

test("exchange: headers, alternates, exchanges bound to exchanges and topics as targets", async () => {
  const [pdfs, lost] = (await queues(2)) as [string, string];
  const [entry, docs, rest, log] = [unique("x"), unique("x"), unique("x"), unique("t")];
  await client.admin.createTopic({ name: log, partitions: 3 });
  await client.queues.createExchange({ name: rest, type: "fanout" });
  await client.queues.createExchange({ name: entry, type: "fanout" });
  await client.queues.createExchange({ name: docs, type: "headers", alternate: rest });
  await client.queues.createBinding({ source: entry, destination: docs, toExchange: true });
  await client.queues.createBinding({ source: entry, destination: log });
  await client.queues.createBinding({ source: docs, destination: pdfs, headers: { kind: "pdf", urgent: null }, match: "all" });
  await client.queues.createBinding({ source: rest, destination: lost });
  const header = (name: string, value: string): { name: string; value: Uint8Array } => ({ name, value: Buffer.from(value) });
  await using producer = client.exchangeProducer(entry);
  await Promise.all([
    producer.send({ body: "pdf", headers: [header("kind", "pdf"), header("urgent", "no")] }),
    producer.send({ body: "text", headers: [header("kind", "text")] }),
  ]);
  expect([await bodies(pdfs), await bodies(lost)]).toEqual([["pdf"], ["text"]]);
  const { partitions } = await client.admin.describeTopic(log);
  expect(partitions.reduce((sum, { endOffset }) => sum + endOffset, 0)).toBe(2);
  const routes = await client.queues.explainPublish({ exchange: entry, headers: [header("kind", "pdf"), header("urgent", "x")] });
  expect(new Map(routes.map(({ target, exchanges }) => [target, exchanges]))).toEqual(
    new Map([
      [pdfs, [entry, docs]],
      [log, [entry]],
    ]),
  );
});

test("exchange: what goes nowhere is said when it is asked for", async () => {
  const exchange = unique("x");
  await client.queues.createExchange({ name: exchange, type: "direct" });
  await using strict = client.exchangeProducer(exchange, { mandatory: true });
  await expect(strict.send({ body: "?", routingKey: "nobody" })).rejects.toMatchObject({ code: "UNROUTABLE" });
  await using easy = client.exchangeProducer(exchange);
  expect(await easy.send({ body: "?", routingKey: "nobody" })).toEqual({ routed: false });
  await expect(client.publishToExchange("no.such", [{ body: "?" }])).rejects.toMatchObject({ code: "UNKNOWN_EXCHANGE" });
});

test("exchange: a publish that is tried again is stored once by every queue", async () => {
  const [a, b] = (await queues(2)) as [string, string];
  await client.queues.createBinding({ source: "amq.fanout", destination: a });
  await client.queues.createBinding({ source: "amq.fanout", destination: b });
  const producer = client.exchangeProducer("amq.fanout", { lingerMs: 0 });
  const total = 300;
  const sending = Promise.all(Array.from({ length: total }, async (_, at) => producer.send({ body: String(at).padStart(4, "0") })));
  const leader = await cluster.leaderOf(a, 0);
  await cluster.kill(leader);
  cluster.start(leader);
  await sending;
  await cluster.ready(leader);
  await producer.close();
  const expected = Array.from({ length: total }, (_, at) => String(at).padStart(4, "0"));
  expect(await bodies(a)).toEqual(expected);
  expect(await bodies(b)).toEqual(expected);
});

test("topic: one stored copy is a log, a work subscription and a broadcast at the same time", async () => {
  const topic = unique("t");
  await client.admin.createTopic({ name: topic, partitions: 2 });
  await client.queues.createWorkSubscription({ topic, name: "shared", from: "earliest" });
  const producer = await client.producer(topic);
  await Promise.all(Array.from({ length: 40 }, (_, at) => producer.send({ body: String(at), key: `k${at % 8}` })));
  await using one = await client.queueConsumer(topic, { subscription: "shared", prefetch: 5 });
  await using other = await client.queueConsumer(topic, { subscription: "shared", prefetch: 5 });
  const shared: string[] = [];
  const work = async (consumer: typeof one): Promise<void> => {
    for await (const message of consumer) {
      shared.push(text(message));
      await message.ack();
      if (shared.length === 40) {
        void one.close();
        void other.close();
      }
    }
  };
  await Promise.all([work(one), work(other)]);
  expect(shared.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, at) => at));
  for (const subscription of ["reader-1", "reader-2"]) {
    await using reader = await client.consumer(topic, { subscription, from: "committed" });
    const seen: string[] = [];
    for await (const record of reader) {
      seen.push(text(record));
      if (seen.length === 40) break;
    }
    expect(new Set(seen).size).toBe(40);
  }
  await client.queues.seekWorkSubscription(topic, "shared", "earliest");
  // There are eight keys, and of each one message at a time.
  for (let round = 0; round < 5; round++)
    expect(await client.receive(topic, { subscription: "shared", maxMessages: 100, autoAck: true })).toHaveLength(8);
  const [info] = await client.queues.listWorkSubscriptions(topic);
  expect(info).toMatchObject({ name: "shared", counts: { ready: 0, leased: 0 } });
  await client.queues.deleteWorkSubscription(topic, "shared");
  await expect(client.receive(topic, { subscription: "shared" })).rejects.toMatchObject({ code: "UNKNOWN_SUBSCRIPTION" });
});

test("group: partitions are shared, move when members come and go, and nobody reads what another one is still at", async () => {
  const topic = unique("t");
  await client.admin.createTopic({ name: topic, partitions: 4 });
  const first = await client.groupConsumer(topic, "g");
  expect(first.partitions).toEqual([0, 1, 2, 3]);
  const second = await client.groupConsumer(topic, "g");
  await expect.poll(() => [first.partitions.length, second.partitions.length], { timeout: 15_000 }).toEqual([2, 2]);
  const producer = await client.producer(topic);
  await Promise.all(Array.from({ length: 80 }, (_, at) => producer.send({ body: String(at), key: `k${at % 16}` })));
  const seen: string[] = [];
  const read = async (member: typeof first): Promise<void> => {
    for await (const record of member) {
      seen.push(text(record));
      if (seen.length === 80) {
        void first.close();
        void second.close();
      }
    }
  };
  await Promise.all([read(first), read(second)]);
  expect(new Set(seen).size).toBe(80);
  expect(seen).toHaveLength(80);
  await using third = await client.groupConsumer(topic, "g");
  await client.admin.expandTopic(topic, 6);
  await expect.poll(() => third.partitions.length, { timeout: 15_000 }).toBe(6);
});

test("group: a member of an earlier generation can commit no more", async () => {
  const topic = unique("t");
  await client.admin.createTopic({ name: topic, partitions: 1 });
  await client.publish(topic, [{ body: "1" }, { body: "2" }]);
  const commit = (offset: number, generation: number): Promise<unknown> =>
    client.commitOffsets(topic, "g", [{ partition: 0, offset }], { generation });
  expect(await commit(1, 2)).toEqual([]);
  expect(await commit(2, 1)).toMatchObject([{ error: { reason: "FENCED_MEMBER" } }]);
  expect(await commit(2, 3)).toEqual([]);
});

test("group: a partition is its reader's from the first moment on: who read it before commits no more, had nobody ever committed", async () => {
  const topic = unique("t");
  await client.admin.createTopic({ name: topic, partitions: 1 });
  await client.publish(topic, [{ body: "1" }, { body: "2" }]);
  const before = await client.groupConsumer(topic, "g");
  await before.close();
  await using now = await client.groupConsumer(topic, "g");
  // The group's generation rose with each that came and went.
  const late = await client.commitOffsets(topic, "g", [{ partition: 0, offset: 2 }], { generation: 1 });
  expect(late).toMatchObject([{ error: { reason: "FENCED_MEMBER" } }]);
  const seen: string[] = [];
  for await (const record of now) {
    seen.push(text(record));
    if (seen.length === 2) break;
  }
  expect(seen).toEqual(["1", "2"]);
});

test("group: where the first member was to begin at the end, the next one begins where that was", async () => {
  const topic = unique("t");
  await client.admin.createTopic({ name: topic, partitions: 1 });
  await client.publish(topic, [{ body: "old" }]);
  const before = await client.groupConsumer(topic, "g", { from: "latest" });
  await before.close();
  await client.publish(topic, [{ body: "new" }]);
  await using now = await client.groupConsumer(topic, "g", { from: "latest" });
  for await (const record of now) {
    expect(text(record)).toBe("new");
    break;
  }
});

test("group: one that was taken for gone commits nothing of what others read by now, member again or not", async () => {
  const [topic, group] = [unique("t"), "g"];
  await client.admin.createTopic({ name: topic, partitions: 2 });
  await client.publish(topic, [{ body: "1" }, { body: "2" }, { body: "3" }], { partition: 0 });
  await using first = await client.groupConsumer(topic, group, { commitMs: 60_000 });
  await using second = await client.groupConsumer(topic, group, { commitMs: 60_000 });
  const have = (): number[][] => [first.partitions, second.partitions];
  await expect.poll(have, { timeout: 15_000 }).toEqual([[0], [1]]);
  let read = 0;
  for await (const _ of first) if (++read === 3) break;
  await client["channels"].call("flotilla.v1.Messaging", "LeaveGroup", { vhost: "", topic, group, member: first.member });
  await expect.poll(have, { timeout: 15_000 }).toEqual([[1], [0]]);
  const [subscription] = await client.admin.listSubscriptions(topic);
  expect(subscription!.partitions.map(({ committedOffset }) => committedOffset)).toEqual([0, 0]);
});

test("policy: it counts for the queues whose names it finds, below what they say themselves", async () => {
  const prefix = unique("tmp");
  await client.queues.createQueue({ name: `${prefix}.a` });
  await client.queues.createQueue({ name: `${prefix}.b`, settings: { maxMessages: 5 } });
  await client.queues.setPolicy({ name: prefix, pattern: `^${prefix}\\.`, settings: { maxMessages: 1 } });
  const describe = async (name: string): Promise<unknown> => (await client.queues.describeQueue(name)).queue;
  expect(await describe(`${prefix}.a`)).toMatchObject({ policy: prefix, settings: { maxMessages: 1 }, declared: {} });
  expect(await describe(`${prefix}.b`)).toMatchObject({ policy: prefix, settings: { maxMessages: 5 } });
  await expect
    .poll(async () => {
      await client.publish(`${prefix}.a`, [{ body: "1" }, { body: "2" }]);
      return (await client.queues.describeQueue(`${prefix}.a`)).queue.counts!.ready;
    })
    .toBe(1);
  await client.queues.deletePolicy(prefix);
  expect(await describe(`${prefix}.a`)).toMatchObject({ policy: "", settings: { maxMessages: 0 } });
  await expect(client.queues.setPolicy({ name: "bad", pattern: "(", settings: {} })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("schedule: it publishes once a second, whoever leads the catalog", async () => {
  const [queue] = (await queues(1)) as [string];
  const name = unique("s");
  await client.queues.setSchedule({ name, cron: "* * * * * *", exchange: "", routingKey: queue, record: { body: "tick", key: "k" } });
  const stamps: number[] = [];
  await using consumer = await client.queueConsumer(queue, { autoAck: true });
  for await (const message of consumer) {
    stamps.push(message.storedMs);
    if (stamps.length === 2) await client.cluster.transferLeader({});
    if (stamps.length === 5) break;
  }
  await client.queues.deleteSchedule(name);
  const seconds = stamps.map((stampMs) => Math.floor(stampMs / 1_000));
  expect(new Set(seconds).size).toBe(5);
  expect(seconds[4]! - seconds[0]!).toBeLessThanOrEqual(6);
});

test("vhost: what is in it is apart, and goes with it", async () => {
  const vhost = unique("v");
  await expect(client.queues.createQueue({ name: "q", vhost })).rejects.toMatchObject({ code: "UNKNOWN_VHOST" });
  expect(await client.queues.createVhost(vhost)).toBe(true);
  expect(await client.queues.createVhost(vhost)).toBe(false);
  await client.queues.createQueue({ name: "q", vhost });
  await client.publish("q", [{ body: "1" }], { vhost });
  expect((await client.receive("q", { vhost, autoAck: true })).map(text)).toEqual(["1"]);
  await expect(client.receive("q")).rejects.toMatchObject({ code: "UNKNOWN_QUEUE" });
  await client.queues.deleteVhost(vhost);
  await expect(client.receive("q", { vhost })).rejects.toMatchObject({ code: "UNKNOWN_QUEUE" });
});

test("definitions: what RabbitMQ exports is taken, what was exported here comes back as it was, and what cannot be taken is named", async () => {
  const vhost = unique("v");
  const rabbit = {
    rabbit_version: "3.10.8",
    vhosts: [{ name: vhost }],
    users: [{ name: "guest" }],
    queues: [
      {
        name: "orders",
        vhost,
        durable: true,
        auto_delete: false,
        arguments: {
          "x-queue-type": "quorum",
          "x-dead-letter-exchange": "",
          "x-dead-letter-routing-key": "dead",
          "x-delivery-limit": 3,
          "x-message-ttl": 60000,
        },
      },
      { name: "dead", vhost, durable: true, auto_delete: false, arguments: {} },
      { name: "odd", vhost, durable: true, auto_delete: false, arguments: { "x-unheard-of": 1 } },
    ],
    exchanges: [
      {
        name: "events",
        vhost,
        type: "topic",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: { "alternate-exchange": "amq.fanout" },
      },
    ],
    bindings: [{ source: "events", vhost, destination: "orders", destination_type: "queue", routing_key: "order.#", arguments: {} }],
    policies: [{ vhost, name: "short", pattern: "^dead$", "apply-to": "queues", priority: 2, definition: { "max-length": 10 } }],
  };
  const { created, problems } = await client.queues.importDefinitions(JSON.stringify(rabbit));
  expect(created).toBe(6);
  expect(problems).toEqual([expect.stringContaining("x-unheard-of"), expect.stringContaining("users")]);
  const again = await client.queues.importDefinitions(JSON.stringify(rabbit));
  expect(again).toMatchObject({ created: 1, unchanged: 5 });
  expect((await client.queues.describeQueue("orders", vhost)).queue.settings).toMatchObject({
    deliveryLimit: 3,
    ttlMs: 60_000,
    deadLetterKey: "dead",
  });
  await client.queues.createQueue({ name: "own", vhost, replicas: 1, durability: "interval", settings: { ttlMs: 0 } });
  const exported = await client.queues.exportDefinitions(vhost);
  await client.queues.deleteVhost(vhost);
  expect((await client.queues.importDefinitions(exported)).problems).toEqual([]);
  expect(await client.queues.exportDefinitions(vhost)).toBe(exported);
  const { queue } = await client.queues.describeQueue("own", vhost);
  expect(queue).toMatchObject({ replicas: 1, durability: "interval", declared: { ttlMs: 0 } });
  await expect(client.queues.importDefinitions("{")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});
