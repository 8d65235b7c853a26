// Vhosts, exchanges, bindings, policies and schedules: declared, listed, deleted; and where a publish would go.

import { BrokerError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import { BATCH_BYTES_MAX, BINDING_HEADERS_MAX, ROUTING_KEY_LENGTH_MAX } from "../base/limits.ts";
import { hexDecode } from "../base/hex.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import { encodeDeclare } from "../machine/catalog/commands.ts";
export type { BindingRow, ExchangeRow, PolicyRow, ScheduleRow, VhostRow } from "../machine/catalog/declaration-rows.ts";
import {
  bindingKey,
  bindingRow,
  type BindingRow,
  type ExchangeRow,
  type PolicyRow,
  type ScheduleRow,
  type VhostRow,
} from "../machine/catalog/declaration-rows.ts";
import { keyOf, ROOT_VHOST } from "../machine/catalog/declarations.ts";
import type { Declare } from "../machine/catalog/declare.ts";
import { quoted } from "../machine/names.ts";
import { scanRecordBatch } from "../machine/stream/records-codec.ts";
import type { HeaderValue } from "../machine/routing/headers-match.ts";
import { checkName, vhostOf, type Admin } from "./admin.ts";
import { checkNotReserved, isReserved } from "./reserved.ts";
import type { Router } from "./router.ts";
import { nextRun } from "./schedule-times.ts";
import type { Route } from "./types.ts";
import { checkPattern } from "./work/policies.ts";
import { checkSettings } from "./work/checks.ts";

export type DeclaringComponents = {
  readonly catalog: CatalogMachine;
  readonly admin: Admin;
  readonly router: Router;
  readonly clock: Clock;
  /** Resolves once the catalog here is as new as the catalog was at the call. */
  readonly viewIsCurrent: () => Promise<void>;
};

export class Declaring {
  private readonly components: DeclaringComponents;

  constructor(components: DeclaringComponents) {
    this.components = components;
  }

  async createVhost(name: string, signal: AbortSignal): Promise<boolean> {
    if (name !== ROOT_VHOST) checkName("vhost", name);
    return this.declare({ do: "createVhost", row: { name, createdMs: this.components.clock.wallMs() } }, signal);
  }

  async vhosts(): Promise<VhostRow[]> {
    await this.components.viewIsCurrent();
    return [{ name: ROOT_VHOST, createdMs: 0 }, ...this.declarations.vhosts.after("")];
  }

  async describeVhost(name: string): Promise<{ vhost: VhostRow; topics: number; queues: number; exchanges: number }> {
    const vhost = await this.vhost(name);
    const found = { topics: 0, queues: 0 };
    for (const topic of this.components.catalog.topicsAfter({ vhost, name: "" })) {
      if (topic.vhost !== vhost) break;
      found[topic.queue === null ? "topics" : "queues"] += 1;
    }
    const row = this.declarations.vhosts.get(vhost) ?? { name: vhost, createdMs: 0 };
    return { vhost: row, ...found, exchanges: [...this.declarations.exchangesOf(vhost)].length };
  }

  async deleteVhost(name: string, signal: AbortSignal): Promise<void> {
    await this.components.viewIsCurrent();
    this.components.admin.checkVhost(name);
    await this.declare({ do: "deleteVhost", name }, signal);
  }

  async createExchange(given: Omit<ExchangeRow, "createdMs">, signal: AbortSignal): Promise<{ exchange: ExchangeRow; created: boolean }> {
    const vhost = await this.vhost(given.vhost);
    checkName("exchange", given.name);
    checkNotReserved(given.name);
    if (given.alternate !== "") checkName("alternate exchange", given.alternate);
    const row = { ...given, vhost, createdMs: this.components.clock.wallMs() };
    const created = await this.declare({ do: "createExchange", row }, signal);
    return { exchange: this.declarations.exchange(vhost, given.name) ?? row, created };
  }

  async exchanges(vhost: string): Promise<ExchangeRow[]> {
    return [...this.declarations.exchangesOf(await this.vhost(vhost))];
  }

  async describeExchange(given: string, name: string): Promise<ExchangeRow> {
    const vhost = await this.vhost(given);
    const exchange = this.declarations.exchange(vhost, name);
    if (exchange === undefined) throw unknownExchange(name);
    return exchange;
  }

  async updateExchange(call: { vhost: string; name: string; alternate: string }, signal: AbortSignal): Promise<ExchangeRow> {
    const { vhost } = await this.describeExchange(call.vhost, call.name);
    if (call.alternate !== "") checkName("alternate exchange", call.alternate);
    await this.declare({ do: "updateExchange", ...call, vhost }, signal);
    return this.describeExchange(vhost, call.name);
  }

  async deleteExchange(call: { vhost: string; name: string; ifUnused: boolean }, signal: AbortSignal): Promise<void> {
    const vhost = await this.vhost(call.vhost);
    if (this.declarations.exchange(vhost, call.name) === undefined) throw unknownExchange(call.name);
    await this.declare({ do: "deleteExchange", ...call, vhost }, signal);
  }

  async createBinding(given: BindingRow, signal: AbortSignal): Promise<boolean> {
    return this.declare({ do: "createBinding", row: await this.checked(given) }, signal);
  }

  async deleteBinding(given: BindingRow, signal: AbortSignal): Promise<void> {
    await this.declare({ do: "deleteBinding", row: await this.checked(given) }, signal);
  }

  /** In the order of their keys, after the binding of this key. */
  async bindings(call: {
    vhost: string;
    source: string;
    destination: string;
    after: string;
    max: number;
  }): Promise<{ bindings: BindingRow[]; next: string | null }> {
    const vhost = await this.vhost(call.vhost);
    const prefix = call.source === "" ? keyOf(vhost, "") : `${keyOf(vhost, call.source)}\0`;
    const bindings: BindingRow[] = [];
    const table = this.declarations.bindings;
    for (const row of call.after === "" ? table.of(prefix) : table.after(call.after)) {
      const key = bindingKey(row);
      if (!key.startsWith(prefix)) break;
      if (call.destination !== "" && row.destination !== call.destination) continue;
      if (bindings.length === call.max) return { bindings, next: bindingKey(bindings[bindings.length - 1]!) };
      bindings.push(row);
    }
    return { bindings, next: null };
  }

  async explain(call: {
    vhost: string;
    exchange: string;
    routingKey: string;
    headers: readonly (readonly [string, HeaderValue])[];
  }): Promise<Route[]> {
    const vhost = await this.vhost(call.vhost);
    const { catalog, router } = this.components;
    const ways = this.declarations.routingOf(vhost).ways(call.exchange, { key: call.routingKey, headers: new Map(call.headers) });
    if (ways === undefined) throw unknownExchange(call.exchange);
    return ways
      .filter(({ queue }) => !isReserved(queue))
      .map(({ queue, exchanges }) => {
        const topic = catalog.topic(vhost, queue)!;
        const { partitions, config } = topic;
        const leader = partitions.length === 1 ? router.leaderOf(partitions[0]!.group) : 0;
        return {
          target: queue,
          exchanges,
          isQueue: topic.queue !== null,
          partitions: partitions.length,
          leader,
          durability: config.durability,
        };
      });
  }

  async setPolicy(given: PolicyRow, signal: AbortSignal): Promise<void> {
    const vhost = await this.vhost(given.vhost);
    checkName("policy", given.name);
    checkPattern(given.pattern);
    if (!Number.isSafeInteger(given.priority))
      throw new BrokerError("INVALID_ARGUMENT", "the priority of a policy must be a whole number", { field: "priority" });
    checkSettings(given.settings, true);
    await this.declare({ do: "setPolicy", row: { ...given, vhost } }, signal);
  }

  async policies(vhost: string): Promise<PolicyRow[]> {
    return [...this.declarations.policies.of(keyOf(await this.vhost(vhost), ""))];
  }

  async describePolicy(vhost: string, name: string): Promise<PolicyRow> {
    const policy = this.declarations.policies.get(keyOf(await this.vhost(vhost), name));
    if (policy === undefined) throw unknownObject("policy", name);
    return policy;
  }

  async deletePolicy(vhost: string, name: string, signal: AbortSignal): Promise<void> {
    await this.declare({ do: "deletePolicy", vhost: await this.vhost(vhost), name }, signal);
  }

  async setSchedule(given: ScheduleRow, signal: AbortSignal): Promise<{ row: ScheduleRow; nextMs: number }> {
    const vhost = await this.vhost(given.vhost);
    const { clock } = this.components;
    checkName("schedule", given.name);
    const nextMs = nextRun(given, clock.wallMs());
    checkRecords(given.records);
    if (!this.declarations.routingOf(vhost).hasExchange(given.exchange)) throw unknownExchange(given.exchange);
    const row = { ...given, vhost, id: clock.wallMs() };
    await this.declare({ do: "setSchedule", row }, signal);
    return { row, nextMs };
  }

  async schedules(vhost: string): Promise<{ row: ScheduleRow; nextMs: number }[]> {
    const of = keyOf(await this.vhost(vhost), "");
    return [...this.declarations.schedules.of(of)].map((row) => this.withNext(row));
  }

  async describeSchedule(vhost: string, name: string): Promise<{ row: ScheduleRow; nextMs: number }> {
    const row = this.declarations.schedules.get(keyOf(await this.vhost(vhost), name));
    if (row === undefined) throw unknownObject("schedule", name);
    return this.withNext(row);
  }

  async deleteSchedule(vhost: string, name: string, signal: AbortSignal): Promise<void> {
    await this.declare({ do: "deleteSchedule", vhost: await this.vhost(vhost), name }, signal);
  }

  private withNext(row: ScheduleRow): { row: ScheduleRow; nextMs: number } {
    return { row, nextMs: row.isPaused ? 0 : nextRun(row, this.components.clock.wallMs()) };
  }

  private get declarations(): CatalogMachine["declarations"] {
    return this.components.catalog.declarations;
  }

  /** The vhost, which must be there. What is asked next is answered by a view that is current. */
  private async vhost(vhost: string): Promise<string> {
    await this.components.viewIsCurrent();
    this.components.admin.checkVhost(vhostOf(vhost));
    return vhostOf(vhost);
  }

  private async checked(given: BindingRow): Promise<BindingRow> {
    const vhost = await this.vhost(given.vhost);
    const fault = (message: string, field: string): BrokerError =>
      new BrokerError("INVALID_ARGUMENT", message, { field: `binding.${field}` });
    if (given.key.length > ROUTING_KEY_LENGTH_MAX || given.key.includes("\0"))
      throw fault(`routing_key must have at most ${ROUTING_KEY_LENGTH_MAX} characters, and no NUL`, "routing_key");
    if (given.headers.length > BINDING_HEADERS_MAX) throw fault(`a binding may ask for ${BINDING_HEADERS_MAX} headers`, "headers");
    if (given.headers.some(([name]) => name === "x-match"))
      throw fault("x-match is no header to ask for: in AMQP it says how the others count, as `match` does here", "headers");
    checkName(given.destinationKind, given.destination);
    checkNotReserved(given.destination);
    if (given.source !== "") checkName("exchange", given.source);
    return bindingRow({ ...given, vhost });
  }

  private declare(declare: Declare, signal: AbortSignal): Promise<boolean> {
    return this.components.admin.declare(encodeDeclare(declare), signal);
  }
}

export function unknownExchange(name: string): BrokerError {
  return new BrokerError("UNKNOWN_EXCHANGE", `there is no exchange ${quoted(name)}; create it with "flotilla exchange create"`);
}

function unknownObject(what: string, name: string): BrokerError {
  return new BrokerError("UNKNOWN_OBJECT", `there is no ${what} ${quoted(name)}`);
}

/** What a schedule publishes: one record, encoded, as the API makes it; from elsewhere it may be anything. */
function checkRecords(hex: string): void {
  const isHex = hex.length % 2 === 0 && /^[0-9a-f]+$/.test(hex);
  const bytes = isHex ? hexDecode(hex) : null;
  if (bytes === null || bytes.length > BATCH_BYTES_MAX || scanRecordBatch(bytes, 0, bytes.length) !== 1)
    throw new BrokerError("INVALID_ARGUMENT", "records must be one record, encoded, in hexadecimal digits", { field: "records" });
}
