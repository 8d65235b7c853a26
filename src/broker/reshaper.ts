// The leaders' side of the catalog's placements: as leader of a group, changes its members step by step into those that
// the catalog names. A node that gets many replicas at once gets them a few at a time.

import type { Clock, Timer } from "../base/clock.ts";
import { BrokerError } from "../base/errors.ts";
import { CATALOG_GROUP, lifeOfReplica, nodeOfReplica, replicaId, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { Configuration } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Replica } from "../replica/replica.ts";
import { isInPlace, nextStep, type Members } from "./membership.ts";

/** Voters of the catalog; further nodes follow as learners. */
const CATALOG_VOTERS_MAX = 5;
/** Looks at groups under change this often. */
const ROUND_MS = 50;
/** Replicas that one leader's node brings up at one time on one other node. */
const LEARNERS_PER_NODE_MAX = 8;

export type ReshaperComponents = {
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly clock: Clock;
  readonly logger: Logger;
  /** As in view.ts. */
  readonly viewIsCurrent: () => Promise<void>;
};

/** For which members of a group this node's catalog was asked to be as new as they are. */
type Asked = { readonly configuration: Configuration; readonly term: number; isAnswered: boolean };

export class Reshaper {
  private readonly components: ReshaperComponents;
  private readonly groups = new Set<GroupId>();
  private readonly asked = new Map<GroupId, Asked>();
  private timer: Timer | null = null;
  private stopped = false;

  constructor(components: ReshaperComponents) {
    this.components = components;
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  /** The group's placement or leader changed: sees to it, from the next round on, until it is as the catalog wants it. */
  look(group: GroupId): void {
    const replica = this.components.host.get(group);
    if (this.stopped || replica === undefined || !replica.isLeader || this.isDone(replica)) return;
    this.groups.add(group);
    this.timer ??= this.components.clock.schedule(ROUND_MS, () => this.round());
  }

  private round(): void {
    this.timer = null;
    const learners = new Map<NodeId, number>();
    for (const group of this.groups) this.step(group, learners);
    if (this.groups.size > 0 && !this.stopped) this.timer = this.components.clock.schedule(ROUND_MS, () => this.round());
  }

  private step(group: GroupId, learners: Map<NodeId, number>): void {
    const { host, logger } = this.components;
    const replica = host.get(group);
    if (replica === undefined || !replica.isLeader || this.isDone(replica)) {
      this.groups.delete(group);
      this.asked.delete(group);
      return;
    }
    if (!this.mayAct(replica)) return;
    const { raft, descriptor } = replica;
    const target = this.targetOf(replica)!;
    const { configuration } = replica;
    // Those that learn already count first; whoever is over the bound waits for a later round.
    const wanted = [...target.voters, ...target.learners];
    for (const peer of configuration.learners) if (wanted.includes(peer)) count(learners, peer);
    const joining = wanted.filter((peer) => !isMember(configuration, peer));
    if (joining.some((peer) => (learners.get(nodeOfReplica(peer as ReplicaId)) ?? 0) >= LEARNERS_PER_NODE_MAX)) return;
    for (const peer of joining) count(learners, peer);
    const step = nextStep({ self: descriptor.self, configuration, lastIndex: raft.lastIndex, progress: raft.status() }, target);
    if (step === null) return;
    if (step.kind === "transfer") {
      host.transferLeadership(group, nodeOfReplica(step.to as ReplicaId));
      return;
    }
    if (host.proposeChange(group, step.change)) logger.info({ group, changes: step.change.changes, target }, "membership change proposed");
  }

  /**
   * The members that there are were made by a catalog that may be newer than this node's: it has just started, or lags. Undone by an older
   * one a replica would be removed that the newer one has opened again, and begin anew under its old id. So this node's catalog is asked
   * to be as new as the catalog is, once for each membership that it leads with.
   */
  private mayAct(replica: Replica): boolean {
    if (!replica.leadsCurrent) return false;
    const { group, configuration } = replica;
    const { term } = replica.raft;
    if (group === CATALOG_GROUP) return true;
    const known = this.asked.get(group);
    if (known?.configuration === configuration && known.term === term) return known.isAnswered;
    const asked: Asked = { configuration, term, isAnswered: false };
    this.asked.set(group, asked);
    this.components.viewIsCurrent().then(
      () => (asked.isAnswered = true),
      (error: unknown) => {
        if (!(error instanceof BrokerError)) throw error;
        if (this.asked.get(group) === asked) this.asked.delete(group);
      },
    );
    return false;
  }

  /** A leader may have taken over a change that it has yet to apply: one that a leader before it made with an older catalog. */
  private isDone(replica: Replica): boolean {
    const target = this.targetOf(replica);
    return target === null || (isInPlace(replica.configuration, target) && !replica.raft.isChanging);
  }

  /** Who the catalog wants in the group; null when it says nothing. */
  private targetOf({ group, configuration }: Replica): Members | null {
    const { catalog } = this.components;
    if (group === CATALOG_GROUP) return catalogMembers(catalog, configuration);
    const row = catalog.group(group);
    return row === undefined ? null : { voters: row.topic.partitions[row.partition]!.replicas, learners: [] };
  }
}

/** The catalog's own members: one replica of each node. Founders that have yet to register stay as they are. */
function catalogMembers(catalog: CatalogMachine, { voters, learners }: Configuration): Members {
  const replicas = new Map<NodeId, ReplicaId>();
  for (const peer of [...voters, ...learners] as ReplicaId[]) {
    const node = nodeOfReplica(peer);
    if (lifeOfReplica(peer) === 0 && !catalog.wasForgotten(node)) replicas.set(node, peer);
  }
  for (const { id, catalogLife } of catalog.nodes()) replicas.set(id, replicaId(id, catalogLife));
  return splitMembers([...replicas].sort(([a], [b]) => a - b).map(([, replica]) => replica));
}

/** The first few vote, so many that a tie is not possible (of two nodes both do, so that two have everything). */
export function splitMembers(replicas: readonly ReplicaId[]): Members {
  const most = Math.min(replicas.length, CATALOG_VOTERS_MAX);
  const count = most === 4 ? 3 : most;
  return { voters: replicas.slice(0, count), learners: replicas.slice(count) };
}

function isMember({ voters, votersOutgoing, learners }: Configuration, peer: number): boolean {
  return voters.includes(peer) || votersOutgoing.includes(peer) || learners.includes(peer);
}

function count(counts: Map<NodeId, number>, peer: number): void {
  const node = nodeOfReplica(peer as ReplicaId);
  counts.set(node, (counts.get(node) ?? 0) + 1);
}
