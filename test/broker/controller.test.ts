// What a node does with what its catalog says, and when it does not do it.

import { expect, test } from "vitest";
import type { Clock } from "../../src/base/clock.ts";
import { replicaId, type GroupId, type NodeId, type ReplicaId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { Controller, type ActedView } from "../../src/broker/controller.ts";
import { Forwarder } from "../../src/broker/forwarder.ts";
import { Leaders } from "../../src/broker/leaders.ts";
import { Router } from "../../src/broker/router.ts";
import { Unfit } from "../../src/broker/unfit.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import { encodeCreateTopic, encodeDeleteTopic, encodeJoinNode, encodeRegisterNode } from "../../src/machine/catalog/commands.ts";
import { systemClock } from "../../src/server/system-clock.ts";
import { CONFIG, nodeRow } from "../machine/entries.ts";
import { MachineRun } from "../machine/machine-run.ts";
import { eventually, HostCluster } from "../support/host-cluster.ts";

const NODE = 1 as NodeId;
const GROUP = 1 as GroupId;
const STORE = nodeRow(NODE).storeId;

/** The controller of a real host, with a catalog that the test fills. */
class Scene {
  readonly catalog = new MachineRun(new CatalogMachine());
  readonly calls: string[] = [];
  private readonly cluster: HostCluster;
  private readonly controller: Controller;

  readonly unfit = new Unfit(NODE);

  static async start(storeId: string, actedView: number): Promise<Scene> {
    return new Scene(await HostCluster.start(1, {}, 0), storeId, actedView);
  }

  /** Three hosts with the group, which the first of them leads. */
  static async led(): Promise<Scene> {
    const cluster = await HostCluster.start(3);
    const first = cluster.hosts[0]!;
    const leader = await cluster.leader();
    await cluster.settled();
    if (leader !== first) leader.host.transferLeadership(GROUP, first.id);
    await eventually(() => first.replica.isLeader, "the first host leads");
    await cluster.settled();
    return new Scene(cluster, STORE, 0);
  }

  private constructor(cluster: HostCluster, storeId: string, actedView: number) {
    this.cluster = cluster;
    const { host, checkpoints } = cluster.hosts[0]!;
    const [open, deleteGroups] = [host.open.bind(host), checkpoints.deleteGroups.bind(checkpoints)];
    host.takesLeaders = (node) => this.unfit.takesLeaders(node);
    host.open = async (descriptor) => {
      this.calls.push(`opened ${descriptor.self}`);
      return open(descriptor);
    };
    checkpoints.deleteGroups = async (groups) => {
      this.calls.push(`deleted ${groups.join()}`);
      await deleteGroups(groups);
    };
    const acted: ActedView = {
      actedView,
      actOn: async (view) => void this.calls.push(`acts on ${view}`),
    };
    const clock: Clock = systemClock;
    const router = new Router({ nodeId: NODE, host, leaders: new Leaders(), clock, isDeleted: () => false });
    router.attach(new Forwarder({ send: () => false, operations: new Map(), notices: new Map() }));
    this.controller = new Controller({
      nodeId: NODE,
      storeId,
      acted,
      host,
      catalog: this.catalog.machine,
      router,
      unfit: this.unfit,
      retention: { look: () => {} },
      announce: () => {},
      clock,
      logger: silentLogger,
      isUp: () => true,
      topicChanged: () => {},
      worksUpkeep: () => {},
      viewIsCurrent: () => Promise.resolve(),
      fatal: (error) => void this.calls.push(`fatal: ${error.message}`),
    });
    this.controller.start();
  }

  /** A command is applied, and everything that it asks for done. */
  async command(payload: Uint8Array): Promise<void> {
    expect(this.catalog.command(payload).code).toBe(0);
    await this.reconciled();
  }

  async reconciled(): Promise<void> {
    this.controller.reconcile();
    const { running } = this.controller as unknown as { running: boolean };
    expect(running).toBe(true);
    await eventually(() => !(this.controller as unknown as { running: boolean }).running, "the controller is through");
  }

  /** So many seconds pass. */
  upkeep(rounds: number): void {
    for (let round = 0; round < rounds; round++) this.controller.upkeep();
  }

  get host(): HostCluster["hosts"][number] {
    return this.cluster.hosts[0]!;
  }

  hasGroup(): boolean {
    return this.cluster.hosts[0]!.host.has(GROUP);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.controller.stop();
    await this.cluster[Symbol.asyncDispose]();
  }
}

const create = encodeCreateTopic({
  vhost: "/",
  name: "orders",
  replicas: 1,
  config: CONFIG,
  placement: [[NODE]],
});

test("controller: no leader goes home to a node that is about to stop, nor to another one instead of it", async () => {
  await using scene = await Scene.led();
  for (const node of [1, 2, 3]) await scene.command(encodeRegisterNode(nodeRow(node)));
  await scene.command(encodeCreateTopic({ vhost: "/", name: "t", replicas: 3, config: CONFIG, placement: [[2, 3, 1] as NodeId[]] }));
  scene.unfit.set(2 as NodeId, "stopping");
  scene.upkeep(20);
  expect([scene.host.replica.isLeader, scene.host.replica.raft.isTransferring]).toEqual([true, false]);
  // It is gone, and back for long.
  scene.unfit.forget(2 as NodeId);
  scene.upkeep(20);
  await eventually(() => scene.host.replica.leaderNode === 2, "the leader goes home");
});

function opened(life: number): string {
  const id: ReplicaId = replicaId(NODE, life);
  return `opened ${id}`;
}

test("controller: a catalog from before this disk joined opens nothing: its replicas were another disk's", async () => {
  await using scene = await Scene.start("new disk", 0);
  await scene.command(encodeRegisterNode(nodeRow(NODE)));
  await scene.command(create);
  expect(scene.calls).toEqual([]);
  await scene.command(encodeJoinNode({ node: nodeRow(NODE, { storeId: "new disk" }), lostLife: -1 }));
  expect(scene.calls).toEqual([opened(1)]);
});

test("controller: a catalog older than what was acted on opens nothing that may be gone", async () => {
  await using scene = await Scene.start(STORE, 3);
  await scene.command(encodeRegisterNode(nodeRow(NODE)));
  await scene.command(create);
  expect([scene.catalog.machine.viewVersion, scene.calls]).toEqual([2, []]);
  await scene.command(encodeDeleteTopic({ vhost: "/", name: "orders" }));
  expect([scene.catalog.machine.viewVersion, scene.calls]).toEqual([3, []]);
});

test("controller: what a committed command removed goes only once no start can forget that command", async () => {
  await using scene = await Scene.start(STORE, 0);
  await scene.command(encodeRegisterNode(nodeRow(NODE)));
  await scene.command(create);
  expect(scene.hasGroup()).toBe(true);
  await scene.command(encodeDeleteTopic({ vhost: "/", name: "orders" }));
  expect(scene.calls).toEqual([opened(0), "acts on 3", "deleted 1"]);
  expect(scene.hasGroup()).toBe(false);
});
