// Directed scenarios from peers' bugs: leaders that go, pause, or come back, and how long nobody leads.

import { expect, test } from "vitest";
import { CATALOG_GROUP } from "../../../src/base/ids.ts";
import type { CatalogMachine } from "../../../src/machine/catalog/catalog.ts";
import { PLANTED } from "../planted.ts";
import { batchOf, Cluster, publishing } from "./cluster.ts";

const PAUSE_MS = 3_000;

// RabbitMQ #15473: an election during a network blip left 40 deliveries per consumer unacknowledged for ever, and the log was never
// truncated again. Leases come with queues; of streams the same is asked: committed positions are kept (L7, which the readers
// check all the time), and retention goes on cutting the log on every node.
test("D3 (streams): after an election in a blip committed positions are kept and the log is cut again", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ retentionBytes: 10_000, recordBytesMax: 2_000, thinkMs: 20, readers: 2 });
  cluster.load();
  await cluster.run(3_000);
  for (const id of [1, 2, 3]) {
    const heal = cluster.isolate(id);
    await cluster.run(1_200);
    heal();
    await cluster.run(500);
  }
  await cluster.whole();
  const starts = [1, 2, 3].map((id) => cluster.stream(id, 0).firstIndex);
  await cluster.until("every node cuts its log again", () => [1, 2, 3].every((id, at) => cluster.stream(id, 0).firstIndex > starts[at]!));
  await cluster.verify();
});

// RabbitMQ #13826, #13828: queues that were declared while the leader of the metadata died were half made, and could neither be
// used nor be made again.
test("D4: the catalog's leader dies again and again while 150 topics are made: none is half made", { timeout: 120_000 }, async () => {
  const cluster = await Cluster.start({ groups: 1 });
  const wanted = Array.from({ length: 150 }, (_, at) => `many-${at}`);
  const open = new Set(wanted);
  // Whatever had no answer is simply asked for again.
  for (let round = 0; open.size > 0; round++) {
    expect(round).toBeLessThan(20);
    const questions = [...open].map((name, at) => {
      const call = { vhost: "", name, partitions: 2, replicas: 3, config: {} };
      return { name, question: cluster.ask(1 + (at % 3), (broker, signal) => broker.createTopic(call, signal), 10_000) };
    });
    await cluster.run(40 + 13 * round);
    const leader = cluster.leaders(CATALOG_GROUP)[0];
    if (round < 6 && leader !== undefined) cluster.crash(round % 2 === 0 ? "kill" : "power", leader);
    await cluster.run(800);
    cluster.startNodes();
    await cluster.until("all have answers", () => questions.every(({ question }) => question.isOver));
    for (const { name, question } of questions) if (question.error === null) open.delete(name);
  }
  await cluster.whole();
  for (const { host } of cluster.machines) {
    const catalog = host!.get(CATALOG_GROUP)!.machine as CatalogMachine;
    for (const name of wanted) expect(catalog.topic("/", name)?.partitions, name).toHaveLength(2);
  }
  for (const name of wanted.slice(0, 10)) await cluster.publish(2, name, "usable");
});

// RabbitMQ #13665: one of three nodes killed in turn, with 200 queues: some stayed without a leader. #3745: 40,000 of them, elections
// still going minutes later.
test("D5: one of three nodes is killed in turn: each of 200 partitions has a leader within two seconds", { timeout: 120_000 }, async () => {
  const cluster = await Cluster.start({ groups: 200 });
  const groups = Array.from({ length: 200 }, (_, partition) => cluster.groupOf(partition));
  for (const id of [1, 2, 3]) {
    const others = cluster.others(id);
    cluster.crash("kill", id);
    await cluster.until(
      "all are led",
      () => groups.every((group) => others.some((other) => cluster.replica(other, group)?.isLeader === true)),
      2_000,
    );
    cluster.startNodes(id);
    await cluster.whole();
  }
});

// etcd #20418: a leader's process was paused for longer than an election takes; when it went on it answered reads from what it had,
// though another one had led and acknowledged meanwhile. Here nothing of that reaches it either, so all it has is its own belief.
test("D14: a leader is paused, replaced, and goes on: what it is asked it does not answer from the past", { timeout: 60_000 }, async () => {
  expect(await answersOfThePast(6)).toBe(0);
});

test("D14: a leader that does not ask whether it still leads does answer from the past", { timeout: 60_000 }, async () => {
  const unplant = PLANTED.find(({ name }) => name === "read-without-barrier")!.plant();
  try {
    expect(await answersOfThePast(1)).toBe(3);
  } finally {
    unplant();
  }
});

/** In each round the leader stands still behind a partition until another one has acknowledged, and is asked before it is healed. */
async function answersOfThePast(rounds: number): Promise<number> {
  const cluster = await Cluster.start({ groups: 1 });
  await cluster.createTopic("d", 1, 3);
  const group = cluster.groupOf(0, "d");
  let answers = 0;
  for (let round = 0; round < rounds; round++) {
    const leader = await cluster.leader(group);
    await cluster.publish(leader, "d", "before");
    const heal = cluster.isolate(leader);
    cluster.pause(PAUSE_MS, leader);
    const other = await cluster.leader(group, cluster.others(leader));
    const told = 1 + (await cluster.publish(other, "d", "meanwhile"));
    // It reaches the paused process with the first thing that it does again.
    const question = { vhost: "", topic: "d", subscription: "s", partitions: [0], timeMs: -1, direct: round % 2 === 0 };
    const questions = [0, 1, 2].map(() => cluster.ask(leader, (broker, signal) => broker.getOffsets(question, signal), 10_000));
    await cluster.run(PAUSE_MS);
    heal();
    await cluster.until("it answers", () => questions.every(({ isOver }) => isOver));
    for (const { value } of questions) if (value?.[0]!.error === null && value[0].endOffset < told) answers += 1;
    await cluster.whole();
  }
  return answers;
}

// TigerBeetle (Jepsen): with one node down for good the latency of the rest rose for good. Virtual time has no CPU, so what is
// compared is the number of round trips and waits.
test("D21: one node is down for good: acknowledgements take no longer than before", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ groups: 1 });
  const times = async (): Promise<number> => {
    const took: number[] = [];
    const leader = await cluster.leader(cluster.groupOf(0));
    for (let count = 0; count < 200; count++) {
      const sinceMs = cluster.world.nowMs;
      let answeredMs = 0;
      const call = cluster.call(leader, (broker) =>
        publishing(broker, "t", batchOf(`${sinceMs}`), [0, 0, 0]).then(() => (answeredMs = cluster.world.nowMs)),
      );
      await call;
      took.push(answeredMs - sinceMs);
    }
    return took.sort((a, b) => a - b)[Math.floor(took.length * 0.99)]!;
  };
  const before = await times();
  cluster.crash("power", 3);
  await cluster.run(8_000);
  expect(await times()).toBeLessThan(before * 1.2);
});
