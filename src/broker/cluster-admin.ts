// The nodes and where things are on them: describing, moving leaders and replicas, taking nodes out of use.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { BrokerError } from "../base/errors.ts";
import { CATALOG_GROUP, nodeOfReplica, NODE_ID_MAX, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import { REPLICAS_MAX } from "../base/limits.ts";
import type { CatalogMachine, NodeRow, TopicRow } from "../machine/catalog/catalog.ts";
import { encodeDrainNode, encodeForgetNode, encodePlaceReplicas, encodePreferLeader } from "../machine/catalog/commands.ts";
import { place } from "../machine/catalog/placement.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Admin } from "./admin.ts";
import type { Damages } from "./damages.ts";
import type { Disks } from "./disks.ts";
import type { Serve } from "./forwarder.ts";
import type { Leaders } from "./leaders.ts";
import type { Router } from "./router.ts";
import { endAfter } from "./wait-until.ts";
import type { ClusterInfo, DamagedReplica, NodeInfo, PartitionInfo, Topology } from "./types.ts";

/** A leader gives a transfer up after an election timeout. */
const TRANSFER_RETRY_MS = 600;
export const OP_TRANSFER = 4;
export const OP_MEMBERS = 8;

export type ClusterAdminComponents = {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly leaders: Leaders;
  readonly disks: Disks;
  readonly damages: Damages;
  readonly router: Router;
  readonly admin: Admin;
  readonly clock: Clock;
  readonly isAlive: (node: NodeId) => boolean;
  /** Resolves once it holds; it is asked whenever this node sees leaders or nodes change. */
  readonly until: (condition: () => boolean, signal: AbortSignal) => Promise<void>;
};

export class ClusterAdmin {
  private readonly components: ClusterAdminComponents;

  constructor(components: ClusterAdminComponents) {
    this.components = components;
  }

  describe(): ClusterInfo {
    const { catalog, leaders, clusterId, nodeId } = this.components;
    const topics = [...catalog.topics()];
    return {
      clusterId,
      nodeId,
      controllerId: leaders.of(CATALOG_GROUP),
      nodes: this.nodes(),
      topics: topics.length,
      groups: catalog.groups + 1,
      leaderlessGroups: this.leaderless(),
      disks: this.components.disks.all(),
      damages: this.damages(),
    };
  }

  private damages(): DamagedReplica[] {
    const { catalog, damages } = this.components;
    return damages.all().map((damage) => {
      const known = catalog.group(damage.group);
      const [vhost, topic] = known === undefined ? ["", ""] : [known.topic.vhost, known.topic.name];
      return { ...damage, vhost, topic, partition: known?.partition ?? 0 };
    });
  }

  /** Groups without a leader, as this node sees it. */
  leaderless(): number {
    const { catalog, leaders } = this.components;
    let count = leaders.of(CATALOG_GROUP) === 0 ? 1 : 0;
    for (const topic of catalog.topics()) for (const { group } of topic.partitions) if (leaders.of(group) === 0) count += 1;
    return count;
  }

  resolve(vhost: string, name: string): Topology {
    const topic = this.components.admin.existing(vhost, name);
    return { nodes: this.nodes(), partitions: topic.partitions.map((_, partition) => this.partitionInfo(topic, partition)) };
  }

  partitionInfo(topic: TopicRow, partition: number): PartitionInfo {
    const { leaders } = this.components;
    const { group, replicas } = topic.partitions[partition]!;
    return { partition, group, leader: leaders.of(group), term: leaders.termOf(group), replicas: replicas.map(nodeOfReplica) };
  }

  async transferLeader(call: { vhost: string; topic: string; partition: number; toNode: number }, signal: AbortSignal): Promise<number> {
    const { admin, router, catalog, host, nodeId, clock, isAlive, until, leaders } = this.components;
    const group = call.topic === "" ? CATALOG_GROUP : groupOf(admin.existing(call.vhost, call.topic), call.partition);
    const leader = await router.leader(group);
    const replicas =
      group === CATALOG_GROUP
        ? catalog.nodes().map(({ id }) => id)
        : catalog.group(group)!.topic.partitions[call.partition]!.replicas.map(nodeOfReplica);
    const soon = (): AbortSignal => AbortSignal.any([signal, endAfter(clock, TRANSFER_RETRY_MS)]);
    const heir = (): NodeId | undefined => replicas.find((node) => node !== leader && isAlive(node));
    // A node that has only just begun to listen has yet to hear of the others.
    if (call.toNode === 0) await until(() => heir() !== undefined, soon()).catch(() => {});
    const to = call.toNode === 0 ? heir() : replicas.find((node) => node === call.toNode);
    if (to === undefined)
      throw new BrokerError(
        "INVALID_ARGUMENT",
        call.toNode === 0 ? "no other replica of the partition is alive" : `node ${call.toNode} has no replica of the partition`,
      );
    // First where it is wanted, or it would go back by itself.
    if (group !== CATALOG_GROUP) await admin.command(encodePreferLeader({ group, node: to }), signal);
    for (let from = leader; from !== to; from = await router.leader(group)) {
      const body = new ByteWriter(8).u32(group).u16(to).finish();
      if (from === nodeId) host.transferLeadership(group, to);
      else await router.ask(from, OP_TRANSFER, [body], signal);
      // A target that has yet to catch up, or to apply what it has, cannot take over now: it is asked again.
      await until(() => leaders.of(group) === to, soon()).catch((error: unknown) => {
        if (signal.aborted) throw error;
      });
    }
    return to;
  }

  readonly serveTransfer: Serve = (_from, body, reply) => {
    const reader = new ByteReader(body);
    this.components.host.transferLeadership(reader.u32() as GroupId, reader.u16() as NodeId);
    reply(null, []);
  };

  async moveReplicas(
    call: { vhost: string; topic: string; partition: number; nodes: readonly number[] },
    signal: AbortSignal,
  ): Promise<PartitionInfo> {
    const { admin, catalog, isAlive } = this.components;
    const topic = admin.existing(call.vhost, call.topic);
    const group = groupOf(topic, call.partition);
    const { nodes } = call;
    if (nodes.length === 0 || nodes.length > REPLICAS_MAX || new Set(nodes).size !== nodes.length)
      throw new BrokerError("INVALID_ARGUMENT", `nodes must name 1..${REPLICAS_MAX} different nodes`);
    const { replicas } = topic.partitions[call.partition]!;
    for (const node of nodes) {
      const row = catalog.node(node as NodeId);
      if (row === undefined) throw new BrokerError("INVALID_ARGUMENT", `there is no node ${node}`);
      const isNew = !replicas.some((replica) => nodeOfReplica(replica) === node);
      if (isNew && !isAlive(row.id)) throw new BrokerError("NOT_ENOUGH_NODES", `node ${node} is down: it cannot take a replica`);
      if (isNew && row.drained) throw new BrokerError("INVALID_ARGUMENT", `node ${node} is drained: it gets no new replicas`);
    }
    await this.place(group, replicas, nodes as readonly NodeId[], signal);
    await admin.seen(() => {
      const now = catalog.topic(topic.vhost, topic.name)?.partitions[call.partition]?.replicas.map(nodeOfReplica);
      return now === undefined || (now.length === nodes.length && now.every((node, at) => node === nodes[at]));
    }, signal);
    return this.partitionInfo(admin.existing(call.vhost, call.topic), call.partition);
  }

  /**
   * A node that the group comes back to gets a replica under a new id and gives up the old one. So none gets it that the group
   * still counts on, because an earlier move has yet to take it away: moved around fast enough, all voters would be gone.
   * The placement that the leader is asked about is the one that is replaced: in between nobody becomes a member that it does not name.
   */
  private async place(group: GroupId, expected: readonly ReplicaId[], nodes: readonly NodeId[], signal: AbortSignal): Promise<void> {
    const { admin, catalog, router, nodeId } = this.components;
    const incoming = nodes.filter((node) => !expected.some((replica) => nodeOfReplica(replica) === node));
    if (incoming.length > 0) {
      const view = catalog.viewVersion;
      const leader = await router.leader(group);
      const question = new ByteWriter(16).u32(group).u64(view).finish();
      const members =
        leader === nodeId
          ? await this.membersHere(group, view, signal)
          : decodeNodes(await router.ask(leader, OP_MEMBERS, [question], signal));
      const still = incoming.find((node) => members.includes(node));
      if (still !== undefined)
        throw new BrokerError(
          "CONFLICT",
          `node ${still} still has the replica that an earlier move takes away from it: wait until flotilla cluster moves no longer lists the partition, then move it again`,
        );
    }
    await admin.command(encodePlaceReplicas({ group, expected, nodes }), signal);
  }

  /** The nodes that count in a group which this node leads, once its catalog is as new as `view`. */
  private async membersHere(group: GroupId, view: number, signal: AbortSignal): Promise<readonly NodeId[]> {
    const { admin, catalog, host } = this.components;
    await admin.seen(() => catalog.viewVersion >= view, signal);
    const isLeader = await new Promise<boolean>((resolve) => host.readBarrier(group, resolve));
    const replica = host.get(group);
    if (!isLeader || replica === undefined || !replica.isLeader)
      throw new BrokerError("NO_LEADER", `this node does not lead group ${group} any more`);
    if (replica.raft.isChanging)
      throw new BrokerError("CONFLICT", "the members of the partition are being changed at this moment: try again");
    const { voters, votersOutgoing, learners, learnersNext } = replica.configuration;
    return [voters, votersOutgoing, learners, learnersNext].flat().map((peer) => nodeOfReplica(peer as ReplicaId));
  }

  readonly serveMembers: Serve = (_from, body, reply, signal) => {
    const reader = new ByteReader(body);
    this.membersHere(reader.u32() as GroupId, reader.u64(), signal).then(
      (nodes) => reply(null, [encodeNodes(nodes)]),
      (error: unknown) => {
        if (!(error instanceof BrokerError)) throw error;
        reply(error, []);
      },
    );
  };

  async drainNode(call: { node: number; drained: boolean; moveReplicas: boolean }, signal: AbortSignal): Promise<number> {
    const { admin, catalog } = this.components;
    const row = this.nodeRow(call.node);
    await admin.command(encodeDrainNode({ node: row.id, drained: call.drained }), signal);
    await admin.seen(() => catalog.node(row.id)?.drained !== !call.drained, signal);
    if (!call.drained || !call.moveReplicas) return 0;
    let moves = 0;
    for (const topic of [...catalog.topics()]) {
      for (const { group, replicas } of topic.partitions) {
        if (!replicas.some((replica) => nodeOfReplica(replica) === row.id)) continue;
        const nodes = replicas.map((replica) => (nodeOfReplica(replica) === row.id ? this.substitute(replicas) : nodeOfReplica(replica)));
        await this.place(group, replicas, nodes, signal);
        moves += 1;
        await admin.seen(() => {
          const now = catalog.group(group);
          return now === undefined || now.topic.partitions[now.partition]!.replicas !== replicas;
        }, signal);
      }
    }
    return moves;
  }

  async forgetNode(node: number, signal: AbortSignal): Promise<void> {
    const { admin, catalog, isAlive, nodeId } = this.components;
    const row = this.nodeRow(node);
    if (row.id === nodeId || isAlive(row.id))
      throw new BrokerError("CONFLICT", `node ${node} is running: stop it first, then forget it through another node`);
    const { id, storeId } = row;
    await admin.command(encodeForgetNode({ node: id, storeId }), signal);
    await admin.seen(() => catalog.node(id)?.storeId !== storeId, signal);
  }

  /** The node with the fewest replicas that may take one of a group held by `replicas`. */
  private substitute(replicas: readonly ReplicaId[]): NodeId {
    const nodes = this.components.admin.placementNodes().filter(({ id }) => !replicas.some((replica) => nodeOfReplica(replica) === id));
    if (nodes.length === 0) throw new BrokerError("NOT_ENOUGH_NODES", "no other live node can take the replicas; add one first");
    return place({ nodes, partitions: 1, replicas: 1, start: this.components.catalog.viewVersion })[0]![0]!;
  }

  private nodeRow(node: number): NodeRow {
    const row = Number.isInteger(node) && node > 0 && node <= NODE_ID_MAX ? this.components.catalog.node(node as NodeId) : undefined;
    if (row === undefined) throw new BrokerError("INVALID_ARGUMENT", `there is no node ${node}`);
    return row;
  }

  private nodes(): NodeInfo[] {
    const { catalog, leaders, isAlive } = this.components;
    const counts = new Map<NodeId, { leaders: number; replicas: number }>();
    for (const { id } of catalog.nodes()) counts.set(id, { leaders: 0, replicas: 0 });
    for (const topic of catalog.topics()) {
      for (const { group, replicas } of topic.partitions) {
        for (const replica of replicas) counts.get(nodeOfReplica(replica))!.replicas += 1;
        const leader = counts.get(leaders.of(group) as NodeId);
        if (leader !== undefined) leader.leaders += 1;
      }
    }
    return catalog.nodes().map((node) => ({
      id: node.id,
      endpoint: node.clientEndpoint,
      peerEndpoint: node.peerEndpoint,
      alive: isAlive(node.id),
      dc: node.dc,
      zone: node.zone,
      version: node.version,
      drained: node.drained,
      ...counts.get(node.id)!,
    }));
  }
}

export function groupOf(topic: TopicRow, partition: number): GroupId {
  const row = topic.partitions[partition];
  if (row === undefined)
    throw new BrokerError("UNKNOWN_PARTITION", `topic ${topic.name} has partitions 0..${topic.partitions.length - 1}, not ${partition}`);
  return row.group;
}

function encodeNodes(nodes: readonly NodeId[]): Uint8Array {
  const writer = new ByteWriter(16).varint(nodes.length);
  for (const node of nodes) writer.varint(node);
  return writer.finish();
}

function decodeNodes(body: Uint8Array): NodeId[] {
  const reader = new ByteReader(body);
  return Array.from({ length: reader.varint() }, () => reader.varint() as NodeId);
}
