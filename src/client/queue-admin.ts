// Queues, exchanges and what else is declared: create, list, describe, change, delete. An empty vhost is "/".

import type { CallOptions, Durability } from "./admin.ts";
import type { Channels } from "./channels.ts";
import {
  bindingMessage,
  bindingOf,
  DURABILITIES,
  exchangeOf,
  policyOf,
  queueOf,
  recordMessage,
  resetMessage,
  scheduleOf,
  startMessage,
  toMessage,
  TYPES,
  workOf,
  type BindingMessage,
  type ExchangeMessage,
  type PolicyMessage,
  type QueueMessage,
  type ScheduleMessage,
  type WorkMessage,
} from "./queue-messages.ts";
import type { Header, OutgoingRecord } from "./records.ts";
import type { PartitionInfo } from "./topology.ts";

export type BackOff = "fixed" | "linear" | "exponential";
export type Overflow = "drop-head" | "reject-publish";
export type ExchangeType = "direct" | "fanout" | "topic" | "headers" | "consistent-hash";
export type HeadersMatch = "all" | "any" | "all-with-x" | "any-with-x";

/** Times in milliseconds; 0 is "none" or "for ever". */
export type WorkSettings = {
  readonly deliveryLimit: number;
  readonly backOff: BackOff;
  readonly backOffMs: number;
  readonly backOffMaxMs: number;
  readonly singleActive: boolean;
  readonly keyOrder: boolean;
  readonly ttlMs: number;
  readonly maxMessages: number;
  readonly maxBytes: number;
  readonly overflow: Overflow;
  /** "" is the default exchange; absent: dead messages go nowhere. */
  readonly deadLetterExchange: string;
  readonly deadLetterKey: string;
  readonly expiresMs: number;
};
export type WorkCounts = {
  readonly ready: number;
  readonly leased: number;
  readonly delayed: number;
  readonly waitingForKey: number;
  readonly dead: number;
  readonly consumers: number;
};
export type QueueInfo = {
  readonly vhost: string;
  readonly name: string;
  readonly replicas: number;
  readonly declared: Partial<WorkSettings>;
  readonly settings: Partial<WorkSettings>;
  readonly policy: string;
  readonly createdMs: number;
  readonly durability: Durability;
  readonly counts: WorkCounts | null;
};
export type ConsumerInfo = {
  readonly id: number;
  readonly node: number;
  readonly priority: number;
  readonly credit: number;
  readonly held: number;
  readonly active: boolean;
};
export type QueueDescription = {
  readonly queue: QueueInfo;
  readonly partition: PartitionInfo;
  readonly consumers: readonly ConsumerInfo[];
  readonly startOffset: number;
  readonly endOffset: number;
  readonly bytes: number;
  readonly lastUsedMs: number;
};
export type WorkSubscriptionInfo = {
  readonly topic: string;
  readonly name: string;
  readonly declared: Partial<WorkSettings>;
  readonly settings: Partial<WorkSettings>;
  readonly createdMs: number;
  readonly counts: WorkCounts | null;
};
export type WorkSubscriptionDescription = {
  readonly subscription: WorkSubscriptionInfo;
  readonly partitions: readonly (WorkCounts | null)[];
  readonly consumers: readonly ConsumerInfo[];
};
export type VhostInfo = { readonly name: string; readonly createdMs: number };
export type VhostDescription = VhostInfo & { readonly topics: number; readonly queues: number; readonly exchanges: number };
export type StartAt = { readonly offset: number } | { readonly timeMs: number } | "earliest" | "latest";
export type ExchangeInfo = {
  readonly vhost: string;
  readonly name: string;
  readonly type: ExchangeType;
  readonly alternate: string;
  readonly createdMs: number;
};
export type Binding = {
  readonly source: string;
  readonly destination: string;
  /** The destination is an exchange, not a queue or topic. */
  readonly toExchange?: boolean;
  readonly routingKey?: string;
  /** Of a headers exchange: names and values; null asks only that the header is there. */
  readonly headers?: Readonly<Record<string, string | null>>;
  readonly match?: HeadersMatch;
  readonly vhost?: string;
};
export type Route = {
  readonly target: string;
  readonly exchanges: readonly string[];
  readonly isQueue: boolean;
  readonly partitions: number;
  readonly leader: number;
  readonly durability: Durability;
};
export type Policy = {
  readonly name: string;
  readonly pattern: string;
  readonly priority?: number;
  readonly settings: Partial<WorkSettings>;
  readonly vhost?: string;
};
export type Schedule = {
  readonly name: string;
  readonly cron: string;
  readonly timeZone?: string;
  readonly exchange: string;
  readonly routingKey?: string;
  readonly record: OutgoingRecord;
  readonly paused?: boolean;
  readonly vhost?: string;
};
export type ScheduleInfo = Omit<Required<Schedule>, "record"> & { readonly body: Uint8Array; readonly nextMs: number };

export class QueueAdminClient {
  private readonly channels: Channels;

  constructor(channels: Channels) {
    this.channels = channels;
  }

  /** Resolves when the queue has a leader that goes by these settings. Creating what exists with the same settings is no error. */
  async createQueue(
    queue: { name: string; vhost?: string; replicas?: number; settings?: Partial<WorkSettings>; durability?: Durability },
    options: CallOptions = {},
  ): Promise<{ queue: QueueInfo; created: boolean }> {
    const { name, vhost = "", replicas = 0, settings = {}, durability } = queue;
    const request = {
      name,
      vhost,
      replicas,
      settings: toMessage(settings),
      durability: durability === undefined ? 0 : DURABILITIES.indexOf(durability) + 1,
    };
    const answer = await this.call<{ queue: QueueMessage; created: boolean }>("CreateQueue", request, options);
    return { queue: queueOf(answer.queue), created: answer.created };
  }

  async listQueues(vhost = "", options: CallOptions & { withCounts?: boolean } = {}): Promise<QueueInfo[]> {
    const { withCounts = true } = options;
    const queues: QueueInfo[] = [];
    let pageToken = "";
    do {
      const page = await this.call<{ queues: QueueMessage[]; nextPageToken: string }>(
        "ListQueues",
        { vhost, pageToken, withCounts },
        options,
      );
      queues.push(...page.queues.map(queueOf));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return queues;
  }

  async describeQueue(name: string, vhost = "", options: CallOptions = {}): Promise<QueueDescription> {
    const answer = await this.call<Omit<QueueDescription, "queue"> & { queue: QueueMessage }>("DescribeQueue", { name, vhost }, options);
    return { ...answer, queue: queueOf(answer.queue) };
  }

  /** Changes the settings given; those in `reset` are as if they had never been given. */
  async updateQueue(
    name: string,
    changes: { settings?: Partial<WorkSettings>; reset?: readonly (keyof WorkSettings)[] },
    vhost = "",
    options: CallOptions = {},
  ): Promise<QueueInfo> {
    const { settings = {}, reset = [] } = changes;
    const request = { name, vhost, settings: toMessage(settings), reset: resetMessage(reset) };
    return queueOf((await this.call<{ queue: QueueMessage }>("UpdateQueue", request, options)).queue);
  }

  async deleteQueue(name: string, options: CallOptions & { vhost?: string; ifUnused?: boolean; ifEmpty?: boolean } = {}): Promise<void> {
    const { vhost = "", ifUnused = false, ifEmpty = false } = options;
    await this.call("DeleteQueue", { name, vhost, ifUnused, ifEmpty }, options);
  }

  /** Drops the messages that wait, or the dead ones; resolves with how many. */
  async purgeQueue(name: string, options: CallOptions & { vhost?: string; subscription?: string; dead?: boolean } = {}): Promise<number> {
    const { vhost = "", subscription = "", dead = false } = options;
    return (await this.call<{ messages: number }>("PurgeQueue", { name, vhost, subscription, dead }, options)).messages;
  }

  /** Dead messages that are still in the queue wait again; resolves with how many. */
  async reviveQueue(name: string, options: CallOptions & { vhost?: string; subscription?: string } = {}): Promise<number> {
    const { vhost = "", subscription = "" } = options;
    return (await this.call<{ messages: number }>("ReviveQueue", { name, vhost, subscription }, options)).messages;
  }

  async createWorkSubscription(
    work: { topic: string; name: string; vhost?: string; settings?: Partial<WorkSettings>; from?: StartAt },
    options: CallOptions = {},
  ): Promise<{ subscription: WorkSubscriptionInfo; created: boolean }> {
    const { topic, name, vhost = "", settings = {}, from } = work;
    const request = { topic, name, vhost, settings: toMessage(settings), ...startMessage(from) };
    const answer = await this.call<{ subscription: WorkMessage; created: boolean }>("CreateWorkSubscription", request, options);
    return { subscription: workOf(answer.subscription), created: answer.created };
  }

  async listWorkSubscriptions(topic: string, vhost = "", options: CallOptions = {}): Promise<WorkSubscriptionInfo[]> {
    const answer = await this.call<{ subscriptions: WorkMessage[] }>("ListWorkSubscriptions", { topic, vhost }, options);
    return answer.subscriptions.map(workOf);
  }

  /** `partitions`: what it holds in each; null where nobody leads it. `consumers`: those of `partition`. */
  async describeWorkSubscription(
    topic: string,
    name: string,
    options: CallOptions & { vhost?: string; partition?: number } = {},
  ): Promise<WorkSubscriptionDescription> {
    const { vhost = "", partition = 0 } = options;
    const answer = await this.call<{
      subscription: WorkMessage;
      partitions: { counts: WorkCounts | null }[];
      consumers: ConsumerInfo[];
    }>("DescribeWorkSubscription", { topic, name, vhost, partition }, options);
    const { subscription, partitions, consumers } = answer;
    return { subscription: workOf(subscription), partitions: partitions.map(({ counts }) => counts), consumers };
  }

  async updateWorkSubscription(
    work: { topic: string; name: string; vhost?: string; settings?: Partial<WorkSettings>; reset?: readonly (keyof WorkSettings)[] },
    options: CallOptions = {},
  ): Promise<WorkSubscriptionInfo> {
    const { topic, name, vhost = "", settings = {}, reset = [] } = work;
    const request = { topic, name, vhost, settings: toMessage(settings), reset: resetMessage(reset) };
    return workOf((await this.call<{ subscription: WorkMessage }>("UpdateWorkSubscription", request, options)).subscription);
  }

  async deleteWorkSubscription(topic: string, name: string, vhost = "", options: CallOptions = {}): Promise<void> {
    await this.call("DeleteWorkSubscription", { topic, name, vhost }, options);
  }

  async seekWorkSubscription(topic: string, name: string, to: StartAt, vhost = "", options: CallOptions = {}): Promise<void> {
    await this.call("SeekWorkSubscription", { topic, name, vhost, ...startMessage(to) }, options);
  }

  async createVhost(name: string, options: CallOptions = {}): Promise<boolean> {
    return (await this.call<{ created: boolean }>("CreateVhost", { name }, options)).created;
  }

  async listVhosts(options: CallOptions = {}): Promise<readonly VhostInfo[]> {
    return (await this.call<{ vhosts: VhostInfo[] }>("ListVhosts", {}, options)).vhosts;
  }

  /** With how much is in it. */
  async describeVhost(name: string, options: CallOptions = {}): Promise<VhostDescription> {
    const { vhost, ...counts } = await this.call<Omit<VhostDescription, "name" | "createdMs"> & { vhost: VhostInfo }>(
      "DescribeVhost",
      { name },
      options,
    );
    return { ...vhost, ...counts };
  }

  /** With everything in it. */
  async deleteVhost(name: string, options: CallOptions = {}): Promise<void> {
    await this.call("DeleteVhost", { name }, options);
  }

  async createExchange(
    exchange: { name: string; type: ExchangeType; alternate?: string; vhost?: string },
    options: CallOptions = {},
  ): Promise<{ exchange: ExchangeInfo; created: boolean }> {
    const { name, type, alternate = "", vhost = "" } = exchange;
    const request = { name, vhost, alternate, type: TYPES.indexOf(type) + 1 };
    const answer = await this.call<{ exchange: ExchangeMessage; created: boolean }>("CreateExchange", request, options);
    return { exchange: exchangeOf(answer.exchange), created: answer.created };
  }

  async listExchanges(vhost = "", options: CallOptions = {}): Promise<ExchangeInfo[]> {
    const answer = await this.call<{ exchanges: ExchangeMessage[] }>("ListExchanges", { vhost }, options);
    return answer.exchanges.map(exchangeOf);
  }

  async describeExchange(name: string, vhost = "", options: CallOptions = {}): Promise<ExchangeInfo> {
    return exchangeOf((await this.call<{ exchange: ExchangeMessage }>("DescribeExchange", { name, vhost }, options)).exchange);
  }

  /** "" = nothing gets what the exchange cannot route. Its bindings stay. */
  async updateExchange(name: string, changes: { alternate: string }, vhost = "", options: CallOptions = {}): Promise<ExchangeInfo> {
    const request = { name, vhost, alternate: changes.alternate };
    return exchangeOf((await this.call<{ exchange: ExchangeMessage }>("UpdateExchange", request, options)).exchange);
  }

  async deleteExchange(name: string, options: CallOptions & { vhost?: string; ifUnused?: boolean } = {}): Promise<void> {
    const { vhost = "", ifUnused = false } = options;
    await this.call("DeleteExchange", { name, vhost, ifUnused }, options);
  }

  /** Resolves with false when it was there already. */
  async createBinding(binding: Binding, options: CallOptions = {}): Promise<boolean> {
    return (await this.call<{ created: boolean }>("CreateBinding", { binding: bindingMessage(binding) }, options)).created;
  }

  async listBindings(options: CallOptions & { vhost?: string; source?: string; destination?: string } = {}): Promise<Required<Binding>[]> {
    const { vhost = "", source = "", destination = "" } = options;
    const bindings: Required<Binding>[] = [];
    let pageToken = "";
    do {
      const page = await this.call<{ bindings: BindingMessage[]; nextPageToken: string }>(
        "ListBindings",
        { vhost, source, destination, pageToken },
        options,
      );
      bindings.push(...page.bindings.map(bindingOf));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return bindings;
  }

  async deleteBinding(binding: Binding, options: CallOptions = {}): Promise<void> {
    await this.call("DeleteBinding", { binding: bindingMessage(binding) }, options);
  }

  /** Where a message would go, and by which exchanges; publishes nothing. */
  async explainPublish(
    message: { exchange: string; routingKey?: string; headers?: readonly Header[]; vhost?: string },
    options: CallOptions = {},
  ): Promise<Route[]> {
    const { exchange, routingKey = "", headers = [], vhost = "" } = message;
    const { routes } = await this.call<{ routes: (Omit<Route, "durability"> & { durability: number })[] }>(
      "ExplainPublish",
      { exchange, routingKey, headers, vhost },
      options,
    );
    return routes.map((route) => ({ ...route, durability: DURABILITIES[route.durability - 1] ?? "fsync" }));
  }

  async setPolicy(policy: Policy, options: CallOptions = {}): Promise<void> {
    const { name, pattern, priority = 0, settings, vhost = "" } = policy;
    await this.call("SetPolicy", { policy: { name, pattern, priority, vhost, settings: toMessage(settings) } }, options);
  }

  async listPolicies(vhost = "", options: CallOptions = {}): Promise<Required<Policy>[]> {
    return (await this.call<{ policies: PolicyMessage[] }>("ListPolicies", { vhost }, options)).policies.map(policyOf);
  }

  async describePolicy(name: string, vhost = "", options: CallOptions = {}): Promise<Required<Policy>> {
    return policyOf((await this.call<{ policy: PolicyMessage }>("DescribePolicy", { name, vhost }, options)).policy);
  }

  async deletePolicy(name: string, vhost = "", options: CallOptions = {}): Promise<void> {
    await this.call("DeletePolicy", { name, vhost }, options);
  }

  async setSchedule(schedule: Schedule, options: CallOptions = {}): Promise<ScheduleInfo> {
    const { name, cron, timeZone = "", exchange, routingKey = "", record, paused = false, vhost = "" } = schedule;
    const message = { name, cron, timeZone, exchange, routingKey, paused, vhost, record: recordMessage(record) };
    return scheduleOf((await this.call<{ schedule: ScheduleMessage }>("SetSchedule", { schedule: message }, options)).schedule);
  }

  async listSchedules(vhost = "", options: CallOptions = {}): Promise<ScheduleInfo[]> {
    return (await this.call<{ schedules: ScheduleMessage[] }>("ListSchedules", { vhost }, options)).schedules.map(scheduleOf);
  }

  async describeSchedule(name: string, vhost = "", options: CallOptions = {}): Promise<ScheduleInfo> {
    return scheduleOf((await this.call<{ schedule: ScheduleMessage }>("DescribeSchedule", { name, vhost }, options)).schedule);
  }

  async deleteSchedule(name: string, vhost = "", options: CallOptions = {}): Promise<void> {
    await this.call("DeleteSchedule", { name, vhost }, options);
  }

  /** Everything that is declared, as JSON. */
  async exportDefinitions(vhost = "", options: CallOptions = {}): Promise<string> {
    return (await this.call<{ json: string }>("ExportDefinitions", { vhost }, options)).json;
  }

  /** Declares what is in the definitions and not there; `problems` names what could not be taken. */
  importDefinitions(
    json: string,
    options: CallOptions = {},
  ): Promise<{ readonly created: number; readonly unchanged: number; readonly problems: readonly string[] }> {
    return this.call("ImportDefinitions", { json }, options);
  }

  private call<Response>(method: string, request: object, options: CallOptions): Promise<Response> {
    return this.channels.call("flotilla.v1.Admin", method, request, options);
  }
}
