// What queues promise beyond test/e2e/queues: everything on one message, counts that survive leaders, retries, dead letters, bounds, and who
// is served first.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { Flotilla, type Message } from "../../../src/client/index.ts";
import { feature, headersOf, take, text } from "../../support/feature.ts";
import { RawConsumer } from "../../support/raw-consumer.ts";
import { until } from "../../support/until.ts";

const at = feature();
const CLIENT = pathToFileURL("dist/src/client/index.js").href;

/** A process that has taken one message of the queue. */
async function holding(queue: string): Promise<ChildProcess> {
  const code = `
    import { Flotilla } from ${JSON.stringify(CLIENT)};
    const client = await Flotilla.connect({ endpoints: ${JSON.stringify(at.cluster.endpoints)} });
    const consumer = await client.queueConsumer(${JSON.stringify(queue)});
    await consumer.next();
    process.stdout.write("held");
    await new Promise(() => {});`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return child;
}

test("free combination: priority, delay, schedule, TTL, key order, lease, correlation, reply-to, headers, content type, retry, dead letter", async () => {
  const dead = await at.queue();
  const q = await at.queue({
    deliveryLimit: 2,
    backOff: "exponential",
    backOffMs: 200,
    backOffMaxMs: 1_000,
    ttlMs: 60_000,
    maxMessages: 100,
    maxBytes: 1_000_000,
    overflow: "reject-publish",
    singleActive: true,
    deadLetterExchange: "",
    deadLetterKey: dead,
    expiresMs: 600_000,
  });
  const all = {
    priority: 31,
    key: "customer-7",
    ttlMs: 30_000,
    contentType: "application/json",
    correlationId: "c-1",
    replyTo: "answers",
    messageId: "m-1",
    headers: [{ name: "trace", value: Buffer.from("t-1") }],
  };
  const beganMs = Date.now();
  await at.client.publish(q, [{ ...all, body: "delayed", delayMs: 3_000 }]);
  await at.client.publish(q, [
    { body: "low", key: "customer-7", priority: 1 },
    { body: "other", key: "customer-8", priority: 2 },
    { body: "expired", key: "customer-7", priority: 5, ttlMs: 1 },
  ]);
  const schedule = { name: at.name("s"), cron: "* * * * * *", timeZone: "Asia/Tokyo", exchange: "", routingKey: q };
  await at.client.queues.setSchedule({ ...schedule, record: { ...all, body: "scheduled", priority: 0 } });
  await using consumer = await at.client.queueConsumer(q, { prefetch: 10, leaseMs: 2_000 });
  await using waiting = await at.client.queueConsumer(q, { prefetch: 10 });
  const seen: { body: string; attempt: number; atMs: number; token: number }[] = [];
  let held: Message | null = null;
  while (seen.filter(({ body }) => body === "delayed").length < 2 || !seen.some(({ body }) => body === "scheduled")) {
    const message = (await consumer.next())!;
    seen.push({ body: text(message), attempt: message.attempt, atMs: Date.now() - beganMs, token: message.token });
    if (text(message) === "delayed") {
      held = message;
      await message.nack();
      continue;
    }
    if (text(message) === "scheduled") await at.client.queues.deleteSchedule(schedule.name).catch(() => {});
    await message.ack();
  }
  expect(waiting.outstanding).toBe(0);
  expect(seen.map(({ body }) => body)).not.toContain("expired");
  expect(seen.slice(0, 2).map(({ body }) => body)).toEqual(["other", "low"]);
  const tries = seen.filter(({ body }) => body === "delayed");
  expect(tries.map(({ attempt }) => attempt)).toEqual([1, 2]);
  expect(tries[0]!.atMs).toBeGreaterThanOrEqual(3_000);
  expect(tries[1]!.atMs - tries[0]!.atMs).toBeGreaterThanOrEqual(200);
  expect(tries[1]!.token).toBeGreaterThan(tries[0]!.token);
  expect(held).toMatchObject({ priority: 31, contentType: "application/json", correlationId: "c-1", replyTo: "answers", messageId: "m-1" });
  expect(held!.key!.toString()).toBe("customer-7");
  const [letter] = await at.client.receive(dead, { maxWaitMs: 10_000, autoAck: true });
  expect(letter).toMatchObject({ contentType: "application/json", correlationId: "c-1", replyTo: "answers", priority: 31 });
  expect(headersOf(letter!)).toMatchObject({
    trace: "t-1",
    "x-death-queue": q,
    "x-death-reason": "delivery-limit",
    "x-death-attempts": "2",
  });
  await at.client.queues.purgeQueue(q);
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ leased: 0, dead: 0 });
});

test("attempt count and redelivered flag are exact across leader changes; tokens rise all the way", async () => {
  const q = await at.queue({ deliveryLimit: 0 });
  await at.client.publish(q, [{ body: "m" }]);
  let token = 0;
  for (let attempt = 1; attempt <= 6; attempt++) {
    const [message] = await at.client.receive(q, { maxWaitMs: 15_000 });
    expect([message!.attempt, message!.redelivered]).toEqual([attempt, attempt > 1]);
    expect(message!.token).toBeGreaterThan(token);
    ({ token } = message!);
    const before = await at.cluster.leaderOf(q, 0);
    await at.client.cluster.transferLeader({ topic: q, partition: 0, toNode: at.cluster.nodeIds.find((node) => node !== before)! });
    expect(await at.cluster.leaderOf(q, 0)).not.toBe(before);
    await message!.nack();
  }
  // Killed, not only moved.
  const leader = await at.cluster.leaderOf(q, 0);
  const [held] = await at.client.receive(q, { maxWaitMs: 15_000, leaseMs: 5_000 });
  await at.cluster.kill(leader);
  const [again] = await at.client.receive(q, { maxWaitMs: 30_000 });
  expect([held!.attempt, again!.attempt, again!.redelivered]).toEqual([7, 8, true]);
  expect(again!.token).toBeGreaterThan(held!.token);
  await expect(held!.ack()).rejects.toMatchObject({ code: "LEASE_LOST" });
  await again!.ack();
  at.cluster.start(leader);
  await at.cluster.ready(leader);
}, 120_000);

test.each([
  { backOff: "fixed" as const, backOffMs: 200, backOffMaxMs: 0, waits: [200, 200, 200] },
  { backOff: "linear" as const, backOffMs: 150, backOffMaxMs: 0, waits: [150, 300, 450] },
  { backOff: "exponential" as const, backOffMs: 100, backOffMaxMs: 300, waits: [100, 200, 300] },
])("retry back-off: $backOff", async ({ waits, ...settings }) => {
  const q = await at.queue({ ...settings, deliveryLimit: 0 });
  await at.client.publish(q, [{ body: "m" }]);
  await using consumer = await at.client.queueConsumer(q, { prefetch: 1 });
  let message = (await consumer.next())!;
  const measured: number[] = [];
  for (const _ of waits) {
    const beganMs = Date.now();
    await message.nack();
    message = (await consumer.next())!;
    measured.push(Date.now() - beganMs);
  }
  await message.ack();
  measured.forEach((ms, index) => {
    expect(ms, `waits of ${measured.join()} ms`).toBeGreaterThanOrEqual(waits[index]!);
    expect(ms, `waits of ${measured.join()} ms`).toBeLessThan(waits[index]! + 1_500);
  });
});

test("settle: ack, nack, reject and extend of ranges, and each of them alone; a batch that lost one says so", async () => {
  const q = await at.queue({ deliveryLimit: 0 });
  await at.client.publish(
    q,
    Array.from({ length: 10 }, (_, index) => ({ body: String(index) })),
  );
  await using consumer = await at.client.queueConsumer(q, { prefetch: 10, leaseMs: 2_000, extendMsMax: 0 });
  const batch = await take(consumer, 10);
  expect(new Set(batch.map(({ token }) => token)).size).toBe(1);
  await batch[3]!.nack({ delayMs: 60_000 });
  await batch[4]!.extend(60_000);
  await consumer.ackAll([...batch.slice(0, 3), ...batch.slice(5, 9)]);
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ leased: 2, delayed: 1, ready: 0 });
  // The lease of the last one ends, that of the extended one does not.
  await until("the last one is given back", async () =>
    (await at.client.browse(q)).messages.some((one) => one.state === "leased" && one.attempts === 2),
  );
  expect(await consumer.ackAll([batch[4]!, batch[9]!]).catch((error: unknown) => error)).toMatchObject({ code: "LEASE_LOST" });
  const again = (await consumer.next())!;
  expect([text(again), again.attempt]).toEqual(["9", 2]);
  await again.ack();
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ leased: 0, delayed: 1, ready: 0 });
});

test("auto-ack: what was sent is done, at most once", async () => {
  const q = await at.queue();
  await at.client.publish(q, [{ body: "1" }, { body: "2" }]);
  const alone = await Flotilla.connect({ endpoints: at.cluster.endpoints });
  const consumer = await alone.queueConsumer(q, { autoAck: true });
  expect((await take(consumer, 2)).map(text)).toEqual(["1", "2"]);
  await alone.close();
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ ready: 0, leased: 0 });
});

test("credit in messages and in bytes: a consumer is never sent more than it asked for", async () => {
  const q = await at.queue();
  for (let index = 0; index < 20; index++) await at.client.publish(q, [{ body: Buffer.alloc(100_000, index) }]);
  await using few = await at.client.queueConsumer(q, { prefetch: 3 });
  await until("three have come", () => few.outstanding === 3);
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ leased: 3, ready: 17 });
  await using raw = new RawConsumer(at.cluster.endpoints[0]!, q);
  raw.send({ credit: { messages: 100, bytes: 250_000 } });
  await until("as many bytes have come as were asked for", () => raw.messages === 3);
  raw.send({ credit: { messages: 0, bytes: 100_000 } });
  await until("and as many more", () => raw.messages === 4);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect([raw.messages, few.outstanding]).toEqual([4, 3]);
});

test("attempt count is exact for what a consumer never got: given to it, not sent, and back when it goes", async () => {
  const q = await at.queue({ deliveryLimit: 1 });
  for (const body of ["sent", "unsent", "unsent too"]) await at.client.publish(q, [{ body: body.padEnd(100_000, " ") }]);
  {
    await using raw = new RawConsumer(at.cluster.endpoints[0]!, q);
    raw.send({ credit: { messages: 3, bytes: 1 } });
    await until("one has come", () => raw.messages === 1);
    await until("all are its own", async () => (await at.client.queues.describeQueue(q)).queue.counts!.leased === 3);
  }
  await until("they are nobody's", async () => (await at.client.queues.describeQueue(q)).queue.counts!.leased === 0);
  const left = (await at.client.browse(q)).messages.map((message) => [text(message).trim(), message.state, message.attempts]);
  expect(left).toEqual([
    ["sent", "dead", 1],
    ["unsent", "ready", 0],
    ["unsent too", "ready", 0],
  ]);
});

test("attempt count is exact for what waits for a consumer that takes nothing: it goes back before its lease ends, and to others", async () => {
  const q = await at.queue({ deliveryLimit: 1 });
  for (const body of ["sent", "unsent"]) await at.client.publish(q, [{ body: body.padEnd(100_000, " ") }]);
  await using raw = new RawConsumer(at.cluster.endpoints[0]!, q, { leaseMs: 6_000 });
  raw.send({ credit: { messages: 2, bytes: 1 } });
  await until("one has come", () => raw.messages === 1);
  await until("both are its own", async () => (await at.client.queues.describeQueue(q)).queue.counts!.leased === 2);
  const [message] = await at.client.receive(q, { maxWaitMs: 20_000 });
  expect([text(message!).trim(), message!.attempt]).toEqual(["unsent", 1]);
  await message!.ack();
  await until("the other one has come to its limit", async () => (await at.client.queues.describeQueue(q)).queue.counts!.dead === 1);
});

test("credit: what is left of it is taken back by a drain, and the rest of the queue is for others", async () => {
  const q = await at.queue();
  await at.client.publish(q, [{ body: "1" }, { body: "2" }]);
  await using raw = new RawConsumer(at.cluster.endpoints[0]!, q);
  raw.send({ credit: { messages: 10 } });
  await until("both have come", () => raw.messages === 2);
  raw.send({ drain: true });
  await until("the credit is taken back", () => raw.drained === 8);
  await at.client.publish(q, [{ body: "3" }]);
  expect((await at.client.receive(q, { maxWaitMs: 5_000, autoAck: true })).map(text)).toEqual(["3"]);
  expect(raw.messages).toBe(2);
});

test.each([
  { bound: "messages", settings: { maxMessages: 2 } },
  { bound: "bytes", settings: { maxBytes: 250_000 } },
])("limits, max $bound: drop-head makes dead letters of the oldest, with reason, count and origin", async ({ settings }) => {
  const dead = await at.queue();
  const q = await at.queue({ ...settings, overflow: "drop-head", deadLetterExchange: "", deadLetterKey: dead });
  for (const body of ["1", "2", "3", "4"]) await at.client.publish(q, [{ body: body.padEnd(100_000, " ") }]);
  const letters: Message[] = [];
  while (letters.length < 2) letters.push(...(await at.client.receive(dead, { maxMessages: 2, maxWaitMs: 10_000, autoAck: true })));
  expect(letters.map((message) => text(message).trim())).toEqual(["1", "2"]);
  expect(headersOf(letters[0]!)).toMatchObject({ "x-death-reason": "overflow", "x-death-queue": q, "x-death-attempts": "0" });
  expect((await at.client.receive(q, { maxMessages: 5, autoAck: true })).map((message) => text(message).trim())).toEqual(["3", "4"]);
});

test("limits, reject-publish: back-pressure with a reason, for a producer, a publish and an exchange, and an end to it", async () => {
  const q = await at.queue({ maxBytes: 150_000, overflow: "reject-publish" });
  await at.client.publish(q, [{ body: Buffer.alloc(100_000) }]);
  const reason = { code: "QUEUE_FULL", retryable: true, message: expect.stringContaining(`queue ${q} has as many`), details: { queue: q } };
  await expect(at.client.publish(q, [{ body: Buffer.alloc(100_000) }])).rejects.toMatchObject(reason);
  await at.client.queues.createBinding({ source: "amq.fanout", destination: q });
  await expect(at.client.publishToExchange("amq.fanout", [{ body: Buffer.alloc(100_000) }])).rejects.toMatchObject(reason);
  await at.client.queues.deleteBinding({ source: "amq.fanout", destination: q });
  const producer = await at.client.producer(q);
  const sending = producer.send({ body: Buffer.alloc(100_000) });
  const [first] = await at.client.receive(q);
  await first!.ack();
  // It tried again by itself, and was stored once.
  await sending;
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ ready: 1 });
});

test("queue expiry: with what it holds, when nobody used it; what is bound to it goes too", async () => {
  const q = await at.queue({ expiresMs: 1_000 });
  await at.client.queues.createBinding({ source: "amq.fanout", destination: q });
  await at.client.publish(q, [{ body: "m" }]);
  await until("it is gone", async () => !(await at.client.queues.listQueues("", { withCounts: false })).some(({ name }) => name === q));
  expect(await at.client.queues.listBindings({ destination: q })).toEqual([]);
});

test("delivery limit with dead letter: at least once, with reason, count and origin, when a lease ends or a consumer vanishes too", async () => {
  const dead = await at.queue();
  const q = await at.queue({ deliveryLimit: 2, deadLetterExchange: "", deadLetterKey: dead });
  await at.client.publish(q, [{ body: "lease" }]);
  for (let round = 0; round < 2; round++)
    expect(await at.client.receive(q, { leaseMs: 1_000, maxWaitMs: 10_000 })).toMatchObject([{ attempt: round + 1 }]);
  await until("the first one is dead", async () => (await at.client.queues.describeQueue(dead)).endOffset === 1);
  await at.client.publish(q, [{ body: "vanish" }]);
  for (let round = 0; round < 2; round++) {
    const holder = await holding(q);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    await until("what it held has gone back", async () => (await at.client.queues.describeQueue(q)).queue.counts!.leased === 0);
  }
  const letters: Message[] = [];
  while (letters.length < 2) letters.push(...(await at.client.receive(dead, { maxMessages: 2, maxWaitMs: 20_000, autoAck: true })));
  expect(letters.map(text).sort()).toEqual(["lease", "vanish"]);
  for (const letter of letters)
    expect(headersOf(letter)).toMatchObject({ "x-death-reason": "delivery-limit", "x-death-queue": q, "x-death-attempts": "2" });
}, 90_000);

test("request/reply: many at one time, each with its own answer, and none is left over", async () => {
  const q = await at.queue();
  await using server = await at.client.queueConsumer(q);
  const serving = server.run(async (message) => {
    await at.client.publish(message.replyTo, [{ body: `re ${text(message)}`, correlationId: message.correlationId }]);
  });
  const answers = await Promise.all(
    Array.from({ length: 5 }, async (_, index) => text(await at.client.request(q, { body: String(index) }))),
  );
  expect(answers).toEqual(["re 0", "re 1", "re 2", "re 3", "re 4"]);
  await server.close();
  await serving;
  await expect(at.client.request(q, { body: "?" }, { timeoutMs: 300 })).rejects.toMatchObject({ code: "TIMEOUT" });
  const left = (await at.client.queues.listQueues("", { withCounts: false })).filter(({ name }) => name.startsWith("reply."));
  expect(left).toEqual([]);
});
