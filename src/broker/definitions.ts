// Everything that is declared as JSON, in the form of RabbitMQ's definitions (its management plugin's /api/definitions), so that what was
// exported there can be imported here; what only Flotilla has stands beside it under names of its own.

import { isCount } from "../base/assert.ts";
import { BrokerError } from "../base/errors.ts";
import type { CatalogMachine, TopicRow } from "../machine/catalog/catalog.ts";
import { CONFIG_FIELDS } from "../machine/catalog/rows.ts";
import type { BindingRow, ExchangeRow, ScheduleRow } from "../machine/catalog/declaration-rows.ts";
import { keyOf, ROOT_VHOST } from "../machine/catalog/declarations.ts";
import type { DeclaredSettings, WorkSettings } from "../machine/catalog/settings.ts";
import type { HeaderValue } from "../machine/routing/headers-match.ts";
import { vhostOf, type Admin } from "./admin.ts";
import type { Declaring } from "./declaring.ts";
import { isReserved } from "./reserved.ts";
import type { Queues } from "./work/queues.ts";
import type { StartAt } from "./work/types.ts";

export type DefinitionsComponents = {
  readonly catalog: CatalogMachine;
  readonly admin: Admin;
  readonly declaring: Declaring;
  readonly queues: Queues;
  readonly viewIsCurrent: () => Promise<void>;
};
export type ImportResult = { readonly created: number; readonly unchanged: number; readonly problems: readonly string[] };

type Json = Readonly<Record<string, unknown>>;

/** A queue's arguments in AMQP, and a policy's keys, for each of our settings; and how their values are read and written. */
const ARGUMENTS: readonly (readonly [setting: keyof WorkSettings, argument: string, policyKey: string])[] = [
  ["ttlMs", "x-message-ttl", "message-ttl"],
  ["expiresMs", "x-expires", "expires"],
  ["maxMessages", "x-max-length", "max-length"],
  ["maxBytes", "x-max-length-bytes", "max-length-bytes"],
  ["overflow", "x-overflow", "overflow"],
  ["deadLetterExchange", "x-dead-letter-exchange", "dead-letter-exchange"],
  ["deadLetterKey", "x-dead-letter-routing-key", "dead-letter-routing-key"],
  ["singleActive", "x-single-active-consumer", "single-active-consumer"],
  ["deliveryLimit", "x-delivery-limit", "delivery-limit"],
  ["backOff", "x-flotilla-back-off", "flotilla-back-off"],
  ["backOffMs", "x-flotilla-back-off-ms", "flotilla-back-off-ms"],
  ["backOffMaxMs", "x-flotilla-back-off-max-ms", "flotilla-back-off-max-ms"],
  ["keyOrder", "x-flotilla-key-order", "flotilla-key-order"],
];
/** Arguments that say what is so here in any case, or nothing that changes what a queue does. */
const IGNORED = new Set([
  "x-queue-type",
  "x-max-priority",
  "x-queue-mode",
  "x-quorum-initial-group-size",
  "x-dead-letter-strategy",
  "queue-mode",
  "ha-mode",
  "ha-params",
  "ha-sync-mode",
]);
const TYPES: Readonly<Record<string, ExchangeRow["type"]>> = {
  direct: "direct",
  fanout: "fanout",
  topic: "topic",
  headers: "headers",
  "x-consistent-hash": "consistentHash",
};
const MATCHES: Readonly<Record<string, BindingRow["match"]>> = { all: "all", any: "any", "all-with-x": "allX", "any-with-x": "anyX" };

export class Definitions {
  private readonly components: DefinitionsComponents;

  constructor(components: DefinitionsComponents) {
    this.components = components;
  }

  async export(vhost: string): Promise<string> {
    const { catalog, admin, viewIsCurrent } = this.components;
    await viewIsCurrent();
    if (vhost !== "") admin.checkVhost(vhost);
    const names = vhost === "" ? [ROOT_VHOST, ...[...catalog.declarations.vhosts.after("")].map(({ name }) => name)] : [vhostOf(vhost)];
    const topics = names.flatMap((name) => this.topicsOf(name));
    const { declarations } = catalog;
    return `${JSON.stringify(
      {
        product_name: "Flotilla",
        vhosts: names.map((name) => ({ name })),
        queues: topics.filter(({ name, queue }) => queue !== null && !isReserved(name)).map(queueJson),
        exchanges: names.flatMap((name) => [...declarations.exchanges.of(keyOf(name, ""))].map(exchangeJson)),
        bindings: names.flatMap((name) => [...declarations.bindings.of(keyOf(name, ""))].map(bindingJson)),
        policies: names.flatMap((name) =>
          [...declarations.policies.of(keyOf(name, ""))].map(({ settings, ...policy }) => ({
            ...policy,
            "apply-to": "queues",
            definition: argumentsOf(settings, 2),
            ...unsaid(settings),
          })),
        ),
        flotilla_topics: topics.filter(({ queue }) => queue === null).map(topicJson),
        flotilla_schedules: names.flatMap((name) =>
          [...declarations.schedules.of(keyOf(name, ""))].map((schedule) => ({ ...schedule, id: undefined })),
        ),
      },
      null,
      2,
    )}\n`;
  }

  /** Declares what can be; every item that cannot is a problem of its own, and stops nothing. */
  async import(text: string, signal: AbortSignal): Promise<ImportResult> {
    const definitions = parse(text);
    const tally = { created: 0, unchanged: 0, problems: [] as string[] };
    const each = async (field: string, take: (item: Json) => Promise<boolean>): Promise<void> => {
      for (const item of listOf(definitions, field)) {
        if (signal.aborted) throw new BrokerError("TIMEOUT", "the deadline passed before everything was imported; import it again");
        try {
          if (await take(item)) tally.created += 1;
          else tally.unchanged += 1;
        } catch (error) {
          if (!(error instanceof BrokerError)) throw error;
          tally.problems.push(
            `${field} ${String(item["name"] ?? `${String(item["source"])} -> ${String(item["destination"])}`)}: ${error.message}`,
          );
        }
      }
    };
    const { declaring, queues } = this.components;
    await each("vhosts", (item) =>
      item["name"] === ROOT_VHOST ? Promise.resolve(false) : declaring.createVhost(textOf(item, "name"), signal),
    );
    await each("exchanges", (item) => this.importExchange(item, signal));
    await each("flotilla_topics", (item) => this.importTopic(item, signal));
    await each("queues", async (item) => {
      const call = { vhost: textOf(item, "vhost"), name: textOf(item, "name"), replicas: numberOf(item, "flotilla_replicas", 0) };
      // What is no durability is refused there.
      const durability = numberOf(item, "flotilla_durability", 0) as 0 | 1 | 2 | 3;
      return (await queues.create({ ...call, durability, settings: settingsOf(item, "arguments", 1) }, signal)).created;
    });
    await each("bindings", (item) => declaring.createBinding(bindingOf(item), signal));
    await each("policies", (item) => this.importPolicy(item, signal));
    await each("flotilla_schedules", async (item) => {
      await declaring.setSchedule(scheduleOf(item), signal);
      return true;
    });
    for (const field of ["users", "permissions", "topic_permissions", "parameters", "global_parameters"])
      if (listOf(definitions, field).length > 0) tally.problems.push(`${field}: not taken, there is nothing of the kind here yet`);
    return tally;
  }

  private topicsOf(vhost: string): TopicRow[] {
    const found: TopicRow[] = [];
    for (const topic of this.components.catalog.topicsAfter({ vhost, name: "" })) {
      if (topic.vhost !== vhost) break;
      found.push(topic);
    }
    return found;
  }

  private async importExchange(item: Json, signal: AbortSignal): Promise<boolean> {
    const type = TYPES[textOf(item, "type")];
    if (type === undefined) throw new BrokerError("INVALID_ARGUMENT", `exchanges of type ${textOf(item, "type")} are not known here`);
    const alternate = objectOf(item, "arguments")["alternate-exchange"] ?? "";
    const row = { vhost: textOf(item, "vhost"), name: textOf(item, "name"), type, alternate: String(alternate) };
    return (await this.components.declaring.createExchange(row, signal)).created;
  }

  private async importTopic(item: Json, signal: AbortSignal): Promise<boolean> {
    const { admin, queues } = this.components;
    const [vhost, name] = [textOf(item, "vhost"), textOf(item, "name")];
    const config = objectOf(item, "config");
    for (const field of Object.keys(config))
      if (!CONFIG_FIELDS.some((known) => known === field)) throw new BrokerError("INVALID_ARGUMENT", `config.${field} is not known here`);
    const shape = { partitions: numberOf(item, "partitions", 1), replicas: numberOf(item, "replicas", 0) };
    let { created } = await admin.create({ vhost, name, ...shape, config }, signal);
    for (const work of listOf(item, "subscriptions")) {
      const call = { vhost, topic: name, name: textOf(work, "name"), settings: settingsOf(work, "arguments", 1), start: startOf(work) };
      if ((await queues.createWork(call, signal)).created) created = true;
    }
    return created;
  }

  private async importPolicy(item: Json, signal: AbortSignal): Promise<boolean> {
    const applyTo = item["apply-to"] ?? "queues";
    if (!["queues", "all", "quorum_queues", "classic_queues"].includes(String(applyTo)))
      throw new BrokerError("INVALID_ARGUMENT", `a policy that applies to ${String(applyTo)} would apply to nothing here`);
    const policy = {
      vhost: textOf(item, "vhost"),
      name: textOf(item, "name"),
      pattern: textOf(item, "pattern"),
      priority: numberOf(item, "priority", 0),
    };
    await this.components.declaring.setPolicy({ ...policy, settings: settingsOf(item, "definition", 2) }, signal);
    return true;
  }
}

function queueJson({ vhost, name, replicas, config, queue }: TopicRow): object {
  return {
    vhost,
    name,
    durable: true,
    auto_delete: false,
    arguments: { "x-queue-type": "quorum", ...argumentsOf(queue!, 1) },
    ...unsaid(queue!),
    flotilla_replicas: replicas,
    flotilla_durability: config.durability,
  };
}

function topicJson({ vhost, name, partitions, replicas, config, works }: TopicRow): object {
  const subscriptions = works.map((work) => ({
    name: work.name,
    arguments: argumentsOf(work.settings, 1),
    ...unsaid(work.settings),
    start: { from: work.from, value: work.value },
  }));
  return { vhost, name, partitions: partitions.length, replicas, config, subscriptions };
}

function exchangeJson({ vhost, name, type, alternate }: ExchangeRow): object {
  const amqpType = type === "consistentHash" ? "x-consistent-hash" : type;
  return {
    vhost,
    name,
    type: amqpType,
    durable: true,
    auto_delete: false,
    internal: false,
    arguments: alternate === "" ? {} : { "alternate-exchange": alternate },
  };
}

function bindingJson({ vhost, source, destination, destinationKind, key, match, headers }: BindingRow): object {
  const name = Object.entries(MATCHES).find(([, known]) => known === match)![0];
  const wanted = headers.length === 0 && match === "all" ? {} : { "x-match": name, ...Object.fromEntries(headers) };
  return { vhost, source, destination, destination_type: destinationKind, routing_key: key, arguments: wanted };
}

function scheduleOf(item: Json): ScheduleRow {
  const text = (field: string): string => textOf(item, field);
  const what = { cron: text("cron"), timeZone: text("timeZone"), exchange: text("exchange"), routingKey: text("routingKey") };
  return { vhost: text("vhost"), name: text("name"), ...what, records: text("records"), isPaused: item["isPaused"] === true, id: 0 };
}

function bindingOf(item: Json): BindingRow {
  const wanted = objectOf(item, "arguments");
  const headers = Object.entries(wanted).filter(([name]) => name !== "x-match");
  const kind = textOf(item, "destination_type");
  return {
    vhost: textOf(item, "vhost"),
    source: textOf(item, "source"),
    destination: textOf(item, "destination"),
    destinationKind: kind === "exchange" ? "exchange" : "queue",
    key: textOf(item, "routing_key"),
    match: MATCHES[String(wanted["x-match"] ?? "all")] ?? "all",
    headers: headers.map(([name, value]) => [name, headerValue(value)] as const),
  };
}

/** Headers of records are text, so that is what they are compared with. */
function headerValue(value: unknown): HeaderValue {
  return value === null || value === undefined ? null : String(value);
}

function argumentsOf(settings: DeclaredSettings, column: 1 | 2): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const row of ARGUMENTS) {
    const value = settings[row[0]];
    // What is 0 here has no bound, which is said there by saying nothing; but a limit of deliveries has a default.
    const isUnbounded = value === 0 && row[0] !== "deliveryLimit";
    if (value !== undefined && value !== null && !isUnbounded) found[row[column]] = value;
  }
  return found;
}

/** What arguments cannot say: that there is no bound, or no exchange for dead letters, whatever a policy says. */
function unsaid(settings: DeclaredSettings): { readonly flotilla_settings?: object } {
  const said = argumentsOf(settings, 1);
  const left = ARGUMENTS.filter(([name, argument]) => settings[name] !== undefined && !Object.hasOwn(said, argument));
  return left.length === 0 ? {} : { flotilla_settings: Object.fromEntries(left.map(([name]) => [name, settings[name]])) };
}

/** The settings that an item declares: in `field`, in AMQP's terms, and what those cannot say. */
function settingsOf(item: Json, field: string, column: 1 | 2): DeclaredSettings {
  const settings: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(objectOf(item, field))) {
    const row = ARGUMENTS.find((one) => one[column] === name);
    if (row !== undefined) settings[row[0]] = checked(row[0], name, value);
    else if (!IGNORED.has(name)) throw new BrokerError("INVALID_ARGUMENT", `${name} is not known here`);
  }
  for (const [name, value] of Object.entries(objectOf(item, "flotilla_settings"))) {
    const row = ARGUMENTS.find((one) => one[0] === name);
    if (row === undefined) throw new BrokerError("INVALID_ARGUMENT", `flotilla_settings.${name} is not known here`);
    const isNoLetters = value === null && (name === "deadLetterExchange" || name === "deadLetterKey");
    settings[name] = isNoLetters ? null : checked(row[0], name, value);
  }
  return settings;
}

/** Where a subscription begins in each partition; one that does not say so, at the end. */
function startOf(work: Json): StartAt {
  if (work["start"] === undefined) return { from: 3, value: 0 };
  const start = objectOf(work, "start");
  const [from, value] = [numberOf(start, "from", 3), numberOf(start, "value", 0)];
  if ((from !== 0 && from !== 1 && from !== 2 && from !== 3) || !isCount(value))
    throw new BrokerError("INVALID_ARGUMENT", "start says from: 0 an offset, 1 a time, 2 the beginning, 3 the end, and its value");
  return { from, value };
}

function checked(setting: keyof WorkSettings, name: string, value: unknown): unknown {
  const isText = setting === "deadLetterExchange" || setting === "deadLetterKey" || setting === "overflow" || setting === "backOff";
  const wanted = isText ? "string" : setting === "singleActive" || setting === "keyOrder" ? "boolean" : "number";
  const isKnown = setting !== "overflow" || value === "drop-head" || value === "reject-publish";
  if (typeof value !== wanted || !isKnown || (setting === "backOff" && !["fixed", "linear", "exponential"].includes(String(value))))
    throw new BrokerError("INVALID_ARGUMENT", `${name} cannot be ${JSON.stringify(value)}`);
  return value;
}

function parse(text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
  } catch (error) {
    throw new BrokerError("INVALID_ARGUMENT", `the definitions are no JSON: ${(error as Error).message}`, { field: "json" });
  }
  throw new BrokerError("INVALID_ARGUMENT", "the definitions are no JSON object", { field: "json" });
}

function listOf(item: Json, field: string): Json[] {
  const value = item[field];
  return Array.isArray(value) ? value.filter((one): one is Json => typeof one === "object" && one !== null) : [];
}

function objectOf(item: Json, field: string): Json {
  const value = item[field];
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

function numberOf(item: Json, field: string, absent: number): number {
  const value = item[field] ?? absent;
  if (typeof value !== "number") throw new BrokerError("INVALID_ARGUMENT", `${field} must be a number`);
  return value;
}

function textOf(item: Json, field: string): string {
  const value = item[field];
  if (field === "vhost" && value === undefined) return ROOT_VHOST;
  if (typeof value !== "string") throw new BrokerError("INVALID_ARGUMENT", `${field} is missing`);
  return value;
}
