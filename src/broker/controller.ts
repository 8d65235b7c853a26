// Brings this node in line with the catalog: opens the replicas that belong here, removes those that a committed command
// deleted, and as the leader of a group looks after its retention and its place.

import type { Clock, Timer } from "../base/clock.ts";
import { CATALOG_GROUP, nodeOfReplica, type GroupId, type NodeId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { CatalogMachine, TopicRow } from "../machine/catalog/catalog.ts";
import { encodeTrim } from "../machine/stream/commands.ts";
import type { StreamMachine } from "../machine/stream/stream.ts";
import { ENTRY_COMMAND } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import { DURABILITY_FSYNC, type DurabilityMode } from "../replica/types.ts";
import type { TopicConfig } from "./types.ts";

/** Replicas opened at one time. */
const OPEN_CONCURRENCY = 32;
const UPKEEP_MS = 1_000;
/** Leaderships moved back to their preferred node in one round. */
const MOVES_PER_ROUND = 16;
/** Rounds for which a preferred node must have been up before leaderships go back to it. */
const SETTLED_ROUNDS = 5;
const DEFAULT_FLUSH_INTERVAL_MS = 500;

export type ControllerComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isUp: (node: NodeId) => boolean;
  readonly fatal: (error: Error) => void;
};

export class Controller {
  private readonly components: ControllerComponents;
  private running = false;
  private again = false;
  private stopped = false;
  private timer: Timer | null = null;
  private readonly upRounds = new Map<NodeId, number>();

  constructor(components: ControllerComponents) {
    this.components = components;
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
  }

  /** Looks at the whole catalog once more, soon; calls in between are one. */
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

  private async reconcileNow(): Promise<void> {
    if (this.stopped) return;
    const { host, catalog } = this.components;
    const missing: { topic: TopicRow; partition: number }[] = [];
    for (const topic of catalog.topics()) {
      const durability = durabilityOf(topic.config);
      topic.partitions.forEach(({ group, replicas }, partition) => {
        const replica = host.get(group);
        if (replica !== undefined) replica.durability = durability;
        else if (replicas.some((id) => nodeOfReplica(id) === this.components.nodeId)) missing.push({ topic, partition });
      });
    }
    // Nothing goes because the catalog looks as if it were gone: only a committed deletion that names the group counts.
    for (const replica of [...host.groups()]) {
      if (replica.group !== CATALOG_GROUP && catalog.groupState(replica.group) === "deleted") await host.remove(replica.group);
    }
    for (let start = 0; start < missing.length && !this.stopped; start += OPEN_CONCURRENCY) {
      await Promise.all(missing.slice(start, start + OPEN_CONCURRENCY).map(({ topic, partition }) => this.open(topic, partition)));
    }
  }

  private async open(topic: TopicRow, partition: number): Promise<void> {
    const { group, replicas } = topic.partitions[partition]!;
    const self = replicas.find((id) => nodeOfReplica(id) === this.components.nodeId)!;
    await this.components.host.open({
      group,
      kind: "stream",
      self,
      members: { voters: [...replicas].sort((a, b) => a - b), votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
      preferred: replicas[0] === self,
      durability: durabilityOf(topic.config),
    });
  }

  private upkeep(): void {
    const { catalog, isUp, nodeId } = this.components;
    for (const { id } of catalog.nodes()) this.upRounds.set(id, id === nodeId || isUp(id) ? (this.upRounds.get(id) ?? 0) + 1 : 0);
    let moves = 0;
    for (const topic of catalog.topics()) {
      for (const { group, replicas } of topic.partitions) {
        this.retain(group, topic.config);
        if (moves < MOVES_PER_ROUND && this.giveBack(group, nodeOfReplica(replicas[0]!))) moves += 1;
      }
    }
  }

  /** Retention is the leader's decision, carried out by every replica as a replicated trim. */
  private retain(group: GroupId, config: TopicConfig): void {
    if (config.retentionMs === 0 && config.retentionBytes === 0) return;
    const { host, clock } = this.components;
    const replica = host.get(group);
    if (replica === undefined || !replica.isLeader) return;
    const offset = (replica.machine as StreamMachine).retentionCandidate({
      nowMs: clock.wallMs(),
      retentionMs: config.retentionMs,
      retentionBytes: config.retentionBytes,
    });
    if (offset >= 0) host.propose(group, ENTRY_COMMAND, encodeTrim(offset), () => {});
  }

  /** Leaders go back to where the placement wants them once that node has settled and has everything. */
  private giveBack(group: GroupId, preferred: NodeId): boolean {
    const { host, nodeId } = this.components;
    if (preferred === nodeId || (this.upRounds.get(preferred) ?? 0) < SETTLED_ROUNDS) return false;
    const replica = host.get(group);
    if (replica === undefined || !replica.isLeader) return false;
    const progress = replica.raft.status().find(({ peer }) => nodeOfReplica(peer as never) === preferred);
    if (progress === undefined || progress.learner || progress.match + 1_000 < replica.raft.lastIndex) return false;
    this.components.logger.debug({ group, to: preferred }, "leadership goes back to its preferred node");
    return host.transferLeadership(group, preferred);
  }
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
