// Consumers that are connected to this node: who among them gets what the leaders of their groups give out, and what is missed is asked for.

import { BrokerError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import { gatewayOf, type GroupId, type NodeId } from "../../base/ids.ts";
import { SESSIONS_PER_NODE_MAX } from "../../base/limits.ts";
import type { Logger } from "../../base/logger.ts";
import type { CatalogMachine, TopicRow } from "../../machine/catalog/catalog.ts";
import { QUEUE } from "../../machine/work/works.ts";
import type { Router } from "../router.ts";
import { endAfter } from "../wait-until.ts";
import { decodeLeases, decodeNotice, encodeLeasesQuestion, type LeasedRun, type RevokedRun, type WorkNotice } from "./codec.ts";
import type { WorkOperator } from "./operator.ts";
import type { RunReader } from "./run-reader.ts";

export const OP_LEASES = 10;
export const NOTICE_WORK = 7;
/** Of a consumer's id, by which it is told from others of one start of a node. */
const COUNTER_LIMIT = 1 << 23;
const INCARNATION_LIMIT = 1 << 20;
const LEASES_WAIT_MS = 2_000;

/** One consumer as a group knows it. */
export interface Attached {
  readonly group: GroupId;
  readonly consumer: number;
  readonly subscription: string;
  /** All that was given to it at one time. */
  leased(runs: readonly LeasedRun[]): void;
  revoked(run: RevokedRun): void;
  /** The topic has so many partitions now. */
  grown(topic: TopicRow): void;
  /** The queue or subscription was deleted: nothing will come any more. */
  gone(error: BrokerError): void;
  /** Once a second. */
  upkeep(): void;
  /** Another node leads the group, or may have said something that did not come here. */
  lookAgain(): void;
}

export type GatewayComponents = {
  readonly nodeId: NodeId;
  readonly incarnation: number;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly operator: WorkOperator;
  readonly reader: RunReader;
  readonly clock: Clock;
  readonly logger: Logger;
};

function subscriptionGone({ queue, works }: TopicRow, subscription: string): BrokerError | null {
  if (queue !== null || works.some(({ name }) => name === subscription)) return null;
  return new BrokerError("UNKNOWN_SUBSCRIPTION", `work subscription ${subscription} was deleted`);
}

function deleted(subscription: string): BrokerError {
  return subscription === QUEUE
    ? new BrokerError("UNKNOWN_QUEUE", "the queue was deleted")
    : new BrokerError("UNKNOWN_TOPIC", "the topic was deleted");
}

export class Gateway {
  readonly components: GatewayComponents;
  /** What consumers here give as where they are. */
  readonly id: number;
  private readonly attached = new Map<number, Attached>();
  private readonly byGroup = new Map<GroupId, Set<Attached>>();
  private counter = 0;

  constructor(components: GatewayComponents) {
    this.components = components;
    this.id = gatewayOf(components.nodeId, components.incarnation);
  }

  get size(): number {
    return this.attached.size;
  }

  /** An id that no other consumer of the cluster has or had. Throws OVERLOADED when too many are connected here. */
  nextConsumer(): number {
    if (this.attached.size >= SESSIONS_PER_NODE_MAX)
      throw new BrokerError("OVERLOADED", `${SESSIONS_PER_NODE_MAX} consumers are connected to this node already; use another`);
    const { nodeId, incarnation } = this.components;
    const base = gatewayOf(nodeId, incarnation % INCARNATION_LIMIT) * COUNTER_LIMIT;
    // Millions of calls of Receive later it has gone round, and some consumers are still here.
    do this.counter = (this.counter + 1) % COUNTER_LIMIT;
    while (this.attached.has(base + this.counter));
    return base + this.counter;
  }

  add(part: Attached): void {
    this.attached.set(part.consumer, part);
    const parts = this.byGroup.get(part.group);
    if (parts === undefined) this.byGroup.set(part.group, new Set([part]));
    else parts.add(part);
  }

  remove(part: Attached): void {
    if (this.attached.get(part.consumer) === part) this.attached.delete(part.consumer);
    const parts = this.byGroup.get(part.group);
    parts?.delete(part);
    if (parts?.size === 0) this.byGroup.delete(part.group);
  }

  /** The leader of the group gave these out: this node, or another one that says so. */
  given({ group, deliveries, revokes }: WorkNotice): void {
    for (const run of revokes) this.attached.get(run.consumer)?.revoked(run);
    const byConsumer = new Map<number, LeasedRun[]>();
    for (const run of deliveries) {
      const runs = byConsumer.get(run.consumer);
      if (runs === undefined) byConsumer.set(run.consumer, [run]);
      else runs.push(run);
    }
    for (const [consumer, runs] of byConsumer) {
      const part = this.attached.get(consumer);
      if (part !== undefined && part.group === group) part.leased(runs);
      else this.disown(group, runs[0]!);
    }
  }

  heard(_from: NodeId, body: Uint8Array): void {
    this.given(decodeNotice(body));
  }

  /** Once a second. */
  upkeep(): void {
    for (const part of this.attached.values()) part.upkeep();
  }

  /** Who only waits says nothing to its group, and would never hear that it is not there any more. */
  catalogChanged(): void {
    for (const [group, parts] of this.byGroup) {
      if (this.components.catalog.groupState(group) !== "deleted") continue;
      for (const part of [...parts]) part.gone(deleted(part.subscription));
    }
  }

  /** Something about the topic may have changed. Consumers of all its partitions are consumers of the first one. */
  topicChanged(topic: TopicRow): void {
    for (const part of [...(this.byGroup.get(topic.partitions[0]!.group) ?? [])]) {
      const gone = subscriptionGone(topic, part.subscription);
      if (gone === null) part.grown(topic);
      else part.gone(gone);
    }
  }

  /** What to tell those who take from it, if the queue, or the topic's subscription, is not there any more. */
  goneFrom(group: GroupId, subscription: string): BrokerError | null {
    const known = this.components.catalog.group(group);
    return known === undefined ? deleted(subscription) : subscriptionGone(known.topic, subscription);
  }

  leaderChanged(group: GroupId): void {
    const parts = this.byGroup.get(group);
    if (parts === undefined || this.components.router.leaderOf(group) === 0) return;
    for (const part of [...parts]) part.lookAgain();
  }

  /** What the consumer holds, as the group's leader knows it; rejects with BrokerError. */
  async leasesOf(part: Attached): Promise<LeasedRun[]> {
    const { router, clock } = this.components;
    const leader = await router.leader(part.group);
    const body = await router.ask(leader, OP_LEASES, [encodeLeasesQuestion(part)], endAfter(clock, LEASES_WAIT_MS));
    return decodeLeases(body).map(({ run, ...lease }) => ({ consumer: part.consumer, ...run, ...lease }));
  }

  /** The group and this node do not agree on who is here: a consumer that nobody knows would keep what it is given. */
  private disown(group: GroupId, { consumer }: LeasedRun): void {
    const { catalog, operator } = this.components;
    const known = catalog.group(group);
    if (known === undefined) return;
    for (const name of known.topic.queue !== null ? [""] : known.topic.works.map((work) => work.name))
      operator.operate(group, { op: "detach", name, consumer }, () => {});
  }
}
