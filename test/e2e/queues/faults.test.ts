// Queues while nodes die: nothing that was acknowledged to a producer is lost, nothing that a consumer settled comes again, and what it held
// goes on.

import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { Flotilla, FlotillaError, type Message } from "../../../src/client/index.ts";
import { startCluster } from "../../support/cluster.ts";

const text = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();

/** What one consumer saw and did, judged against what others did. */
class Ledger {
  readonly settled = new Set<string>();
  /** Those whose last settlement has no known outcome. */
  readonly unknown = new Set<string>();
  readonly faults: string[] = [];
  private readonly attempts = new Map<string, number>();

  seen(message: Message): void {
    const body = text(message);
    if (this.settled.has(body)) this.faults.push(`${body} came again after it was settled (Q4)`);
    const before = this.attempts.get(body) ?? 0;
    if (message.attempt < before) this.faults.push(`${body} came for the ${message.attempt}th time after the ${before}th`);
    this.attempts.set(body, message.attempt);
  }

  async settle(message: Message): Promise<void> {
    try {
      await message.ack();
      this.settled.add(text(message));
      this.unknown.delete(text(message));
    } catch (error) {
      // It is somebody else's, or nobody knows.
      if (!(error instanceof FlotillaError)) throw error;
      if (error.maybeApplied) this.unknown.add(text(message));
    }
  }
}

test("queue: its leader is killed again and again; every message is settled in the end, none comes after it was", async () => {
  await using cluster = await startCluster({ nodes: 3 });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.queues.createQueue({ name: "q", settings: { deliveryLimit: 0 } });
  const producer = await client.producer("q");
  const ledger = new Ledger();
  const total = 6_000;
  const consumers = await Promise.all([0, 1].map(() => client.queueConsumer("q", { prefetch: 50, leaseMs: 3_000 })));
  const consuming = consumers.map(async (consumer) => {
    for await (const message of consumer) {
      ledger.seen(message);
      void ledger.settle(message);
    }
  });
  const producing = (async () => {
    for (let at = 0; at < total; at += 20) {
      await Promise.all(Array.from({ length: 20 }, (_, more) => producer.send({ body: String(at + more) })));
      await delay(5);
    }
  })();
  for (let round = 0; round < 3; round++) {
    await delay(400);
    const leader = await cluster.leaderOf("q", 0);
    await cluster.kill(leader);
    await delay(300);
    cluster.start(leader);
    await cluster.ready(leader);
  }
  await producing;
  const left = async (): Promise<number> => {
    const { queue, startOffset, endOffset } = await client.queues.describeQueue("q");
    return endOffset - startOffset + queue.counts!.leased + queue.counts!.dead;
  };
  await expect.poll(left, { timeout: 40_000 }).toBe(0);
  await Promise.all(consumers.map((consumer) => consumer.close()));
  await Promise.all(consuming);
  expect(ledger.faults).toEqual([]);
  for (let at = 0; at < total; at++)
    expect(ledger.settled.has(String(at)) || ledger.unknown.has(String(at)), `message ${at} was settled by somebody`).toBe(true);
  const { queue, startOffset, endOffset } = await client.queues.describeQueue("q");
  expect(queue.counts).toMatchObject({ ready: 0, leased: 0, dead: 0 });
  expect(startOffset).toBe(endOffset);
}, 120_000);

test("queue: the node that consumers are connected to dies; what they held goes to others within seconds, not when their leases end", async () => {
  await using cluster = await startCluster({ nodes: 3 });
  await using client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.queues.createQueue({ name: "q" });
  const leader = await cluster.leaderOf("q", 0);
  const other = leader === 1 ? 2 : 1;
  // A topic's subscription, or a client that knows one node only, is connected to a node that does not lead.
  await using far = await Flotilla.connect({ endpoints: [cluster.endpoints[other - 1]!] });
  await client.queues.createWorkSubscription({ topic: await topicOf(client), name: "w" });
  await using consumer = await far.queueConsumer("t", { subscription: "w", leaseMs: 60_000 });
  await client.publish("t", [{ body: "a" }, { body: "b" }], { partition: 0 });
  expect([text((await consumer.next())!), text((await consumer.next())!)]).toEqual(["a", "b"]);
  await cluster.kill(other);
  const beganMs = Date.now();
  // By another node, as a consumer that is new to the group.
  const again = [(await consumer.next())!, (await consumer.next())!];
  expect(again.map((message) => [text(message), message.attempt])).toEqual([
    ["a", 2],
    ["b", 2],
  ]);
  expect(Date.now() - beganMs).toBeLessThan(15_000);
  for (const message of again) await message.ack();
}, 90_000);

async function topicOf(client: Flotilla): Promise<string> {
  await client.admin.createTopic({ name: "t", partitions: 2 });
  return "t";
}

test("queue: after all nodes are killed at once everything is as it was: what waits, what is held, what is delayed", async () => {
  await using cluster = await startCluster({ nodes: 3 });
  const client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.queues.createQueue({ name: "q" });
  await client.publish("q", [{ body: "held" }, { body: "settled" }, { body: "ready", priority: 2 }]);
  await client.publish("q", [{ body: "delayed", delayMs: 15_000 }]);
  const messages = await client.receive("q", { maxMessages: 3, leaseMs: 60_000 });
  expect(messages.map(text)).toEqual(["ready", "held", "settled"]);
  await messages[2]!.ack();
  await messages[0]!.nack();
  await client.close();
  await Promise.all(cluster.nodeIds.map((node) => cluster.kill(node)));
  for (const node of cluster.nodeIds) cluster.start(node);
  await Promise.all(cluster.nodeIds.map((node) => cluster.ready(node)));
  await using again = await Flotilla.connect({ endpoints: cluster.endpoints });
  const states = (await again.browse("q")).messages.map((message) => [text(message), message.state, message.attempts]);
  expect(states).toEqual([
    ["held", "leased", 1],
    ["ready", "ready", 1],
    ["delayed", "delayed", 0],
  ]);
  const [ready] = await again.receive("q");
  expect([text(ready!), ready!.attempt]).toEqual(["ready", 2]);
  const [delayed] = await again.receive("q", { maxWaitMs: 25_000 });
  expect(text(delayed!)).toBe("delayed");
}, 120_000);
