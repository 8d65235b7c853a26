// Directed scenarios from peers' bugs: what clients send, and what they are told.

import { expect, test } from "vitest";
import { BrokerError, ERRORS } from "../../../src/base/errors.ts";
import type { Broker } from "../../../src/broker/types.ts";
import { batchOf, Cluster, publishing } from "./cluster.ts";

// KIP-890: a marker of one transaction came late, and ended the next one. Streams have no transactions; what may come late is a
// batch of a producer's earlier epoch. Every batch carries epoch and sequence, and an older epoch is refused, whoever leads.
test("D12 (streams): a batch of an older epoch comes late, through another leader: it is refused", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ groups: 1 });
  await cluster.createTopic("p", 1, 3);
  await cluster.publish(1, "p", "epoch 0, first", [9, 0, 0]);
  await cluster.publish(2, "p", "epoch 1, first", [9, 1, 0]);
  await cluster.whole();
  cluster.crash("power", await cluster.leader(cluster.groupOf(0, "p")));
  await cluster.run(2_000);
  const [id] = cluster.machines.filter(({ isUp }) => isUp).map((one) => one.id);
  await expect(cluster.publish(id!, "p", "epoch 0, second", [9, 0, 1])).rejects.toMatchObject({ code: "FENCED_PRODUCER" });
  await cluster.publish(id!, "p", "epoch 1, second", [9, 1, 1]);
  expect(await cluster.read(id!, "p")).toEqual(["epoch 0, first", "epoch 1, first", "epoch 1, second"]);
});

// CVE-2026-35554: a client's buffer went back to its pool while a request that had timed out still used it: records of one topic
// were sent to another. The broker's part: what it keeps of a caller's bytes it has copied when the call returns.
test("D13: a caller uses its buffer again while the batch is under way: what was sent is stored", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ groups: 1 });
  await cluster.createTopic("b", 1, 3);
  const leader = await cluster.leader(cluster.groupOf(0, "b"));
  const [other] = cluster.others(leader);
  for (const [at, id] of [leader, other!].entries()) {
    // On the other node it waits for an election.
    if (id === other) {
      cluster.crash("kill", leader);
      await cluster.run(3);
      const heal = cluster.isolate(other!);
      await cluster.run(100);
      expect(cluster.leaders(cluster.groupOf(0, "b"))).toEqual([]);
      cluster.world.after(200_000, cluster.machines[other! - 1]!.life!, "heal", heal);
    }
    const bytes = Uint8Array.from(batchOf(`batch ${at}`));
    await cluster.call(id, (broker) => {
      const stored = publishing(broker, "b", bytes, [5, 0, at]);
      bytes.fill(0x78);
      return stored;
    });
  }
  expect(await cluster.read(other!, "b")).toEqual(["batch 0", "batch 1"]);
  cluster.startNodes();
  await cluster.whole();
});

// A client that tries for ever needs an end to each try, and to know whether it may have been carried out (FoundationDB and
// Jepsen: definite and indefinite errors). With a majority gone every call ends, in bounded time, with an error of the table.
test("D22: with a majority down every call ends, and says whether to try again", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ groups: 1 });
  cluster.load();
  await cluster.run(1_000);
  cluster.crash("power", 2, 3);
  await cluster.run(3_000);
  const where = { vhost: "", topic: "t", partition: 0 };
  const positions = [{ partition: 0, from: 0 as const, value: 0 }];
  const offsets = [{ partition: 0, offset: 0, metadata: "", reset: false }];
  const calls: Record<string, (broker: Broker, signal: AbortSignal) => Promise<unknown>> = {
    publish: (broker) => publishing(broker, "t", batchOf("x"), [0, 0, 0]),
    fetch: async (broker, signal) =>
      orError((await broker.fetch({ vhost: "", topic: "t", positions, maxBytes: 1, maxWaitMs: 0, direct: false }, signal))[0]!),
    commitOffsets: async (broker, signal) =>
      orError(
        (await broker.commitOffsets({ vhost: "", topic: "t", subscription: "s", offsets, generation: 0, direct: false }, signal))[0]!,
      ),
    getOffsets: async (broker, signal) =>
      orError(
        (await broker.getOffsets({ vhost: "", topic: "t", subscription: "s", partitions: [0], timeMs: -1, direct: false }, signal))[0]!,
      ),
    transferLeader: (broker, signal) => broker.transferLeader({ ...where, toNode: 0 }, signal),
    moveReplicas: (broker, signal) => broker.moveReplicas({ ...where, nodes: [1] }, signal),
    drainNode: (broker, signal) => broker.drainNode({ node: 2, drained: true, moveReplicas: false }, signal),
    forgetNode: (broker, signal) => broker.forgetNode(2, signal),
    createTopic: (broker, signal) => broker.createTopic({ vhost: "", name: "n", partitions: 1, replicas: 1, config: {} }, signal),
    expandTopic: (broker, signal) => broker.expandTopic("", "t", 2, signal),
    updateTopic: (broker, signal) => broker.updateTopic("", "t", { retentionMs: 1_000 }, signal),
    deleteTopic: (broker, signal) => broker.deleteTopic("", "t", signal),
    deleteSubscription: (broker, signal) => broker.deleteSubscription("", "t", "s", signal),
  };
  for (const [name, work] of Object.entries(calls)) {
    const error = await cluster.call(1, work, 30_000).then(
      () => null,
      (reason: unknown) => reason as Error,
    );
    expect(error, `${name} says ${error?.message}`).toBeInstanceOf(BrokerError);
    expect(Object.keys(ERRORS)).toContain((error as BrokerError).code);
    expect((error as BrokerError).code, name).not.toBe("INTERNAL");
  }
  cluster.startNodes();
  await cluster.verify();
});

function orError(outcome: { readonly error: BrokerError | null }): unknown {
  if (outcome.error !== null) throw outcome.error;
  return outcome;
}
