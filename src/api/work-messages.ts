// Queues and what is declared beside them as protobuf messages, and back, for the calls that go through the generic codec.

import { BrokerError } from "../base/errors.ts";
import { SETTING_FIELDS, settingOfField } from "../broker/work/setting-fields.ts";
import type {
  DeclaredSettings,
  QueueDescription,
  QueueInfo,
  StartAt,
  WorkCounts,
  WorkDescription,
  WorkInfo,
  WorkSettings,
} from "../broker/work/types.ts";
import type { BindingRow, ExchangeRow, PolicyRow } from "../broker/declaring.ts";
import { count } from "./definitions.ts";
import { partitionMessage } from "./messages.ts";

const BACK_OFFS = ["fixed", "linear", "exponential"] as const;
const OVERFLOWS = ["drop-head", "reject-publish"] as const;
const EXCHANGE_TYPES = ["direct", "fanout", "topic", "headers", "consistentHash"] as const;
const MATCHES = ["all", "any", "allX", "anyX"] as const;

/** WorkSettings as the generic codec decodes it: 64-bit numbers are text, and what is absent is not there. */
export type SettingsMessage = {
  deliveryLimit?: number;
  backOff?: number;
  backOffMs?: string;
  backOffMaxMs?: string;
  singleActive?: boolean;
  keyOrder?: boolean;
  ttlMs?: string;
  maxMessages?: string;
  maxBytes?: string;
  overflow?: number;
  deadLetterExchange?: string;
  deadLetterKey?: string;
  expiresMs?: string;
};

/** The settings that a message names. */
export function settingsOf(message: SettingsMessage | null | undefined): DeclaredSettings {
  if (message === null || message === undefined) return {};
  const settings: Record<string, unknown> = {};
  const given = <Value>(name: keyof SettingsMessage, value: (given: never) => Value): void => {
    if (Object.hasOwn(message, name) && message[name] !== undefined) settings[name] = value(message[name] as never);
  };
  const whole = (name: keyof SettingsMessage): void => given(name, (text: string) => count(text, `settings.${SETTING_FIELDS[name]}`));
  given("deliveryLimit", (value: number) => value);
  given("backOff", (value: number) => named(BACK_OFFS, value, "settings.back_off"));
  for (const name of ["backOffMs", "backOffMaxMs", "ttlMs", "maxMessages", "maxBytes", "expiresMs"] as const) whole(name);
  for (const name of ["singleActive", "keyOrder"] as const) given(name, (value: boolean) => value);
  given("overflow", (value: number) => named(OVERFLOWS, value, "settings.overflow"));
  for (const name of ["deadLetterExchange", "deadLetterKey"] as const) given(name, (value: string) => value);
  return settings;
}

export function settingsMessage(settings: DeclaredSettings): object {
  const { backOff, overflow, deadLetterExchange, deadLetterKey, ...rest } = settings;
  return {
    ...rest,
    ...(backOff === undefined ? {} : { backOff: BACK_OFFS.indexOf(backOff) + 1 }),
    ...(overflow === undefined ? {} : { overflow: OVERFLOWS.indexOf(overflow) + 1 }),
    ...(deadLetterExchange === undefined || deadLetterExchange === null ? {} : { deadLetterExchange }),
    ...(deadLetterKey === undefined || deadLetterKey === null ? {} : { deadLetterKey }),
  };
}

/** The settings that an update resets. */
export function resetOf(names: readonly string[]): (keyof WorkSettings)[] {
  return names.map((name) => settingOfField(name));
}

export function queueMessage(queue: QueueInfo): object {
  const { declared, settings, counts, ...rest } = queue;
  return { ...rest, declared: settingsMessage(declared), settings: settingsMessage(settings), counts: countsMessage(counts) };
}

export function workMessage({ declared, settings, counts, ...rest }: WorkInfo): object {
  return { ...rest, declared: settingsMessage(declared), settings: settingsMessage(settings), counts: countsMessage(counts) };
}

export function workDescription({ subscription, partitions, consumers }: WorkDescription): object {
  return {
    subscription: workMessage(subscription),
    partitions: partitions.map((counts, partition) => ({ partition, counts: countsMessage(counts) })),
    consumers: consumers.map((one) => ({ ...one })),
  };
}

function countsMessage(counts: WorkCounts | null): object | undefined {
  if (counts === null) return undefined;
  const { parked, ...rest } = counts;
  return { ...rest, waitingForKey: parked };
}

export function queueDescription({ queue, partition, consumers, ...rest }: QueueDescription): object {
  return { queue: queueMessage(queue), partition: partitionMessage(partition), consumers: consumers.map((one) => ({ ...one })), ...rest };
}

export type StartMessage = { offset?: string; timeMs?: string; earliest?: boolean; latest?: boolean };

/** Where a subscription begins, or is to go. */
export function startOf({ offset, timeMs, earliest, latest }: StartMessage, otherwise: StartAt): StartAt {
  if (offset !== undefined) return { from: 0, value: count(offset, "offset") };
  if (timeMs !== undefined) return { from: 1, value: count(timeMs, "time_ms") };
  if (earliest !== undefined) return { from: 2, value: 0 };
  if (latest !== undefined) return { from: 3, value: 0 };
  return otherwise;
}

export function exchangeMessage({ type, ...rest }: ExchangeRow): object {
  return { ...rest, type: EXCHANGE_TYPES.indexOf(type) + 1 };
}

export function exchangeType(value: number): ExchangeRow["type"] {
  return named(EXCHANGE_TYPES, value, "type");
}

export type BindingMessage = {
  vhost: string;
  source: string;
  destination: string;
  toExchange: boolean;
  routingKey: string;
  match: number;
  headers: { name: string; value?: string }[];
};

export function bindingOf(message: BindingMessage | null): BindingRow {
  if (message === null) throw new BrokerError("INVALID_ARGUMENT", "binding is missing", { field: "binding" });
  const { vhost, source, destination, toExchange, routingKey, match, headers } = message;
  return {
    vhost,
    source,
    destination,
    destinationKind: toExchange ? "exchange" : "queue",
    key: routingKey,
    match: match === 0 ? "all" : named(MATCHES, match, "binding.match"),
    headers: headers.map(({ name, value }) => [name, value ?? null] as const),
  };
}

export function bindingMessage({ vhost, source, destination, destinationKind, key, match, headers }: BindingRow): object {
  return {
    vhost,
    source,
    destination,
    toExchange: destinationKind === "exchange",
    routingKey: key,
    match: headers.length === 0 && match === "all" ? 0 : MATCHES.indexOf(match) + 1,
    headers: headers.map(([name, value]) => (value === null ? { name } : { name, value: String(value) })),
  };
}

export function policyMessage({ settings, ...rest }: PolicyRow): object {
  return { ...rest, settings: settingsMessage(settings) };
}

function named<Name extends string>(names: readonly Name[], value: number, field: string): Name {
  const found = names[value - 1];
  if (found === undefined) throw new BrokerError("INVALID_ARGUMENT", `${field} ${value} is unknown: it is 1..${names.length}`, { field });
  return found;
}
