// Vhosts, exchanges, bindings, policies and schedules, and the tables that publishing is routed by: made from the rows, and changed with them.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { BINDINGS_MAX, DECLARATIONS_MAX } from "../../base/limits.ts";
import { weightOf } from "../routing/exchange.ts";
import { RoutingTable } from "../routing/routing-table.ts";
import { isName, isVhost, quoted } from "../names.ts";
import {
  CATALOG_CONFLICT,
  CATALOG_EXISTS_DIFFERENT,
  CATALOG_EXISTS_SAME,
  CATALOG_INVALID_NAME,
  CATALOG_TOO_MANY,
  CATALOG_UNKNOWN_OBJECT,
} from "./codes.ts";
import {
  bindingKey,
  bindingRow,
  exchangeRow,
  policyRow,
  scheduleRow,
  type BindingRow,
  type ExchangeRow,
  type PolicyRow,
  type ScheduleRow,
  type VhostRow,
} from "./declaration-rows.ts";
import { DONE, refuse, type Outcome } from "./outcome.ts";
import { Table } from "./table.ts";

export const ROOT_VHOST = "/";
/** Exchanges that every vhost has, and that nobody can change (AMQP 0-9-1, 3.1.3). */
const PREDECLARED: ReadonlyMap<string, ExchangeRow["type"]> = new Map([
  ["amq.direct", "direct"],
  ["amq.fanout", "fanout"],
  ["amq.topic", "topic"],
  ["amq.headers", "headers"],
  ["amq.match", "headers"],
]);

export class Declarations {
  readonly vhosts = new Table<VhostRow>();
  readonly exchanges = new Table<ExchangeRow>();
  readonly bindings = new Table<BindingRow>();
  readonly policies = new Table<PolicyRow>();
  readonly schedules = new Table<ScheduleRow>();
  /** Rises whenever a policy changes. No part of the state. */
  policyChanges = 0;
  /** Ids of the schedules that are there. */
  private readonly scheduleIds = new Set<number>();
  private readonly routing = new Map<string, RoutingTable>();
  /** The exchanges that a queue, topic or exchange is bound to, each with how often: what goes with it when it goes. */
  private readonly bindingsTo = new Map<string, Set<string>>();

  hasVhost(name: string): boolean {
    return name === ROOT_VHOST || this.vhosts.get(name) !== undefined;
  }

  exchange(vhost: string, name: string): ExchangeRow | undefined {
    const type = PREDECLARED.get(name);
    return type === undefined ? this.exchanges.get(keyOf(vhost, name)) : { vhost, name, type, alternate: "", createdMs: 0 };
  }

  /** Those that every vhost has come first. */
  *exchangesOf(vhost: string): Generator<ExchangeRow> {
    for (const name of PREDECLARED.keys()) yield this.exchange(vhost, name)!;
    yield* this.exchanges.of(keyOf(vhost, ""));
  }

  /** Where what is published in the vhost goes. */
  routingOf(vhost: string): RoutingTable {
    let table = this.routing.get(vhost);
    if (table === undefined) {
      this.routing.set(vhost, (table = new RoutingTable()));
      for (const [name, type] of PREDECLARED) table.addExchange({ name, type, alternate: "" });
    }
    return table;
  }

  createVhost(row: VhostRow): Outcome {
    if (!isVhost(row.name)) return refuse(CATALOG_INVALID_NAME, `${quoted(row.name)} is not a vhost name`);
    if (this.hasVhost(row.name)) return refuse(CATALOG_EXISTS_SAME, "");
    if (this.vhosts.size >= DECLARATIONS_MAX) return refuse(CATALOG_TOO_MANY, `there are ${DECLARATIONS_MAX} vhosts already`);
    this.vhosts.set(row.name, { name: row.name, createdMs: row.createdMs });
    return DONE;
  }

  /** It cannot be deleted: it is the first one, or is not there. */
  isVhostLasting(name: string): boolean {
    return this.vhosts.get(name) === undefined;
  }

  /** With everything declared here; topics and queues are the caller's. */
  deleteVhost(name: string): Outcome {
    if (name === ROOT_VHOST) return refuse(CATALOG_CONFLICT, 'the vhost "/" cannot be deleted');
    if (!this.vhosts.delete(name)) return refuse(CATALOG_UNKNOWN_OBJECT, `there is no vhost ${quoted(name)}`);
    const prefix = keyOf(name, "");
    for (const row of [...this.bindings.of(prefix)]) this.removeBinding(row);
    for (const row of [...this.exchanges.of(prefix)]) this.exchanges.delete(keyOf(name, row.name));
    for (const row of [...this.policies.of(prefix)]) this.policies.delete(keyOf(name, row.name));
    for (const row of [...this.schedules.of(prefix)]) this.deleteSchedule(name, row.name);
    this.routing.delete(name);
    return DONE;
  }

  createExchange(given: ExchangeRow): Outcome {
    const row = exchangeRow(given);
    if (!isName(row.name)) return refuse(CATALOG_INVALID_NAME, `${quoted(row.name)} is not the name of an exchange`);
    const known = this.exchange(row.vhost, row.name);
    if (known !== undefined) {
      if (known.type === row.type && known.alternate === row.alternate) return refuse(CATALOG_EXISTS_SAME, "");
      const alternate = known.alternate === "" ? "no alternate" : `alternate ${known.alternate}`;
      return refuse(CATALOG_EXISTS_DIFFERENT, `exchange ${row.name} exists with type ${known.type} and ${alternate}`);
    }
    if (row.name.startsWith("amq."))
      return refuse(CATALOG_INVALID_NAME, "names that begin with amq. are kept for the exchanges of every vhost");
    if (this.exchanges.size >= DECLARATIONS_MAX) return refuse(CATALOG_TOO_MANY, `there are ${DECLARATIONS_MAX} exchanges already`);
    this.exchanges.set(keyOf(row.vhost, row.name), row);
    this.routingOf(row.vhost).addExchange(row);
    return DONE;
  }

  /** Its bindings stay; what it cannot route goes to the other one from now on. */
  updateExchange({ vhost, name, alternate }: { readonly vhost: string; readonly name: string; readonly alternate: string }): Outcome {
    if (PREDECLARED.has(name)) return refuse(CATALOG_CONFLICT, `exchange ${name} is one of those that every vhost has`);
    const known = this.exchanges.get(keyOf(vhost, name));
    if (known === undefined) return refuse(CATALOG_UNKNOWN_OBJECT, `there is no exchange ${quoted(name)}`);
    const row = exchangeRow({ ...known, alternate });
    this.exchanges.set(keyOf(vhost, name), row);
    this.routingOf(vhost).addExchange(row);
    return DONE;
  }

  deleteExchange({ vhost, name, ifUnused }: { readonly vhost: string; readonly name: string; readonly ifUnused: boolean }): Outcome {
    if (PREDECLARED.has(name)) return refuse(CATALOG_CONFLICT, `exchange ${name} is one of those that every vhost has`);
    if (this.exchanges.get(keyOf(vhost, name)) === undefined) return refuse(CATALOG_UNKNOWN_OBJECT, `there is no exchange ${quoted(name)}`);
    const own = [...this.bindings.of(`${keyOf(vhost, name)}\0`)];
    if (ifUnused && own.length > 0) return refuse(CATALOG_CONFLICT, `exchange ${name} has ${own.length} bindings`);
    for (const row of own) this.removeBinding(row);
    this.unbindFrom(vhost, "exchange", name);
    this.exchanges.delete(keyOf(vhost, name));
    this.routingOf(vhost).removeExchange(name);
    return DONE;
  }

  createBinding(given: BindingRow, hasStream: (vhost: string, name: string) => boolean): Outcome {
    const row = bindingRow(given);
    const { vhost, source, destination, destinationKind } = row;
    if (source === "") return refuse(CATALOG_CONFLICT, "every queue is bound to the default exchange by its name, and nothing else can be");
    const exchange = this.exchange(vhost, source);
    if (exchange === undefined) return refuse(CATALOG_UNKNOWN_OBJECT, `there is no exchange ${quoted(source)}`);
    const isThere = destinationKind === "exchange" ? this.exchange(vhost, destination) !== undefined : hasStream(vhost, destination);
    if (!isThere) return refuse(CATALOG_UNKNOWN_OBJECT, `there is no ${destinationKind} ${quoted(destination)}`);
    if (exchange.type === "consistentHash" && weightOf(row.key) === 0)
      return refuse(CATALOG_CONFLICT, `the key of a binding to a consistent-hash exchange is its weight, 1 to 100, not ${quoted(row.key)}`);
    const key = bindingKey(row);
    if (this.bindings.get(key) !== undefined) return refuse(CATALOG_EXISTS_SAME, "");
    if (this.bindings.size >= BINDINGS_MAX) return refuse(CATALOG_TOO_MANY, `there are ${BINDINGS_MAX} bindings already`);
    this.putBinding(row);
    return DONE;
  }

  deleteBinding(given: BindingRow): Outcome {
    const row = this.bindings.get(bindingKey(bindingRow(given)));
    if (row === undefined) return refuse(CATALOG_UNKNOWN_OBJECT, "there is no such binding");
    this.removeBinding(row);
    return DONE;
  }

  setPolicy(given: PolicyRow): Outcome {
    const row = policyRow(given);
    if (!isName(row.name)) return refuse(CATALOG_INVALID_NAME, `${quoted(row.name)} is not the name of a policy`);
    if (this.policies.size >= DECLARATIONS_MAX) return refuse(CATALOG_TOO_MANY, `there are ${DECLARATIONS_MAX} policies already`);
    this.policies.set(keyOf(row.vhost, row.name), row);
    this.policyChanges += 1;
    return DONE;
  }

  deletePolicy(vhost: string, name: string): Outcome {
    this.policyChanges += 1;
    return this.policies.delete(keyOf(vhost, name)) ? DONE : refuse(CATALOG_UNKNOWN_OBJECT, `there is no policy ${quoted(name)}`);
  }

  setSchedule(given: ScheduleRow): Outcome {
    const row = scheduleRow(given);
    if (!isName(row.name)) return refuse(CATALOG_INVALID_NAME, `${quoted(row.name)} is not the name of a schedule`);
    if (this.schedules.size >= DECLARATIONS_MAX) return refuse(CATALOG_TOO_MANY, `there are ${DECLARATIONS_MAX} schedules already`);
    const known = this.schedules.get(keyOf(row.vhost, row.name));
    // What tells one firing from another stays with the schedule, and is no other one's.
    this.putSchedule({ ...row, id: known?.id ?? this.freeScheduleId(row.id) });
    return DONE;
  }

  deleteSchedule(vhost: string, name: string): Outcome {
    const known = this.schedules.get(keyOf(vhost, name));
    if (known === undefined) return refuse(CATALOG_UNKNOWN_OBJECT, `there is no schedule ${quoted(name)}`);
    this.schedules.delete(keyOf(vhost, name));
    this.scheduleIds.delete(known.id);
    return DONE;
  }

  streamAdded(vhost: string, name: string): void {
    this.routingOf(vhost).addQueue(name);
  }

  /** A topic or queue is gone, and what was bound to it with it. */
  streamRemoved(vhost: string, name: string): void {
    this.unbindFrom(vhost, "queue", name);
    this.routingOf(vhost).removeQueue(name);
  }

  write(writer: ByteWriter): void {
    for (const table of [this.vhosts, this.exchanges, this.bindings, this.policies, this.schedules] as readonly Table<unknown>[]) {
      writer.varint(table.size);
      for (const row of table.after("")) writer.string(JSON.stringify(row));
    }
  }

  static read(reader: ByteReader): Declarations {
    const read = new Declarations();
    for (const row of rows<VhostRow>(reader)) read.vhosts.set(row.name, row);
    for (const row of rows<ExchangeRow>(reader)) {
      read.exchanges.set(keyOf(row.vhost, row.name), row);
      read.routingOf(row.vhost).addExchange(row);
    }
    for (const row of rows<BindingRow>(reader)) read.putBinding(row);
    for (const row of rows<PolicyRow>(reader)) read.policies.set(keyOf(row.vhost, row.name), row);
    for (const row of rows<ScheduleRow>(reader)) read.putSchedule(row);
    return read;
  }

  private putSchedule(row: ScheduleRow): void {
    this.schedules.set(keyOf(row.vhost, row.name), row);
    this.scheduleIds.add(row.id);
  }

  /** The first one from the given one on. */
  private freeScheduleId(from: number): number {
    let id = from;
    while (this.scheduleIds.has(id)) id += 1;
    return id;
  }

  private putBinding(row: BindingRow): void {
    const key = bindingKey(row);
    this.bindings.set(key, row);
    const to = targetKey(row.vhost, row.destinationKind, row.destination);
    const keys = this.bindingsTo.get(to);
    if (keys === undefined) this.bindingsTo.set(to, new Set([key]));
    else keys.add(key);
    this.routingOf(row.vhost).bind(specOf(row));
  }

  private removeBinding(row: BindingRow): void {
    const key = bindingKey(row);
    this.bindings.delete(key);
    const to = targetKey(row.vhost, row.destinationKind, row.destination);
    const keys = this.bindingsTo.get(to);
    keys?.delete(key);
    if (keys?.size === 0) this.bindingsTo.delete(to);
    this.routingOf(row.vhost).unbind(specOf(row));
  }

  private unbindFrom(vhost: string, kind: BindingRow["destinationKind"], name: string): void {
    for (const key of [...(this.bindingsTo.get(targetKey(vhost, kind, name)) ?? [])]) this.removeBinding(this.bindings.get(key)!);
  }
}

/** No name can contain a NUL. */
export function keyOf(vhost: string, name: string): string {
  return `${vhost}\0${name}`;
}

function targetKey(vhost: string, kind: string, name: string): string {
  return `${vhost}\0${kind}\0${name}`;
}

function specOf({ source, destination, destinationKind, key, match, headers }: BindingRow): Parameters<RoutingTable["bind"]>[0] {
  return { source, destination, destinationKind, key, headers: { match, headers: new Map(headers) } };
}

function* rows<Row>(reader: ByteReader): Generator<Row> {
  for (let left = reader.varint(); left > 0; left--) yield parseRow<Row>(reader.string());
}

/** Throws DecodeError on what is no JSON. */
export function parseRow<Row>(text: string): Row {
  try {
    return JSON.parse(text) as Row;
  } catch (error) {
    throw new DecodeError(`a row that is no JSON: ${(error as Error).message}`);
  }
}
