// The use cases of one node: what the host tells them, and what is asked of them. Every call works on any node, because what
// belongs to a leader elsewhere is forwarded to it.

import { BrokerError } from "../base/errors.ts";
import { CATALOG_GROUP, type GroupId, type NodeId } from "../base/ids.ts";
import { REQUEST_PARTITIONS_MAX } from "../base/limits.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { Fitness } from "../replica/fitness.ts";
import type { WorkNews } from "../replica/types.ts";
import { infoOf } from "./admin.ts";
import type { ArchiverCounts } from "./archiver.ts";
import { groupOf } from "./cluster-admin.ts";
import { POSITIONS } from "./cursors.ts";
import type { Declaring } from "./declaring.ts";
import type { Definitions } from "./definitions.ts";
import type { Groups } from "./groups.ts";
import { BrokerParts, type BrokerComponents, type BrokerSettings } from "./parts.ts";
import type * as types from "./types.ts";
import { checkNotReserved } from "./reserved.ts";
import type { Transactions } from "./transactions/transactions.ts";
import type { Queues } from "./work/queues.ts";

export class NodeBroker implements types.Broker {
  private readonly settings: BrokerSettings;
  private readonly components: BrokerComponents;
  private readonly nodeId: NodeId;
  private readonly catalog: CatalogMachine;
  private readonly parts: BrokerParts;
  readonly queues: Queues;
  readonly declaring: Declaring;
  readonly groups: Groups;
  readonly definitions: Definitions;
  readonly transactions: Transactions;
  private stopped = false;

  constructor(settings: BrokerSettings, components: BrokerComponents) {
    this.settings = settings;
    this.components = components;
    this.parts = new BrokerParts(settings, components);
    const { nodeId, catalog, work, declaring, groups, definitions } = this.parts;
    this.nodeId = nodeId;
    this.catalog = catalog;
    this.queues = work.queues;
    this.declaring = declaring;
    this.groups = groups;
    this.definitions = definitions;
    this.transactions = this.parts.transactions.transactions;
  }

  /** Opens the groups that the local catalog knows, and announces this node to the cluster. */
  start(): void {
    for (const replica of this.components.host.groups()) this.leaderChanged(replica.group, replica.leaderNode, replica.raft.term);
    this.parts.controller.start();
    this.parts.registrar.register();
  }

  /** The others are told: or one of them would send a leadership home, to a node that is about to be gone. */
  stop(): void {
    this.stopped = true;
    this.parts.news.fitness("stopping");
    this.parts.registrar.stop();
    this.parts.controller.stop();
    this.parts.work.keeper.stop();
    this.parts.scheduler.stop();
  }

  /** Resolves when nothing is archived any more. */
  archivingStopped(): Promise<void> {
    return this.parts.archiver.stop();
  }

  /** The cluster knows this start of the node, and this node's catalog is no older than that. */
  get ready(): boolean {
    return this.parts.registrar.isInCatalog && !this.stopped && this.parts.leaders.of(CATALOG_GROUP) !== 0;
  }

  // What the host tells (HostEvents).

  advanced(group: GroupId): void {
    this.parts.local.advanced(group);
    this.parts.transactions.sweeper.look(group);
  }

  worked(group: GroupId, news: WorkNews): void {
    this.parts.work.keeper.worked(group, news);
  }

  catalogChanged(): void {
    this.parts.registrar.catalogChanged();
    this.parts.controller.reconcile();
    this.parts.work.keeper.catalogChanged();
    this.parts.work.gateway.catalogChanged();
    this.parts.scheduler.look();
    this.forgetDeleted();
    this.reachNodes();
    this.parts.changes.catalogChanged();
  }

  leaderChanged(group: GroupId, leader: NodeId | 0, term: number): void {
    // Its replica here is on its way out, or was being opened while the group was deleted.
    if (this.catalog.groupState(group) === "deleted") return;
    const didLead = this.parts.leaders.of(group) === this.nodeId;
    // One that is no member any more hears from nobody, and whom the leader told of it would not hear of it again.
    if (leader === 0 && !didLead && this.parts.controller.isPlacedElsewhere(group)) return;
    if (leader === 0 && didLead) this.parts.news.leadsNoMore(group, term);
    this.parts.leaders.set(group, leader, term);
    if (leader !== this.nodeId) return;
    this.components.logger.debug({ group, term }, "leads the group");
    if (group === CATALOG_GROUP) this.parts.registrar.leadsCatalog();
    this.parts.controller.leads(group);
    this.parts.work.keeper.leads(group);
    this.parts.news.leads(group, term);
  }

  damaged(): void {
    this.parts.controller.reconcileAll();
  }

  /** This node became fit to lead, or no longer is: the others are told, and its leaderships move. */
  fitnessChanged(fitness: Fitness): void {
    if (this.stopped) return;
    this.parts.news.fitness(fitness);
    // A machine that is short of time may stall all nodes at once: those that leaders would go to say so before any moves.
    if (fitness !== "stalled") this.parts.controller.upkeep();
  }

  diskSeen(use: types.DiskUse): void {
    this.parts.news.disk(use);
  }

  forwarded(from: NodeId, frame: Uint8Array): void {
    this.parts.forwarder.onFrame(from, frame);
  }

  peerUp(peer: NodeId): void {
    this.parts.news.peerUp(peer);
    this.parts.changes.notify();
  }

  peerDown(peer: NodeId): void {
    this.parts.forwarder.peerDown(peer);
    this.parts.news.peerDown(peer);
    this.parts.changes.notify();
  }

  // Messaging.

  publish(call: types.PublishCall, done: types.PublishDone): void {
    this.parts.publisher.publish(call, done);
  }

  async fetch(call: types.FetchCall, signal: AbortSignal): Promise<readonly types.FetchedPartition[]> {
    checkNotReserved(call.topic);
    await this.parts.view.sure(call.vhost, call.topic, partitionsOf(call.positions));
    const topic = this.parts.admin.existing(call.vhost, call.topic);
    if (call.positions.length === 0 || call.positions.length > REQUEST_PARTITIONS_MAX) {
      throw new BrokerError(
        "INVALID_ARGUMENT",
        `positions must name 1..${REQUEST_PARTITIONS_MAX} partitions, not ${call.positions.length}`,
      );
    }
    const fetches = call.positions.map(({ partition, from, value }) => ({ group: groupOf(topic, partition), from, value }));
    const fetched = await this.parts.fetcher.fetch(fetches, call, signal);
    return fetched.map((part, at) => ({ partition: call.positions[at]!.partition, ...part }));
  }

  async commitOffsets(call: Parameters<types.Broker["commitOffsets"]>[0], signal: AbortSignal): Promise<readonly types.PartitionOutcome[]> {
    await this.parts.view.sure(call.vhost, call.topic, partitionsOf(call.offsets));
    return this.parts.cursors.commit(call, signal);
  }

  async getOffsets(call: Parameters<types.Broker["getOffsets"]>[0], signal: AbortSignal): Promise<readonly types.PartitionOffsets[]> {
    await this.parts.view.sure(call.vhost, call.topic, partitionsOf(call.partitions.map((partition) => ({ partition }))));
    return this.parts.cursors.get(call, signal);
  }

  // Cluster.

  describeCluster(): types.ClusterInfo {
    return this.parts.cluster.describe();
  }

  async resolve(vhost: string, name: string): Promise<types.Topology> {
    await this.parts.view.sure(vhost, name);
    return this.parts.cluster.resolve(vhost, name);
  }

  watch(changed: () => void): () => void {
    return this.parts.changes.watch(changed);
  }

  async transferLeader(call: Parameters<types.Broker["transferLeader"]>[0], signal: AbortSignal): Promise<number> {
    if (call.topic !== "") await this.parts.view.sure(call.vhost, call.topic, call.partition + 1);
    return this.parts.cluster.transferLeader(call, signal);
  }

  async moveReplicas(call: Parameters<types.Broker["moveReplicas"]>[0], signal: AbortSignal): Promise<types.PartitionInfo> {
    await this.parts.view.sure(call.vhost, call.topic, call.partition + 1);
    return this.parts.cluster.moveReplicas(call, signal);
  }

  async listMoves(signal: AbortSignal): Promise<readonly types.ReplicaMove[]> {
    await this.parts.view.current();
    return this.parts.moves.list(signal);
  }

  drainNode(call: Parameters<types.Broker["drainNode"]>[0], signal: AbortSignal): Promise<number> {
    return this.parts.cluster.drainNode(call, signal);
  }

  forgetNode(node: number, signal: AbortSignal): Promise<void> {
    return this.parts.cluster.forgetNode(node, signal);
  }

  // Admin.

  async createTopic(call: types.CreateTopicCall, signal: AbortSignal): Promise<{ topic: types.TopicInfo; created: boolean }> {
    checkNotReserved(call.name);
    await this.parts.view.sureOfVhost(call.vhost);
    return this.parts.admin.create(call, signal);
  }

  async listTopics(call: types.ListTopicsCall): Promise<types.TopicPage> {
    await this.parts.view.current();
    return this.parts.admin.list(call);
  }

  async describeTopic(
    vhost: string,
    name: string,
    signal: AbortSignal,
  ): Promise<{ topic: types.TopicInfo; partitions: readonly types.PartitionDescription[] }> {
    await this.parts.view.sure(vhost, name);
    const topic = this.parts.admin.existing(vhost, name);
    const groups = topic.partitions.map(({ group }) => group);
    const offsets = await this.parts.fetcher.offsets({ ...POSITIONS, groups }, false, signal);
    const partitions = offsets.map(({ startOffset, endOffset, bytes, error }, partition) => ({
      info: this.parts.cluster.partitionInfo(topic, partition),
      startOffset,
      endOffset,
      bytes,
      error,
    }));
    return { topic: infoOf(topic), partitions };
  }

  async updateTopic(vhost: string, name: string, config: Partial<types.TopicConfig>, signal: AbortSignal): Promise<types.TopicInfo> {
    await this.parts.view.sure(vhost, name);
    return this.parts.admin.update(vhost, name, config, signal);
  }

  async expandTopic(vhost: string, name: string, partitions: number, signal: AbortSignal): Promise<types.TopicInfo> {
    await this.parts.view.sure(vhost, name);
    return this.parts.admin.expand(vhost, name, partitions, signal);
  }

  async deleteTopic(vhost: string, name: string, signal: AbortSignal): Promise<void> {
    await this.parts.view.sure(vhost, name);
    return this.parts.admin.delete(vhost, name, signal);
  }

  async listSubscriptions(call: types.ListSubscriptionsCall, signal: AbortSignal): Promise<types.SubscriptionPage> {
    await this.parts.view.sure(call.vhost, call.topic);
    return this.parts.cursors.list(call, signal);
  }

  async deleteSubscription(vhost: string, topic: string, name: string, signal: AbortSignal): Promise<void> {
    await this.parts.view.sure(vhost, topic);
    return this.parts.cursors.delete(vhost, topic, name, signal);
  }

  /** For the metrics. */
  counts(): { readonly leaderlessGroups: number; readonly leadersKnown: number; readonly peersUp: number } {
    const peers = this.catalog.nodes().filter(({ id }) => id !== this.nodeId && this.parts.isAlive(id));
    return { leaderlessGroups: this.parts.cluster.leaderless(), leadersKnown: this.parts.leaders.size, peersUp: peers.length };
  }

  get archiveCounts(): ArchiverCounts {
    return this.parts.archiver.counts;
  }

  // Inside.

  /** Nodes that the settings do not name are reached where the catalog says. */
  private reachNodes(): void {
    for (const { id, peerEndpoint } of this.catalog.nodes()) {
      const colon = peerEndpoint.lastIndexOf(":");
      if (id !== this.nodeId && !this.settings.peers.has(id))
        this.components.transport.setPeer(id, peerEndpoint.slice(0, colon), Number(peerEndpoint.slice(colon + 1)));
    }
  }

  /** Nothing is kept of who led what is no longer there. */
  private forgetDeleted(): void {
    // The catalog's own group is not one of its rows.
    if (this.parts.leaders.size > this.catalog.groups + 1)
      this.parts.leaders.retain((group) => this.catalog.groupState(group) !== "deleted");
  }
}

/** How many partitions there must be for all of these to exist. */
function partitionsOf(places: readonly { readonly partition: number }[]): number {
  return places.reduce((most, { partition }) => Math.max(most, partition + 1), 1);
}
