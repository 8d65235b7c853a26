// Brings this node in line with the catalog: opens the replicas that belong here, removes those that a committed command
// deleted, and as the leader of a group looks after its place.

import type { Clock, Timer } from "../base/clock.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import { CATALOG_GROUP, lifeOfReplica, nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import { OPENS_MAX, TRANSFERS_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { CatalogMachine, PartitionRow, TopicRow } from "../machine/catalog/catalog.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { DURABILITY_FSYNC, type DurabilityMode } from "../replica/types.ts";
import type { Serve } from "./forwarder.ts";
import { Renewals } from "./renewals.ts";
import { Reshaper } from "./reshaper.ts";
import { isBounded, type Led, type Retention } from "./retention.ts";
import type { Router } from "./router.ts";
import type { TopicConfig } from "./types.ts";
import type { Unfit } from "./unfit.ts";
import { endAfter } from "./wait-until.ts";

export const OP_MEMBER = 5;
/** Replicas about which one round asks whether they may go. */
const LEAVES_PER_ROUND = 64;

const UPKEEP_MS = 1_000;
/** Leaderships moved back to their preferred node in one round: this part of all led here, and at least so many. */
const MOVED_PART = 1 / 16;
const MOVES_MIN = 16;
/** Rounds for which a preferred node must have been up before leaderships go back to it. */
const SETTLED_ROUNDS = 5;
const DEFAULT_FLUSH_INTERVAL_MS = 500;

/** What survives a start of how new a catalog this node has removed something on account of. */
export type ActedView = {
  readonly actedView: number;
  /** Durable when it resolves. */
  actOn(view: number): Promise<void>;
};

export type ControllerComponents = {
  readonly nodeId: NodeId;
  /** The disk that this node runs on. */
  readonly storeId: string;
  readonly acted: ActedView;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly unfit: Unfit;
  readonly retention: Pick<Retention, "look">;
  /** Tells all nodes which ones this node brings up to date, and what here is damaged. */
  readonly announce: () => void;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isUp: (node: NodeId) => boolean;
  /** A topic's row changed; and, once a second, whatever is due in the groups led here beside that. */
  readonly topicChanged: (topic: TopicRow) => void;
  readonly worksUpkeep: () => void;
  /** Resolves once the catalog here is as new as the catalog was at the call. */
  readonly viewIsCurrent: () => Promise<void>;
  readonly fatal: (error: Error) => void;
};

/** A replica that is to be opened here. */
type Missing = { readonly topic: TopicRow; readonly partition: number; readonly self: ReplicaId };

export class Controller {
  private readonly components: ControllerComponents;
  private readonly reshaper: Reshaper;
  private readonly renewals: Renewals;
  private running = false;
  private again = false;
  private stopped = false;
  private timer: Timer | null = null;
  private readonly upRounds = new Map<NodeId, number>();
  /** Replicas that are here and that the catalog no longer places here: they go once their group no longer counts on them. */
  private leaving: GroupId[] = [];
  /** The rows that this node is in line with. A change makes a new row, so whatever is not in here has to be looked at. */
  private settled = new Set<TopicRow>();
  /** Everything is looked at: at the start, and when something happened to a replica here. */
  private lookAtAll = true;
  /** Of these the leaders said that they no longer count on them. */
  private left: GroupId[] = [];
  private asking = false;

  constructor(components: ControllerComponents) {
    this.components = components;
    this.reshaper = new Reshaper(components);
    this.renewals = new Renewals(components);
  }

  start(): void {
    const round = (): void => {
      this.upkeep();
      if (!this.stopped) this.timer = this.components.clock.schedule(UPKEEP_MS, round);
    };
    this.timer = this.components.clock.schedule(UPKEEP_MS, round);
    this.reconcile();
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
    this.reshaper.stop();
    this.renewals.stop();
  }

  /** This node leads the group from now on. */
  leads(group: GroupId): void {
    this.reshaper.look(group);
  }

  /** A replica here is damaged or missing: what the catalog says of it is to be carried out anew. */
  reconcileAll(): void {
    this.lookAtAll = true;
    this.reconcile();
  }

  /** Looks at what changed in the catalog, soon; calls in between are one. */
  reconcile(): void {
    if (this.running) {
      this.again = true;
      return;
    }
    this.running = true;
    this.components.clock.defer(() => {
      this.reconcileNow().then(
        () => {
          this.running = false;
          if (this.again && !this.stopped) {
            this.again = false;
            this.reconcile();
          }
        },
        (error: unknown) => this.components.fatal(error as Error),
      );
    });
  }

  /** Serves OP_MEMBER: whether a replica still counts in its group, which this node must lead. */
  readonly serveMember: Serve = (_from, body, reply) => {
    const reader = new ByteReader(body);
    const [group, peer] = [reader.u32() as GroupId, reader.u32() as ReplicaId];
    const replica = this.components.host.get(group);
    if (replica === undefined || !replica.isLeader) {
      reply(new BrokerError("NOT_LEADER", `this node does not lead group ${group}`), []);
      return;
    }
    const { voters, votersOutgoing, learners, learnersNext } = replica.configuration;
    const counts = [voters, votersOutgoing, learners, learnersNext].some((list) => list.includes(peer));
    reply(null, [new Uint8Array([counts || this.rowOf(group)?.replicas.includes(peer) === true ? 1 : 0])]);
  };

  /**
   * The catalog here knows the disk that this node runs on, and is no older than what was removed here on account of it. An older
   * one, as after a restart or while it is fetched anew, may name replicas that were here and are gone: they would begin again
   * with nothing and vote a second time. A change will come that makes it current.
   */
  private get isCurrent(): boolean {
    const { catalog, nodeId, storeId, acted } = this.components;
    return catalog.node(nodeId)?.storeId === storeId && catalog.viewVersion >= acted.actedView;
  }

  private async reconcileNow(): Promise<void> {
    if (this.stopped) return;
    const { host, catalog, acted } = this.components;
    this.reshaper.look(CATALOG_GROUP);
    if (!this.isCurrent) return;
    const { settled, lookAtAll } = this;
    this.lookAtAll = false;
    const rows = new Set(catalog.topics());
    const changed = [...rows].filter((topic) => lookAtAll || !settled.has(topic));
    for (const topic of changed) this.components.topicChanged(topic);
    const isGone = [...settled].some((topic) => !rows.has(topic));
    this.settled = rows;
    const missing = changed.flatMap((topic) => this.missingOf(topic));
    // New topics alone take nothing from anybody; a move that this node hears of only now, as after a restart, may.
    const dead = lookAtAll || isGone || changed.some((topic) => this.takes(topic)) ? this.sortHeld() : [];
    missing.push(...this.missingOfLeaving());
    if (dead.length > 0) {
      await acted.actOn(catalog.viewVersion);
      await host.remove(dead);
    }
    for (let start = 0; start < missing.length && !this.stopped; start += OPENS_MAX)
      await Promise.all(missing.slice(start, start + OPENS_MAX).map((one) => this.open(one.topic, one.partition, one.self)));
    this.renewals.ask();
  }

  /** The replicas of the topic that are to be opened here; those that are open are told what changed. */
  private missingOf(topic: TopicRow): Missing[] {
    const { host, nodeId } = this.components;
    const missing: Missing[] = [];
    const durability = durabilityOf(topic.config);
    topic.partitions.forEach(({ group, replicas }, partition) => {
      const self = replicas.find((id) => nodeOfReplica(id) === nodeId);
      const replica = host.get(group);
      if (replica !== undefined) {
        replica.durability = durability;
        this.reshaper.look(group);
        if (self === undefined || lifeOfReplica(self) <= lifeOfReplica(replica.descriptor.self)) return;
        // The catalog gave this replica a successor on this very node.
        host.retire(replica);
      }
      if (self !== undefined && host.quarantine.of(group)?.replica !== self) missing.push({ topic, partition, self });
    });
    return missing;
  }

  /**
   * Tells what is held here and is of no use to anybody any more, and notes what is to go. Nothing goes because the catalog
   * looks as if it were gone: only a committed deletion that names the group counts, or the word of the group's leader.
   */
  private sortHeld(): GroupId[] {
    const { host, catalog } = this.components;
    const left = new Set(this.left);
    this.left = [];
    this.leaving = [];
    const dead: GroupId[] = [];
    for (const group of host.heldGroups()) {
      if (catalog.groupState(group) === "deleted") dead.push(group);
      else if (this.isPlacedElsewhere(group)) (left.has(group) ? dead : this.leaving).push(group);
    }
    return dead;
  }

  /**
   * Those on their way out that are not open, as after a restart. Until the group has its new members it counts on the old ones:
   * were they to stay closed, a move that nodes restarted under would leave it without a majority for good.
   */
  private missingOfLeaving(): Missing[] {
    const { host, catalog } = this.components;
    const missing: Missing[] = [];
    for (const group of this.leaving) {
      const self = host.heldReplica(group) ?? 0;
      const known = catalog.group(group);
      if (self === 0 || known === undefined || host.has(group) || host.quarantine.of(group) !== undefined) continue;
      missing.push({ topic: known.topic, partition: known.partition, self });
    }
    return missing;
  }

  /** Something of the topic is held here that the catalog places elsewhere. */
  private takes({ partitions }: TopicRow): boolean {
    const { host } = this.components;
    return partitions.some(({ group }) => host.heldReplica(group) !== undefined && this.isPlacedElsewhere(group));
  }

  /** The group is there, and the catalog wants no replica of it here. */
  isPlacedElsewhere(group: GroupId): boolean {
    return this.rowOf(group)?.replicas.some((id) => nodeOfReplica(id) === this.components.nodeId) === false;
  }

  private async open(topic: TopicRow, partition: number, self: ReplicaId): Promise<void> {
    const { host } = this.components;
    const { group, replicas, founders } = topic.partitions[partition]!;
    // Opening thousands takes a while: the group may have been deleted since.
    if (host.has(group) || this.components.catalog.groupState(group) === "deleted") return;
    const voters = [...founders].sort((a, b) => a - b);
    await host.open({
      group,
      kind: topic.queue === null ? "stream" : "queue",
      self,
      members: founders.includes(self) ? { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false } : null,
      preferred: replicas[0] === self,
      isFresh: this.renewals.isFresh(self),
      durability: durabilityOf(topic.config),
    });
  }

  /** Asks the leaders of groups whose replica is to go whether they still count on it, and removes those that do not. */
  private async leave(): Promise<void> {
    const { host, router, nodeId, logger, clock } = this.components;
    for (const group of this.leaving.slice(0, LEAVES_PER_ROUND)) {
      const leader = router.leaderOf(group);
      const replica = host.heldReplica(group);
      if (leader === 0 || leader === nodeId || replica === undefined || this.stopped) continue;
      const question = new ByteWriter(8).u32(group).u32(replica).finish();
      const answer = await router.ask(leader, OP_MEMBER, [question], endAfter(clock, UPKEEP_MS)).catch(() => null);
      if (answer?.[0] !== 0 || !this.isPlacedElsewhere(group)) continue;
      logger.info({ group, replica }, "replica removed: its group no longer has it as a member");
      this.left.push(group);
    }
  }

  private rowOf(group: GroupId): PartitionRow | undefined {
    const known = this.components.catalog.group(group);
    return known?.topic.partitions[known.partition];
  }

  /** Retention, and leaders where they belong; once a second, and when the fitness of this node changes. */
  upkeep(): void {
    if (this.stopped) return;
    const { catalog, isUp, nodeId, announce } = this.components;
    announce();
    for (const { id } of catalog.nodes()) this.upRounds.set(id, id === nodeId || isUp(id) ? (this.upRounds.get(id) ?? 0) + 1 : 0);
    this.lookAfterLed();
    this.components.worksUpkeep();
    this.components.host.raiseVersion(CATALOG_GROUP);
    if (this.components.host.quarantine.size > 0) this.renewals.ask();
    if (this.leaving.length > 0 && !this.asking) {
      this.asking = true;
      this.leave().then(
        () => {
          this.asking = false;
          this.reconcileAll();
        },
        (error: unknown) => this.components.fatal(error as Error),
      );
    }
  }

  private lookAfterLed(): void {
    const { host, catalog, unfit, retention } = this.components;
    // One that stops will be back: its groups stay where they went, as those of a node that is gone.
    const mayLead = new Set(catalog.nodes().flatMap(({ id }) => (this.mayLead(id) || unfit.of(id) === "stopping" ? [id] : [])));
    const led: GroupId[] = [];
    for (const { group, isLeader } of host.groups()) if (isLeader && group !== CATALOG_GROUP) led.push(group);
    const bounded: Led[] = [];
    for (const group of led) {
      const known = catalog.group(group);
      if (known !== undefined && isBounded(known.topic)) bounded.push({ group, ...known });
    }
    retention.look(bounded);
    let moves = Math.min(TRANSFERS_MAX, Math.max(MOVES_MIN, Math.floor(led.length * MOVED_PART)));
    for (const group of led) {
      const known = catalog.group(group);
      if (known === undefined) continue;
      host.raiseVersion(group);
      if (unfit.own !== "fit") this.leaveTo(group);
      else if (moves > 0 && this.giveBack(group, preferredOf(known.topic.partitions[known.partition]!.replicas, mayLead))) moves -= 1;
    }
  }

  /** Not being drained, and with a disk that is fit. */
  private mayLead(node: NodeId): boolean {
    const { catalog, unfit } = this.components;
    return catalog.node(node)?.drained === false && unfit.of(node) === "fit";
  }

  /** This node keeps the group waiting, or has no room for it: the follower that has most leads from now on. */
  private leaveTo(group: GroupId): void {
    const { host, isUp, nodeId, unfit } = this.components;
    const replica = host.get(group);
    if (replica === undefined || !replica.isLeader) return;
    const heirs = replica.raft.status().filter(({ peer, learner }) => {
      const node = nodeOfReplica(peer as ReplicaId);
      return !learner && node !== nodeId && isUp(node) && this.mayLead(node) && !unfit.isBehind(node);
    });
    const most = Math.max(...heirs.map(({ match }) => match));
    const heir = heirs.find(({ match }) => match === most);
    if (heir !== undefined) host.transferLeadership(group, nodeOfReplica(heir.peer as ReplicaId));
  }

  /** Leaders go back to where the placement wants them once that node has settled and has everything, of all groups. */
  private giveBack(group: GroupId, preferred: NodeId): boolean {
    const { host, nodeId } = this.components;
    // The host sends none to one that stops.
    if (preferred === nodeId || (this.upRounds.get(preferred) ?? 0) < SETTLED_ROUNDS) return false;
    const replica = host.get(group);
    if (replica === undefined || !replica.isLeader) return false;
    if (!host.transferLeadership(group, preferred)) return false;
    this.components.logger.debug({ group, to: preferred }, "leadership goes back to its preferred node");
    return true;
  }
}

/** Where the leader is wanted: on the first node of the placement that may lead. */
function preferredOf(replicas: readonly ReplicaId[], mayLead: ReadonlySet<NodeId>): NodeId {
  for (const replica of replicas) if (mayLead.has(nodeOfReplica(replica))) return nodeOfReplica(replica);
  return nodeOfReplica(replicas[0]!);
}

export function durabilityOf(config: TopicConfig): DurabilityMode {
  switch (config.durability) {
    case 1:
      return DURABILITY_FSYNC;
    case 2:
      return { sync: false, flushIntervalMs: config.flushIntervalMs || DEFAULT_FLUSH_INTERVAL_MS, flushEntries: config.flushMessages };
    case 3:
      return { sync: false, flushIntervalMs: 0, flushEntries: 0 };
  }
}
