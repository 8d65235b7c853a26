// Queues, exchanges and what else is declared: create, list, describe, change, delete. An empty vhost is "/".

import type { CallOptions, Durability } from "./admin.ts";
import type { Channels } from "./channels.ts";
import { BatchEncoder, HEAD_ROOM_BYTES, type Header, type OutgoingRecord } from "./records.ts";
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

const BACK_OFFS: readonly BackOff[] = ["fixed", "linear", "exponential"];
const OVERFLOWS: readonly Overflow[] = ["drop-head", "reject-publish"];
const TYPES: readonly ExchangeType[] = ["direct", "fanout", "topic", "headers", "consistent-hash"];
const MATCHES: readonly HeadersMatch[] = ["all", "any", "all-with-x", "any-with-x"];
const DURABILITIES: readonly Durability[] = ["fsync", "interval", "os"];
const FIELDS: Readonly<Record<keyof WorkSettings, string>> = {
  deliveryLimit: "delivery_limit",
  backOff: "back_off",
  backOffMs: "back_off_ms",
  backOffMaxMs: "back_off_max_ms",
  singleActive: "single_active",
  keyOrder: "key_order",
  ttlMs: "ttl_ms",
  maxMessages: "max_messages",
  maxBytes: "max_bytes",
  overflow: "overflow",
  deadLetterExchange: "dead_letter_exchange",
  deadLetterKey: "dead_letter_key",
  expiresMs: "expires_ms",
};

type SettingsMessage = Omit<Partial<WorkSettings>, "backOff" | "overflow"> & { backOff?: number; overflow?: number };
type QueueMessage = Omit<QueueInfo, "declared" | "settings" | "durability"> & {
  declared: SettingsMessage;
  settings: SettingsMessage;
  durability: number;
};
type WorkMessage = Omit<WorkSubscriptionInfo, "declared" | "settings"> & { declared: SettingsMessage; settings: SettingsMessage };
type BindingMessage = {
  vhost: string;
  source: string;
  destination: string;
  toExchange: boolean;
  routingKey: string;
  match: number;
  headers: { name: string; value?: string }[];
};

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
    const request = { name, vhost, settings: toMessage(settings), reset: reset.map((field) => FIELDS[field]) };
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

  async updateWorkSubscription(
    work: { topic: string; name: string; vhost?: string; settings?: Partial<WorkSettings>; reset?: readonly (keyof WorkSettings)[] },
    options: CallOptions = {},
  ): Promise<WorkSubscriptionInfo> {
    const { topic, name, vhost = "", settings = {}, reset = [] } = work;
    const request = { topic, name, vhost, settings: toMessage(settings), reset: reset.map((field) => FIELDS[field]) };
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

  async listVhosts(options: CallOptions = {}): Promise<readonly { readonly name: string; readonly createdMs: number }[]> {
    return (await this.call<{ vhosts: { name: string; createdMs: number }[] }>("ListVhosts", {}, options)).vhosts;
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
    const answer = await this.call<{ exchange: Omit<ExchangeInfo, "type"> & { type: number }; created: boolean }>(
      "CreateExchange",
      request,
      options,
    );
    return { exchange: exchangeOf(answer.exchange), created: answer.created };
  }

  async listExchanges(vhost = "", options: CallOptions = {}): Promise<ExchangeInfo[]> {
    const answer = await this.call<{ exchanges: (Omit<ExchangeInfo, "type"> & { type: number })[] }>("ListExchanges", { vhost }, options);
    return answer.exchanges.map(exchangeOf);
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
    const { policies } = await this.call<{ policies: (Omit<Required<Policy>, "settings"> & { settings: SettingsMessage })[] }>(
      "ListPolicies",
      { vhost },
      options,
    );
    return policies.map((policy) => ({ ...policy, settings: settingsOf(policy.settings) }));
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

type ScheduleMessage = Omit<ScheduleInfo, "body"> & { record: { body: Uint8Array } | null };

function scheduleOf({ record, ...rest }: ScheduleMessage): ScheduleInfo {
  return { ...rest, body: record?.body ?? new Uint8Array(0) };
}

/** A record as the generic codec encodes it. */
function recordMessage(record: OutgoingRecord): object {
  const bytes = (value: Uint8Array | string): Uint8Array => (typeof value === "string" ? Buffer.from(value) : value);
  const { body, key, headers = [], ...rest } = record;
  return { ...rest, body: bytes(body), headers, ...(key === undefined ? {} : { key: bytes(key) }) };
}

function toMessage(settings: Partial<WorkSettings>): SettingsMessage {
  const { backOff, overflow, ...rest } = settings;
  return {
    ...rest,
    ...(backOff === undefined ? {} : { backOff: BACK_OFFS.indexOf(backOff) + 1 }),
    ...(overflow === undefined ? {} : { overflow: OVERFLOWS.indexOf(overflow) + 1 }),
  };
}

function settingsOf(message: SettingsMessage | null): Partial<WorkSettings> {
  const settings: Record<string, unknown> = {};
  for (const name of Object.keys(FIELDS) as (keyof WorkSettings)[]) if (message?.[name] !== undefined) settings[name] = message[name];
  if (message?.backOff !== undefined) settings["backOff"] = BACK_OFFS[message.backOff - 1];
  if (message?.overflow !== undefined) settings["overflow"] = OVERFLOWS[message.overflow - 1];
  return settings;
}

function queueOf({ declared, settings, durability, ...rest }: QueueMessage): QueueInfo {
  return { ...rest, declared: settingsOf(declared), settings: settingsOf(settings), durability: DURABILITIES[durability - 1] ?? "fsync" };
}

function workOf({ declared, settings, ...rest }: WorkMessage): WorkSubscriptionInfo {
  return { ...rest, declared: settingsOf(declared), settings: settingsOf(settings) };
}

function startMessage(from: StartAt | undefined): object {
  if (from === undefined) return {};
  if (from === "earliest") return { earliest: true };
  return from === "latest" ? { latest: true } : from;
}

function exchangeOf({ type, ...rest }: Omit<ExchangeInfo, "type"> & { type: number }): ExchangeInfo {
  return { ...rest, type: TYPES[type - 1] ?? "direct" };
}

function bindingMessage(binding: Binding): BindingMessage {
  const { vhost = "", source, destination, toExchange = false, routingKey = "", headers = {}, match = "all" } = binding;
  const wanted = Object.entries(headers).map(([name, value]) => (value === null ? { name } : { name, value }));
  return {
    vhost,
    source,
    destination,
    toExchange,
    routingKey,
    match: wanted.length === 0 ? 0 : MATCHES.indexOf(match) + 1,
    headers: wanted,
  };
}

function bindingOf({ match, headers, ...rest }: BindingMessage): Required<Binding> {
  return {
    ...rest,
    match: MATCHES[match - 1] ?? "all",
    headers: Object.fromEntries(headers.map(({ name, value }) => [name, value ?? null])),
  };
}

/** For callers that encode a batch themselves. */
export function encodeRecords(records: readonly OutgoingRecord[]): Buffer {
  const encoder = new BatchEncoder(Buffer.allocUnsafeSlow(1024));
  for (const record of records) encoder.add(record);
  return encoder.finish().subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + encoder.length);
}
