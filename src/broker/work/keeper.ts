// What a node does for the work subscriptions of the groups that it leads: tells consumers what they were given, lets time pass, makes the
// group's subscriptions what the catalog says, and gives back what consumers hold whose node is gone.

import type { Clock, Timer } from "../../base/clock.ts";
import { BrokerError } from "../../base/errors.ts";
import { nodeOfGateway, type GroupId, type NodeId } from "../../base/ids.ts";
import type { CatalogMachine, TopicRow } from "../../machine/catalog/catalog.ts";
import { encodeDeclare } from "../../machine/catalog/commands.ts";
import { workConfigOf, type DeclaredSettings, type WorkSettings } from "../../machine/catalog/settings.ts";
import { encodeTrim, encodeWork } from "../../machine/stream/commands.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import type { WorkState } from "../../machine/work/state.ts";
import type { WorkConfig } from "../../machine/work/config.ts";
import type { WorkOperation } from "../../machine/work/operations.ts";
import { QUEUE } from "../../machine/work/works.ts";
import { ENTRY_COMMAND } from "../../raft/types.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import type { Replica } from "../../replica/replica.ts";
import type { WorkNews } from "../../replica/types.ts";
import type { Router } from "../router.ts";
import { FROM_EARLIEST } from "../types.ts";
import type { LeasedRun, RevokedRun, WorkNotice } from "./codec.ts";
import type { DeadLetters } from "./dead-letters.ts";
import type { Feeder } from "./feeder.ts";
import type { Gateways } from "./gateways.ts";
import type { Relocator } from "./relocator.ts";

/** An empty queue at rest gives its log back after so many looks, one a second. */
const IDLE_LOOKS = 10;
/** A timer never waits longer: whoever steps in front of the clock is noticed. */
const TIMER_MS_MAX = 60_000;

export type KeeperComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly clock: Clock;
  readonly gateways: Gateways;
  /** What is in force for a queue of these declared settings. */
  readonly settingsOf: (topic: TopicRow, declared: DeclaredSettings) => WorkSettings;
  /** Resolves with the offset at which a new subscription of the group begins. */
  readonly startOf: (group: GroupId, from: 0 | 1 | 2 | 3, value: number) => Promise<number>;
  readonly deadLetters: DeadLetters;
  readonly relocator: Relocator;
  readonly feeder: Feeder;
  readonly lookAtTransactions: (group: GroupId, topic: TopicRow) => void;
  /** To consumers on this node, and to another node. */
  readonly given: (notice: WorkNotice) => void;
  readonly tell: (node: NodeId, notice: WorkNotice) => void;
};

type Watched = {
  timer: Timer | null;
  atMs: number;
  isTicking: boolean;
  isAligning: boolean;
  idleLooks: number;
  idleEnd: number;
  /** Of a queue: the last use that was seen, by the log's time, and since when there has been none, by this node's; -1 = not looked at yet. */
  usedMs: number;
  unusedSinceMs: number;
  isExpiring: boolean;
};

export class Keeper {
  private readonly components: KeeperComponents;
  /** Groups led here that have work subscriptions. */
  private readonly watched = new Map<GroupId, Watched>();
  /** With which policies the groups are aligned. */
  private declarations: CatalogMachine["declarations"] | null = null;
  private policyChanges = 0;
  private stopped = false;

  constructor(components: KeeperComponents) {
    this.components = components;
  }

  stop(): void {
    this.stopped = true;
    for (const { timer } of this.watched.values()) timer?.cancel();
    this.watched.clear();
  }

  /** Entries of a group led here were applied. */
  worked(group: GroupId, news: WorkNews): void {
    if (news.deliveries.length > 0 || news.revokes.length > 0) this.tell(group, news);
    this.dueAt(group, news.dueMs);
    this.components.feeder.look(group);
    const known = this.components.catalog.group(group);
    if (known === undefined) return;
    this.components.deadLetters.look(group, known.topic);
    this.components.lookAtTransactions(group, known.topic);
  }

  /** This node leads the group: what is due is its business now. */
  leads(group: GroupId): void {
    this.align(group);
    const machine = this.machineOf(group);
    if (machine === null || machine.works.size === 0) return;
    this.dueAt(group, machine.works.nextMs);
    this.components.feeder.look(group);
  }

  /** Something about the topic may have changed. */
  topicChanged(topic: TopicRow): void {
    if (topic.queue === null && topic.works.length === 0 && !topic.partitions.some(({ group }) => this.watched.has(group))) return;
    for (const { group } of topic.partitions) if (this.machineOf(group) !== null) this.align(group);
  }

  /** The catalog changed. */
  catalogChanged(): void {
    const { declarations } = this.components.catalog;
    if (declarations === this.declarations && declarations.policyChanges === this.policyChanges) return;
    this.declarations = declarations;
    this.policyChanges = declarations.policyChanges;
    for (const group of this.watched.keys()) this.align(group);
  }

  /** Once a second. */
  upkeep(): void {
    const { host, catalog, gateways, relocator, feeder, deadLetters, lookAtTransactions } = this.components;
    const nowMs = this.components.clock.monotonicMs();
    gateways.begin(nowMs);
    for (const [group, watched] of this.watched) {
      const replica = host.get(group);
      const known = catalog.group(group);
      if (replica === undefined || !replica.isLeader || known === undefined) {
        watched.timer?.cancel();
        this.watched.delete(group);
        continue;
      }
      this.align(group);
      this.dismiss(group, replica, nowMs);
      deadLetters.look(group, known.topic);
      feeder.look(group);
      lookAtTransactions(group, known.topic);
      relocator.look(group, replica);
      if (known.topic.queue !== null) this.lookAtQueue(known.topic, group, replica, watched, nowMs);
    }
  }

  private machineOf(group: GroupId): StreamMachine | null {
    const replica = this.components.host.get(group);
    return replica !== undefined && replica.isLeader && replica.descriptor.kind !== "catalog" ? (replica.machine as StreamMachine) : null;
  }

  private nowOf(replica: Replica): number {
    const { clock } = this.components;
    return replica.logMs(clock.wallMs(), clock.monotonicMs());
  }

  private watch(group: GroupId): Watched {
    let watched = this.watched.get(group);
    if (watched === undefined) {
      watched = {
        timer: null,
        atMs: -1,
        isTicking: false,
        isAligning: false,
        idleLooks: 0,
        idleEnd: -1,
        usedMs: -1,
        unusedSinceMs: -1,
        isExpiring: false,
      };
      this.watched.set(group, watched);
    }
    return watched;
  }

  /** By node, one notice each. */
  private tell(group: GroupId, { deliveries, revokes }: WorkNews): void {
    const { nodeId, given, tell } = this.components;
    const byNode = new Map<NodeId, { deliveries: LeasedRun[]; revokes: RevokedRun[] }>();
    const of = (gateway: number): { deliveries: LeasedRun[]; revokes: RevokedRun[] } => {
      const node = nodeOfGateway(gateway);
      let notice = byNode.get(node);
      if (notice === undefined) byNode.set(node, (notice = { deliveries: [], revokes: [] }));
      return notice;
    };
    for (const run of deliveries) of(run.gateway).deliveries.push(run);
    for (const run of revokes) of(run.gateway).revokes.push(run);
    for (const [node, notice] of byNode)
      // What a transaction held is told to nobody.
      if (node === 0) continue;
      else if (node === nodeId) given({ group, ...notice });
      else tell(node, { group, ...notice });
  }

  private dueAt(group: GroupId, atMs: number): void {
    const watched = this.watch(group);
    if (atMs === watched.atMs && watched.timer !== null) return;
    watched.timer?.cancel();
    watched.timer = null;
    watched.atMs = atMs;
    if (atMs < 0 || watched.isTicking || this.stopped) return;
    const { clock, host } = this.components;
    const replica = host.get(group);
    if (replica === undefined) return;
    const waitMs = Math.min(TIMER_MS_MAX, Math.max(0, atMs - this.nowOf(replica)));
    watched.timer = clock.schedule(waitMs, () => {
      watched.timer = null;
      if (this.nowOf(replica) < watched.atMs) this.dueAt(group, watched.atMs);
      else this.tick(group, watched);
    });
  }

  /** Whatever the entry says, time is in it. */
  private tick(group: GroupId, watched: Watched): void {
    if (watched.isTicking || this.machineOf(group) === null) return;
    watched.isTicking = true;
    watched.atMs = -1;
    this.propose(group, [{ op: "tick" }], () => {
      watched.isTicking = false;
      const machine = this.machineOf(group);
      if (machine !== null && this.watched.get(group) === watched) this.dueAt(group, machine.works.nextMs);
    });
  }

  private propose(group: GroupId, operations: readonly WorkOperation[], done: () => void): void {
    this.components.host.propose(group, ENTRY_COMMAND, encodeWork(operations), done);
  }

  /** The group's subscriptions become those that the catalog has. */
  private align(group: GroupId): void {
    const { catalog } = this.components;
    const known = catalog.group(group);
    const machine = this.machineOf(group);
    if (known === undefined || machine === null || this.stopped) return;
    const wanted = this.wantedOf(known.topic, known.partition);
    if (wanted.size === 0 && machine.works.size === 0) return;
    const watched = this.watch(group);
    if (watched.isAligning) return;
    const altered: WorkOperation[] = [];
    const missing: { name: string; config: WorkConfig; from: 0 | 1 | 2 | 3; value: number }[] = [];
    for (const [name, { config, from, value }] of wanted) {
      const work = machine.works.get(name);
      if (work === undefined) missing.push({ name, config, from, value });
      else if (!work.hasConfig(config)) altered.push({ op: "alter", name, config });
    }
    for (const name of machine.works.list()) if (!wanted.has(name)) altered.push({ op: "delete", name });
    if (altered.length === 0 && missing.length === 0) return;
    watched.isAligning = true;
    const done = (): void => {
      watched.isAligning = false;
    };
    if (missing.length === 0) {
      this.propose(group, altered, done);
      return;
    }
    this.created(group, missing).then(
      (created) => this.propose(group, [...altered, ...created], done),
      (error: unknown) => {
        done();
        if (!(error instanceof BrokerError)) throw error;
      },
    );
  }

  private wantedOf(topic: TopicRow, partition: number): Map<string, { config: WorkConfig; from: 0 | 1 | 2 | 3; value: number }> {
    const { settingsOf } = this.components;
    if (topic.queue !== null)
      return new Map([[QUEUE, { config: workConfigOf(settingsOf(topic, topic.queue)), from: FROM_EARLIEST, value: 0 }]]);
    return new Map(
      topic.works.map(({ name, settings, from, value, partitions }) => {
        // What came with the topic's growth holds nothing from before the subscription: all of it is new to it.
        const isOld = partition < partitions;
        const config = workConfigOf(settingsOf(topic, settings));
        return [name, { config, from: isOld ? from : FROM_EARLIEST, value: isOld ? value : 0 }];
      }),
    );
  }

  private created(
    group: GroupId,
    missing: readonly { name: string; config: WorkConfig; from: 0 | 1 | 2 | 3; value: number }[],
  ): Promise<WorkOperation[]> {
    return Promise.all(
      missing.map(async ({ name, config, from, value }) => ({
        op: "create" as const,
        name,
        config,
        start: await this.components.startOf(group, from, value),
      })),
    );
  }

  /** Consumers whose node is gone, or has been started again since, hold and take nothing any more. */
  private dismiss(group: GroupId, replica: Replica, nowMs: number): void {
    const gone: WorkOperation[] = [];
    const { works } = replica.machine as StreamMachine;
    for (const name of works.list())
      for (const { id, terms } of works.get(name)!.state.consumers.all())
        if (terms.staysMs === 0 && this.components.gateways.isGone(terms.gateway, nowMs)) gone.push({ op: "detach", name, consumer: id });
    if (gone.length > 0) this.propose(group, gone, () => {});
  }

  private lookAtQueue(topic: TopicRow, group: GroupId, replica: Replica, watched: Watched, nowMs: number): void {
    const machine = replica.machine as StreamMachine;
    const { state } = machine.works.get(QUEUE)!;
    if (watched.unusedSinceMs < 0 || isUsed(state) || state.lastUsedMs !== watched.usedMs) {
      watched.usedMs = state.lastUsedMs;
      watched.unusedSinceMs = nowMs;
    }
    const { expiresMs } = this.components.settingsOf(topic, topic.queue!);
    if (expiresMs > 0 && nowMs - watched.unusedSinceMs >= expiresMs) this.expire(topic, group, watched);
    const isIdle = machine.startOffset === machine.endOffset && machine.endOffset > 0 && watched.idleEnd === machine.endOffset;
    watched.idleLooks = isIdle ? watched.idleLooks + 1 : 0;
    watched.idleEnd = machine.endOffset;
    if (watched.idleLooks === IDLE_LOOKS) this.components.host.propose(group, ENTRY_COMMAND, encodeTrim(0), () => {});
  }

  /**
   * Nobody has used the queue for as long as its leader has watched, which is its time to live. Clocks of nodes have no say in it: one that
   * is hours ahead would take every queue for unused, and what is deleted is gone. A leader that was stopped for long may be none any more,
   * and asks first.
   */
  private expire(topic: TopicRow, group: GroupId, watched: Watched): void {
    if (watched.isExpiring) return;
    watched.isExpiring = true;
    this.components.host.readBarrier(group, (isLeader) => {
      watched.isExpiring = false;
      const { state } = this.machineOf(group)?.works.get(QUEUE) ?? {};
      if (!isLeader || state === undefined || isUsed(state) || state.lastUsedMs !== watched.usedMs) return;
      this.components.router.catalog(encodeDeclare({ do: "deleteQueue", vhost: topic.vhost, name: topic.name, group }), () => {});
    });
  }
}

/** Somebody takes from it, or a transaction holds some of it. */
function isUsed({ consumers, holds }: WorkState): boolean {
  return consumers.size > 0 || holds.size > 0;
}
