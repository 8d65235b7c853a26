// Queues on three real nodes: what a message goes through from publish to settled.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla, type Message, type QueueConsumer, type WorkSettings } from "../../../src/client/index.ts";
import type { Channels } from "../../../src/client/channels.ts";
import { decodeSettled, encodeSettle } from "../../../src/client/work-wire.ts";
import { startCluster, type TestCluster } from "../../support/cluster.ts";

const CLIENT = pathToFileURL("dist/src/client/index.js").href;
let cluster: TestCluster;
let client: Flotilla;
let queues = 0;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
});

afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

async function queue(settings: Partial<WorkSettings> = {}): Promise<string> {
  const name = `q${++queues}`;
  await client.queues.createQueue({ name, settings });
  return name;
}

const text = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();

async function take(consumer: QueueConsumer, count: number): Promise<Message[]> {
  const messages: Message[] = [];
  while (messages.length < count) messages.push((await consumer.next())!);
  return messages;
}

/** A process that takes so many messages of the queue and keeps them. */
async function holder(name: string, count: number): Promise<ChildProcess> {
  const code = `
    import { Flotilla } from ${JSON.stringify(CLIENT)};
    const client = await Flotilla.connect({ endpoints: ${JSON.stringify(cluster.endpoints)} });
    const consumer = await client.queueConsumer(${JSON.stringify(name)});
    for (let at = 0; at < ${count}; at++) await consumer.next();
    process.stdout.write("held");
    await new Promise(() => {});`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return child;
}

test("queue: each message goes to one of the consumers, and is gone once it is acknowledged", async () => {
  const name = await queue();
  await using one = await client.queueConsumer(name, { prefetch: 10 });
  await using other = await client.queueConsumer(name, { prefetch: 10 });
  const producer = await client.producer(name);
  await Promise.all(Array.from({ length: 200 }, (_, at) => producer.send({ body: String(at) })));
  const seen: string[] = [];
  const work = async (consumer: QueueConsumer): Promise<void> => {
    for await (const message of consumer) {
      seen.push(text(message));
      await message.ack();
      if (seen.length >= 200) {
        void one.close();
        void other.close();
      }
    }
  };
  await Promise.all([work(one), work(other)]);
  expect(seen.sort()).toEqual(Array.from({ length: 200 }, (_, at) => String(at)).sort());
  const { queue: info, startOffset, endOffset } = await client.queues.describeQueue(name);
  expect(info.counts).toMatchObject({ ready: 0, leased: 0, dead: 0 });
  expect([startOffset, endOffset]).toEqual([200, 200]);
});

test("queue: in batches each message comes once and in order, and a batch is gone once it is acknowledged", async () => {
  const name = await queue();
  await using consumer = await client.queueConsumer(name, { prefetch: 64 });
  const producer = await client.producer(name);
  await Promise.all(Array.from({ length: 1_000 }, (_, at) => producer.send({ body: String(at) })));
  const seen: number[] = [];
  const acked: Promise<void>[] = [];
  while (seen.length < 1_000) {
    const batch = await consumer.nextBatch();
    expect(batch.length).toBeGreaterThan(0);
    expect(batch.length).toBeLessThanOrEqual(64);
    for (const message of batch) seen.push(Number(text(message)));
    acked.push(consumer.ackAll(batch));
  }
  await Promise.all(acked);
  expect(seen).toEqual(Array.from({ length: 1_000 }, (_, at) => at));
  const { queue: info } = await client.queues.describeQueue(name);
  expect(info.counts).toMatchObject({ ready: 0, leased: 0, dead: 0 });
});

test("queue: what is given back comes again with its count, at once or after a while, and in its place", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "a" }, { body: "b" }]);
  await using consumer = await client.queueConsumer(name, { prefetch: 1 });
  const [first] = await take(consumer, 1);
  expect([text(first!), first!.attempt, first!.redelivered]).toEqual(["a", 1, false]);
  await first!.nack();
  const [again] = await take(consumer, 1);
  expect([text(again!), again!.attempt, again!.redelivered]).toEqual(["a", 2, true]);
  expect(again!.token).toBeGreaterThan(first!.token);
  const beganMs = Date.now();
  await again!.nack({ delayMs: 300 });
  const [next] = await take(consumer, 1);
  expect(text(next!)).toBe("b");
  await next!.ack();
  const [late] = await take(consumer, 1);
  expect([text(late!), late!.attempt]).toEqual(["a", 3]);
  expect(Date.now() - beganMs).toBeGreaterThanOrEqual(300);
  await late!.release();
  const [released] = await take(consumer, 1);
  expect(released!.attempt).toBe(3);
  await released!.ack();
});

test("queue: a lease that ends gives back that message alone, and who lost it is told", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "slow" }, { body: "fast" }]);
  await using slow = await client.queueConsumer(name, { prefetch: 1, leaseMs: 1_000, extendMsMax: 0 });
  const [held] = await take(slow, 1);
  await using fast = await client.queueConsumer(name, { prefetch: 5 });
  const got = await take(fast, 2);
  expect(got.map(text)).toEqual(["fast", "slow"]);
  await expect(held!.ack()).rejects.toMatchObject({ code: "LEASE_LOST" });
  for (const message of got) await message.ack();
  await expect(got[0]!.ack()).rejects.toMatchObject({ code: "LEASE_LOST" });
});

test("queue: of messages that are acknowledged together those that were lost are told so, and the others are settled", async () => {
  const name = await queue({ deliveryLimit: 0 });
  await client.publish(name, [{ body: "0" }, { body: "1", ttlMs: 60_000 }, { body: "2" }, { body: "3" }]);
  await using consumer = await client.queueConsumer(name, { prefetch: 4 });
  const messages = await take(consumer, 4);
  // A client that knows the lease has said of one what became of it: it is this consumer's no more.
  const { token, offset, consumer: id } = messages[2] as Message & { consumer: number };
  const channels = (client as unknown as { channels: Channels }).channels;
  const settlement = { partition: 0, firstOffset: offset, count: 1, token, outcome: "ack", consumer: id } as const;
  const target = { vhost: "", queue: name, subscription: "" };
  await channels.callRaw("flotilla.v1.Messaging", "Settle", encodeSettle(target, [settlement]));
  const outcomes = messages.map((message) =>
    message.ack().then(
      () => "acked",
      (error: { code: string }) => error.code,
    ),
  );
  expect(await Promise.all(outcomes)).toEqual(["acked", "acked", "LEASE_LOST", "acked"]);
  const whole = { ...settlement, firstOffset: 0, count: 4 };
  const [answer] = decodeSettled(await channels.callRaw("flotilla.v1.Messaging", "Settle", encodeSettle(target, [whole])));
  expect(answer).toMatchObject({ messages: 0, lost: [], error: { code: "LEASE_LOST" } });
});

test("queue: who takes from a queue or subscription that is deleted hears of it at once", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "held" }]);
  const topic = `deleted${++queues}`;
  await client.admin.createTopic({ name: topic, partitions: 3 });
  await client.queues.createWorkSubscription({ topic, name: "w" });
  const codeOf = (error: { code: string }): string => error.code;
  const idle = await Promise.all([1, 2, 3].map(() => client.queueConsumer(name, { prefetch: 1 })));
  const shared = await client.queueConsumer(topic, { subscription: "w" });
  const waiting = [...idle, shared].map((consumer) => consumer.next());
  const held = await Promise.race(waiting);
  expect(text(held!)).toBe("held");
  const ended = waiting.map((next) => next.then(() => "came", codeOf));
  const beganMs = Date.now();
  await client.queues.deleteQueue(name);
  await client.queues.deleteWorkSubscription(topic, "w");
  const settled = held!.ack().then(() => "acked", codeOf);
  expect((await Promise.all(ended)).sort()).toEqual(["UNKNOWN_QUEUE", "UNKNOWN_QUEUE", "UNKNOWN_SUBSCRIPTION", "came"]);
  expect(await settled).toMatch(/LEASE_LOST|UNKNOWN_QUEUE/);
  expect(Date.now() - beganMs).toBeLessThan(2_000);
});

test("queue: what waits in the consumer for its turn stays its own", async () => {
  const name = await queue({ deliveryLimit: 1 });
  await client.publish(name, [{ body: "1" }, { body: "2" }, { body: "3" }]);
  await using slow = await client.queueConsumer(name, { prefetch: 3, leaseMs: 1_000 });
  const taken: [string, number][] = [];
  for (const message of await take(slow, 1)) {
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    taken.push([text(message), message.attempt]);
    await message.ack();
  }
  for (const message of await take(slow, 2)) {
    taken.push([text(message), message.attempt]);
    await message.ack();
  }
  expect(taken).toEqual([
    ["1", 1],
    ["2", 1],
    ["3", 1],
  ]);
});

test("queue: a lease is extended for as long as somebody works on the message", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "long" }]);
  await using consumer = await client.queueConsumer(name, { leaseMs: 1_000 });
  await using other = await client.queueConsumer(name);
  const [message] = await take(consumer, 1);
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(other.outstanding).toBe(0);
  await message!.ack();
});

test("queue: when a consumer goes without a word, what it held goes to another one", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "1" }, { body: "2" }]);
  const gone = await holder(name, 2);
  await using heir = await client.queueConsumer(name);
  gone.kill("SIGKILL");
  const got = await take(heir, 2);
  expect(got.map(({ attempt }) => attempt)).toEqual([2, 2]);
  for (const message of got) await message.ack();
});

test("queue: the highest priority goes first, whatever came when", async () => {
  const name = await queue();
  await client.publish(
    name,
    [3, 31, 0, 7, 31].map((priority, at) => ({ body: `${priority}/${at}`, priority })),
  );
  await using consumer = await client.queueConsumer(name, { autoAck: true });
  expect((await take(consumer, 5)).map(text)).toEqual(["31/1", "31/4", "7/3", "3/0", "0/2"]);
});

test("queue: of one key one message at a time, in order; other keys go on meanwhile", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "a1", key: "a" }, { body: "a2", key: "a" }, { body: "b1", key: "b" }, { body: "none" }]);
  await using consumer = await client.queueConsumer(name, { prefetch: 10 });
  const first = await take(consumer, 3);
  expect(first.map(text)).toEqual(["a1", "b1", "none"]);
  await first[0]!.nack();
  const [again] = await take(consumer, 1);
  expect(text(again!)).toBe("a1");
  await again!.ack();
  const [second] = await take(consumer, 1);
  expect(text(second!)).toBe("a2");
  for (const message of [second!, first[1]!, first[2]!]) await message.ack();
});

test("queue: delayed messages come at their time and not before, and can be taken back", async () => {
  const name = await queue();
  const beganMs = Date.now();
  await client.publish(name, [{ body: "delay", delayMs: 400 }]);
  await client.publish(name, [{ body: "at", deliverAtMs: beganMs + 200 }]);
  const { offset } = await client.publish(name, [{ body: "recalled", delayMs: 300 }]);
  expect(await client.recall(name, offset)).toBe(true);
  expect(await client.recall(name, offset)).toBe(false);
  // One that waits for a consumer can be taken back as well, one that somebody has can not.
  const { offset: waiting } = await client.publish(name, [{ body: "held" }, { body: "waiting" }]);
  const [held] = await client.receive(name);
  expect([await client.recall(name, held!.offset), await client.recall(name, waiting + 1)]).toEqual([false, true]);
  await held!.ack();
  await using consumer = await client.queueConsumer(name, { autoAck: true });
  const [at] = await take(consumer, 1);
  expect([text(at!), Date.now() >= beganMs + 200]).toEqual(["at", true]);
  const [delayed] = await take(consumer, 1);
  expect([text(delayed!), Date.now() >= beganMs + 400]).toEqual(["delay", true]);
  expect((await client.queues.describeQueue(name)).queue.counts).toMatchObject({ ready: 0, delayed: 0 });
});

test("queue: what has expired is not delivered, by its own time or the queue's", async () => {
  const name = await queue({ ttlMs: 2_000 });
  await client.publish(name, [{ body: "own", ttlMs: 100 }, { body: "queue's" }]);
  await new Promise((resolve) => setTimeout(resolve, 200));
  await using consumer = await client.queueConsumer(name, { autoAck: true });
  expect((await take(consumer, 1)).map(text)).toEqual(["queue's"]);
});

test("queue: a message that nobody can work on is a dead letter, with why and how often, exactly once", async () => {
  const dead = await queue();
  const name = await queue({ deliveryLimit: 3, deadLetterExchange: "", deadLetterKey: dead, backOffMs: 10 });
  await client.publish(name, [{ body: "poison", headers: [{ name: "own", value: Buffer.from("kept") }] }, { body: "useless" }]);
  await using consumer = await client.queueConsumer(name);
  const attempts: number[] = [];
  for await (const message of consumer) {
    if (text(message) === "useless") await message.reject();
    else {
      attempts.push(message.attempt);
      await message.nack();
      if (message.attempt === 3) break;
    }
  }
  expect(attempts).toEqual([1, 2, 3]);
  await using letters = await client.queueConsumer(dead);
  const got = await take(letters, 2);
  const found = Object.fromEntries(
    got.map((message) => [
      text(message),
      Object.fromEntries(message.headers.map(({ name: header, value }) => [header, Buffer.from(value).toString()])),
    ]),
  );
  expect(found["poison"]).toMatchObject({
    own: "kept",
    "x-death-queue": name,
    "x-death-reason": "delivery-limit",
    "x-death-attempts": "3",
  });
  expect(found["useless"]).toMatchObject({ "x-death-reason": "rejected", "x-first-death-queue": name });
  for (const message of got) await message.ack();
  expect((await client.queues.describeQueue(name)).queue.counts).toMatchObject({ ready: 0, leased: 0, dead: 0 });
});

test("queue: without dead letters the one at the limit stays in the queue, is seen there, and can be tried again", async () => {
  const name = await queue({ deliveryLimit: 1 });
  await client.publish(name, [{ body: "poison" }]);
  await using consumer = await client.queueConsumer(name);
  await (await take(consumer, 1))[0]!.nack();
  const { messages } = await client.browse(name);
  expect(messages).toMatchObject([{ state: "dead", reason: "delivery-limit", attempts: 1 }]);
  expect(await client.queues.reviveQueue(name)).toBe(1);
  await (await take(consumer, 1))[0]!.ack();
});

test("queue: with a bound the oldest goes, or what comes is refused, and the reason is said", async () => {
  const dropping = await queue({ maxMessages: 2 });
  await client.publish(dropping, [{ body: "1" }, { body: "2" }, { body: "3" }]);
  const messages = await client.receive(dropping, { maxMessages: 10, autoAck: true });
  expect(messages.map(text)).toEqual(["2", "3"]);
  const refusing = await queue({ maxMessages: 2, overflow: "reject-publish" });
  await client.publish(refusing, [{ body: "1" }, { body: "2" }]);
  await expect(client.publish(refusing, [{ body: "3" }])).rejects.toMatchObject({ code: "QUEUE_FULL", retryable: true });
  const [one] = await client.receive(refusing);
  await one!.ack();
  await client.publish(refusing, [{ body: "3" }]);
});

test("queue: a single active consumer has everything until it goes; then another one does", async () => {
  const name = await queue({ singleActive: true });
  const active = await client.queueConsumer(name);
  await using waiting = await client.queueConsumer(name);
  await client.publish(name, [{ body: "1" }, { body: "2" }]);
  const got = await take(active, 2);
  await got[0]!.ack();
  const { consumers } = await client.queues.describeQueue(name);
  expect(consumers.filter((consumer) => consumer.active)).toHaveLength(1);
  const closing = active.close({ timeoutMs: 100 });
  const [heir] = await take(waiting, 1);
  expect([text(heir!), heir!.attempt]).toEqual(["2", 2]);
  await heir!.ack();
  await closing;
});

test("queue: consumers of a higher priority are served first, as long as they take something", async () => {
  const name = await queue();
  await using low = await client.queueConsumer(name, { prefetch: 10 });
  await using high = await client.queueConsumer(name, { prefetch: 2, priority: 5 });
  await client.publish(name, [{ body: "1" }, { body: "2" }, { body: "3" }]);
  const got = [...(await take(high, 2)), ...(await take(low, 1))];
  expect(got.map(text)).toEqual(["1", "2", "3"]);
  for (const message of got) await message.ack();
});

test("queue: looking at it changes nothing", async () => {
  const name = await queue();
  await client.publish(name, [{ body: "ready" }, { body: "later", delayMs: 60_000, priority: 3 }, { body: "held" }]);
  await using consumer = await client.queueConsumer(name, { prefetch: 1 });
  const [held] = await take(consumer, 1);
  for (let round = 0; round < 2; round++) {
    const { messages, next } = await client.browse(name);
    expect(messages.map((message) => [text(message), message.state, message.attempts])).toEqual([
      ["ready", "leased", 1],
      ["later", "delayed", 0],
      ["held", "ready", 0],
    ]);
    expect(next).toBeUndefined();
  }
  await held!.ack();
});

test("queue: of large messages a look shows some at a time, and all in the end", async () => {
  const name = await queue();
  const sent = ["a", "b", "c", "d", "e"].map((letter) => letter.repeat(300_000));
  for (const body of sent) await client.publish(name, [{ body }]);
  const seen: string[] = [];
  let pages = 0;
  for (let from: number | undefined = 0; from !== undefined; pages++) {
    const page: Awaited<ReturnType<Flotilla["browse"]>> = await client.browse(name, { fromOffset: from });
    seen.push(...page.messages.map(text));
    from = page.next;
  }
  expect(seen.map((body) => [body[0], body.length])).toEqual(sent.map((body) => [body[0], body.length]));
  expect(pages).toBeGreaterThan(1);
});

test("queue: a request gets its answer", async () => {
  const name = await queue();
  await using server = await client.queueConsumer(name);
  const serving = (async () => {
    for await (const message of server) {
      await client.publish(message.replyTo, [{ body: `answer to ${text(message)}`, correlationId: message.correlationId }]);
      await message.ack();
      return;
    }
  })();
  const answer = await client.request(name, { body: "question" });
  expect(text(answer)).toBe("answer to question");
  await serving;
});

test("queue: a queue that nobody uses is deleted after its time; one with a consumer is not", async () => {
  const unused = await queue({ expiresMs: 1_000 });
  const used = await queue({ expiresMs: 1_000 });
  await using _consumer = await client.queueConsumer(used);
  await expect
    .poll(async () => (await client.queues.listQueues("", { withCounts: false })).map(({ name }) => name), { timeout: 10_000 })
    .not.toContain(unused);
  expect((await client.queues.describeQueue(used)).queue.name).toBe(used);
});

test("queue: handlers run side by side, what throws comes again, and closing waits for those under way", async () => {
  const name = await queue();
  await client.publish(
    name,
    Array.from({ length: 20 }, (_, at) => ({ body: String(at) })),
  );
  const consumer = await client.queueConsumer(name);
  const done = new Set<string>();
  let running = 0;
  let most = 0;
  const run = consumer.run(
    async (message) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running -= 1;
      if (message.attempt === 1 && text(message) === "7") throw new Error("not this time");
      done.add(text(message));
      if (done.size === 20) void consumer.close();
    },
    { concurrency: 5 },
  );
  await run;
  expect(done.size).toBe(20);
  expect(most).toBe(5);
  await expect
    .poll(async () => (await client.queues.describeQueue(name)).queue.counts, { timeout: 5_000 })
    .toMatchObject({ ready: 0, leased: 0 });
});

test("queue: purging drops what waits and leaves what is held", async () => {
  const name = await queue();
  await client.publish(
    name,
    Array.from({ length: 5 }, (_, at) => ({ body: String(at) })),
  );
  await using consumer = await client.queueConsumer(name, { prefetch: 1 });
  const [held] = await take(consumer, 1);
  expect(await client.queues.purgeQueue(name)).toBe(4);
  await held!.ack();
  expect((await client.queues.describeQueue(name)).startOffset).toBe(5);
});
