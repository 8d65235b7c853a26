// The part of flotilla.v1.Admin that is about queues and work subscriptions.

import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import { TOPICS_PER_PAGE_MAX } from "../base/limits.ts";
import type { Broker } from "../broker/types.ts";
import { placeOf, tokenOf } from "./page-tokens.ts";
import { unary, type UnarySettings } from "./unary.ts";
import {
  queueDescription,
  queueMessage,
  resetOf,
  settingsOf,
  startOf,
  workDescription,
  workMessage,
  type SettingsMessage,
  type StartMessage,
} from "./work-messages.ts";

type Name = { vhost: string; name: string };
type CreateRequest = Name & { replicas: number; settings: SettingsMessage | null; durability: number };
type ListRequest = { vhost: string; pageSize: number; pageToken: string; withCounts: boolean };
type UpdateRequest = Name & { settings: SettingsMessage | null; reset: string[] };
type WorkName = Name & { topic: string };

export function queueService(broker: Broker, settings: UnarySettings): UntypedServiceImplementation {
  const { queues } = broker;
  return {
    CreateQueue: unary(settings, async (request: CreateRequest, signal) => {
      const { durability } = request;
      if (durability < 0 || durability > 3)
        throw new BrokerError("INVALID_ARGUMENT", `durability ${durability} is unknown: 1 is fsync, 2 interval, 3 os`, {
          field: "durability",
        });
      const call = { ...request, durability: durability as 0 | 1 | 2 | 3, settings: settingsOf(request.settings) };
      const { queue, created } = await queues.create(call, signal);
      return { queue: queueMessage(queue), created };
    }),
    ListQueues: unary(settings, async ({ vhost, pageSize, pageToken, withCounts }: ListRequest, signal) => {
      const [afterVhost, afterName] = placeOf(pageToken).split("\n");
      const page = await queues.list(
        {
          vhost: vhost === "" ? null : vhost,
          after: afterName === undefined ? null : { vhost: afterVhost!, name: afterName },
          max: pageSize === 0 ? TOPICS_PER_PAGE_MAX : Math.min(pageSize, TOPICS_PER_PAGE_MAX),
          withCounts,
        },
        signal,
      );
      const last = page.queues[page.queues.length - 1];
      return { queues: page.queues.map(queueMessage), nextPageToken: page.hasMore ? tokenOf(`${last!.vhost}\n${last!.name}`) : "" };
    }),
    DescribeQueue: unary(settings, async ({ vhost, name }: Name, signal) => queueDescription(await queues.describe(vhost, name, signal))),
    UpdateQueue: unary(settings, async ({ vhost, name, settings: changes, reset }: UpdateRequest, signal) => ({
      queue: queueMessage(await queues.update({ vhost, name, settings: settingsOf(changes), reset: resetOf(reset) }, signal)),
    })),
    DeleteQueue: unary(settings, async (request: Name & { ifUnused: boolean; ifEmpty: boolean }, signal) => {
      await queues.delete(request, signal);
      return {};
    }),
    PurgeQueue: unary(settings, async ({ vhost, name, subscription, dead }: Name & { subscription: string; dead: boolean }, signal) => ({
      messages: await queues.purge({ vhost, queue: name, subscription }, dead, signal),
    })),
    ReviveQueue: unary(settings, async ({ vhost, name, subscription }: Name & { subscription: string }, signal) => ({
      messages: await queues.revive({ vhost, queue: name, subscription }, signal),
    })),
    CreateWorkSubscription: unary(settings, async (request: WorkName & StartMessage & { settings: SettingsMessage | null }, signal) => {
      const { vhost, topic, name } = request;
      const start = startOf(request, { from: 3, value: 0 });
      const { subscription, created } = await queues.createWork(
        { vhost, topic, name, settings: settingsOf(request.settings), start },
        signal,
      );
      return { subscription: workMessage(subscription), created };
    }),
    ListWorkSubscriptions: unary(settings, async ({ vhost, topic }: WorkName, signal) => ({
      subscriptions: (await queues.listWorks(vhost, topic, signal)).map(workMessage),
    })),
    DescribeWorkSubscription: unary(settings, async (request: WorkName & { partition: number }, signal) =>
      workDescription(await queues.describeWork(request, signal)),
    ),
    UpdateWorkSubscription: unary(settings, async (request: WorkName & UpdateRequest, signal) => {
      const { vhost, topic, name, reset } = request;
      const changed = await queues.updateWork(
        { vhost, topic, name, settings: settingsOf(request.settings), reset: resetOf(reset) },
        signal,
      );
      return { subscription: workMessage(changed) };
    }),
    DeleteWorkSubscription: unary(settings, async ({ vhost, topic, name }: WorkName, signal) => {
      await queues.deleteWork(vhost, topic, name, signal);
      return {};
    }),
    SeekWorkSubscription: unary(settings, async (request: WorkName & StartMessage, signal) => {
      const { vhost, topic, name } = request;
      await queues.seekWork({ vhost, topic, name, to: startOf(request, { from: 2, value: 0 }) }, signal);
      return {};
    }),
  };
}
