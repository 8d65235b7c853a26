import { expect, test } from "vitest";
import { CATALOG_GROUP, replicaId, type NodeId, type ReplicaId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { Reshaper } from "../../src/broker/reshaper.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import { encodeCreateTopic, encodeJoinNode, encodeRegisterNode } from "../../src/machine/catalog/commands.ts";
import { CHANGE_ADD_LEARNER, CHANGE_REMOVE, type ConfigurationChange } from "../../src/raft/types.ts";
import type { ReplicaHost } from "../../src/replica/host.ts";
import { CONFIG, nodeRow } from "../machine/entries.ts";
import { MachineRun } from "../machine/machine-run.ts";
import { FakeLoop } from "../support/fake-loop.ts";

test("reshaper: a node that lost its disk many times is not kept out by the replicas that went with them", () => {
  const catalog = new MachineRun(new CatalogMachine());
  for (const id of [1, 2, 3]) catalog.command(encodeRegisterNode(nodeRow(id)));
  const lives = 12;
  for (let life = 1; life <= lives; life++)
    catalog.command(encodeJoinNode({ node: nodeRow(3, { storeId: `disk ${life}` }), lostLife: -1 }));
  const id = (node: number, life: number): ReplicaId => replicaId(node as NodeId, life);
  const lost = Array.from({ length: lives - 1 }, (_, at) => id(3, at + 1));
  const replica = {
    group: CATALOG_GROUP,
    isLeader: true,
    leadsCurrent: true,
    descriptor: { self: id(1, 0) },
    configuration: { voters: [1, 2, 3].map((node) => id(node, 0)), votersOutgoing: [], learners: lost, learnersNext: [], autoLeave: false },
    raft: { lastIndex: 9, isChanging: false, status: () => [] },
  };
  const proposed: ConfigurationChange[] = [];
  const host = { get: () => replica, proposeChange: (_group: number, change: ConfigurationChange) => proposed.push(change) > 0 };
  const clock = new FakeLoop();
  const reshaper = new Reshaper({
    host: host as unknown as ReplicaHost,
    catalog: catalog.machine,
    clock,
    logger: silentLogger,
    viewIsCurrent: () => Promise.resolve(),
  });
  reshaper.look(CATALOG_GROUP);
  clock.nowMs += 1_000;
  clock.turn();
  reshaper.stop();
  expect(proposed).toEqual([
    {
      transition: "auto",
      changes: [{ kind: CHANGE_ADD_LEARNER, peer: id(3, lives) }, ...lost.map((peer) => ({ kind: CHANGE_REMOVE, peer }))],
    },
  ]);
});

// Found by seed 38884102: a node that had just started led with the catalog of before, and had the replica of a lost life learn
// again; the next leader had that change in its log, saw nothing to do before it applied it, and the learner stayed for good.
test("reshaper: what a change does that was taken over with the log is seen once it is applied", () => {
  const catalog = new MachineRun(new CatalogMachine());
  for (const id of [1, 2, 3]) catalog.command(encodeRegisterNode(nodeRow(id)));
  const [one, two, three] = [1, 2, 3].map((node) => replicaId(node as NodeId, 0));
  const old = replicaId(1 as NodeId, 9);
  const configuration = {
    voters: [one!, two!, three!],
    votersOutgoing: [],
    learners: [] as ReplicaId[],
    learnersNext: [],
    autoLeave: false,
  };
  const raft = { lastIndex: 9, isChanging: true, status: () => [] };
  const replica = { group: CATALOG_GROUP, isLeader: true, leadsCurrent: true, descriptor: { self: two }, configuration, raft };
  const proposed: ConfigurationChange[] = [];
  const host = { get: () => replica, proposeChange: (_group: number, change: ConfigurationChange) => proposed.push(change) > 0 };
  const clock = new FakeLoop();
  const reshaper = new Reshaper({
    host: host as unknown as ReplicaHost,
    catalog: catalog.machine,
    clock,
    logger: silentLogger,
    viewIsCurrent: () => Promise.resolve(),
  });
  const pass = (): void => {
    clock.nowMs += 1_000;
    clock.turn();
  };
  reshaper.look(CATALOG_GROUP);
  pass();
  expect(proposed).toEqual([]);
  configuration.learners = [old];
  raft.isChanging = false;
  pass();
  expect(proposed).toEqual([{ transition: "auto", changes: [{ kind: CHANGE_REMOVE, peer: old }] }]);
  configuration.learners = [];
  pass();
  pass();
  expect(proposed).toHaveLength(1);
  reshaper.stop();
});

// Found by seed 321468511: after a power cut the leader of a group went by the catalog as it had applied it by then, undid a move that it had
// taken part in, and opened the replica that was removed with it once more, when its catalog came to the move again.
test("reshaper: a leader whose catalog may be older than the members of its group asks how new the catalog is", async () => {
  const catalog = new MachineRun(new CatalogMachine());
  for (const id of [1, 2, 3, 4]) catalog.command(encodeRegisterNode(nodeRow(id)));
  catalog.command(encodeCreateTopic({ vhost: "/", name: "t", replicas: 3, config: CONFIG, placement: [[1, 2, 3] as NodeId[]] }));
  const { group, replicas } = catalog.machine.topic("/", "t")!.partitions[0]!;
  const moved = replicaId(4 as NodeId, 1);
  const configuration = {
    voters: [replicas[0]!, replicas[1]!, moved],
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  };
  const raft = { lastIndex: 9, term: 3, isChanging: false, status: () => [] };
  const replica = { group, isLeader: true, leadsCurrent: false, descriptor: { self: moved }, configuration, raft };
  const proposed: ConfigurationChange[] = [];
  const host = { get: () => replica, proposeChange: (_group: number, change: ConfigurationChange) => proposed.push(change) > 0 };
  const clock = new FakeLoop();
  const answers: (() => void)[] = [];
  const viewIsCurrent = (): Promise<void> => new Promise((resolve) => answers.push(resolve));
  const reshaper = new Reshaper({
    host: host as unknown as ReplicaHost,
    catalog: catalog.machine,
    clock,
    logger: silentLogger,
    viewIsCurrent,
  });
  const pass = async (): Promise<void> => {
    clock.nowMs += 1_000;
    clock.turn();
    await Promise.resolve();
  };
  reshaper.look(group);
  await pass();
  // It has yet to apply what leaders before it have done.
  expect(answers).toHaveLength(0);
  replica.leadsCurrent = true;
  await pass();
  await pass();
  expect([answers.length, proposed.length]).toEqual([1, 0]);
  answers.shift()!();
  await pass();
  await pass();
  expect(proposed).toHaveLength(1);
  // Other members: they may have been made by a newer catalog again.
  replica.configuration = { ...configuration };
  await pass();
  expect([answers.length, proposed.length]).toEqual([1, 1]);
  reshaper.stop();
});
