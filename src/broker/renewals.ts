// Successors for what is damaged here: asks the catalog for them, and knows which of them cannot have been here before.

import type { Clock } from "../base/clock.ts";
import { BrokerError } from "../base/errors.ts";
import { lifeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import { RENEWALS_PER_COMMAND_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import { CATALOG_OK } from "../machine/catalog/codes.ts";
import { encodeRenewReplicas } from "../machine/catalog/commands.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Router } from "./router.ts";

/** Between two successors of one group: whatever damages them, it does not use up their numbers and the catalog's log. */
const SAME_GROUP_PAUSE_MS = 2_000;

export type RenewalsComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Resolves once the catalog here is as new as the catalog was at the call; rejects when nobody can tell. */
  readonly viewIsCurrent: () => Promise<void>;
};

export class Renewals {
  private readonly components: RenewalsComponents;
  /** Groups that got a successor here, and when, for as long as they may not get another one. */
  private readonly renewedMs = new Map<GroupId, number>();
  /** Lives from here on were given out after this node had read its log: nothing in it is of them. */
  private freshFrom = Number.POSITIVE_INFINITY;
  private isAsking = false;
  private isLooking = false;
  private stopped = false;

  constructor(components: RenewalsComponents) {
    this.components = components;
  }

  stop(): void {
    this.stopped = true;
  }

  /** The replica has never been here: whatever lies here that nobody can say whose it is, it is not this one's. */
  isFresh(replica: ReplicaId): boolean {
    return lifeOfReplica(replica) >= this.freshFrom;
  }

  /** Asks the catalog for successors of the replicas in quarantine; to be called again until they are there. */
  ask(): void {
    const { host, nodeId, router, logger, clock } = this.components;
    if (this.isAsking || this.stopped) return;
    this.lookWhoIsFresh();
    const nowMs = clock.monotonicMs();
    for (const [group, atMs] of this.renewedMs) if (nowMs - atMs >= SAME_GROUP_PAUSE_MS) this.renewedMs.delete(group);
    const damaged = [...host.quarantine.all()]
      .map(([group, { replica }]) => ({ group, replica }))
      .filter(({ group, replica }) => !this.renewedMs.has(group) && this.canBeReplaced(group, replica))
      .slice(0, RENEWALS_PER_COMMAND_MAX);
    if (damaged.length === 0) return;
    this.isAsking = true;
    router.catalog(encodeRenewReplicas({ node: nodeId, damaged }), (error, code) => {
      this.isAsking = false;
      if (error !== null || code !== CATALOG_OK) return;
      for (const { group } of damaged) this.renewedMs.set(group, clock.monotonicMs());
      logger.info({ replicas: damaged.length }, "damaged replicas get successors");
    });
  }

  /** The others are a majority without it. Of one or two replicas the damaged one may be all there is: its records stay. */
  private canBeReplaced(group: GroupId, damaged: ReplicaId): boolean {
    const known = this.components.catalog.group(group);
    const replicas = known?.topic.partitions[known.partition]?.replicas ?? [];
    return replicas.includes(damaged) && replicas.length - 1 > replicas.length / 2;
  }

  /** Only where entries are here without a hard state, which would tell whose they are. */
  private lookWhoIsFresh(): void {
    const { host, catalog, nodeId, viewIsCurrent } = this.components;
    if (this.isLooking || this.freshFrom !== Number.POSITIVE_INFINITY) return;
    if (![...host.quarantine.all()].some(([group]) => host.heldReplica(group) === 0)) return;
    this.isLooking = true;
    viewIsCurrent().then(
      () => {
        this.isLooking = false;
        this.freshFrom = catalog.node(nodeId)?.nextLife ?? Number.POSITIVE_INFINITY;
      },
      (error: unknown) => {
        this.isLooking = false;
        if (!(error instanceof BrokerError)) throw error;
      },
    );
  }
}
