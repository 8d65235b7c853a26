// What nobody should do to a queue or a topic, and somebody will: a clear error or a bounded cost, nothing lost, nobody else harmed.
// test/e2e/queues/bad-input.test.ts has the plain mistakes.

import { status } from "@grpc/grpc-js";
import { afterEach, beforeAll, expect, test } from "vitest";
import { Flotilla, type FlotillaError, type Message, type QueueConsumer } from "../../../src/client/index.ts";
import { feature, headersOf, take, text } from "../../support/feature.ts";
import { RawConsumer, rawPublish } from "../../support/raw-consumer.ts";
import { until } from "../../support/until.ts";

const at = feature();

beforeAll(async () => {
  await at.client.queues.createQueue({ name: "witness" });
});

// Whatever was done: a queue beside it works, promptly, and no node is gone.
afterEach(async () => {
  const beganMs = Date.now();
  await at.client.publish("witness", [{ body: "still here" }]);
  const [message] = await at.client.receive("witness", { maxWaitMs: 10_000 });
  await message!.ack();
  expect(Date.now() - beganMs).toBeLessThan(5_000);
  for (const node of at.cluster.nodeIds) expect(at.cluster.isRunning(node)).toBe(true);
});

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "done",
    (error: unknown) => (error as FlotillaError).code,
  );

test("bad input: many subscriptions from one client, consumers of a queue: each of them works, and so does every other call", async () => {
  const q = await at.queue();
  await using client = await Flotilla.connect({ endpoints: [at.cluster.endpoints[0]!] });
  const consumers: QueueConsumer[] = [];
  for (let batch = 0; batch < 10; batch++)
    consumers.push(...(await Promise.all(Array.from({ length: 30 }, () => client.queueConsumer(q, { prefetch: 1 })))));
  expect((await client.queues.describeQueue(q)).consumers).toHaveLength(300);
  await client.publish(
    q,
    Array.from({ length: 300 }, (_, index) => ({ body: String(index) })),
  );
  const messages = await Promise.all(consumers.map(async (consumer) => (await consumer.next())!));
  expect(new Set(messages.map(text)).size).toBe(300);
  await Promise.all(messages.map((message) => message.ack()));
  expect((await client.queues.describeQueue(q)).queue.counts).toMatchObject({ ready: 0, leased: 0 });
}, 120_000);

test("bad input: many subscriptions from one client, readers of a topic that wait for more: none keeps another call waiting", async () => {
  const t = at.name("t");
  await at.client.admin.createTopic({ name: t, partitions: 1 });
  await using client = await Flotilla.connect({ endpoints: [at.cluster.endpoints[0]!] });
  const readers = await Promise.all(Array.from({ length: 150 }, () => client.consumer(t, { from: "earliest", maxWaitMs: 20_000 })));
  const reading = readers.map(async (reader) => {
    for await (const record of reader) return text(record);
    return "nothing";
  });
  const beganMs = Date.now();
  await client.publish(t, [{ body: "for all" }]);
  expect(new Set(await Promise.all(reading))).toEqual(new Set(["for all"]));
  expect(Date.now() - beganMs).toBeLessThan(15_000);
}, 120_000);

test("bad input: 100,000 subscriptions of one topic: as many as there may be, then a refusal that says so", async () => {
  const t = at.name("t");
  await at.client.admin.createTopic({ name: t, partitions: 1 });
  await at.client.publish(t, [{ body: "m" }]);
  let next = 0;
  const refusals: string[] = [];
  const worker = async (): Promise<void> => {
    while (refusals.length === 0 && next < 100_000) {
      const [refused] = await at.client.commitOffsets(t, `s${next++}`, [{ partition: 0, offset: 1 }]);
      if (refused !== undefined) refusals.push(`${refused.error.reason}: ${refused.error.message}`);
    }
  };
  await Promise.all(Array.from({ length: 64 }, worker));
  expect(next).toBeGreaterThan(10_000);
  expect(next).toBeLessThan(10_200);
  expect(refusals[0]).toMatch(/^TOO_MANY: .*10000/);
  // Those that are there go on, and one that goes makes room.
  expect(await at.client.commitOffsets(t, "s0", [{ partition: 0, offset: 1 }])).toEqual([]);
  await at.client.admin.deleteSubscription(t, "s1");
  expect(await at.client.commitOffsets(t, "new", [{ partition: 0, offset: 1 }])).toEqual([]);
}, 180_000);

test("bad input: a poison message that kills its handler each time is a dead letter, and the others are worked on meanwhile", async () => {
  const dead = await at.queue();
  const q = await at.queue({ deliveryLimit: 3, backOff: "fixed", backOffMs: 50, deadLetterExchange: "", deadLetterKey: dead });
  await at.client.publish(q, [{ body: "poison" }, { body: "1" }, { body: "2" }, { body: "3" }]);
  const consumer = await at.client.queueConsumer(q, { prefetch: 2 });
  const done: string[] = [];
  let tries = 0;
  const running = consumer.run((message) => {
    if (text(message) === "poison") {
      tries += 1;
      throw new Error("it dies of this one");
    }
    done.push(text(message));
  });
  const [letter] = await at.client.receive(dead, { maxWaitMs: 15_000, autoAck: true });
  expect([text(letter!), headersOf(letter!)]).toMatchObject(["poison", { "x-death-reason": "delivery-limit", "x-death-attempts": "3" }]);
  await consumer.close();
  await running;
  expect([done, tries]).toEqual([["1", "2", "3"], 3]);
});

test("bad input: a nack loop without a limit costs nobody else anything", async () => {
  const q = await at.queue({ deliveryLimit: 0 });
  await at.client.publish(q, [{ body: "again" }]);
  const consumer = await at.client.queueConsumer(q, { prefetch: 1 });
  let rounds = 0;
  const looping = (async () => {
    for await (const message of consumer) {
      rounds += 1;
      await message.nack().catch(() => {});
    }
  })();
  const other = await at.queue();
  await at.client.publish(
    other,
    Array.from({ length: 200 }, (_, index) => ({ body: String(index) })),
  );
  await using worker = await at.client.queueConsumer(other, { prefetch: 200 });
  for (const message of await take(worker, 200)) await message.ack();
  await until("it has gone round a hundred times", () => rounds > 100);
  await consumer.close();
  await looping;
  const [message] = await at.client.receive(q, { maxWaitMs: 5_000 });
  expect(message!.attempt).toBeGreaterThan(100);
  await message!.ack();
}, 90_000);

test("bad input: a consumer that never reads is sent what its connection holds and no more; what it holds goes to others when its lease ends", async () => {
  const q = await at.queue({ deliveryLimit: 0 });
  for (let batch = 0; batch < 20; batch++)
    await at.client.publish(
      q,
      Array.from({ length: 10 }, () => ({ body: Buffer.alloc(100_000, batch) })),
    );
  const before = await at.cluster.metric(1, "process_resident_memory_bytes");
  await using deaf = new RawConsumer(at.cluster.endpoints[0]!, q, { reads: false, leaseMs: 2_000 });
  deaf.send({ credit: { messages: 1_000 } });
  await until("it holds what it asked for", async () => (await at.client.queues.describeQueue(q)).queue.counts!.leased > 0);
  await using worker = await at.client.queueConsumer(q, { prefetch: 50, priority: 1 });
  let done = 0;
  while (done < 200) {
    const message = (await worker.next())!;
    await message.ack();
    done += 1;
  }
  expect((await at.client.queues.describeQueue(q)).queue.counts).toMatchObject({ ready: 0, leased: 0 });
  expect((await at.cluster.metric(1, "process_resident_memory_bytes")) - before).toBeLessThan(200_000_000);
}, 120_000);

test("bad input: what a stream may not say ends it, or is answered, each time with the reason", async () => {
  const q = await at.queue();
  await at.client.publish(q, [{ body: "m" }]);
  const ended = async (send: (raw: RawConsumer) => void): Promise<string> => {
    await using raw = new RawConsumer(at.cluster.endpoints[0]!, q);
    await until("it is open", () => raw.isOpened);
    send(raw);
    await until("it has ended", () => raw.error !== null);
    return raw.error!.details;
  };
  expect(await ended((raw) => raw.send({ open: { queue: q } }))).toMatch(/first|once|open/);
  expect(await ended((raw) => raw.send({ credit: { messages: 1_000_000 } }))).toMatch(/credit|65,?536/);
  await using raw = new RawConsumer(at.cluster.endpoints[0]!, q);
  raw.send({ credit: { messages: 1 } });
  await until("it has the message", () => raw.messages === 1);
  const { token, firstOffset } = raw.deliveries[0]!;
  const settlements = [
    { partition: 7, firstOffset, token, outcome: 1 },
    { partition: 0, firstOffset: "12345", token, outcome: 1 },
    { partition: 0, firstOffset, token: String(Number(token) + 1), outcome: 1 },
    { partition: 0, firstOffset, token, outcome: 9 },
    { partition: 0, firstOffset, token, outcome: 2, delayMs: "999999999999999" },
    { partition: 0, firstOffset, token, outcome: 5, leaseMs: 1 },
    { partition: 0, firstOffset, token, outcome: 5, leaseMs: 4_000_000_000 },
    { partition: 0, firstOffset, token, count: 4_000_000_000, outcome: 1 },
    { partition: 0, firstOffset, token, outcome: 1 },
    { partition: 0, firstOffset, token, outcome: 1 },
  ];
  for (const settlement of settlements) {
    const answered = raw.outcomes.length;
    raw.send({ settlements: [settlement] });
    await until("it is answered", () => raw.outcomes.length > answered || raw.error !== null);
  }
  expect(raw.outcomes).toEqual([
    "UNKNOWN_PARTITION",
    "LEASE_LOST",
    "LEASE_LOST",
    ...Array<string>(5).fill("INVALID_ARGUMENT"),
    "done",
    "LEASE_LOST",
  ]);
  // Below zero is no number of milliseconds: the stream ends and says which field it was, and what it held goes to others.
  await at.client.publish(q, [{ body: "n" }]);
  const said = await ended((other) => {
    other.send({ credit: { messages: 1 } });
    other.send({ settlements: [{ partition: 0, firstOffset: "1", token: "1", outcome: 2, delayMs: "-5" }] });
  });
  expect(said).toContain("field 6 is negative");
  const [message] = await at.client.receive(q, { maxWaitMs: 10_000 });
  await message!.ack();
});

test.each([
  { what: "a delay below zero", record: { delayMs: -5 } },
  { what: "a time to live below zero", record: { ttlMs: -5 } },
  { what: "a time below zero", record: { deliverAtMs: -5 } },
  { what: "a priority of four billion", record: { priority: 4_000_000_000 } },
])("bad input: $what, from a client that is none of ours, is refused, and nothing of the batch is stored", async ({ record }) => {
  const [q, x] = [await at.queue(), at.name("x")];
  await at.client.queues.createExchange({ name: x, type: "fanout" });
  await at.client.queues.createBinding({ source: x, destination: q });
  const records = [{ body: Buffer.from("good") }, { body: Buffer.from("bad"), ...record }];
  for (const where of [{ topic: q }, { exchange: x }]) {
    const { code } = await rawPublish(at.cluster.endpoints[0]!, { ...where, records: { records } });
    expect(code).toBe(status.INVALID_ARGUMENT);
  }
  expect((await at.client.queues.describeQueue(q)).endOffset).toBe(0);
});

test("bad input: everything is deleted while it is used: each caller is told what is gone, and what is made anew begins empty", async () => {
  const vhost = at.name("v");
  await at.client.queues.createVhost(vhost);
  await at.client.queues.createQueue({ name: "q", vhost });
  await at.client.admin.createTopic({ name: "t", vhost });
  await at.client.queues.createWorkSubscription({ topic: "t", name: "w", vhost });
  const queueConsumer = await at.client.queueConsumer("q", { vhost });
  const workConsumer = await at.client.queueConsumer("t", { subscription: "w", vhost });
  const producer = at.client.exchangeProducer("amq.fanout", { vhost });
  await at.client.queues.createBinding({ source: "amq.fanout", destination: "q", vhost });
  expect(await producer.send({ body: "1" })).toEqual({ routed: true });
  const held = (await queueConsumer.next())!;
  const nexts = [queueConsumer, workConsumer].map((consumer) => codeOf(consumer.next()));
  await at.client.queues.deleteVhost(vhost);
  expect(await Promise.all(nexts)).toEqual(["UNKNOWN_QUEUE", expect.stringMatching(/^UNKNOWN_(QUEUE|TOPIC|SUBSCRIPTION|VHOST)$/)]);
  expect(await codeOf(held.ack())).toBe("LEASE_LOST");
  expect(await codeOf(producer.send({ body: "2" }))).toBe("UNKNOWN_VHOST");
  expect(await codeOf(at.client.publishToExchange("amq.fanout", [{ body: "3" }], { vhost: "never" }))).toBe("UNKNOWN_VHOST");
  await producer.close().catch(() => {});
  await at.client.queues.createVhost(vhost);
  await at.client.queues.createQueue({ name: "q", vhost });
  expect((await at.client.queues.describeQueue("q", vhost)).queue.counts).toMatchObject({ ready: 0, leased: 0 });
}, 90_000);

test("bad input: a circle of dead letters ends, and the message is kept where people find it", async () => {
  const [a, b] = [at.name("a"), at.name("b")];
  const settings = (deadLetterKey: string): object => ({ ttlMs: 20, deadLetterExchange: "", deadLetterKey });
  await at.client.queues.createQueue({ name: a, settings: settings(b) });
  await at.client.queues.createQueue({ name: b, settings: settings(a) });
  await at.client.publish(a, [{ body: "round and round" }]);
  const dead = async (): Promise<Message[] | unknown[]> =>
    [...(await at.client.browse(a)).messages, ...(await at.client.browse(b)).messages].filter((message) => message.state === "dead");
  await until("it goes no further", async () => {
    const first = await dead();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const ends = (await Promise.all([a, b].map(async (name) => (await at.client.queues.describeQueue(name)).endOffset))).join();
    await new Promise((resolve) => setTimeout(resolve, 500));
    return (
      first.length > 0 &&
      ends === (await Promise.all([a, b].map(async (name) => (await at.client.queues.describeQueue(name)).endOffset))).join()
    );
  });
  // A busy machine may change leaders meanwhile, and a letter that was under way then may have come twice.
  const kept = (await at.client.queues.purgeQueue(a, { dead: true })) + (await at.client.queues.purgeQueue(b, { dead: true }));
  expect(kept).toBeGreaterThanOrEqual(1);
}, 90_000);
