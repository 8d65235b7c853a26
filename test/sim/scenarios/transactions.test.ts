// Transactions, and somebody who dies or stands still at every moment of one: all of it happens or nothing, once, and nothing stays held.

import { expect, test } from "vitest";
import type { Broker } from "../../../src/broker/types.ts";
import { STATE_COMMITTED, type Transacted, type TransactCall } from "../../../src/broker/transactions/types.ts";
import { OUTCOME_ACK } from "../../../src/broker/work/types.ts";
import { idsIn } from "../queue-clients.ts";
import { batchOf, Cluster, publishing, type Question } from "./cluster.ts";

const QUEUES = ["in", "a", "b"];
/** A transaction takes some six of them here: each moment is tried. */
const STEP_US = 400;
const STEPS = 16;
/** More than the timeout of one that nobody has decided. */
const LONG_MS = 40_000;

async function begin(): Promise<Cluster> {
  const cluster = await Cluster.start({ groups: 1 });
  for (const name of QUEUES)
    await cluster.call(
      1,
      (broker, signal) => broker.queues.create({ vhost: "", name, replicas: 3, durability: 0, settings: { deliveryLimit: 0 } }, signal),
      20_000,
    );
  // The first one makes the queue of transactions.
  await cluster.call(1, (broker, signal) => broker.transactions.transact(callOf("first", 0), signal), 20_000);
  await cluster.whole();
  return cluster;
}

function callOf(id: string, sequence: number, settles: TransactCall["settles"] = []): TransactCall {
  const how = { partition: -1, partitionKey: null, count: 1, exchange: null, routingKey: "", mandatory: false };
  const publishes = ["a", "b"].map((topic) => ({ topic, records: Uint8Array.from(batchOf(id)), ...how }));
  return { vhost: "", publishes, settles, isPrepared: false, timeoutMs: 0, name: "", producerId: 77, producerEpoch: 0, sequence };
}

type Asked = { readonly takes: string; readonly question: Question<Transacted> };

/** Publishes a message, and takes one for the transaction: the same, or one that has come back. */
async function taking(cluster: Cluster, node: number, id: string, sequence: number): Promise<{ call: TransactCall; takes: string }> {
  await cluster.call(node, (broker) => publishing(broker, "in", Uint8Array.from(batchOf(id)), [0, 0, 0]));
  const call = { vhost: "", queue: "in", subscription: "", maxMessages: 1, maxWaitMs: 1_000, leaseMs: 120_000, autoAck: false };
  const [given] = await cluster.call(node, (broker, signal) => broker.queues.receive(call, signal));
  const { firstOffset, token, consumer } = given!;
  const settlement = { partition: 0, firstOffset, count: 1, token, outcome: OUTCOME_ACK, delayMs: -1, leaseMs: 0, consumer } as const;
  const takes = Buffer.from(given!.records.subarray(4)).toString();
  return { call: callOf(id, sequence, [{ queue: "in", subscription: "", settlements: [settlement] }]), takes };
}

async function over(cluster: Cluster): Promise<void> {
  cluster.startNodes();
  await cluster.whole();
  for (let left = 1; left > 0;) {
    await cluster.run(500);
    const work = (broker: Broker, signal: AbortSignal): ReturnType<Broker["transactions"]["list"]> =>
      broker.transactions.list({ vhost: "", from: 0, max: 100 }, signal);
    left = (await cluster.call(2, work)).transactions.length;
  }
}

/** Everything or nothing of each; the message that it took is gone exactly where it took effect, and nobody holds one. */
async function judge(cluster: Cluster, asked: ReadonlyMap<string, Asked>): Promise<{ done: number }> {
  const [source, a, b] = await Promise.all(QUEUES.map((queue) => cluster.call(1, (broker, signal) => idsIn(broker, queue, signal))));
  const { counts } = (await cluster.call(1, (broker, signal) => broker.queues.describe("", "in", signal))).queue;
  expect(counts!.leased, "messages that somebody holds").toBe(0);
  let done = 0;
  const taken = new Set<string>();
  for (const [id, { takes, question }] of asked) {
    const { error, value } = question;
    const copies = [a!.get(id) ?? 0, b!.get(id) ?? 0];
    const isThere = copies[0] === 1;
    expect(copies, id).toEqual(isThere ? [1, 1] : [0, 0]);
    if (value !== null) expect([value.state, isThere], id).toEqual([STATE_COMMITTED, true]);
    if (error !== null && (error as { code?: string }).code === "LEASE_LOST") expect(isThere, id).toBe(false);
    if (!isThere) continue;
    expect([taken.has(takes), source!.has(takes)], `${takes}, which ${id} took`).toEqual([false, false]);
    taken.add(takes);
    done += 1;
  }
  for (const id of asked.keys()) expect([id, source!.has(id)]).toEqual([id, !taken.has(id)]);
  return { done };
}

type Who = "gateway" | "book" | "target" | "source";

async function nodeOf(cluster: Cluster, who: Who, gateway: number): Promise<number> {
  if (who === "gateway") return gateway;
  const queue = { book: "flotilla.transactions", target: "a", source: "in" }[who];
  return cluster.leader(cluster.groupOf(0, queue));
}

test.each<Who>(["gateway", "book", "target", "source"])(
  "transaction: the %s is killed at any moment of it: everything of it is there or nothing",
  { timeout: 240_000 },
  async (who) => {
    const cluster = await begin();
    const asked = new Map<string, Asked>();
    for (let step = 0; step < STEPS; step++) {
      const gateway = (step % 3) + 1;
      const id = `${who}-${step}`;
      const { call, takes } = await taking(cluster, gateway, id, step + 1);
      const node = await nodeOf(cluster, who, gateway);
      asked.set(id, { takes, question: cluster.ask(gateway, (broker, signal) => broker.transactions.transact(call, signal), LONG_MS) });
      await cluster.run((step * STEP_US) / 1_000);
      cluster.crash("kill", node);
      await cluster.run(300);
      cluster.startNodes();
      await cluster.whole();
    }
    await cluster.run(LONG_MS);
    await over(cluster);
    // What its consumer lost it for good: given to others by now, or free.
    await cluster.run(120_000);
    const { done } = await judge(cluster, asked);
    expect(done).toBeGreaterThan(0);
  },
);

test(
  "transaction: its node stands still at any moment of it, for longer than it may: what it says then comes too late",
  {
    timeout: 240_000,
  },
  async () => {
    const cluster = await begin();
    const asked = new Map<string, Asked>();
    for (let step = 0; step < STEPS; step++) {
      const id = `still-${step}`;
      const gateway = (step % 3) + 1;
      const { call, takes } = await taking(cluster, gateway, id, step + 1);
      asked.set(id, { takes, question: cluster.ask(gateway, (broker, signal) => broker.transactions.transact(call, signal), 2 * LONG_MS) });
      await cluster.run((step * STEP_US) / 1_000);
      cluster.pause(LONG_MS, gateway);
      await cluster.run(LONG_MS + 2_000);
      await cluster.whole();
    }
    await over(cluster);
    await cluster.run(120_000);
    await judge(cluster, asked);
  },
);

test(
  "transaction: sent again through another node, with the same numbers, while the first is at it or is gone: it happens once",
  {
    timeout: 120_000,
  },
  async () => {
    const cluster = await begin();
    const asked = new Map<string, Asked>();
    for (let step = 0; step < STEPS; step++) {
      const id = `again-${step}`;
      const [gateway, other] = [(step % 3) + 1, ((step + 1) % 3) + 1];
      const { call, takes } = await taking(cluster, gateway, id, step + 1);
      cluster.ask(gateway, (broker, signal) => broker.transactions.transact(call, signal), LONG_MS);
      await cluster.run((step * STEP_US) / 1_000);
      if (step % 2 === 1) cluster.crash("kill", gateway);
      const question = cluster.ask(other, (broker, signal) => broker.transactions.transact(call, signal), LONG_MS);
      asked.set(id, { takes, question });
      await cluster.run(2_000);
      cluster.startNodes();
      await cluster.whole();
      await cluster.until("an answer", () => question.isOver);
      if (question.error !== null) expect((question.error as { code?: string }).code).toMatch(/LEASE_LOST|TIMEOUT|TRANSACTION_ENDED/);
    }
    await over(cluster);
    await cluster.run(120_000);
    const { done } = await judge(cluster, asked);
    expect(done).toBeGreaterThan(STEPS / 2);
  },
);

test(
  "transaction: committed by its name at any moment of its being prepared: what it is to settle is held first",
  {
    timeout: 120_000,
  },
  async () => {
    const cluster = await begin();
    const asked = new Map<string, Asked>();
    for (let step = 0; step < 2 * STEPS; step++) {
      const id = `named-${step}`;
      const [gateway, other] = [(step % 3) + 1, ((step + 1) % 3) + 1];
      const { call, takes } = await taking(cluster, gateway, id, step + 1);
      const prepared = { ...call, isPrepared: true, name: id, timeoutMs: 5_000 };
      cluster.ask(gateway, (broker, signal) => broker.transactions.transact(prepared, signal), LONG_MS);
      await cluster.run((step * STEP_US) / 4_000);
      const key = { vhost: "", id: "", name: id };
      const question = cluster.ask(other, (broker, signal) => broker.transactions.end(key, STATE_COMMITTED, signal), LONG_MS);
      await cluster.until("an answer", () => question.isOver);
      const isUnknown = (question.error as { code?: string } | null)?.code === "UNKNOWN_TRANSACTION";
      asked.set(id, { takes, question: isUnknown ? { ...question, error: null } : question });
      await cluster.run(200);
    }
    await over(cluster);
    await cluster.run(120_000);
    const { done } = await judge(cluster, asked);
    expect(done).toBeGreaterThan(STEPS);
  },
);
