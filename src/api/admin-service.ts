import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import type { Broker } from "../broker/types.ts";
import { changedConfig, describedPartition, newConfig, subscriptionMessage, topicMessage, type ConfigMessage } from "./messages.ts";
import { unary, type UnarySettings } from "./unary.ts";

const PAGE_MAX = 1_000;

type TopicName = { vhost: string; name: string };
type CreateRequest = TopicName & { partitions: number; replicas: number; config: ConfigMessage | null };
type UpdateRequest = TopicName & { config: ConfigMessage | null; update: string[] };
type ListRequest = { vhost: string; pageSize: number; pageToken: string };

/** flotilla.v1.Admin over the use cases. */
export function adminService(broker: Broker, settings: UnarySettings): UntypedServiceImplementation {
  return {
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
    ListSubscriptions: unary(settings, async ({ vhost, topic }: { vhost: string; topic: string }, signal) => ({
      subscriptions: (await broker.listSubscriptions(vhost, topic, signal)).map(subscriptionMessage),
    })),
    DeleteSubscription: unary(settings, async ({ vhost, topic, name }: { vhost: string; topic: string; name: string }, signal) => {
      await broker.deleteSubscription(vhost, topic, name, signal);
      return {};
    }),
  };
}

/** The token is the last name of the page before, so that a page stays right while topics come and go. */
function listTopics(broker: Broker, request: ListRequest): object {
  const size = request.pageSize === 0 ? PAGE_MAX : Math.min(request.pageSize, PAGE_MAX);
  if (request.pageToken.length > 1_000)
    throw new BrokerError("INVALID_ARGUMENT", "page_token is not one that this call gave out", { field: "page_token" });
  const keyOf = (topic: { vhost: string; name: string }): string => `${topic.vhost}\n${topic.name}`;
  const after = Buffer.from(request.pageToken, "base64url").toString();
  const rest = broker.listTopics(request.vhost === "" ? null : request.vhost).filter((topic) => after === "" || keyOf(topic) > after);
  const page = rest.slice(0, size);
  const last = page[page.length - 1];
  const nextPageToken = rest.length > page.length && last !== undefined ? Buffer.from(keyOf(last)).toString("base64url") : "";
  return { topics: page.map(topicMessage), nextPageToken };
}
