// What a node says of topics that it has yet to hear of. Found with real processes: after all nodes had died, the first one to
// listen again denied a topic that had been there for minutes, and a producer gave up.

import { expect, test } from "vitest";
import type { Broker } from "../../../src/broker/types.ts";
import { batchOf, Cluster, publishing } from "./cluster.ts";

const positions = [{ partition: 0, from: 0 as const, value: 0 }];
const questions: Record<string, (topic: string) => (broker: Broker, signal: AbortSignal) => Promise<unknown>> = {
  resolve: (topic) => (broker) => broker.resolve("", topic),
  fetch: (topic) => (broker, signal) => broker.fetch({ vhost: "", topic, positions, maxBytes: 1, maxWaitMs: 0, direct: false }, signal),
  getOffsets: (topic) => (broker, signal) =>
    broker.getOffsets({ vhost: "", topic, subscription: "s", partitions: [0], timeMs: -1, direct: false }, signal),
  commitOffsets: (topic) => (broker, signal) =>
    broker.commitOffsets(
      {
        vhost: "",
        topic,
        subscription: "s",
        offsets: [{ partition: 0, offset: 0, metadata: "", reset: true }],
        generation: 0,
        direct: false,
      },
      signal,
    ),
  describeTopic: (topic) => (broker, signal) => broker.describeTopic("", topic, signal),
  updateTopic: (topic) => (broker, signal) => broker.updateTopic("", topic, { retentionMs: 1_000_000 }, signal),
  transferLeader: (topic) => (broker, signal) => broker.transferLeader({ vhost: "", topic, partition: 0, toNode: 0 }, signal),
};

test(
  "a node that was away is asked as soon as it listens: it denies nothing, and keeps a producer's order",
  { timeout: 60_000 },
  async () => {
    for (const seed of [1, 2, 3]) {
      const cluster = await Cluster.start({ groups: 1, seed });
      cluster.crash("power", 3);
      await cluster.run(1_000);
      await cluster.createTopic("fresh", 1, 2);
      cluster.startNodes(3);
      await cluster.until("it listens", () => cluster.node(3).broker !== null);
      const published = [0, 1, 2].map((at) => cluster.ask(3, (broker) => publishing(broker, "fresh", batchOf(`text ${at}`), [7, 0, at])));
      const asked = Object.entries(questions).map(([name, question]) => ({ name, answer: cluster.ask(3, question("fresh")) }));
      const listed = cluster.ask(3, (broker) => broker.listTopics({ vhost: null, after: null, topicsMax: 10 }));
      await cluster.until("all have answers", () =>
        [...published, listed, ...asked.map(({ answer }) => answer)].every(({ isOver }) => isOver),
      );
      expect(published.map(({ error }) => error)).toEqual([null, null, null]);
      for (const { name, answer } of asked) expect(answer.error, name).toBeNull();
      expect(listed.value!.topics.map(({ name }) => name)).toEqual(["fresh", "t"]);
      expect(await cluster.read(1, "fresh")).toEqual(["text 0", "text 1", "text 2"]);
    }
  },
);

test("all lose power: the first that listens denies nothing", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ groups: 1 });
  cluster.crash("power", 1, 2, 3);
  cluster.startNodes();
  for (const id of [1, 2, 3]) {
    await cluster.until("it listens", () => cluster.node(id).broker !== null);
    await cluster.publish(id, "t", `through ${id}`, [7, id, 0]);
  }
  expect((await cluster.read(1, "t")).length).toBe(3);
});

test("a node that is cut off says that it cannot know, and knows again afterwards", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ groups: 1 });
  const heal = cluster.isolate(3);
  await cluster.run(2_000);
  await cluster.createTopic("fresh", 1, 2);
  for (const [name, question] of Object.entries(questions))
    await expect(cluster.call(3, question("fresh"), 20_000), name).rejects.toMatchObject({ code: "NO_LEADER" });
  await expect(cluster.publish(3, "fresh", "in vain", [7, 0, 0])).rejects.toThrow(/./);
  heal();
  await cluster.whole();
  await cluster.publish(3, "fresh", "text", [7, 1, 0]);
  await expect(cluster.publish(3, "never", "in vain")).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
  await expect(cluster.call(3, questions["resolve"]!("never"))).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
});
