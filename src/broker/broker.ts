// The use cases of one node, put together: every call works on any node, because what belongs to a leader elsewhere is
// forwarded to it.

import { BrokerError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import { CATALOG_GROUP, type GroupId, type NodeId } from "../base/ids.ts";
import { REQUEST_PARTITIONS_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { Pacer } from "../base/pacer.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { NodeRegistration } from "../machine/catalog/commands.ts";
import { LANE_FORWARD, type PeerTransport } from "../peer/transport.ts";
import type { Fitness } from "../replica/fitness.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { WorkNews } from "../replica/types.ts";
import { Declaring } from "./declaring.ts";
import { Definitions } from "./definitions.ts";
import { ExchangePublisher } from "./exchange-publisher.ts";
import { Groups, OP_SYNC } from "./groups.ts";
import { Scheduler } from "./scheduler.ts";
import { OP_LEASES } from "./work/gateway.ts";
import { OP_LOOK } from "./work/inspector.ts";
import { WorkParts } from "./work/parts.ts";
import type { Queues } from "./work/queues.ts";
import { Admin, infoOf } from "./admin.ts";
import { ClusterAdmin, groupOf, OP_MEMBERS, OP_TRANSFER } from "./cluster-admin.ts";
import { Controller, OP_MEMBER, type ActedView } from "./controller.ts";
import { Cursors, POSITIONS } from "./cursors.ts";
import { Damages } from "./damages.ts";
import { Disks } from "./disks.ts";
import { Fetcher, OP_FETCH, OP_OFFSETS } from "./fetcher.ts";
import { Forwarder, type Serve } from "./forwarder.ts";
import { Leaders } from "./leaders.ts";
import { LocalGroups } from "./local-groups.ts";
import { Moves, OP_MOVES } from "./moves.ts";
import { News } from "./news.ts";
import { Publisher } from "./publisher.ts";
import { OP_JOIN, Registrar } from "./registrar.ts";
import { OP_PROPOSE, Router } from "./router.ts";
import { Unfit } from "./unfit.ts";
import { OP_VIEW, View } from "./view.ts";
import type * as types from "./types.ts";
import { waitUntil } from "./wait-until.ts";

export type BrokerSettings = {
  readonly clusterId: string;
  readonly registration: NodeRegistration;
  /** Nodes whose addresses the settings name. */
  readonly peers: ReadonlySet<NodeId>;
};
export type BrokerComponents = {
  readonly host: ReplicaHost;
  readonly transport: PeerTransport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly memory: PayloadMemory;
  readonly pacer: Pacer;
  readonly fatal: (error: Error) => void;
  readonly acted: ActedView;
  /** The cluster has seen a later start of this node, of this incarnation. */
  readonly outrun: (incarnation: number) => void;
  /** The cluster counts on another disk of this node. */
  readonly replaced: (reason: string) => void;
};

export class NodeBroker implements types.Broker {
  private readonly settings: BrokerSettings;
  private readonly components: BrokerComponents;
  private readonly nodeId: NodeId;
  private readonly catalog: CatalogMachine;
  private readonly leaders = new Leaders();
  private readonly unfit: Unfit;
  private readonly disks: Disks;
  private readonly damages = new Damages();
  private readonly router: Router;
  private readonly forwarder: Forwarder;
  private readonly local: LocalGroups;
  private readonly publisher: Publisher;
  private readonly exchanges: ExchangePublisher;
  private readonly work: WorkParts;
  private readonly scheduler: Scheduler;
  readonly declaring: Declaring;
  readonly groups: Groups;
  readonly definitions: Definitions;
  private readonly fetcher: Fetcher;
  private readonly admin: Admin;
  private readonly cluster: ClusterAdmin;
  private readonly moves: Moves;
  private readonly controller: Controller;
  private readonly cursors: Cursors;
  private readonly view: View;
  private readonly news: News;
  private readonly registrar: Registrar;
  private readonly watchers = new Set<() => void>();
  private readonly catalogWaits = new Set<() => void>();
  private stopped = false;

  constructor(settings: BrokerSettings, components: BrokerComponents) {
    this.settings = settings;
    this.components = components;
    const { host, transport, clock, logger, memory, pacer, fatal, acted, outrun, replaced } = components;
    this.nodeId = settings.registration.id;
    this.catalog = host.get(CATALOG_GROUP)!.machine as CatalogMachine;
    this.unfit = new Unfit(this.nodeId);
    this.disks = new Disks(this.nodeId);
    host.takesRecords = ({ configuration }) => this.unfit.takesRecords(configuration);
    host.takesLeaders = (node) => this.unfit.takesLeaders(node);
    this.router = new Router({ nodeId: this.nodeId, host, leaders: this.leaders, clock });
    this.local = new LocalGroups(host, clock, pacer);
    this.fetcher = new Fetcher(this.nodeId, this.router, this.local, pacer);
    this.news = new News({
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      transport,
      clock,
      leaders: this.leaders,
      unfit: this.unfit,
      disks: this.disks,
      damages: this.damages,
      notify: (to, notice, body) => this.forwarder.notify(to, notice, body),
      work: (from, body) => this.work.gateway.heard(from, body),
    });
    this.registrar = new Registrar(settings, {
      catalog: this.catalog,
      router: this.router,
      clock,
      registered: () => this.notifyWatchers(),
      outrun,
      replaced,
    });
    this.forwarder = new Forwarder({
      send: (to, parts) => transport.send(to, LANE_FORWARD, parts),
      operations: new Map<number, Serve>([
        [OP_PROPOSE, this.router.servePropose],
        [OP_FETCH, this.fetcher.serveFetch],
        [OP_OFFSETS, this.fetcher.serveOffsets],
        [OP_TRANSFER, (from, body, reply, signal) => this.cluster.serveTransfer(from, body, reply, signal)],
        [OP_JOIN, this.registrar.serveJoin],
        [OP_MEMBERS, (from, body, reply, signal) => this.cluster.serveMembers(from, body, reply, signal)],
        [OP_MOVES, (from, body, reply, signal) => this.moves.serve(from, body, reply, signal)],
        [OP_MEMBER, (from, body, reply, signal) => this.controller.serveMember(from, body, reply, signal)],
        [OP_VIEW, (from, body, reply, signal) => this.view.serveView(from, body, reply, signal)],
        [OP_LEASES, (from, body, reply, signal) => this.work.inspector.serveLeases(from, body, reply, signal)],
        [OP_LOOK, (from, body, reply, signal) => this.work.inspector.serveLook(from, body, reply, signal)],
        [OP_SYNC, (from, body, reply, signal) => this.groups.serveSync(from, body, reply, signal)],
      ]),
      notices: this.news.heard,
    });
    this.router.attach(this.forwarder);
    this.view = new View({
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      router: this.router,
      clock,
      caughtUp: (condition, signal) => this.caughtUp(condition, signal),
    });
    this.publisher = new Publisher({
      router: this.router,
      memory,
      clock,
      exchanges: () => this.exchanges,
      topicOf: (vhost, name) => this.admin.topicOf(vhost, name),
      viewIsCurrent: () => this.view.current(),
    });
    this.exchanges = new ExchangePublisher({ router: this.router, memory, catalog: this.catalog, clock });
    this.admin = new Admin({
      router: this.router,
      catalog: this.catalog,
      clock,
      isAlive: (node) => this.isAlive(node),
      founders: settings.peers,
      caughtUp: (condition, signal) => this.caughtUp(condition, signal),
    });
    this.cluster = new ClusterAdmin({
      clusterId: settings.clusterId,
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      leaders: this.leaders,
      disks: this.disks,
      damages: this.damages,
      router: this.router,
      admin: this.admin,
      clock,
      isAlive: (node) => this.isAlive(node),
      until: (condition, signal) => this.until(condition, signal),
    });
    this.moves = new Moves({
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      router: this.router,
      admin: this.admin,
      isAlive: (node) => this.isAlive(node),
    });
    this.controller = new Controller({
      nodeId: this.nodeId,
      storeId: settings.registration.storeId,
      acted,
      host,
      catalog: this.catalog,
      router: this.router,
      unfit: this.unfit,
      announce: () => {
        this.news.laggards();
        this.news.damages();
      },
      clock,
      logger,
      viewIsCurrent: () => this.view.current(),
      isUp: (node) => transport.isUp(node),
      topicChanged: (topic) => this.work.topicChanged(topic),
      worksUpkeep: () => {
        this.work.keeper.upkeep();
        this.groups.upkeep();
      },
      fatal,
    });
    this.work = new WorkParts({
      nodeId: this.nodeId,
      incarnation: settings.registration.incarnation,
      host,
      catalog: this.catalog,
      router: this.router,
      fetcher: this.fetcher,
      publisher: this.publisher,
      admin: this.admin,
      cluster: this.cluster,
      clock,
      logger,
      incarnationOf: (node) => (node === this.nodeId ? settings.registration.incarnation : transport.incarnationOf(node)),
      notify: (to, notice, body) => this.forwarder.notify(to, notice, body),
      sure: (vhost, name) => this.view.sure(vhost, name),
      viewIsCurrent: () => this.view.current(),
    });
    this.declaring = new Declaring({
      catalog: this.catalog,
      admin: this.admin,
      router: this.router,
      clock,
      viewIsCurrent: () => this.view.current(),
    });
    this.definitions = new Definitions({
      catalog: this.catalog,
      admin: this.admin,
      declaring: this.declaring,
      queues: this.work.queues,
      viewIsCurrent: () => this.view.current(),
    });
    this.scheduler = new Scheduler({
      catalog: this.catalog,
      publisher: this.publisher,
      clock,
      logger,
      leadsCatalog: () => this.leaders.of(CATALOG_GROUP) === this.nodeId,
    });
    this.groups = new Groups({
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      router: this.router,
      clock,
      existing: (vhost, topic) => this.admin.existing(vhost, topic),
    });
    this.cursors = new Cursors({
      router: this.router,
      fetcher: this.fetcher,
      pacer,
      existing: (vhost, topic) => this.admin.existing(vhost, topic),
    });
    this.leaders.watch((group) => {
      this.notifyWatchers();
      this.work.gateway.leaderChanged(group);
    });
  }

  get queues(): Queues {
    return this.work.queues;
  }

  /** Opens the groups that the local catalog knows, and announces this node to the cluster. */
  start(): void {
    for (const replica of this.components.host.groups()) this.leaderChanged(replica.group, replica.leaderNode, replica.raft.term);
    this.controller.start();
    this.registrar.register();
  }

  /** The others are told: or one of them would send a leadership home, to a node that is about to be gone. */
  stop(): void {
    this.stopped = true;
    this.news.fitness("stopping");
    this.registrar.stop();
    this.controller.stop();
    this.work.keeper.stop();
    this.scheduler.stop();
  }

  /** The cluster knows this start of the node, and this node's catalog is no older than that. */
  get ready(): boolean {
    return this.registrar.isInCatalog && !this.stopped && this.leaders.of(CATALOG_GROUP) !== 0;
  }

  // What the host tells (HostEvents).

  advanced(group: GroupId): void {
    this.local.advanced(group);
  }

  worked(group: GroupId, news: WorkNews): void {
    this.work.keeper.worked(group, news);
  }

  catalogChanged(): void {
    this.registrar.catalogChanged();
    this.controller.reconcile();
    this.work.keeper.catalogChanged();
    this.scheduler.look();
    this.forgetDeleted();
    this.reachNodes();
    for (const wait of [...this.catalogWaits]) wait();
    this.notifyWatchers();
  }

  leaderChanged(group: GroupId, leader: NodeId | 0, term: number): void {
    // Its replica here is on its way out, or was being opened while the group was deleted.
    if (this.catalog.groupState(group) === "deleted") return;
    const didLead = this.leaders.of(group) === this.nodeId;
    // One that is no member any more hears from nobody, and whom the leader told of it would not hear of it again.
    if (leader === 0 && !didLead && this.controller.isPlacedElsewhere(group)) return;
    if (leader === 0 && didLead) this.news.leadsNoMore(group, term);
    this.leaders.set(group, leader, term);
    if (leader !== this.nodeId) return;
    this.components.logger.debug({ group, term }, "leads the group");
    if (group === CATALOG_GROUP) this.registrar.leadsCatalog();
    this.controller.leads(group);
    this.work.keeper.leads(group);
    this.news.leads(group, term);
  }

  damaged(): void {
    this.controller.reconcileAll();
  }

  /** This node became fit to lead, or no longer is: the others are told, and its leaderships move. */
  fitnessChanged(fitness: Fitness): void {
    if (this.stopped) return;
    this.news.fitness(fitness);
    // A machine that is short of time may stall all nodes at once: those that leaders would go to say so before any moves.
    if (fitness !== "stalled") this.controller.upkeep();
  }

  diskSeen(use: types.DiskUse): void {
    this.news.disk(use);
  }

  forwarded(from: NodeId, frame: Uint8Array): void {
    this.forwarder.onFrame(from, frame);
  }

  peerUp(peer: NodeId): void {
    this.news.peerUp(peer);
    this.notifyWatchers();
  }

  peerDown(peer: NodeId): void {
    this.forwarder.peerDown(peer);
    this.news.peerDown(peer);
    this.notifyWatchers();
  }

  // Messaging.

  publish(call: types.PublishCall, done: types.PublishDone): void {
    this.publisher.publish(call, done);
  }

  async fetch(call: types.FetchCall, signal: AbortSignal): Promise<readonly types.FetchedPartition[]> {
    await this.view.sure(call.vhost, call.topic, partitionsOf(call.positions));
    const topic = this.admin.existing(call.vhost, call.topic);
    if (call.positions.length === 0 || call.positions.length > REQUEST_PARTITIONS_MAX) {
      throw new BrokerError(
        "INVALID_ARGUMENT",
        `positions must name 1..${REQUEST_PARTITIONS_MAX} partitions, not ${call.positions.length}`,
      );
    }
    const fetches = call.positions.map(({ partition, from, value }) => ({ group: groupOf(topic, partition), from, value }));
    const fetched = await this.fetcher.fetch(fetches, call, signal);
    return fetched.map((part, at) => ({ partition: call.positions[at]!.partition, ...part }));
  }

  async commitOffsets(call: Parameters<types.Broker["commitOffsets"]>[0], signal: AbortSignal): Promise<readonly types.PartitionOutcome[]> {
    await this.view.sure(call.vhost, call.topic, partitionsOf(call.offsets));
    return this.cursors.commit(call, signal);
  }

  async getOffsets(call: Parameters<types.Broker["getOffsets"]>[0], signal: AbortSignal): Promise<readonly types.PartitionOffsets[]> {
    await this.view.sure(call.vhost, call.topic, partitionsOf(call.partitions.map((partition) => ({ partition }))));
    return this.cursors.get(call, signal);
  }

  // Cluster.

  describeCluster(): types.ClusterInfo {
    return this.cluster.describe();
  }

  async resolve(vhost: string, name: string): Promise<types.Topology> {
    await this.view.sure(vhost, name);
    return this.cluster.resolve(vhost, name);
  }

  watch(changed: () => void): () => void {
    this.watchers.add(changed);
    return () => this.watchers.delete(changed);
  }

  async transferLeader(call: Parameters<types.Broker["transferLeader"]>[0], signal: AbortSignal): Promise<number> {
    if (call.topic !== "") await this.view.sure(call.vhost, call.topic, call.partition + 1);
    return this.cluster.transferLeader(call, signal);
  }

  async moveReplicas(call: Parameters<types.Broker["moveReplicas"]>[0], signal: AbortSignal): Promise<types.PartitionInfo> {
    await this.view.sure(call.vhost, call.topic, call.partition + 1);
    return this.cluster.moveReplicas(call, signal);
  }

  async listMoves(signal: AbortSignal): Promise<readonly types.ReplicaMove[]> {
    await this.view.current();
    return this.moves.list(signal);
  }

  drainNode(call: Parameters<types.Broker["drainNode"]>[0], signal: AbortSignal): Promise<number> {
    return this.cluster.drainNode(call, signal);
  }

  forgetNode(node: number, signal: AbortSignal): Promise<void> {
    return this.cluster.forgetNode(node, signal);
  }

  // Admin.

  async createTopic(call: types.CreateTopicCall, signal: AbortSignal): Promise<{ topic: types.TopicInfo; created: boolean }> {
    await this.view.sureOfVhost(call.vhost);
    return this.admin.create(call, signal);
  }

  async listTopics(call: types.ListTopicsCall): Promise<types.TopicPage> {
    await this.view.current();
    return this.admin.list(call);
  }

  async describeTopic(
    vhost: string,
    name: string,
    signal: AbortSignal,
  ): Promise<{ topic: types.TopicInfo; partitions: readonly types.PartitionDescription[] }> {
    await this.view.sure(vhost, name);
    const topic = this.admin.existing(vhost, name);
    const groups = topic.partitions.map(({ group }) => group);
    const offsets = await this.fetcher.offsets({ ...POSITIONS, groups }, false, signal);
    const partitions = offsets.map(({ startOffset, endOffset, bytes, error }, partition) => ({
      info: this.cluster.partitionInfo(topic, partition),
      startOffset,
      endOffset,
      bytes,
      error,
    }));
    return { topic: infoOf(topic), partitions };
  }

  async updateTopic(vhost: string, name: string, config: Partial<types.TopicConfig>, signal: AbortSignal): Promise<types.TopicInfo> {
    await this.view.sure(vhost, name);
    return this.admin.update(vhost, name, config, signal);
  }

  async expandTopic(vhost: string, name: string, partitions: number, signal: AbortSignal): Promise<types.TopicInfo> {
    await this.view.sure(vhost, name);
    return this.admin.expand(vhost, name, partitions, signal);
  }

  async deleteTopic(vhost: string, name: string, signal: AbortSignal): Promise<void> {
    await this.view.sure(vhost, name);
    return this.admin.delete(vhost, name, signal);
  }

  async listSubscriptions(call: types.ListSubscriptionsCall, signal: AbortSignal): Promise<types.SubscriptionPage> {
    await this.view.sure(call.vhost, call.topic);
    return this.cursors.list(call, signal);
  }

  async deleteSubscription(vhost: string, topic: string, name: string, signal: AbortSignal): Promise<void> {
    await this.view.sure(vhost, topic);
    return this.cursors.delete(vhost, topic, name, signal);
  }

  /** For the metrics. */
  counts(): { readonly leaderlessGroups: number; readonly leadersKnown: number; readonly peersUp: number } {
    const peers = this.catalog.nodes().filter(({ id }) => id !== this.nodeId && this.isAlive(id));
    return { leaderlessGroups: this.cluster.leaderless(), leadersKnown: this.leaders.size, peersUp: peers.length };
  }

  // Inside.

  private isAlive(node: NodeId): boolean {
    return node === this.nodeId || this.components.transport.isUp(node);
  }

  /** Nodes that the settings do not name are reached where the catalog says. */
  private reachNodes(): void {
    for (const { id, peerEndpoint } of this.catalog.nodes()) {
      const colon = peerEndpoint.lastIndexOf(":");
      if (id !== this.nodeId && !this.settings.peers.has(id))
        this.components.transport.setPeer(id, peerEndpoint.slice(0, colon), Number(peerEndpoint.slice(colon + 1)));
    }
  }

  private notifyWatchers(): void {
    for (const watcher of this.watchers) watcher();
  }

  /** Nothing is kept of who led what is no longer there. */
  private forgetDeleted(): void {
    // The catalog's own group is not one of its rows.
    if (this.leaders.size > this.catalog.groups + 1) this.leaders.retain((group) => this.catalog.groupState(group) !== "deleted");
  }

  private until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    return waitUntil(condition, (check) => this.watch(check), signal, "the leadership did not move in time; is the target up to date?");
  }

  private caughtUp(condition: () => boolean, signal: AbortSignal): Promise<void> {
    const subscribe = (check: () => void): (() => void) => {
      this.catalogWaits.add(check);
      return () => this.catalogWaits.delete(check);
    };
    return waitUntil(condition, subscribe, signal, "the change is made, but this node has not seen it yet");
  }
}

/** How many partitions there must be for all of these to exist. */
function partitionsOf(places: readonly { readonly partition: number }[]): number {
  return places.reduce((most, { partition }) => Math.max(most, partition + 1), 1);
}
