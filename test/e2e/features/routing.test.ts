// Exchanges, bindings and vhosts beyond test/e2e/queues/routing.test.ts: each type by its rules, and what a confirmed publish means.

import { expect, test } from "vitest";
import { Flotilla, type Binding, type ExchangeType, type Header } from "../../../src/client/index.ts";
import { feature, text } from "../../support/feature.ts";

const at = feature();

const header = (name: string, value = ""): Header => ({ name, value: Buffer.from(value) });

async function exchange(type: ExchangeType, alternate = ""): Promise<string> {
  const name = at.name("x");
  await at.client.queues.createExchange({ name, type, alternate });
  return name;
}

async function bound(source: string, ...bindings: Partial<Binding>[]): Promise<string> {
  const destination = await at.queue();
  for (const binding of bindings) await at.client.queues.createBinding({ source, destination, ...binding });
  return destination;
}

/** What was published to the exchange, by queue. */
async function found(...queues: string[]): Promise<string[]> {
  return Promise.all(
    queues.map(async (name) => (await at.client.receive(name, { maxMessages: 1_000, autoAck: true })).map(text).join(" ")),
  );
}

test("exchanges, direct: the routing key is the binding's, to the letter", async () => {
  const x = await exchange("direct");
  const queues = [
    await bound(x, { routingKey: "a" }),
    await bound(x, { routingKey: "a" }, { routingKey: "b" }),
    await bound(x, { routingKey: "A" }),
  ];
  await at.client.publishToExchange(
    x,
    ["a", "b", "a.b", ""].map((key) => ({ body: key === "" ? "none" : key, routingKey: key })),
  );
  expect(await found(...queues)).toEqual(["a", "a b", ""]);
});

test("exchanges, fanout: every queue, whatever the key", async () => {
  const x = await exchange("fanout");
  const queues = [await bound(x, { routingKey: "ignored" }), await bound(x, {})];
  await at.client.publishToExchange(x, [{ body: "1", routingKey: "k" }, { body: "2" }]);
  expect(await found(...queues)).toEqual(["1 2", "1 2"]);
});

test("bindings * and #: * is one word, # any number of them, and none", async () => {
  const x = await exchange("topic");
  const patterns = ["*.orange.*", "*.*.rabbit", "lazy.#", "#", "quick.orange.rabbit", "*", "#.male.#"];
  const queues = await Promise.all(patterns.map((routingKey) => bound(x, { routingKey })));
  const keys = ["quick.orange.rabbit", "lazy", "lazy.pink.rabbit", "quick.brown.fox", "orange", "a.male.b.c", "male"];
  await at.client.publishToExchange(
    x,
    keys.map((key) => ({ body: key, routingKey: key })),
  );
  expect(await found(...queues)).toEqual([
    "quick.orange.rabbit",
    "quick.orange.rabbit lazy.pink.rabbit",
    "lazy lazy.pink.rabbit",
    keys.join(" "),
    "quick.orange.rabbit",
    "lazy orange male",
    "a.male.b.c male",
  ]);
});

test("exchanges, headers: all or any of those that are asked for, by value or by being there", async () => {
  const x = await exchange("headers");
  const headers = { format: "pdf", "x-kind": "report", urgent: null };
  const all = await bound(x, { headers, match: "all" });
  const any = await bound(x, { headers, match: "any" });
  const allX = await bound(x, { headers, match: "all-with-x" });
  const anyX = await bound(x, { headers, match: "any-with-x" });
  await at.client.publishToExchange(x, [
    { body: "1", headers: [header("format", "pdf"), header("urgent", "whatever")] },
    { body: "2", headers: [header("format", "zip"), header("urgent")] },
    { body: "3", headers: [header("x-kind", "report")] },
    { body: "4", headers: [header("format", "pdf"), header("urgent"), header("x-kind", "report")] },
    { body: "5", headers: [header("format", "zip")] },
  ]);
  expect(await found(all, any, allX, anyX)).toEqual(["1 4", "1 2 4", "4", "1 2 3 4"]);
});

test("default exchange: every queue and topic by its name, and nothing can be bound to it", async () => {
  const [q, t] = [await at.queue(), at.name("t")];
  await at.client.admin.createTopic({ name: t, partitions: 1 });
  expect(
    await at.client.publishToExchange("", [
      { body: "q", routingKey: q },
      { body: "t", routingKey: t },
    ]),
  ).toEqual({ routed: 2 });
  expect(await found(q)).toEqual(["q"]);
  expect((await at.client.getOffsets(t))[0]!.endOffset).toBe(1);
  await expect(at.client.queues.createBinding({ source: "", destination: q })).rejects.toMatchObject({ code: "CONFLICT" });
});

test("exchange-to-exchange bindings: one copy for a queue that two ways lead to", async () => {
  const [entry, left, right] = [await exchange("fanout"), await exchange("topic"), await exchange("direct")];
  for (const destination of [left, right]) await at.client.queues.createBinding({ source: entry, destination, toExchange: true });
  const both = await bound(left, { routingKey: "#" });
  await at.client.queues.createBinding({ source: right, destination: both, routingKey: "k" });
  const one = await bound(right, { routingKey: "k" });
  expect(
    await at.client.publishToExchange(entry, [
      { body: "1", routingKey: "k" },
      { body: "2", routingKey: "other" },
    ]),
  ).toEqual({ routed: 3 });
  expect(await found(both, one)).toEqual(["1 2", "1"]);
});

test("alternate exchange: what goes nowhere goes there, from one to the next; mandatory says what went nowhere at all", async () => {
  const last = await exchange("direct");
  const middle = await exchange("direct", last);
  const first = await exchange("direct", middle);
  const q = await bound(last, { routingKey: "lost" });
  await using strict = at.client.exchangeProducer(first, { mandatory: true });
  expect(await strict.send({ body: "1", routingKey: "lost" })).toEqual({ routed: true });
  await expect(strict.send({ body: "2", routingKey: "nobody" })).rejects.toMatchObject({ code: "UNROUTABLE" });
  expect(await found(q)).toEqual(["1"]);
});

test("exchanges, consistent-hash: each key goes to one queue, always the same, by weight", async () => {
  const x = await exchange("consistent-hash");
  const queues = [await bound(x, { routingKey: "1" }), await bound(x, { routingKey: "3" })];
  const keys = Array.from({ length: 400 }, (_, index) => `key-${index}`);
  for (let round = 0; round < 2; round++)
    await at.client.publishToExchange(
      x,
      keys.map((key) => ({ body: key, routingKey: key })),
    );
  const [few, many] = (await found(...queues)).map((bodies) => bodies.split(" "));
  expect(few!.length + many!.length).toBe(800);
  expect(new Set(few!).size * 2).toBe(few!.length);
  expect(new Set([...few!, ...many!]).size).toBe(400);
  expect(many!.length).toBeGreaterThan(few!.length * 2);
  await expect(at.client.queues.createBinding({ source: x, destination: queues[0]!, routingKey: "heavy" })).rejects.toMatchObject({
    code: "CONFLICT",
  });
});

test("vhosts as namespaces: the same names apart, and no way from one to another", async () => {
  const [a, b] = [at.name("v"), at.name("v")];
  for (const vhost of [a, b]) {
    await at.client.queues.createVhost(vhost);
    await at.client.queues.createQueue({ name: "q", vhost });
    await at.client.queues.createExchange({ name: "x", type: "fanout", vhost });
    await at.client.queues.createBinding({ source: "x", destination: "q", vhost });
    await at.client.publishToExchange("x", [{ body: vhost }], { vhost });
  }
  for (const vhost of [a, b]) expect((await at.client.receive("q", { vhost, maxMessages: 5, autoAck: true })).map(text)).toEqual([vhost]);
  await at.client.queues.createQueue({ name: "only-a", vhost: a });
  await expect(at.client.queues.createBinding({ source: "x", destination: "only-a", vhost: b })).rejects.toMatchObject({
    code: "UNKNOWN_OBJECT",
  });
  await expect(at.client.publish("only-a", [{ body: "?" }], { vhost: b })).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
  await at.client.queues.deleteVhost(a);
  expect((await at.client.queues.describeVhost(b)).queues).toBe(1);
});

test("confirm means every target has it: with one that refuses there is no confirm, and the retry leaves one copy in each", async () => {
  const x = await exchange("fanout");
  const open = await bound(x, {});
  const narrow = await at.queue({ maxMessages: 1, overflow: "reject-publish" });
  await at.client.queues.createBinding({ source: x, destination: narrow });
  await at.client.publish(narrow, [{ body: "in the way" }]);
  await using producer = at.client.exchangeProducer(x);
  let isConfirmed = false;
  const sending = producer.send({ body: "m" }).then((outcome) => {
    isConfirmed = true;
    return outcome;
  });
  await expect.poll(async () => (await at.client.queues.describeQueue(open)).queue.counts!.ready).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(isConfirmed).toBe(false);
  await (await at.client.receive(narrow))[0]!.ack();
  expect(await sending).toEqual({ routed: true });
  expect(await found(open, narrow)).toEqual(["m", "m"]);
});

test("explain publish: every way that a message would go, with who would store it, and nothing is published", async () => {
  const inner = await exchange("topic");
  const outer = await exchange("fanout");
  await at.client.queues.createBinding({ source: outer, destination: inner, toExchange: true });
  const q = await bound(inner, { routingKey: "a.*" });
  const routes = await at.client.queues.explainPublish({ exchange: outer, routingKey: "a.b" });
  expect(routes).toMatchObject([{ target: q, exchanges: [outer, inner], isQueue: true, partitions: 1, durability: "fsync" }]);
  expect(routes[0]!.leader).toBe(await at.cluster.leaderOf(q, 0));
  expect(await at.client.queues.explainPublish({ exchange: outer, routingKey: "b" })).toEqual([]);
  expect((await at.client.queues.describeQueue(q)).endOffset).toBe(0);
});

test("a publish from any node: each of them routes by what was declared through another one a moment ago", async () => {
  const clients = await Promise.all(at.cluster.endpoints.map((endpoint) => Flotilla.connect({ endpoints: [endpoint] })));
  const x = at.name("x");
  await clients[0]!.queues.createExchange({ name: x, type: "direct" });
  const q = at.name("q");
  await clients[1]!.queues.createQueue({ name: q });
  await clients[2]!.queues.createBinding({ source: x, destination: q, routingKey: "k" });
  expect(await clients[2]!.publishToExchange(x, [{ body: "m", routingKey: "k" }])).toEqual({ routed: 1 });
  for (const client of clients) await client.close();
});
