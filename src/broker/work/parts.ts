// The parts that do the work of queues on one node, put together.

import type { Clock } from "../../base/clock.ts";
import type { GroupId, NodeId } from "../../base/ids.ts";
import type { Logger } from "../../base/logger.ts";
import type { CatalogMachine, TopicRow } from "../../machine/catalog/catalog.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import type { Admin } from "../admin.ts";
import type { ClusterAdmin } from "../cluster-admin.ts";
import type { Fetcher } from "../fetcher.ts";
import type { Publisher } from "../publisher.ts";
import type { Router } from "../router.ts";
import { endAfter } from "../wait-until.ts";
import { encodeNotice } from "./codec.ts";
import { DeadLetters, type PublishDead } from "./dead-letters.ts";
import { Feeder } from "./feeder.ts";
import { Gateway, NOTICE_WORK } from "./gateway.ts";
import { Gateways } from "./gateways.ts";
import { Inspector } from "./inspector.ts";
import { Keeper } from "./keeper.ts";
import { WorkOperator } from "./operator.ts";
import { Policies } from "./policies.ts";
import { Queues } from "./queues.ts";
import { Relocator } from "./relocator.ts";
import { RunReader } from "./run-reader.ts";

const START_MS_MAX = 5_000;

export type WorkPartsComponents = {
  readonly nodeId: NodeId;
  readonly incarnation: number;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly fetcher: Fetcher;
  readonly publisher: Publisher;
  readonly admin: Admin;
  readonly cluster: ClusterAdmin;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the start of the node that this one is linked with, or is; 0 = none. */
  readonly incarnationOf: (node: NodeId) => number;
  readonly notify: (to: NodeId, notice: number, body: Uint8Array) => void;
  readonly sure: (vhost: string, name: string) => Promise<void>;
  readonly viewIsCurrent: () => Promise<void>;
  /** Something was applied in a group led here that has work subscriptions. */
  readonly lookAtTransactions: (group: GroupId, topic: TopicRow) => void;
};

export class WorkParts {
  readonly policies: Policies;
  readonly gateway: Gateway;
  readonly inspector: Inspector;
  readonly keeper: Keeper;
  readonly queues: Queues;
  readonly operator: WorkOperator;
  readonly reader: RunReader;

  constructor(components: WorkPartsComponents) {
    const { nodeId, incarnation, host, catalog, router, fetcher, publisher, clock, logger, incarnationOf, notify } = components;
    const operator = new WorkOperator(router, clock);
    const reader = new RunReader(fetcher);
    this.operator = operator;
    this.reader = reader;
    this.policies = new Policies(catalog);
    const settingsOf = this.policies.settingsOf.bind(this.policies);
    this.gateway = new Gateway({ nodeId, incarnation, catalog, router, operator, reader, clock, logger });
    this.inspector = new Inspector({ nodeId, host, router, reader });
    this.queues = new Queues({
      ...components,
      policies: this.policies,
      gateway: this.gateway,
      inspector: this.inspector,
      operator,
    });
    this.keeper = new Keeper({
      nodeId,
      host,
      catalog,
      router,
      clock,
      gateways: new Gateways(catalog, incarnationOf),
      settingsOf,
      startOf: (group: GroupId, from, value) => this.queues.offsetOf(group, from, value, endAfter(clock, START_MS_MAX)),
      deadLetters: new DeadLetters({ host, reader, operator, clock, logger, settingsOf, publish: publishDead(publisher) }),
      lookAtTransactions: components.lookAtTransactions,
      relocator: new Relocator({ host, reader, clock, logger }),
      feeder: new Feeder({ host, reader, clock, logger }),
      given: (notice) => this.gateway.given(notice),
      tell: (node, notice) => notify(node, NOTICE_WORK, encodeNotice(notice)),
    });
  }

  topicChanged(topic: TopicRow): void {
    this.keeper.topicChanged(topic);
    this.gateway.topicChanged(topic);
  }
}

function publishDead(publisher: Publisher): PublishDead {
  return ({ vhost, exchange, key, records, count }) =>
    new Promise((resolve, reject) => {
      const call = { vhost, exchange, routingKey: key, records, count, topic: "", partition: -1, partitionKey: null, direct: false };
      publisher.publish(
        { ...call, producerId: 0, producerEpoch: 0, sequence: 0 },
        (error, _partition, _offset, _count, _duplicate, routed) => {
          if (error === null) resolve(routed?.copies ?? 0);
          else reject(error);
        },
      );
    });
}
