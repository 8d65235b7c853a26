// What is declared beside topics and queues: vhosts, exchanges, bindings, policies and schedules. None of it is read or changed often, so
// its rows are stored as JSON, each with its fields in one order.

import type { ExchangeType } from "../routing/exchange.ts";
import type { HeaderValue, HeadersBinding } from "../routing/headers-match.ts";
import { declared, type DeclaredSettings } from "./settings.ts";

export type VhostRow = { readonly name: string; readonly createdMs: number };

export type ExchangeRow = {
  readonly vhost: string;
  readonly name: string;
  readonly type: ExchangeType;
  /** Gets what this one cannot route; "" = nothing does. */
  readonly alternate: string;
  readonly createdMs: number;
};

export type HeadersMatch = HeadersBinding["match"];
export type BindingRow = {
  readonly vhost: string;
  readonly source: string;
  readonly destination: string;
  /** A topic or queue, or an exchange. */
  readonly destinationKind: "queue" | "exchange";
  readonly key: string;
  readonly match: HeadersMatch;
  /** Ascending by name. */
  readonly headers: readonly (readonly [name: string, value: HeaderValue])[];
};

export type PolicyRow = {
  readonly vhost: string;
  readonly name: string;
  /** A regular expression over names of queues. */
  readonly pattern: string;
  /** Of those that fit a queue the highest counts. */
  readonly priority: number;
  readonly settings: DeclaredSettings;
};

export type ScheduleRow = {
  readonly vhost: string;
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly exchange: string;
  readonly routingKey: string;
  /** The record to publish, as a RecordBatch, in base 16. */
  readonly records: string;
  readonly isPaused: boolean;
  /** Tells one life of a schedule from the next, and from all others: when it was made, or the next millisecond that is nobody's. */
  readonly id: number;
};

/** A work subscription of a topic. `start`: the offset that each partition begins at was asked for in these words. */
export type WorkRow = {
  readonly name: string;
  readonly settings: DeclaredSettings;
  /** As in a Fetch: 0 offset, 1 time, 2 earliest, 3 latest. */
  readonly from: 0 | 1 | 2 | 3;
  readonly value: number;
  readonly createdMs: number;
  /** So many the topic had then: those that came later begin with their first record. The catalog counts them. */
  readonly partitions: number;
};

export function bindingKey({ vhost, source, destinationKind, destination, key, match, headers }: BindingRow): string {
  // Of nothing all are there, and none is any.
  const wanted = headers.length === 0 && match === "all" ? "" : `${match}${JSON.stringify(headers)}`;
  return [vhost, source, destinationKind, destination, key, wanted].join("\0");
}

export function exchangeRow({ vhost, name, type, alternate, createdMs }: ExchangeRow): ExchangeRow {
  return { vhost, name, type, alternate, createdMs };
}

export function bindingRow({ vhost, source, destination, destinationKind, key, match, headers }: BindingRow): BindingRow {
  const sorted = [...headers].sort(([a], [b]) => (a < b ? -1 : 1));
  return { vhost, source, destination, destinationKind, key, match, headers: sorted };
}

export function policyRow({ vhost, name, pattern, priority, settings }: PolicyRow): PolicyRow {
  return { vhost, name, pattern, priority, settings: declared(settings) };
}

export function scheduleRow(row: ScheduleRow): ScheduleRow {
  const { vhost, name, cron, timeZone, exchange, routingKey, records, isPaused, id } = row;
  return { vhost, name, cron, timeZone, exchange, routingKey, records, isPaused, id };
}

export function workRow({ name, settings, from, value, createdMs, partitions }: WorkRow): WorkRow {
  return { name, settings: declared(settings), from, value, createdMs, partitions };
}
