// Directed scenarios from peers' bugs, with real processes: leaders that go, pause, or come back, and what clients are told. The
// numbers are those of test/sim/scenarios.

import { afterAll, beforeAll, expect, test } from "vitest";
import { ERRORS } from "../../src/base/errors.ts";
import { Flotilla, FlotillaError } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";
import { textOf, until, whole } from "../support/until.ts";

/** Of a machine that does other things as well: the election itself takes a fraction of it. */
const LED_MS = 5_000;

let cluster: TestCluster;
let client: Flotilla;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3, env: { FLOTILLA_SEGMENT_BYTES: String(1024 * 1024) } });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
}, 60_000);
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

const loadOn = async (topic: string, partitions: number): Promise<NumberedLoad> => {
  await client.admin.createTopic({ name: topic, partitions, replicas: 3 });
  const load = new NumberedLoad(await client.producer(topic, { lingerMs: 2 }), 20);
  load.start();
  await load.progress(500);
  return load;
};
const judge = async (load: NumberedLoad, topic: string): Promise<void> => {
  await load.stop();
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, topic))).toEqual([]);
};
const restart = async (node: number): Promise<void> => {
  cluster.start(node);
  await cluster.ready(node);
  await whole(cluster, client);
};

// RabbitMQ #15473. Retention cuts the log again, and no committed position is lost.
test("D3 (streams): after an election in a blip committed positions are kept and the log is cut again", { timeout: 120_000 }, async () => {
  await client.admin.createTopic({ name: "blip", partitions: 1, replicas: 3, config: { retentionBytes: 256 * 1024 } });
  const body = Buffer.alloc(8 * 1024);
  const fill = async (): Promise<void> => {
    await using producer = await client.producer("blip");
    for (let count = 0; count < 200; count++) producer.append({ body });
    await producer.flush();
  };
  let committed = 0;
  for (const node of cluster.nodeIds) {
    await fill();
    committed = (await client.getOffsets("blip"))[0]!.endOffset;
    await client.commitOffsets("blip", "s", [{ partition: 0, offset: committed }]);
    cluster.signal(node, "SIGSTOP");
    await until("the others lead", async () => {
      const other = cluster.endpoints[node % 3]!;
      await using one = await Flotilla.connect({ endpoints: [other] });
      const { leader } = (await one.cluster.resolve("blip")).partitions[0]!;
      return leader !== 0 && leader !== node;
    });
    cluster.signal(node, "SIGCONT");
    await whole(cluster, client);
    expect((await client.getOffsets("blip", { subscription: "s" }))[0]!.committedOffset).toBe(committed);
  }
  const { startOffset } = (await client.getOffsets("blip"))[0]!;
  await fill();
  await until("the log is cut again", async () => (await client.getOffsets("blip"))[0]!.startOffset > startOffset);
});

// RabbitMQ #13826, #13828.
test("D4: the catalog's leader dies again and again while 150 topics are made: none is half made", { timeout: 180_000 }, async () => {
  const wanted = Array.from({ length: 150 }, (_, at) => `many-${at}`);
  const left = [...wanted];
  const create = async (): Promise<void> => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      const topic = { name, partitions: 2, replicas: 3 };
      await until(`${name} is made`, () => client.admin.createTopic(topic).then(() => true));
    }
  };
  const creating = Promise.all([create(), create(), create(), create()]);
  for (const target of [120, 80, 40]) {
    await until("some are made", () => left.length <= target);
    const { controllerId } = await client.cluster.describe();
    await cluster.kill(controllerId);
    await until("another one leads the catalog", async () => {
      const now = await client.cluster.describe();
      return now.controllerId !== 0 && now.controllerId !== controllerId;
    });
    cluster.start(controllerId);
    await cluster.ready(controllerId);
  }
  await creating;
  await whole(cluster, client);
  const topics = new Map((await client.admin.listTopics()).map(({ name, partitions }) => [name, partitions]));
  for (const name of wanted) expect(topics.get(name), name).toBe(2);
  for (const name of wanted) for (const partition of [0, 1]) await client.publish(name, [{ body: "usable" }], { partition });
  await Promise.all(wanted.map((name) => client.admin.deleteTopic(name)));
});

// RabbitMQ #13665.
test("D5: one of three nodes is killed in turn: each of 200 partitions is led again", { timeout: 120_000 }, async () => {
  await client.admin.createTopic({ name: "wide", partitions: 200, replicas: 3 });
  for (const node of cluster.nodeIds) {
    await using other = await Flotilla.connect({ endpoints: [cluster.endpoints[node % 3]!] });
    await cluster.kill(node);
    await until(
      "all are led by others",
      async () => (await other.cluster.resolve("wide")).partitions.every(({ leader }) => leader !== 0 && leader !== node),
      LED_MS,
    );
    await restart(node);
  }
  await client.admin.deleteTopic("wide");
});

// KIP-890: what a former epoch of a producer sent comes late, and through another leader.
test("D12 (streams): a batch of an older epoch comes late, through another leader: it is refused", { timeout: 60_000 }, async () => {
  await client.admin.createTopic({ name: "epochs", partitions: 1, replicas: 3 });
  const old = await client.producer("epochs", { producerId: 9, epoch: 0 });
  await old.send({ body: "epoch 0, first" });
  const next = await client.producer("epochs", { producerId: 9, epoch: 1 });
  await next.send({ body: "epoch 1, first" });
  const leader = await cluster.leaderOf("epochs", 0);
  await cluster.kill(leader);
  await expect(old.send({ body: "epoch 0, second" })).rejects.toMatchObject({ code: "FENCED_PRODUCER" });
  await next.send({ body: "epoch 1, second" });
  await restart(leader);
  for (const endpoint of cluster.endpoints)
    expect(textOf(await readAll(endpoint, "epochs"))).toEqual(["epoch 0, first", "epoch 1, first", "epoch 1, second"]);
});

// CVE-2026-35554: a buffer was used again while a request that had timed out still pointed into it.
test("D13: a caller uses its buffer again while the batch is under way: what was sent is stored", { timeout: 60_000 }, async () => {
  await client.admin.createTopic({ name: "buffers", partitions: 1, replicas: 3 });
  const producer = await client.producer("buffers");
  const body = Buffer.alloc(16);
  const wanted = Array.from({ length: 500 }, (_, at) => `text ${at}`.padEnd(16));
  const leader = await cluster.leaderOf("buffers", 0);
  for (const [at, text] of wanted.entries()) {
    body.write(text);
    producer.append({ body });
    body.fill("x");
    // Those that follow wait for an election.
    if (at === 200) await cluster.kill(leader);
  }
  await producer.flush();
  await restart(leader);
  expect(textOf(await readAll(cluster.endpoints[0]!, "buffers"))).toEqual(wanted);
});

// etcd #20418. What it is asked reaches the stopped process with the first thing that it does again.
test(
  "D14: a leader is stopped, replaced, and goes on: what it is asked it does not answer from the past",
  { timeout: 90_000 },
  async () => {
    const load = await loadOn("stale", 1);
    for (let round = 0; round < 3; round++) {
      const leader = await cluster.leaderOf("stale", 0);
      await using alone = await Flotilla.connect({ endpoints: [cluster.endpoints[leader - 1]!] });
      cluster.signal(leader, "SIGSTOP");
      await load.progress(500);
      const told = Math.max(...load.acked.map(({ offset }) => offset)) + 1;
      const questions = [0, 1, 2].map(() => alone.getOffsets("stale"));
      cluster.signal(leader, "SIGCONT");
      for (const answer of await Promise.all(questions))
        if (answer[0]!.error === null) expect(answer[0]!.endOffset).toBeGreaterThanOrEqual(told);
      await whole(cluster, client);
    }
    await judge(load, "stale");
  },
);

// Redpanda (2020): the high term of a follower that had been cut off ended leaders that nobody wanted to lose.
test("D19: a follower that stood still goes on: no other leader is lost", { timeout: 60_000 }, async () => {
  const load = await loadOn("steady", 3);
  await whole(cluster, client);
  const partitions = async (through: Flotilla) => (await through.cluster.resolve("steady")).partitions;
  await until("all are led where they are wanted", async () =>
    (await partitions(client)).every(({ leader, replicas }) => leader === replicas[0]),
  );
  const follower = 1 + ((await cluster.leaderOf("steady", 0)) % 3);
  await using other = await Flotilla.connect({ endpoints: [cluster.endpoints[follower % 3]!] });
  // Those that it leads itself go to others, and are to come back.
  const led = async (): Promise<object[]> =>
    (await partitions(other)).filter(({ replicas }) => replicas[0] !== follower).map(({ leader, term }) => ({ leader, term }));
  cluster.signal(follower, "SIGSTOP");
  await until("the others lead all", async () => (await partitions(other)).every(({ leader }) => leader !== 0 && leader !== follower));
  const before = await led();
  await load.progress(2_000);
  cluster.signal(follower, "SIGCONT");
  await whole(cluster, client);
  expect(await led()).toEqual(before);
  await judge(load, "steady");
});

// A client that tries for ever needs an end to each try, and to know whether it may have been carried out.
test("D22: with a majority down every call ends, and says whether to try again", { timeout: 120_000 }, async () => {
  await client.admin.createTopic({ name: "ends", partitions: 1, replicas: 3 });
  await client.admin.createTopic({ name: "may-end", partitions: 1, replicas: 3 });
  await client.publish("ends", [{ body: "before" }]);
  await Promise.all([cluster.kill(2), cluster.kill(3)]);
  await using alone = await Flotilla.connect({ endpoints: [cluster.endpoints[0]!], deadlineMs: 20_000 });
  // A leader that has yet to notice serves what was committed.
  await until("it leads nothing", async () => (await alone.cluster.resolve("ends")).partitions[0]!.leader === 0);
  const where = { topic: "ends", partition: 0 };
  const positions = [{ partition: 0, from: "earliest" as const }];
  const calls: Record<string, () => Promise<unknown>> = {
    publish: () => alone.publish("ends", [{ body: "x" }]),
    send: async () => (await alone.producer("ends", { deliveryTimeoutMs: 3_000 })).send({ body: "x" }),
    fetch: async () => orError((await alone.fetch("ends", positions))[0]!.error),
    commitOffsets: async () => orError((await alone.commitOffsets("ends", "s", [{ partition: 0, offset: 0 }]))[0]?.error ?? null),
    getOffsets: async () => orError((await alone.getOffsets("ends", { subscription: "s" }))[0]!.error),
    createTopic: () => alone.admin.createTopic({ name: "n", partitions: 1, replicas: 1 }),
    expandTopic: () => alone.admin.expandTopic("ends", 2),
    updateTopic: () => alone.admin.updateTopic("ends", { retentionMs: 1_000 }),
    // Of this one nobody knows whether it will be carried out.
    deleteTopic: () => alone.admin.deleteTopic("may-end"),
    deleteSubscription: () => alone.admin.deleteSubscription("ends", "s"),
    transferLeader: () => alone.cluster.transferLeader(where),
    moveReplicas: () => alone.cluster.moveReplicas({ ...where, nodes: [1] }),
    drainNode: () => alone.cluster.drainNode(2),
    forgetNode: () => alone.cluster.forgetNode(2),
  };
  const outcomes = await Promise.all(
    Object.entries(calls).map(async ([name, call]) => {
      const error = await call().then(
        () => null,
        (reason: unknown) => reason,
      );
      return { name, error };
    }),
  );
  for (const { name, error } of outcomes) {
    expect(error, `${name} says ${String(error)}`).toBeInstanceOf(FlotillaError);
    const { code } = error as FlotillaError;
    expect([...Object.keys(ERRORS), "UNREACHABLE"], name).toContain(code);
    expect(code, name).not.toBe("INTERNAL");
  }
  for (const node of [2, 3]) cluster.start(node);
  await Promise.all([cluster.ready(2), cluster.ready(3)]);
  await whole(cluster, client);
  expect(textOf(await readAll(cluster.endpoints[0]!, "ends"))[0]).toBe("before");
});

function orError(error: unknown): void {
  if (error === null) return;
  const { reason, message } = error as { reason: string; message: string };
  throw new FlotillaError(reason as never, message);
}
