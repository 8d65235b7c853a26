// Queues and what else is declared as messages of the generic codec, and back.

import type { Durability } from "./admin.ts";
import { FlotillaError } from "./errors.ts";
import type {
  BackOff,
  Binding,
  ExchangeInfo,
  ExchangeType,
  HeadersMatch,
  Overflow,
  Policy,
  QueueInfo,
  ScheduleInfo,
  StartAt,
  WorkSettings,
  WorkSubscriptionInfo,
} from "./queue-admin.ts";
import type { OutgoingRecord } from "./records.ts";

const BACK_OFFS: readonly BackOff[] = ["fixed", "linear", "exponential"];
const OVERFLOWS: readonly Overflow[] = ["drop-head", "reject-publish"];
export const TYPES: readonly ExchangeType[] = ["direct", "fanout", "topic", "headers", "consistent-hash"];
const MATCHES: readonly HeadersMatch[] = ["all", "any", "all-with-x", "any-with-x"];
export const DURABILITIES: readonly Durability[] = ["fsync", "interval", "os"];
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
export type QueueMessage = Omit<QueueInfo, "declared" | "settings" | "durability"> & {
  declared: SettingsMessage;
  settings: SettingsMessage;
  durability: number;
};
export type WorkMessage = Omit<WorkSubscriptionInfo, "declared" | "settings"> & { declared: SettingsMessage; settings: SettingsMessage };
export type BindingMessage = {
  vhost: string;
  source: string;
  destination: string;
  toExchange: boolean;
  routingKey: string;
  match: number;
  headers: { name: string; value?: string }[];
};

export type ExchangeMessage = Omit<ExchangeInfo, "type"> & { type: number };
export type PolicyMessage = Omit<Required<Policy>, "settings"> & { settings: SettingsMessage };
export type ScheduleMessage = Omit<ScheduleInfo, "body"> & { record: { body: Uint8Array } | null };

export function scheduleOf({ record, ...rest }: ScheduleMessage): ScheduleInfo {
  return { ...rest, body: record?.body ?? new Uint8Array(0) };
}

/** A record as the generic codec encodes it. */
export function recordMessage(record: OutgoingRecord): object {
  const bytes = (value: Uint8Array | string): Uint8Array => (typeof value === "string" ? Buffer.from(value) : value);
  const { body, key, headers = [], ...rest } = record;
  return { ...rest, body: bytes(body), headers, ...(key === undefined ? {} : { key: bytes(key) }) };
}

export function toMessage(settings: Partial<WorkSettings>): SettingsMessage {
  const { backOff, overflow, ...rest } = settings;
  return {
    ...rest,
    ...(backOff === undefined ? {} : { backOff: BACK_OFFS.indexOf(backOff) + 1 }),
    ...(overflow === undefined ? {} : { overflow: OVERFLOWS.indexOf(overflow) + 1 }),
  };
}

export function settingsOf(message: SettingsMessage | null | undefined): Partial<WorkSettings> {
  const settings: Record<string, unknown> = {};
  for (const name of Object.keys(FIELDS) as (keyof WorkSettings)[]) if (message?.[name] !== undefined) settings[name] = message[name];
  if (message?.backOff !== undefined) settings["backOff"] = BACK_OFFS[message.backOff - 1];
  if (message?.overflow !== undefined) settings["overflow"] = OVERFLOWS[message.overflow - 1];
  return settings;
}

/** The names of the settings as the API has them. */
export function resetMessage(reset: readonly (keyof WorkSettings)[]): string[] {
  return reset.map((name) => {
    if (!Object.hasOwn(FIELDS, name))
      throw new FlotillaError(
        "INVALID_ARGUMENT",
        `there is no setting ${JSON.stringify(name)}; there are ${Object.keys(FIELDS).join(", ")}`,
      );
    return FIELDS[name];
  });
}

export function policyOf(policy: PolicyMessage): Required<Policy> {
  return { ...policy, settings: settingsOf(policy.settings) };
}

export function queueOf({ declared, settings, durability, ...rest }: QueueMessage): QueueInfo {
  return { ...rest, declared: settingsOf(declared), settings: settingsOf(settings), durability: DURABILITIES[durability - 1] ?? "fsync" };
}

export function workOf({ declared, settings, ...rest }: WorkMessage): WorkSubscriptionInfo {
  return { ...rest, declared: settingsOf(declared), settings: settingsOf(settings) };
}

export function startMessage(from: StartAt | undefined): object {
  if (from === undefined) return {};
  if (from === "earliest") return { earliest: true };
  return from === "latest" ? { latest: true } : from;
}

export function exchangeOf({ type, ...rest }: ExchangeMessage): ExchangeInfo {
  return { ...rest, type: TYPES[type - 1] ?? "direct" };
}

export function bindingMessage(binding: Binding): BindingMessage {
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

export function bindingOf({ match, headers, ...rest }: BindingMessage): Required<Binding> {
  return {
    ...rest,
    match: MATCHES[match - 1] ?? "all",
    headers: Object.fromEntries(headers.map(({ name, value }) => [name, value ?? null])),
  };
}
