// Directed scenarios from peers' bugs: who is a member, and of what. The numbers are those of research/reliability.md.

import { expect, test } from "vitest";
import { CATALOG_GROUP } from "../../../src/base/ids.ts";
import type { Leaders } from "../../../src/broker/leaders.ts";
import { DATA_DIR } from "../sim-node.ts";
import { Cluster } from "./cluster.ts";

// RabbitMQ #15725: a member whose directory was missing at a restart bootstrapped as a new one, and the queue stayed without a
// leader for ever. Here: an empty directory, or one without the node's identity, is a lost disk. The node founds nothing and votes
// for nothing; it waits until the cluster gives it replicas under other ids.
test.each([
  ["its disk is empty", (disk: { wipe: () => void }) => disk.wipe()],
  [
    "its registration is missing beside its data",
    (disk: { names: Map<string, unknown> }) => {
      for (const path of [...disk.names.keys()]) if (path.startsWith(`${DATA_DIR}/node.json`)) disk.names.delete(path);
    },
  ],
])("D1: a member comes back and %s: it refuses to begin anew", { timeout: 60_000 }, async (_, lose) => {
  const cluster = await Cluster.start();
  cluster.load();
  await cluster.run(2_000);
  const founded = (): number => cluster.said("founds the cluster").length;
  const before = founded();
  cluster.crash("power", 2, 3);
  lose(cluster.node(2).disk as never);
  cluster.startNodes(2);
  // With node 1 it would be a majority, if it were taken for who it was.
  const acked = cluster.acked;
  await cluster.run(15_000);
  expect(cluster.acked).toBe(acked);
  expect(cluster.node(2).broker?.ready ?? false).toBe(false);
  expect(founded()).toBe(before);
  cluster.startNodes(3);
  await cluster.whole();
  await cluster.verify();
});

// RabbitMQ #12366: a queue was deleted and made again while a replica was down; the replica came back as leader of the new one and
// delivered messages of the old one again. Here a group's number is its incarnation: nothing of an old one reaches a new one.
test("D2: a topic is deleted and made again while a replica is down: nothing of the old one comes back", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ nodes: 4 });
  await cluster.createTopic("again", 1, 3);
  for (let count = 0; count < 20; count++) await cluster.publish(1, "again", `old ${count}`);
  const oldGroup = cluster.groupOf(0, "again");
  await cluster.whole();
  const away = await cluster.leader(oldGroup);
  const [asked, other] = cluster.others(away) as [number, number];
  cluster.crash("kill", away);
  await cluster.run(2_000);
  await cluster.call(asked, (broker, signal) => broker.deleteTopic("", "again", signal));
  await cluster.createTopic("again", 1, 3, 0, asked);
  const group = cluster.groupOf(0, "again");
  expect(group).not.toBe(oldGroup);
  await cluster.publish(asked, "again", "new 0");
  cluster.startNodes(away);
  await cluster.whole();
  // The node that was away gets a replica of the new one, and leads it.
  const where = { vhost: "", topic: "again", partition: 0 };
  await cluster.call(asked, (broker, signal) => broker.moveReplicas({ ...where, nodes: [away, asked, other] }, signal), 20_000);
  await cluster.whole();
  await cluster.call(asked, (broker, signal) => broker.transferLeader({ ...where, toNode: away }, signal), 20_000);
  await cluster.publish(asked, "again", "new 1");
  for (const id of [away, asked, other]) expect(await cluster.read(id, "again")).toEqual(["new 0", "new 1"]);
  await cluster.until("the old group is gone everywhere", () =>
    cluster.machines.every(({ host }) => host!.heldReplica(oldGroup) === undefined),
  );
});

// NATS #7545: partition of one node, kills of three, removal of another: 5 of 5,236 acknowledged messages lost.
test("D7: a node is cut off, three are killed, a fourth is removed: nothing is lost", { timeout: 120_000 }, async () => {
  const cluster = await Cluster.start({ nodes: 5 });
  cluster.load();
  await cluster.run(2_000);
  const heal = cluster.isolate(1);
  await cluster.run(500);
  cluster.crash("power", 1, 2, 3);
  await cluster.run(200);
  cluster.startNodes(1, 2, 3);
  await cluster.run(300);
  const drain = cluster.ask(5, (broker, signal) => broker.drainNode({ node: 4, drained: true, moveReplicas: true }, signal), 30_000);
  await cluster.run(100);
  cluster.crash("kill", 2);
  heal();
  await cluster.run(1_000);
  cluster.startNodes(2);
  await cluster.until("the order is taken", () => drain.isOver);
  expect(drain.error).toBeNull();
  await cluster.until("node 4 holds nothing", () => cluster.nemesis.damage.atlas.heldBy(cluster.node(4)).length === 1);
  cluster.node(4).isHeldDown = true;
  cluster.crash("kill", 4);
  await cluster.run(3_000);
  await cluster.call(5, (broker, signal) => broker.forgetNode(4, signal), 20_000);
  const acked = cluster.acked;
  await cluster.until("the others go on without it", () => cluster.acked > acked + 20);
  cluster.node(4).disk.wipe();
  cluster.node(4).isHeldDown = false;
  cluster.startNodes(4);
  await cluster.verify();
});

// Found by seed 47: a partition that was moved on before it had arrived came back to a node under a new replica id, and the node gave up
// the old replica at once, though the group still counted on it. Moved around once, all voters were gone, and all data with them.
test("a partition is moved around the cluster faster than it can follow: nothing is lost", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ nodes: 4, groups: 1 });
  cluster.load();
  await cluster.run(3_000);
  for (const away of [4, 1, 2, 3]) {
    const call = { vhost: "", topic: "t", partition: 0, nodes: cluster.others(away) };
    // To say that it cannot be done now is all right.
    const order = cluster.ask(1, (broker, signal) => broker.moveReplicas(call, signal), 20_000);
    await cluster.until("an answer", () => order.isOver);
  }
  await cluster.verify();
});

// Found by seed 711280303: a node that restarted in the middle of a move did not open the replica that the move was to take away. With
// two such nodes the group had no majority any more, and the move, which only its leader carries out, never ended.
test("all nodes restart in the middle of a move: the group goes on with the members that it has", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ nodes: 5, groups: 1 });
  cluster.load();
  await cluster.run(1_000);
  const group = cluster.groupOf(0);
  const old = cluster.machines.filter(({ host }) => host!.has(group)).map(({ id }) => id);
  const [stays, ...leave] = old as [number, number, number];
  const joining = cluster.others(...old) as [number, number];
  const call = { vhost: "", topic: "t", partition: 0, nodes: [...joining, stays] };
  cluster.ask(stays, (broker, signal) => broker.moveReplicas(call, signal), 20_000);
  const { replicas } = cluster.catalog.topic("/", "t")!.partitions[0]!;
  await cluster.until("the order is taken", () => cluster.catalog.topic("/", "t")!.partitions[0]!.replicas !== replicas);
  cluster.crash("kill", ...joining);
  // A node reads the order in its saved catalog, before it has opened anything.
  let saved = 0;
  for (const id of [stays, ...leave]) {
    const { checkpointer } = cluster.node(id).host as unknown as { checkpointer: { save: (replica: unknown) => Promise<void> } };
    void checkpointer.save(cluster.replica(id, CATALOG_GROUP)).then(() => (saved += 1));
  }
  await cluster.until("the catalog is saved", () => saved === 3);
  cluster.crash("kill", stays, ...leave);
  // Without one of those that are to join the others are as they were.
  cluster.startNodes(joining[0], stays, ...leave);
  await cluster.leader(group);
  for (const id of leave) expect(cluster.replica(id, group), `node ${id}`).toBeDefined();
  const acked = cluster.acked;
  await cluster.until("more is acknowledged", () => cluster.acked > acked + 20);
  cluster.startNodes(joining[1]);
  await cluster.verify();
  await cluster.until("the old ones are gone", () => leave.every((id) => cluster.node(id).host!.heldReplica(group) === undefined));
});

// A start reads of the move only once it has opened what its saved catalog knew: nothing, of so young a cluster. And (seed 639570319) a
// replica that is no member any more hears of no leader: its word must not go for the whole node, or nobody is asked whether it may go.
test("a node comes back after its replica was moved away: it learns who leads, and gives the replica up", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start({ nodes: 5, groups: 1 });
  cluster.load();
  await cluster.run(1_000);
  const group = cluster.groupOf(0);
  const old = cluster.machines.filter(({ host }) => host!.has(group)).map(({ id }) => id);
  const away = old.find((id) => !cluster.leaders(group).includes(id))!;
  const [joining] = cluster.others(...old) as [number];
  cluster.crash("kill", away);
  const nodes = [...old.filter((id) => id !== away), joining];
  const asked = nodes[0]!;
  await cluster.call(asked, (broker, signal) => broker.moveReplicas({ vhost: "", topic: "t", partition: 0, nodes }, signal), 20_000);
  await cluster.run(3_000);
  cluster.startNodes(away);
  const machine = cluster.node(away);
  type Inside = { parts: { leaders: Leaders }; leaderChanged: (group: number, leader: number, term: number) => void };
  const inside = (): Inside => machine.broker as unknown as Inside;
  await cluster.until("it is told who leads", () => cluster.replica(away, group) !== undefined && inside().parts.leaders.of(group) !== 0);
  // The replica waits in vain for its leader.
  inside().leaderChanged(group, 0, inside().parts.leaders.termOf(group));
  await cluster.until("its replica is gone", () => machine.host!.heldReplica(group) === undefined);
  await cluster.verify();
});

// KIP-966: Kafka's set of replicas in sync shrinks to one; that one loses power, and the others are elected without what it
// alone had acknowledged. Here there is no such set: a partition that was moved to one node is that node's.
test("D11: the last replica loses power: nobody answers in its place", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start();
  cluster.load();
  await cluster.run(1_000);
  for (let partition = 0; partition < cluster.options.groups; partition++)
    await cluster.call(1, (broker, signal) => broker.moveReplicas({ vhost: "", topic: "t", partition, nodes: [1] }, signal), 20_000);
  await cluster.whole();
  const before = cluster.acked;
  await cluster.until("more is acknowledged", () => cluster.acked > before + 50);
  cluster.crash("power", 1);
  await cluster.run(1_000);
  const acked = cluster.acked;
  await cluster.run(10_000);
  expect(cluster.acked).toBe(acked);
  for (let partition = 0; partition < cluster.options.groups; partition++) expect(cluster.leaders(cluster.groupOf(partition))).toEqual([]);
  cluster.startNodes(1);
  await cluster.verify();
});

// Redpanda (2020): a follower that was cut off stood for election again and again, and its high term ended a leader that nobody
// wanted to lose. Whoever cannot win must not raise the term (PreVote), and whoever hears a leader does not vote.
test("D19: a follower comes back from behind a partition: no leader is lost", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start();
  cluster.load();
  await cluster.run(7_000);
  const groups = [CATALOG_GROUP, ...Array.from({ length: cluster.options.groups }, (_, partition) => cluster.groupOf(partition))];
  const group = groups[1]!;
  const leader = await cluster.leader(group);
  const [follower] = cluster.others(leader);
  // Nothing else may change leaders meanwhile.
  const led = groups.filter((one) => !cluster.leaders(one).includes(follower!));
  const before = led.map((one) => [one, cluster.leaders(one), cluster.replica(leader, one)!.raft.term]);
  const heal = cluster.isolate(follower!);
  await cluster.run(8_000);
  heal();
  await cluster.run(3_000);
  expect(led.map((one) => [one, cluster.leaders(one), cluster.replica(leader, one)!.raft.term])).toEqual(before);
  await cluster.verify();
});
