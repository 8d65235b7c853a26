// The use cases of one node, put together: every call works on any node, because what belongs to a leader elsewhere is
// forwarded to it.

import { ByteWriter } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import { CATALOG_GROUP, type GroupId, type NodeId } from "../base/ids.ts";
import { COMMIT_METADATA_LENGTH_MAX, NOTICE_GROUPS_MAX, REQUEST_PARTITIONS_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { Pacer } from "../base/pacer.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import {
  CATALOG_CONFLICT,
  CATALOG_OK,
  CATALOG_STORE_MISMATCH,
  JOIN_NODE,
  decodeCatalogCommand,
  encodeInitialize,
  encodeRegisterNode,
  type NodeRegistration,
} from "../machine/catalog/commands.ts";
import { encodeCommitOffset, encodeDeleteCursor } from "../machine/stream/commands.ts";
import { STREAM_OFFSET_OUT_OF_RANGE, STREAM_OK, STREAM_TOO_MANY_CURSORS, STREAM_WOULD_GO_BACK } from "../machine/stream/codes.ts";
import { LANE_FORWARD, type PeerTransport } from "../peer/transport.ts";
import { ENTRY_COMMAND } from "../raft/types.ts";
import type { Fitness } from "../replica/fitness.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { Admin, checkName, infoOf } from "./admin.ts";
import { ClusterAdmin, groupOf, OP_MOVES, OP_TRANSFER } from "./cluster-admin.ts";
import { Controller, OP_MEMBER } from "./controller.ts";
import { decodeDiskUse, Disks, encodeDiskUse } from "./disks.ts";
import { Fetcher, OP_FETCH, OP_OFFSETS, asBrokerError } from "./fetcher.ts";
import { Forwarder, type Serve } from "./forwarder.ts";
import { Leaders, decodeLeading, encodeLeading } from "./leaders.ts";
import { LocalGroups } from "./local-groups.ts";
import { Publisher } from "./publisher.ts";
import { OP_PROPOSE, Router } from "./router.ts";
import { subscriptionPage, subscriptionsPerPage } from "./subscriptions.ts";
import { decodeFitness, decodeLaggards, encodeFitness, encodeLaggards, Unfit } from "./unfit.ts";
import type * as types from "./types.ts";

export const OP_JOIN = 7;
const NOTICE_LEADING = 1;
const NOTICE_FITNESS = 2;
const NOTICE_LAGGARDS = 3;
const NOTICE_DISK = 4;
const REGISTER_RETRY_MS = 200;
/** Offsets that are committed in one go. */
const COMMITS_PER_STEP = 64;
/** Asks where partitions begin and end, and for nothing else. */
const POSITIONS = { subscription: "", timeMs: -1, cursorsAfter: "", cursorsMax: 0 };

type Led = { readonly group: GroupId; readonly term: number };

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
  private readonly router: Router;
  private readonly forwarder: Forwarder;
  private readonly local: LocalGroups;
  private readonly publisher: Publisher;
  private readonly fetcher: Fetcher;
  private readonly admin: Admin;
  private readonly cluster: ClusterAdmin;
  private readonly controller: Controller;
  private readonly watchers = new Set<() => void>();
  private readonly catalogWaits = new Set<() => void>();
  /** Led here since the last notice to the other nodes. */
  private led: Led[] = [];
  private registered = false;
  private stopped = false;

  constructor(settings: BrokerSettings, components: BrokerComponents) {
    this.settings = settings;
    this.components = components;
    const { host, transport, clock, logger, memory, pacer, fatal } = components;
    this.nodeId = settings.registration.id;
    this.catalog = host.get(CATALOG_GROUP)!.machine as CatalogMachine;
    this.unfit = new Unfit(this.nodeId);
    this.disks = new Disks(this.nodeId);
    host.takesRecords = ({ configuration }) => this.unfit.takesRecords(configuration);
    host.isBehind = (node) => this.unfit.isBehind(node);
    this.router = new Router({ nodeId: this.nodeId, host, leaders: this.leaders, clock });
    this.local = new LocalGroups(host, clock, pacer);
    this.fetcher = new Fetcher(this.nodeId, this.router, this.local, pacer);
    this.forwarder = new Forwarder({
      send: (to, parts) => transport.send(to, LANE_FORWARD, parts),
      operations: new Map<number, Serve>([
        [OP_PROPOSE, this.router.servePropose],
        [OP_FETCH, this.fetcher.serveFetch],
        [OP_OFFSETS, this.fetcher.serveOffsets],
        [OP_TRANSFER, (from, body, reply, signal) => this.cluster.serveTransfer(from, body, reply, signal)],
        [OP_JOIN, (from, body, reply) => this.serveJoin(from, body, reply)],
        [OP_MOVES, (from, body, reply, signal) => this.cluster.serveMoves(from, body, reply, signal)],
        [OP_MEMBER, (from, body, reply, signal) => this.controller.serveMember(from, body, reply, signal)],
      ]),
      notices: new Map([
        [NOTICE_LEADING, (from, body) => this.heardLeading(from, body)],
        [NOTICE_DISK, (from, body) => this.disks.heard(from, decodeDiskUse(body))],
        [NOTICE_FITNESS, (from, body) => this.unfit.set(from, decodeFitness(body))],
        [NOTICE_LAGGARDS, (from, body) => void this.unfit.lagging(from, decodeLaggards(body))],
      ]),
    });
    this.router.attach(this.forwarder);
    this.publisher = new Publisher(this.router, memory, (vhost, name) => this.admin.topicOf(vhost, name));
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
      router: this.router,
      admin: this.admin,
      isAlive: (node) => this.isAlive(node),
      ledBy: (group, node, signal) => this.ledBy(group, node, signal),
    });
    this.controller = new Controller({
      nodeId: this.nodeId,
      host,
      catalog: this.catalog,
      router: this.router,
      unfit: this.unfit,
      announceLaggards: () => this.announceLaggards(),
      clock,
      logger,
      isUp: (node) => transport.isUp(node),
      fatal,
    });
    this.leaders.watch(() => this.notifyWatchers());
  }

  /** Opens the groups that the local catalog knows, and announces this node to the cluster. */
  start(): void {
    for (const replica of this.components.host.groups()) this.leaderChanged(replica.group, replica.leaderNode, replica.raft.term);
    this.controller.start();
    this.register();
  }

  stop(): void {
    this.stopped = true;
    this.controller.stop();
  }

  /** The cluster knows this start of the node, and this node's catalog is no older than that. */
  get ready(): boolean {
    const { id, incarnation } = this.settings.registration;
    const isInCatalog = this.registered && this.catalog.node(id)?.incarnation === incarnation;
    return isInCatalog && !this.stopped && this.leaders.of(CATALOG_GROUP) !== 0;
  }

  // What the host tells (HostEvents).

  advanced(group: GroupId): void {
    this.local.advanced(group);
  }

  catalogChanged(): void {
    this.controller.reconcile();
    this.forgetDeleted();
    this.reachNodes();
    for (const wait of [...this.catalogWaits]) wait();
    this.notifyWatchers();
  }

  leaderChanged(group: GroupId, leader: NodeId | 0, term: number): void {
    // Its replica here is on its way out, or was being opened while the group was deleted.
    if (this.catalog.groupState(group) === "deleted") return;
    this.leaders.set(group, leader, term);
    if (group === CATALOG_GROUP && leader === this.nodeId) this.initializeCluster();
    if (leader !== this.nodeId) return;
    this.controller.leads(group);
    // Elections come in crowds: what one turn brings is told with one notice.
    if (this.led.push({ group, term }) === 1) this.components.clock.defer(() => this.tellLed());
  }

  damaged(): void {
    this.controller.reconcileAll();
  }

  /** This node became fit to lead, or no longer is: the others are told, and its leaderships move. */
  fitnessChanged(fitness: Fitness): void {
    this.unfit.set(this.nodeId, fitness);
    for (const { id } of this.catalog.nodes()) if (id !== this.nodeId) this.forwarder.notify(id, NOTICE_FITNESS, encodeFitness(fitness));
    // A machine that is short of time may stall all nodes at once: those that leaders would go to say so before any moves.
    if (fitness !== "stalled") this.controller.upkeep();
  }

  /** All nodes know of a node that is being brought up to date, and leave the leaders where they are. */
  private announceLaggards(): void {
    const lagging = this.components.host.recovery.nodes();
    if (!this.unfit.lagging(this.nodeId, lagging)) return;
    for (const { id } of this.catalog.nodes()) if (id !== this.nodeId) this.forwarder.notify(id, NOTICE_LAGGARDS, encodeLaggards(lagging));
  }

  /** This node looked at its disk: the others are told every few seconds. */
  diskSeen(use: types.DiskUse): void {
    if (!this.disks.seen(use, this.components.clock.monotonicMs())) return;
    for (const { id } of this.catalog.nodes()) if (id !== this.nodeId) this.forwarder.notify(id, NOTICE_DISK, encodeDiskUse(use));
  }

  forwarded(from: NodeId, frame: Uint8Array): void {
    this.forwarder.onFrame(from, frame);
  }

  peerUp(peer: NodeId): void {
    const { host } = this.components;
    const leading: Led[] = [];
    for (const replica of host.groups()) if (replica.isLeader) leading.push({ group: replica.group, term: replica.raft.term });
    this.tell([peer], leading);
    if (this.disks.own !== undefined) this.forwarder.notify(peer, NOTICE_DISK, encodeDiskUse(this.disks.own));
    if (this.unfit.own !== "fit") this.forwarder.notify(peer, NOTICE_FITNESS, encodeFitness(this.unfit.own));
    const lagging = host.recovery.nodes();
    if (lagging.length > 0) this.forwarder.notify(peer, NOTICE_LAGGARDS, encodeLaggards(lagging));
    this.notifyWatchers();
  }

  peerDown(peer: NodeId): void {
    this.forwarder.peerDown(peer);
    this.leaders.nodeLost(peer);
    this.unfit.forget(peer);
    this.disks.forget(peer);
    this.notifyWatchers();
  }

  // Messaging.

  publish(call: types.PublishCall, done: types.PublishDone): void {
    this.publisher.publish(call, done);
  }

  async fetch(call: types.FetchCall, signal: AbortSignal): Promise<readonly types.FetchedPartition[]> {
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

  async commitOffsets(
    call: { vhost: string; topic: string; subscription: string; offsets: readonly types.OffsetCommit[]; direct: boolean },
    signal: AbortSignal,
  ): Promise<readonly types.PartitionOutcome[]> {
    const topic = this.admin.existing(call.vhost, call.topic);
    checkName("subscription", call.subscription);
    if (call.offsets.length === 0 || call.offsets.length > REQUEST_PARTITIONS_MAX) {
      throw new BrokerError("INVALID_ARGUMENT", `offsets must name 1..${REQUEST_PARTITIONS_MAX} partitions, not ${call.offsets.length}`);
    }
    const groups = call.offsets.map(({ partition }) => groupOf(topic, partition));
    const errors: Promise<BrokerError | null>[] = [];
    for (const [at, commit] of call.offsets.entries()) {
      if (at > 0 && at % COMMITS_PER_STEP === 0) await this.components.pacer.turn();
      if (signal.aborted) break;
      errors.push(this.commit(groups[at]!, call.subscription, commit, call.direct, signal));
    }
    if (errors.length < groups.length) throw new BrokerError("TIMEOUT", "the deadline passed before all offsets were sent on");
    return (await Promise.all(errors)).map((error, at) => ({ partition: call.offsets[at]!.partition, error }));
  }

  async getOffsets(
    call: { vhost: string; topic: string; subscription: string; partitions: readonly number[]; timeMs: number; direct: boolean },
    signal: AbortSignal,
  ): Promise<readonly types.PartitionOffsets[]> {
    const topic = this.admin.existing(call.vhost, call.topic);
    if (call.partitions.length > REQUEST_PARTITIONS_MAX) {
      throw new BrokerError("INVALID_ARGUMENT", `partitions must name at most ${REQUEST_PARTITIONS_MAX}, not ${call.partitions.length}`);
    }
    const partitions = call.partitions.length > 0 ? call.partitions : topic.partitions.map((_, partition) => partition);
    const groups = partitions.map((partition) => groupOf(topic, partition));
    const { subscription, timeMs, direct } = call;
    const answers = await this.fetcher.offsets({ ...POSITIONS, groups, subscription, timeMs }, direct, signal);
    return answers.map((answer, at) => ({ partition: partitions[at]!, ...answer }));
  }

  // Cluster.

  describeCluster(): types.ClusterInfo {
    return this.cluster.describe();
  }

  resolve(vhost: string, name: string): types.Topology {
    return this.cluster.resolve(vhost, name);
  }

  watch(changed: () => void): () => void {
    this.watchers.add(changed);
    return () => this.watchers.delete(changed);
  }

  transferLeader(call: Parameters<types.Broker["transferLeader"]>[0], signal: AbortSignal): Promise<number> {
    return this.cluster.transferLeader(call, signal);
  }

  moveReplicas(call: Parameters<types.Broker["moveReplicas"]>[0], signal: AbortSignal): Promise<types.PartitionInfo> {
    return this.cluster.moveReplicas(call, signal);
  }

  listMoves(signal: AbortSignal): Promise<readonly types.ReplicaMove[]> {
    return this.cluster.listMoves(signal);
  }

  drainNode(call: Parameters<types.Broker["drainNode"]>[0], signal: AbortSignal): Promise<number> {
    return this.cluster.drainNode(call, signal);
  }

  forgetNode(node: number, signal: AbortSignal): Promise<void> {
    return this.cluster.forgetNode(node, signal);
  }

  // Admin.

  createTopic(call: types.CreateTopicCall, signal: AbortSignal): Promise<{ topic: types.TopicInfo; created: boolean }> {
    return this.admin.create(call, signal);
  }

  listTopics(call: types.ListTopicsCall): types.TopicPage {
    return this.admin.list(call);
  }

  async describeTopic(
    vhost: string,
    name: string,
    signal: AbortSignal,
  ): Promise<{ topic: types.TopicInfo; partitions: readonly types.PartitionDescription[] }> {
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

  updateTopic(vhost: string, name: string, config: Partial<types.TopicConfig>, signal: AbortSignal): Promise<types.TopicInfo> {
    return this.admin.update(vhost, name, config, signal);
  }

  expandTopic(vhost: string, name: string, partitions: number, signal: AbortSignal): Promise<types.TopicInfo> {
    return this.admin.expand(vhost, name, partitions, signal);
  }

  deleteTopic(vhost: string, name: string, signal: AbortSignal): Promise<void> {
    return this.admin.delete(vhost, name, signal);
  }

  async listSubscriptions(call: types.ListSubscriptionsCall, signal: AbortSignal): Promise<types.SubscriptionPage> {
    const topic = this.admin.existing(call.vhost, call.topic);
    const groups = topic.partitions.map(({ group }) => group);
    const namesMax = subscriptionsPerPage(groups.length, call.namesMax);
    const offsets = await this.fetcher.offsets({ ...POSITIONS, groups, cursorsAfter: call.after, cursorsMax: namesMax }, false, signal);
    return subscriptionPage(offsets, namesMax);
  }

  async deleteSubscription(vhost: string, topicName: string, name: string, signal: AbortSignal): Promise<void> {
    checkName("subscription", name);
    const groups = this.admin.existing(vhost, topicName).partitions.map(({ group }) => group);
    const offsets = await this.fetcher.offsets({ ...POSITIONS, groups, subscription: name }, false, signal);
    const failed = offsets.find(({ error }) => error !== null);
    if (failed !== undefined) throw failed.error!;
    const known = groups.filter((_, partition) => offsets[partition]!.committedOffset >= 0);
    if (known.length === 0) throw new BrokerError("UNKNOWN_SUBSCRIPTION", `no offset was ever committed under ${JSON.stringify(name)}`);
    await Promise.all(known.map((group) => this.command(group, encodeDeleteCursor(name), false, signal)));
  }

  /** For the metrics. */
  counts(): { readonly leaderlessGroups: number; readonly leadersKnown: number; readonly peersUp: number } {
    const peers = this.catalog.nodes().filter(({ id }) => id !== this.nodeId && this.isAlive(id));
    return { leaderlessGroups: this.cluster.leaderless(), leadersKnown: this.leaders.size, peersUp: peers.length };
  }

  // Inside.

  private async commit(
    group: GroupId,
    subscription: string,
    commit: types.OffsetCommit,
    direct: boolean,
    signal: AbortSignal,
  ): Promise<BrokerError | null> {
    if (commit.metadata.length > COMMIT_METADATA_LENGTH_MAX)
      return new BrokerError(
        "INVALID_ARGUMENT",
        `metadata has ${commit.metadata.length} characters, ${COMMIT_METADATA_LENGTH_MAX} are allowed`,
      );
    try {
      const code = await this.command(
        group,
        encodeCommitOffset({ subscription, offset: commit.offset, metadata: commit.metadata, reset: commit.reset }),
        direct,
        signal,
      );
      switch (code) {
        case STREAM_OK:
          return null;
        case STREAM_OFFSET_OUT_OF_RANGE:
          return new BrokerError("OFFSET_OUT_OF_RANGE", `offset ${commit.offset} is past the end of the partition`);
        case STREAM_WOULD_GO_BACK:
          return new BrokerError(
            "OFFSET_WOULD_GO_BACK",
            `an offset later than ${commit.offset} is committed already; set reset to go back`,
          );
        case STREAM_TOO_MANY_CURSORS:
          return new BrokerError("TOO_MANY", "the partition holds as many subscriptions as it can; delete unused ones");
        default:
          return new BrokerError("INTERNAL", `unknown reply ${code} of the stream`);
      }
    } catch (error) {
      return asBrokerError(error);
    }
  }

  private command(group: GroupId, command: Uint8Array, direct: boolean, signal: AbortSignal): Promise<number> {
    return new Promise((resolve, reject) => {
      const abort = (): void =>
        reject(new BrokerError("TIMEOUT", "the deadline passed before the partition answered; it may still be carried out"));
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener("abort", abort, { once: true });
      this.router.propose(group, ENTRY_COMMAND, command, direct, (error, code) => {
        signal.removeEventListener("abort", abort);
        if (error === null) resolve(code);
        else reject(error);
      });
    });
  }

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

  private tellLed(): void {
    const { led } = this;
    this.led = [];
    const { transport } = this.components;
    this.tell(
      this.catalog.nodes().flatMap(({ id }) => (id !== this.nodeId && transport.isUp(id) ? [id] : [])),
      led,
    );
  }

  private tell(nodes: readonly NodeId[], led: readonly Led[]): void {
    for (let start = 0; start < led.length; start += NOTICE_GROUPS_MAX) {
      const notice = encodeLeading(led.slice(start, start + NOTICE_GROUPS_MAX));
      for (const node of nodes) this.forwarder.notify(node, NOTICE_LEADING, notice);
    }
  }

  private notifyWatchers(): void {
    for (const watcher of this.watchers) watcher();
  }

  /** A node without a replica of the catalog asks for one. */
  private serveJoin(from: NodeId, body: Uint8Array, reply: (error: BrokerError | null, parts: readonly Uint8Array[]) => void): void {
    const command = decodeCatalogCommand(body);
    if (command?.kind !== JOIN_NODE || command.node.id !== from) {
      reply(new BrokerError("INVALID_ARGUMENT", "not a request of this node to join"), []);
      return;
    }
    this.router.catalog(body, (error, code, value) => {
      if (error !== null) reply(error, []);
      else if (code !== CATALOG_OK) reply(new BrokerError("CONFLICT", `the catalog refused the node (${code})`), []);
      else reply(null, [new ByteWriter(4).u32(value).finish()]);
    });
  }

  private heardLeading(from: NodeId, body: Uint8Array): void {
    for (const { group, term } of decodeLeading(body))
      if (this.catalog.groupState(group) !== "deleted") this.leaders.set(group, from, term);
  }

  /** Nothing is kept of who led what is no longer there. */
  private forgetDeleted(): void {
    // The catalog's own group is not one of its rows.
    if (this.leaders.size > this.catalog.groups + 1) this.leaders.retain((group) => this.catalog.groupState(group) !== "deleted");
  }

  private ledBy(group: GroupId, node: NodeId, signal: AbortSignal): Promise<void> {
    return this.until(
      () => this.leaders.of(group) === node,
      (check) => this.leaders.watch(check),
      signal,
      "the leadership did not move in time; is the target up to date?",
    );
  }

  private caughtUp(condition: () => boolean, signal: AbortSignal): Promise<void> {
    const subscribe = (check: () => void): (() => void) => {
      this.catalogWaits.add(check);
      return () => this.catalogWaits.delete(check);
    };
    return this.until(condition, subscribe, signal, "the change is made, but this node has not seen it yet");
  }

  private until(
    condition: () => boolean,
    subscribe: (check: () => void) => () => void,
    signal: AbortSignal,
    message: string,
  ): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        unsubscribe();
        signal.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        finish();
        reject(new BrokerError("TIMEOUT", message));
      };
      const unsubscribe = subscribe(() => {
        if (!condition()) return;
        finish();
        resolve();
      });
      signal.addEventListener("abort", abort, { once: true });
      if (signal.aborted) abort();
    });
  }

  private initializeCluster(): void {
    if (this.catalog.clusterId !== "") return;
    this.router.catalog(encodeInitialize(this.settings.clusterId), () => {});
  }

  /** Tells the catalog where this node is; again until the catalog has taken it. */
  private register(): void {
    if (this.stopped) return;
    this.router.catalog(encodeRegisterNode(this.settings.registration), (error, code, value, detail) => {
      if (error === null && code === CATALOG_OK) {
        this.registered = true;
        this.notifyWatchers();
        return;
      }
      if (error === null && code === CATALOG_CONFLICT) {
        this.components.outrun(value);
        return;
      }
      if (error === null && code === CATALOG_STORE_MISMATCH) {
        const reason = detail === null ? "" : new TextDecoder().decode(detail);
        this.components.replaced(`the cluster knows node ${this.nodeId} with another data directory: ${reason}`);
        return;
      }
      this.components.clock.schedule(REGISTER_RETRY_MS, () => this.register());
    });
  }
}
