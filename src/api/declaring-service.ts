// The part of flotilla.v1.Admin that is about vhosts, exchanges, bindings, policies, schedules and definitions.

import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { hexDecode, hexEncode } from "../base/hex.ts";
import { BINDINGS_PER_PAGE_MAX } from "../base/limits.ts";
import type { ScheduleRow } from "../broker/declaring.ts";
import type { Broker } from "../broker/types.ts";
import { placeOf, tokenOf } from "./page-tokens.ts";
import type { RecordCodec } from "./record-codec.ts";
import { unary, type UnarySettings } from "./unary.ts";
import {
  bindingMessage,
  bindingOf,
  exchangeMessage,
  exchangeType,
  policyMessage,
  settingsOf,
  type BindingMessage,
  type SettingsMessage,
} from "./work-messages.ts";

type Name = { vhost: string; name: string };
type ExchangeRequest = Name & { type: number; alternate: string };
type ListBindings = { vhost: string; source: string; destination: string; pageSize: number; pageToken: string };
type Explain = { vhost: string; exchange: string; routingKey: string; headers: { name: string; value: Buffer }[] };
type Policy = Name & { pattern: string; priority: number; settings: SettingsMessage | null };
type Schedule = Name & {
  cron: string;
  timeZone: string;
  exchange: string;
  routingKey: string;
  record: object | null;
  paused: boolean;
};

export function declaringService(broker: Broker, settings: UnarySettings, records: RecordCodec): UntypedServiceImplementation {
  const { declaring, definitions } = broker;
  const scheduleMessage = ({ row, nextMs }: { row: ScheduleRow; nextMs: number }): object => {
    const { vhost, name, cron, timeZone, exchange, routingKey, isPaused } = row;
    return { vhost, name, cron, timeZone, exchange, routingKey, record: records.first(hexDecode(row.records)), paused: isPaused, nextMs };
  };
  return {
    CreateVhost: unary(settings, async ({ name }: { name: string }, signal) => ({ created: await declaring.createVhost(name, signal) })),
    ListVhosts: unary(settings, async () => ({ vhosts: await declaring.vhosts() })),
    DescribeVhost: unary(settings, async ({ name }: { name: string }) => declaring.describeVhost(name)),
    DeleteVhost: unary(settings, async ({ name }: { name: string }, signal) => {
      await declaring.deleteVhost(name, signal);
      return {};
    }),
    CreateExchange: unary(settings, async ({ vhost, name, type, alternate }: ExchangeRequest, signal) => {
      const { exchange, created } = await declaring.createExchange({ vhost, name, type: exchangeType(type), alternate }, signal);
      return { exchange: exchangeMessage(exchange), created };
    }),
    ListExchanges: unary(settings, async ({ vhost }: Name) => ({ exchanges: (await declaring.exchanges(vhost)).map(exchangeMessage) })),
    DescribeExchange: unary(settings, async ({ vhost, name }: Name) => ({
      exchange: exchangeMessage(await declaring.describeExchange(vhost, name)),
    })),
    UpdateExchange: unary(settings, async (request: Name & { alternate: string }, signal) => ({
      exchange: exchangeMessage(await declaring.updateExchange(request, signal)),
    })),
    DeleteExchange: unary(settings, async (request: Name & { ifUnused: boolean }, signal) => {
      await declaring.deleteExchange(request, signal);
      return {};
    }),
    CreateBinding: unary(settings, async ({ binding }: { binding: BindingMessage | null }, signal) => ({
      created: await declaring.createBinding(bindingOf(binding), signal),
    })),
    ListBindings: unary(settings, async ({ vhost, source, destination, pageSize, pageToken }: ListBindings) => {
      const max = pageSize === 0 ? BINDINGS_PER_PAGE_MAX : Math.min(pageSize, BINDINGS_PER_PAGE_MAX);
      const { bindings, next } = await declaring.bindings({ vhost, source, destination, after: placeOf(pageToken), max });
      return { bindings: bindings.map(bindingMessage), nextPageToken: next === null ? "" : tokenOf(next) };
    }),
    DeleteBinding: unary(settings, async ({ binding }: { binding: BindingMessage | null }, signal) => {
      await declaring.deleteBinding(bindingOf(binding), signal);
      return {};
    }),
    ExplainPublish: unary(settings, async ({ vhost, exchange, routingKey, headers }: Explain) => {
      const named = headers.map(({ name, value }) => [name, value.toString("utf8")] as const);
      return { routes: await declaring.explain({ vhost, exchange, routingKey, headers: named }) };
    }),
    SetPolicy: unary(settings, async ({ policy }: { policy: Policy | null }, signal) => {
      const { vhost = "", name = "", pattern = "", priority = 0, settings: given } = policy ?? { settings: null };
      await declaring.setPolicy({ vhost, name, pattern, priority, settings: settingsOf(given) }, signal);
      return {};
    }),
    ListPolicies: unary(settings, async ({ vhost }: Name) => ({ policies: (await declaring.policies(vhost)).map(policyMessage) })),
    DescribePolicy: unary(settings, async ({ vhost, name }: Name) => ({
      policy: policyMessage(await declaring.describePolicy(vhost, name)),
    })),
    DeletePolicy: unary(settings, async ({ vhost, name }: Name, signal) => {
      await declaring.deletePolicy(vhost, name, signal);
      return {};
    }),
    SetSchedule: unary(settings, async ({ schedule }: { schedule: Schedule | null }, signal) => {
      const given = { vhost: "", name: "", cron: "", timeZone: "", exchange: "", routingKey: "", record: null, paused: false, ...schedule };
      const { vhost, name, cron, timeZone, exchange, routingKey, paused } = given;
      const batch = hexEncode(records.batchOf(given.record ?? {}));
      const row = { vhost, name, cron, timeZone, exchange, routingKey, records: batch, isPaused: paused, id: 0 };
      return { schedule: scheduleMessage(await declaring.setSchedule(row, signal)) };
    }),
    ListSchedules: unary(settings, async ({ vhost }: Name) => ({ schedules: (await declaring.schedules(vhost)).map(scheduleMessage) })),
    DescribeSchedule: unary(settings, async ({ vhost, name }: Name) => ({
      schedule: scheduleMessage(await declaring.describeSchedule(vhost, name)),
    })),
    DeleteSchedule: unary(settings, async ({ vhost, name }: Name, signal) => {
      await declaring.deleteSchedule(vhost, name, signal);
      return {};
    }),
    ExportDefinitions: unary(settings, async ({ vhost }: { vhost: string }) => ({ json: await definitions.export(vhost) })),
    ImportDefinitions: unary(settings, ({ json }: { json: string }, signal) => definitions.import(json, signal)),
  };
}
