// Who reads a topic, and how: as a log, shared, or each for himself; from where on, back again, and while the topic grows.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { Flotilla, type Consumer, type Message, type QueueConsumer, type StartAt } from "../../../src/client/index.ts";
import { feature, take, text } from "../../support/feature.ts";

const at = feature();
const CLIENT = pathToFileURL("dist/src/client/index.js").href;

async function topic(partitions = 1): Promise<string> {
  const name = at.name("t");
  await at.client.admin.createTopic({ name, partitions });
  return name;
}

async function read(consumer: Consumer, count: number): Promise<string[]> {
  const seen: string[] = [];
  for await (const record of consumer) {
    seen.push(text(record));
    if (seen.length === count) break;
  }
  return seen;
}

test("broadcast: every consumer gets every message, each at its own pace", async () => {
  const t = await topic(2);
  const consumers = await Promise.all([1, 2, 3].map(() => at.client.consumer(t, { from: "earliest" })));
  const producer = await at.client.producer(t);
  const sent = Array.from({ length: 30 }, (_, index) => String(index));
  await Promise.all(sent.map((body) => producer.send({ body })));
  for (const consumer of consumers) {
    expect((await read(consumer, 30)).sort()).toEqual([...sent].sort());
    await consumer.close();
  }
});

test("non-durable subscription: it begins with what comes, and vanishes with its connection", async () => {
  const t = await topic();
  await at.client.publish(t, [{ body: "before" }]);
  const alone = await Flotilla.connect({ endpoints: at.cluster.endpoints });
  const consumer = await alone.consumer(t, { from: "latest" });
  const reading = read(consumer, 1);
  // Its first look says where the end is; what comes after that is its.
  await expect.poll(() => consumer.positions().get(0)).toBe(1);
  await at.client.publish(t, [{ body: "live" }]);
  expect(await reading).toEqual(["live"]);
  await alone.close();
  expect(await at.client.admin.listSubscriptions(t)).toEqual([]);
  expect(await at.client.queues.listWorkSubscriptions(t)).toEqual([]);
});

test("durable subscription: what came while the subscriber was away is kept for it, for each subscriber its own", async () => {
  const t = await topic(2);
  for (const name of ["app-1", "app-2"]) await at.client.queues.createWorkSubscription({ topic: t, name });
  const gone = await at.client.queueConsumer(t, { subscription: "app-1" });
  await gone.close();
  for (const partition of [0, 1]) await at.client.publish(t, [{ body: `a${partition}` }, { body: `b${partition}` }], { partition });
  for (const subscription of ["app-1", "app-2"]) {
    await using back = await at.client.queueConsumer(t, { subscription });
    const messages = await take(back, 4);
    expect(messages.map(text).sort()).toEqual(["a0", "a1", "b0", "b1"]);
    for (const message of messages) await message.ack();
  }
});

test("broadcast through a fanout exchange: every queue that is bound keeps its own copy", async () => {
  const x = at.name("x");
  await at.client.queues.createExchange({ name: x, type: "fanout" });
  const queues = await Promise.all([at.queue(), at.queue({ expiresMs: 60_000 })]);
  for (const destination of queues) await at.client.queues.createBinding({ source: x, destination });
  expect(await at.client.publishToExchange(x, [{ body: "1" }, { body: "2" }])).toEqual({ routed: 4 });
  for (const name of queues) expect((await at.client.receive(name, { maxMessages: 5, autoAck: true })).map(text)).toEqual(["1", "2"]);
});

test.each<{ from: string; start: (middleMs: number) => StartAt; expected: string[] }>([
  { from: "earliest", start: () => "earliest", expected: ["0", "1", "2", "3"] },
  { from: "latest", start: () => "latest", expected: [] },
  { from: "an offset", start: () => ({ offset: 3 }), expected: ["3"] },
  { from: "a time", start: (timeMs) => ({ timeMs }), expected: ["2", "3"] },
])("start at $from: a work subscription, a cursor and a fetch begin there", async ({ start, expected }) => {
  const t = await topic();
  await at.client.publish(t, [{ body: "0" }, { body: "1" }]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const { offset } = await at.client.publish(t, [{ body: "2" }, { body: "3" }]);
  const [part] = await at.client.fetch(t, [{ partition: 0, from: { offset } }]);
  const from = start(part!.batches[0]!.storedMs);
  await at.client.queues.createWorkSubscription({ topic: t, name: "w", from });
  await using consumer = await at.client.consumer(t, { from });
  await at.client.publish(t, [{ body: "new" }]);
  expect((await at.client.receive(t, { subscription: "w", maxMessages: 10, autoAck: true })).map(text)).toEqual([...expected, "new"]);
  if (from !== "latest") expect(await read(consumer, expected.length + 1)).toEqual([...expected, "new"]);
});

test("seek and rewind: a work subscription and a cursor go back and forth, by offset and by time", async () => {
  const t = await topic();
  await at.client.publish(
    t,
    Array.from({ length: 10 }, (_, index) => ({ body: String(index) })),
  );
  await at.client.queues.createWorkSubscription({ topic: t, name: "w", from: "earliest" });
  const receive = async (): Promise<string> =>
    (await at.client.receive(t, { subscription: "w", maxMessages: 20, autoAck: true })).map(text).join("");
  expect(await receive()).toBe("0123456789");
  await at.client.queues.seekWorkSubscription(t, "w", { offset: 7 });
  expect(await receive()).toBe("789");
  await at.client.queues.seekWorkSubscription(t, "w", "earliest");
  await at.client.queues.seekWorkSubscription(t, "w", "latest");
  expect(await receive()).toBe("");
  await at.client.queues.seekWorkSubscription(t, "w", { timeMs: 0 });
  expect(await receive()).toBe("0123456789");
  await at.client.commitOffsets(t, "g", [{ partition: 0, offset: 9 }]);
  expect(await at.client.commitOffsets(t, "g", [{ partition: 0, offset: 4 }])).toMatchObject([
    { error: { reason: "OFFSET_WOULD_GO_BACK" } },
  ]);
  expect(await at.client.commitOffsets(t, "g", [{ partition: 0, offset: 4, reset: true }])).toEqual([]);
  await using consumer = await at.client.consumer(t, { subscription: "g", from: "committed" });
  expect(await read(consumer, 6)).toEqual(["4", "5", "6", "7", "8", "9"]);
});

test("offsets on the server or on the client: a reader that keeps its own needs no subscription", async () => {
  const t = await topic();
  await at.client.publish(t, [{ body: "a" }, { body: "b" }, { body: "c" }]);
  let own = 0;
  for (const expected of ["a", "b", "c"]) {
    await using consumer = await at.client.consumer(t, { from: { offset: own } });
    expect(await read(consumer, 1)).toEqual([expected]);
    own += 1;
  }
  expect(await at.client.admin.listSubscriptions(t)).toEqual([]);
  await at.client.commitOffsets(t, "server", [{ partition: 0, offset: 2, metadata: "by hand" }]);
  expect(await at.client.getOffsets(t, { subscription: "server" })).toMatchObject([{ committedOffset: 2, metadata: "by hand" }]);
});

test("work subscription, shared: messages of one key stay in order, with many consumers", async () => {
  const t = await topic(2);
  await at.client.queues.createWorkSubscription({ topic: t, name: "w", from: "earliest" });
  const producer = await at.client.producer(t);
  await Promise.all(
    Array.from({ length: 200 }, (_, index) => producer.send({ body: String(Math.floor(index / 10)), key: `k${index % 10}` })),
  );
  const seen = new Map<string, number[]>();
  const busy = new Set<string>();
  let done = 0;
  const consumers = await Promise.all([1, 2, 3, 4].map(() => at.client.queueConsumer(t, { subscription: "w", prefetch: 4 })));
  await Promise.all(
    consumers.map((consumer) =>
      consumer.run(async (message) => {
        const key = Buffer.from(message.key!).toString();
        expect(busy.has(key), `${key} is worked on twice at one time`).toBe(false);
        busy.add(key);
        await new Promise((resolve) => setImmediate(resolve));
        busy.delete(key);
        seen.set(key, [...(seen.get(key) ?? []), Number(text(message))]);
        done += 1;
        if (done === 200) for (const one of consumers) void one.close();
      }),
    ),
  );
  for (const order of seen.values()) expect(order).toEqual(Array.from({ length: 20 }, (_, index) => index));
});

async function takeFrom(consumer: QueueConsumer, wanted: number): Promise<Message[]> {
  const found = await take(consumer, wanted);
  for (const message of found) await message.ack();
  return found;
}

test("expansion of partitions is transparent: consumers that are there get what comes in the new ones, from the first record on", async () => {
  const t = await topic(1);
  await at.client.queues.createWorkSubscription({ topic: t, name: "w" });
  await using shared = await at.client.queueConsumer(t, { subscription: "w" });
  await using plain = await at.client.consumer(t, { from: "earliest" });
  await using member = await at.client.groupConsumer(t, "g", { from: "earliest" });
  await at.client.publish(t, [{ body: "0" }], { partition: 0 });
  expect((await takeFrom(shared, 1)).map(text)).toEqual(["0"]);
  await at.client.admin.expandTopic(t, 3);
  for (const partition of [0, 1, 2]) await at.client.publish(t, [{ body: `in ${partition}` }], { partition });
  expect((await takeFrom(shared, 3)).map(text).sort()).toEqual(["in 0", "in 1", "in 2"]);
  expect((await read(plain, 4)).sort()).toEqual(["0", "in 0", "in 1", "in 2"]);
  const seen: string[] = [];
  for await (const record of member) {
    seen.push(text(record));
    if (seen.length === 4) break;
  }
  expect(seen.sort()).toEqual(["0", "in 0", "in 1", "in 2"]);
});

test("expansion of partitions is transparent: what comes in the new ones before anybody consumes again is the subscription's", async () => {
  const t = await topic(1);
  await at.client.queues.createWorkSubscription({ topic: t, name: "w", from: "latest" });
  await at.client.admin.expandTopic(t, 8);
  const partitions = [0, 1, 2, 3, 4, 5, 6, 7];
  await Promise.all(partitions.map((partition) => at.client.publish(t, [{ body: String(partition) }], { partition })));
  await using shared = await at.client.queueConsumer(t, { subscription: "w" });
  expect((await takeFrom(shared, 8)).map(text).sort()).toEqual(partitions.map(String));
});

test("expansion of partitions is transparent: a group that began at the end misses nothing of the new ones", async () => {
  const t = await topic(1);
  await at.client.publish(t, [{ body: "old" }]);
  await using member = await at.client.groupConsumer(t, "g", { from: "latest" });
  await at.client.admin.expandTopic(t, 2);
  await at.client.publish(t, [{ body: "before anybody reads it" }], { partition: 1 });
  for await (const record of member) {
    expect(text(record)).toBe("before anybody reads it");
    break;
  }
});

test("consumer group: sticky assignment, seen by who asks: whoever stays keeps what it had", async () => {
  const t = await topic(4);
  const first = await at.client.groupConsumer(t, "g");
  await using second = await at.client.groupConsumer(t, "g");
  await expect.poll(() => [first.partitions.length, second.partitions.length], { timeout: 15_000 }).toEqual([2, 2]);
  const kept = [...second.partitions];
  const { generation, members } = await at.client.admin.describeGroup(t, "g");
  expect(new Map(members.map((member) => [member.name, member.partitions]))).toEqual(
    new Map([
      [first.member, first.partitions],
      [second.member, second.partitions],
    ]),
  );
  expect(await at.json(`subscription members ${t} g`)).toHaveLength(2);
  expect(await at.done(`subscription members ${t} g`)).toMatch(/MEMBER +GENERATION +PARTITIONS +REVOKED\n\S+ +\d+ +\d,\d/);
  await first.close();
  await expect.poll(() => second.partitions, { timeout: 15_000 }).toEqual([0, 1, 2, 3]);
  expect(second.partitions).toEqual(expect.arrayContaining(kept));
  expect((await at.client.admin.describeGroup(t, "g")).generation).toBeGreaterThan(generation);
  expect(await at.run(`subscription members ${t} nobody`)).toMatchObject({ code: 3, stderr: expect.stringContaining("no consumer group") });
});

test("consumer group: it is deleted with its positions, not under its members, and begins anew", async () => {
  const t = await topic();
  await at.client.publish(t, [{ body: "1" }, { body: "2" }]);
  const read1 = async (): Promise<string> => {
    const member = await at.client.groupConsumer(t, "g");
    for await (const record of member) {
      await expect(at.client.admin.deleteSubscription(t, "g")).rejects.toMatchObject({ code: "CONFLICT" });
      await member.close();
      return text(record);
    }
    return "nothing";
  };
  expect(await read1()).toBe("1");
  expect(await at.client.admin.describeGroup(t, "g")).toEqual({ generation: 2, members: [] });
  await at.client.admin.deleteSubscription(t, "g");
  expect(await at.client.admin.listSubscriptions(t)).toEqual([]);
  await expect(at.client.admin.deleteSubscription(t, "g")).rejects.toMatchObject({ code: "UNKNOWN_SUBSCRIPTION" });
  expect(await read1()).toBe("1");
});

test("consumer group: when a member dies without a word the others have its partitions, and what it had committed holds", async () => {
  const t = await topic(2);
  await using stays = await at.client.groupConsumer(t, "g");
  const code = `
    import { Flotilla } from ${JSON.stringify(CLIENT)};
    const client = await Flotilla.connect({ endpoints: ${JSON.stringify(at.cluster.endpoints)} });
    const member = await client.groupConsumer(${JSON.stringify(t)}, "g");
    while (member.partitions.length !== 1) await new Promise((resolve) => setTimeout(resolve, 50));
    process.stdout.write("member");
    await new Promise(() => {});`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  await expect.poll(() => stays.partitions.length, { timeout: 15_000 }).toBe(1);
  child.kill("SIGKILL");
  await expect.poll(() => stays.partitions, { timeout: 30_000 }).toEqual([0, 1]);
  for (const partition of [0, 1]) await at.client.publish(t, [{ body: String(partition) }], { partition });
  const seen: string[] = [];
  for await (const record of stays) {
    seen.push(text(record));
    if (seen.length === 2) break;
  }
  expect(seen.sort()).toEqual(["0", "1"]);
});
