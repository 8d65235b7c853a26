// The parts of the use cases of one node, put together.

import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { CATALOG_GROUP, type GroupId, type NodeId } from "../base/ids.ts";
import { ARCHIVE_FILE_BYTES_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { Pacer } from "../base/pacer.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { NodeRegistration } from "../machine/catalog/commands.ts";
import type { Archive } from "../log/archive-files.ts";
import { LANE_FORWARD, type PeerTransport } from "../peer/transport.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { Declaring } from "./declaring.ts";
import { Definitions } from "./definitions.ts";
import { ExchangePublisher } from "./exchange-publisher.ts";
import { Groups, OP_GROUP, OP_SYNC } from "./groups.ts";
import { Scheduler } from "./scheduler.ts";
import { OP_LEASES } from "./work/gateway.ts";
import { OP_LOOK } from "./work/inspector.ts";
import { OP_BOOK } from "./transactions/book.ts";
import { TransactionParts } from "./transactions/parts.ts";
import { WorkParts } from "./work/parts.ts";
import { Admin } from "./admin.ts";
import { Archiver } from "./archiver.ts";
import { Changes } from "./changes.ts";
import { ClusterAdmin, OP_MEMBERS, OP_TRANSFER } from "./cluster-admin.ts";
import { Controller, OP_MEMBER, type ActedView } from "./controller.ts";
import { Cursors } from "./cursors.ts";
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
import { Retention } from "./retention.ts";
import { OP_PROPOSE, Router } from "./router.ts";
import { Unfit } from "./unfit.ts";
import { OP_VIEW, View } from "./view.ts";

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
  readonly archive: Archive;
  /** The cluster has seen a later start of this node, of this incarnation. */
  readonly outrun: (incarnation: number) => void;
  /** The cluster counts on another disk of this node. */
  readonly replaced: (reason: string) => void;
};

export class BrokerParts {
  readonly nodeId: NodeId;
  readonly catalog: CatalogMachine;
  readonly leaders = new Leaders();
  readonly unfit: Unfit;
  readonly disks: Disks;
  readonly damages = new Damages();
  readonly router: Router;
  readonly forwarder: Forwarder;
  readonly local: LocalGroups;
  readonly publisher: Publisher;
  readonly exchanges: ExchangePublisher;
  readonly work: WorkParts;
  readonly scheduler: Scheduler;
  readonly declaring: Declaring;
  readonly groups: Groups;
  readonly transactions: TransactionParts;
  readonly definitions: Definitions;
  readonly fetcher: Fetcher;
  readonly admin: Admin;
  readonly cluster: ClusterAdmin;
  readonly moves: Moves;
  readonly controller: Controller;
  readonly archiver: Archiver;
  readonly cursors: Cursors;
  readonly view: View;
  readonly news: News;
  readonly registrar: Registrar;
  /** Who waits for something to change. */
  readonly changes = new Changes();
  private readonly isUp: (node: NodeId) => boolean;

  constructor(settings: BrokerSettings, components: BrokerComponents) {
    const { host, transport, clock, logger, memory, pacer, fatal, acted, archive, outrun, replaced } = components;
    this.nodeId = settings.registration.id;
    this.isUp = (node) => transport.isUp(node);
    this.catalog = host.get(CATALOG_GROUP)!.machine as CatalogMachine;
    this.unfit = new Unfit(this.nodeId);
    this.disks = new Disks(this.nodeId);
    host.takesRecords = ({ configuration }) => this.unfit.takesRecords(configuration);
    host.takesLeaders = (node) => this.unfit.takesLeaders(node);
    const isDeleted = (group: GroupId): boolean => this.catalog.groupState(group) === "deleted";
    this.router = new Router({ nodeId: this.nodeId, host, leaders: this.leaders, clock, isDeleted });
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
      registered: () => this.changes.notify(),
      outrun,
      replaced,
    });
    this.forwarder = new Forwarder({
      send: (to, parts) => transport.send(to, LANE_FORWARD, parts),
      operations: this.operations(),
      notices: this.news.heard,
    });
    this.router.attach(this.forwarder);
    this.view = new View({
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      router: this.router,
      clock,
      caughtUp: (condition, signal) => this.changes.caughtUp(condition, signal),
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
      caughtUp: (condition, signal) => this.changes.caughtUp(condition, signal),
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
      until: (condition, signal) => this.changes.led(condition, signal),
    });
    this.moves = new Moves({
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      router: this.router,
      admin: this.admin,
      isAlive: (node) => this.isAlive(node),
    });
    this.archiver = new Archiver({ host, archive, fileBytesMax: ARCHIVE_FILE_BYTES_MAX, pacer, clock, logger, fatal });
    this.controller = new Controller({
      nodeId: this.nodeId,
      storeId: settings.registration.storeId,
      acted,
      host,
      catalog: this.catalog,
      router: this.router,
      unfit: this.unfit,
      retention: new Retention({ host, clock, archiver: this.archiver }),
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
        this.work.gateway.upkeep();
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
      lookAtTransactions: (group, topic) => this.transactions.look(group, topic),
    });
    this.transactions = new TransactionParts({
      nodeId: this.nodeId,
      incarnation: settings.registration.incarnation,
      host,
      catalog: this.catalog,
      router: this.router,
      memory,
      clock,
      logger,
      work: this.work,
      exchanges: this.exchanges,
      topicOf: (vhost, name) => this.admin.topicOf(vhost, name),
      viewIsCurrent: () => this.view.current(),
      checkVhost: async (vhost) => {
        await this.view.sureOfVhost(vhost);
        this.admin.checkVhost(vhost);
      },
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
      this.changes.notify();
      this.work.gateway.leaderChanged(group);
    });
  }

  isAlive(node: NodeId): boolean {
    return node === this.nodeId || this.isUp(node);
  }

  /** What other nodes ask of this one, by its number. */
  private operations(): ReadonlyMap<number, Serve> {
    const rows: [number, Serve][] = [
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
      [OP_BOOK, (from, body, reply, signal) => this.transactions.book.serve(from, body, reply, signal)],
      [OP_SYNC, (from, body, reply, signal) => this.groups.serveSync(from, body, reply, signal)],
      [OP_GROUP, (from, body, reply, signal) => this.groups.serveLook(from, body, reply, signal)],
    ];
    const operations = new Map(rows);
    assert(operations.size === rows.length, "every operation has a number of its own");
    return operations;
  }
}
