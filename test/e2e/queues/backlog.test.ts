// Work subscriptions of what a topic has held for longer: on three real nodes, the backlog comes as if it had been published just now.

import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla, FlotillaError, type Message } from "../../../src/client/index.ts";
import { startCluster, type TestCluster } from "../../support/cluster.ts";
import { until } from "../../support/until.ts";

let cluster: TestCluster;
let client: Flotilla;
let topics = 0;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
});

afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

async function topicOf(): Promise<string> {
  const name = `t${++topics}`;
  await client.admin.createTopic({ name, partitions: 1 });
  return name;
}

async function countsOf(topic: string): Promise<unknown> {
  return (await client.queues.listWorkSubscriptions(topic))[0]!.counts;
}

const text = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();

/** Bodies are "key:number"; what is said of a key is judged against its numbers. */
class Keys {
  readonly faults: string[] = [];
  readonly settled = new Set<string>();
  private readonly inFlight = new Map<string, string>();
  private readonly last = new Map<string, number>();

  seen(message: Message): void {
    const body = text(message);
    const [key, number] = body.split(":") as [string, string];
    const other = this.inFlight.get(key);
    if (other !== undefined && other !== body) this.faults.push(`${body} came while ${other} was out`);
    if (Number(number) < (this.last.get(key) ?? -1)) this.faults.push(`${body} came after ${this.last.get(key)}`);
    this.inFlight.set(key, body);
    this.last.set(key, Number(number));
  }

  async settle(message: Message): Promise<void> {
    const body = text(message);
    const [key] = body.split(":") as [string];
    this.inFlight.delete(key);
    try {
      await message.ack();
      this.settled.add(body);
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
      // Under another lease it comes again, or it was settled all the same.
      if (error.maybeApplied) this.settled.add(body);
    }
  }
}

/** Several consumers until so many were settled. */
async function consume(topic: string, subscription: string, count: number, during: () => Promise<void> = async () => {}): Promise<Keys> {
  const keys = new Keys();
  const consumers = await Promise.all([0, 1, 2].map(() => client.queueConsumer(topic, { subscription, prefetch: 40, leaseMs: 30_000 })));
  const consuming = consumers.map(async (consumer) => {
    for await (const message of consumer) {
      keys.seen(message);
      // Others have a chance to be given what must not be out yet.
      setImmediate(() => void keys.settle(message));
    }
  });
  await during();
  await until(`${count} messages are settled`, () => keys.settled.size >= count, 60_000);
  await Promise.all(consumers.map((consumer) => consumer.close()));
  await Promise.all(consuming);
  return keys;
}

async function publishKeyed(topic: string, keys: number, from: number, end: number): Promise<void> {
  for (let number = from; number < end; number++)
    await client.publish(
      topic,
      Array.from({ length: keys }, (_, key) => ({ body: `k${key}:${number}`, key: `k${key}` })),
      { partition: 0 },
    );
}

test("backlog: messages of one key that were stored before the subscription come one at a time and in order, and so after a seek", async () => {
  const topic = await topicOf();
  await publishKeyed(topic, 20, 0, 50);
  await client.queues.createWorkSubscription({ topic, name: "w", from: "earliest" });
  const first = await consume(topic, "w", 1_200, () => publishKeyed(topic, 20, 50, 60));
  expect(first.faults).toEqual([]);
  expect(first.settled.size).toBe(1_200);
  await client.queues.seekWorkSubscription(topic, "w", "earliest");
  const again = await consume(topic, "w", 1_200);
  expect(again.faults).toEqual([]);
  expect(again.settled.size).toBe(1_200);
});

test("backlog: priorities, delays and times to live of what was stored before the subscription count", async () => {
  const topic = await topicOf();
  await client.publish(topic, [
    { body: "late", delayMs: 3_600_000 },
    { body: "gone", ttlMs: 1 },
    { body: "low" },
    { body: "high", priority: 9 },
    { body: "middle", priority: 5 },
  ]);
  await client.queues.createWorkSubscription({ topic, name: "w", from: "earliest" });
  const messages = await client.receive(topic, { subscription: "w", maxMessages: 10 });
  expect(messages.map(text)).toEqual(["high", "middle", "low"]);
  expect(await countsOf(topic)).toMatchObject({ ready: 0, leased: 3, delayed: 1 });
});

test("backlog: while it is fed its leader is killed; everything comes, one of a key at a time and in order", async () => {
  const topic = await topicOf();
  const [keys, numbers] = [50, 800];
  await publishKeyed(topic, keys, 0, numbers);
  const leader = await cluster.leaderOf(topic, 0);
  await client.queues.createWorkSubscription({ topic, name: "w", from: "earliest" });
  await cluster.kill(leader);
  const seen = await consume(topic, "w", keys * numbers, async () => {
    cluster.start(leader);
    await cluster.ready(leader);
  });
  expect(seen.faults).toEqual([]);
  expect(seen.settled.size).toBe(keys * numbers);
  await expect.poll(() => countsOf(topic)).toMatchObject({ ready: 0, leased: 0, waitingForKey: 0 });
}, 120_000);
