import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { TOPICS_PER_PAGE_MAX } from "../base/limits.ts";
import type { Broker } from "../broker/types.ts";
import { changedConfig, describedPartition, newConfig, subscriptionMessage, topicMessage, type ConfigMessage } from "./messages.ts";
import { declaringService } from "./declaring-service.ts";
import { placeOf, tokenOf } from "./page-tokens.ts";
import { queueService } from "./queue-service.ts";
import type { RecordCodec } from "./record-codec.ts";
import { unary, type UnarySettings } from "./unary.ts";

type TopicName = { vhost: string; name: string };
type CreateRequest = TopicName & { partitions: number; replicas: number; config: ConfigMessage | null };
type UpdateRequest = TopicName & { config: ConfigMessage | null; update: string[] };
type ListRequest = { vhost: string; pageSize: number; pageToken: string };
type SubscriptionsRequest = { vhost: string; topic: string; pageSize: number; pageToken: string };

/** flotilla.v1.Admin over the use cases. */
export function adminService(broker: Broker, settings: UnarySettings, records: RecordCodec): UntypedServiceImplementation {
  return {
    ...queueService(broker, settings),
    ...declaringService(broker, settings, records),
    CreateTopic: unary(settings, async (request: CreateRequest, signal) => {
      const { topic, created } = await broker.createTopic({ ...request, config: newConfig(request.config) }, signal);
      return { topic: topicMessage(topic), created };
    }),
    ListTopics: unary(settings, (request: ListRequest) => listTopics(broker, request)),
    DescribeTopic: unary(settings, async ({ vhost, name }: TopicName, signal) => {
      const { topic, partitions } = await broker.describeTopic(vhost, name, signal);
      return { topic: topicMessage(topic), partitions: partitions.map(describedPartition) };
    }),
    UpdateTopic: unary(settings, async ({ vhost, name, config, update }: UpdateRequest, signal) => ({
      topic: topicMessage(await broker.updateTopic(vhost, name, changedConfig(config, update), signal)),
    })),
    ExpandTopic: unary(settings, async ({ vhost, name, partitions }: TopicName & { partitions: number }, signal) => ({
      topic: topicMessage(await broker.expandTopic(vhost, name, partitions, signal)),
    })),
    DeleteTopic: unary(settings, async ({ vhost, name }: TopicName, signal) => {
      await broker.deleteTopic(vhost, name, signal);
      return {};
    }),
    ListSubscriptions: unary(settings, async ({ vhost, topic, pageSize, pageToken }: SubscriptionsRequest, signal) => {
      const { subscriptions, next } = await broker.listSubscriptions(
        { vhost, topic, after: placeOf(pageToken), namesMax: pageSize },
        signal,
      );
      return { subscriptions: subscriptions.map(subscriptionMessage), nextPageToken: next === null ? "" : tokenOf(next) };
    }),
    DescribeGroup: unary(settings, (request: { vhost: string; topic: string; name: string }, signal) =>
      broker.groups.describe(request, signal),
    ),
    DeleteSubscription: unary(settings, async ({ vhost, topic, name }: { vhost: string; topic: string; name: string }, signal) => {
      await broker.deleteSubscription(vhost, topic, name, signal);
      return {};
    }),
  };
}

async function listTopics(broker: Broker, { vhost, pageSize, pageToken }: ListRequest): Promise<object> {
  const [afterVhost, afterName] = placeOf(pageToken).split("\n");
  const { topics, hasMore } = await broker.listTopics({
    vhost: vhost === "" ? null : vhost,
    after: afterName === undefined ? null : { vhost: afterVhost!, name: afterName },
    topicsMax: pageSize === 0 ? TOPICS_PER_PAGE_MAX : Math.min(pageSize, TOPICS_PER_PAGE_MAX),
  });
  const last = topics[topics.length - 1];
  return { topics: topics.map(topicMessage), nextPageToken: hasMore ? tokenOf(`${last!.vhost}\n${last!.name}`) : "" };
}
