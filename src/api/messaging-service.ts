import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import type { Broker, FetchCall, OffsetCommit, PublishCall as PublishRequest } from "../broker/types.ts";
import { count } from "./definitions.ts";
import { partError } from "./messages.ts";
import { ConsumeStream, type ConsumeCall } from "./consume-stream.ts";
import { PublishStream, type PublishCall } from "./publish-stream.ts";
import type { SettleCall } from "./work-codec.ts";
import type { PublishedAnswer } from "./raw-codec.ts";
import type { Traffic } from "./traffic.ts";
import { transactionMethods } from "./transaction-methods.ts";
import { unary, type UnarySettings } from "./unary.ts";
import { callController } from "../broker/wait-until.ts";

const ROUTING_DIRECT = 2;

type CommitRequest = {
  vhost: string;
  topic: string;
  subscription: string;
  offsets: { partition: number; offset: string; metadata: string; reset: boolean }[];
  routing: number;
  generation: string;
};
type ReceiveRequest = {
  vhost: string;
  queue: string;
  subscription: string;
  maxMessages: number;
  maxWaitMs: number;
  leaseMs: number;
  autoAck: boolean;
};
type BrowseRequest = { vhost: string; queue: string; subscription: string; partition: number; fromOffset: string; maxMessages: number };
type RecallRequest = { vhost: string; queue: string; subscription: string; partition: number; offset: string };
type ExpediteRequest = RecallRequest & { delayMs: string; priority?: number };
type SyncRequest = { vhost: string; topic: string; group: string; member: string; released: number[] };
type OffsetsRequest = { vhost: string; topic: string; subscription: string; partitions: number[]; timeMs?: string; routing: number };

/** Fetches under way, by what ends them. */
type Leaving = { readonly stopping: AbortSignal; readonly waiting: Set<() => void> };

/** flotilla.v1.Messaging over the use cases. */
export function messagingService(broker: Broker, settings: UnarySettings, traffic: Traffic): UntypedServiceImplementation {
  const leaving: Leaving = { stopping: settings.stopping, waiting: new Set() };
  settings.stopping.addEventListener("abort", () => leaving.waiting.forEach((end) => end()), { once: true });
  return {
    Publish: unary(settings, (request: PublishRequest & { readonly mandatory: boolean }, signal) => publish(broker, request, signal)),
    PublishStream: (call: PublishCall) => {
      new PublishStream(call, broker, { ...settings, traffic });
    },
    Fetch: unary(settings, (request: FetchCall, signal) => untilStopping(signal, leaving, (ended) => broker.fetch(request, ended))),
    Receive: unary(settings, (request: ReceiveRequest, signal) =>
      untilStopping(signal, leaving, (ended) => broker.queues.receive(request, ended)),
    ),
    Consume: (call: ConsumeCall) => {
      new ConsumeStream(call, broker, settings);
    },
    Settle: unary(settings, async (request: SettleCall) => {
      const outcomes = await broker.queues.settle(request, request.settlements);
      return outcomes.map((outcome, at) => ({ firstId: at + 1, settlements: 1, ...outcome }));
    }),
    Browse: unary(settings, (request: BrowseRequest, signal) =>
      broker.queues.browse({ ...request, fromOffset: count(request.fromOffset, "from_offset") }, signal),
    ),
    Recall: unary(settings, async (request: RecallRequest, signal) => ({
      recalled: await broker.queues.recall(request, request.partition, count(request.offset, "offset"), signal),
    })),
    Expedite: unary(settings, async ({ priority, ...request }: ExpediteRequest, signal) => {
      const [offset, delayMs] = [count(request.offset, "offset"), count(request.delayMs, "delay_ms")];
      const message = { partition: request.partition, offset, delayMs, priority: priority ?? -1 };
      return { expedited: await broker.queues.expedite(request, message, signal) };
    }),
    ...transactionMethods(broker.transactions, settings),
    SyncGroup: unary(settings, (request: SyncRequest, signal) => broker.groups.sync(request, signal)),
    LeaveGroup: unary(settings, async (request: SyncRequest, signal) => {
      await broker.groups.leave(request, signal);
      return {};
    }),
    CommitOffsets: unary(settings, async (request: CommitRequest, signal) => {
      const offsets: OffsetCommit[] = request.offsets.map(({ partition, offset, metadata, reset }) => ({
        partition,
        offset: count(offset, "offsets.offset"),
        metadata,
        reset,
      }));
      const generation = count(request.generation, "generation");
      const outcomes = await broker.commitOffsets({ ...request, offsets, generation, direct: request.routing === ROUTING_DIRECT }, signal);
      return { partitions: outcomes.map(({ partition, error }) => ({ partition, error: partError(error) })) };
    }),
    GetOffsets: unary(settings, async (request: OffsetsRequest, signal) => {
      const timeMs = request.timeMs === undefined ? -1 : count(request.timeMs, "time_ms");
      const offsets = await broker.getOffsets({ ...request, timeMs, direct: request.routing === ROUTING_DIRECT }, signal);
      return {
        partitions: offsets.map(({ partition, startOffset, endOffset, committedOffset, metadata, timeOffset, error }) => ({
          partition,
          startOffset,
          endOffset,
          ...(committedOffset < 0 ? {} : { committedOffset }),
          metadata,
          ...(timeOffset < 0 ? {} : { timeOffset }),
          error: partError(error),
        })),
      };
    }),
  };
}

/**
 * Nobody waits at a node that stops for records to come: `waiting` is told then. AbortSignal.any would say the same, and keep more
 * than a kilobyte of each call for as long as the node lives.
 */
async function untilStopping<Answer>(
  signal: AbortSignal,
  { stopping, waiting }: Leaving,
  work: (ended: AbortSignal) => Promise<Answer>,
): Promise<Answer> {
  const ended = callController();
  const end = (): void => ended.abort();
  signal.addEventListener("abort", end, { once: true });
  waiting.add(end);
  if (signal.aborted || stopping.aborted) end();
  try {
    return await work(ended.signal);
  } catch (error) {
    if (!stopping.aborted || signal.aborted) throw error;
    throw new BrokerError("STOPPING", "the node is shutting down");
  } finally {
    signal.removeEventListener("abort", end);
    waiting.delete(end);
  }
}

function publish(broker: Broker, request: PublishRequest & { readonly mandatory: boolean }, signal: AbortSignal): Promise<PublishedAnswer> {
  return new Promise((resolve, reject) => {
    const expired = (): void =>
      reject(new BrokerError("TIMEOUT", "the deadline passed before the batch was acknowledged; send it again with the same sequence"));
    signal.addEventListener("abort", expired, { once: true });
    if (signal.aborted) {
      // Time was up before the work began: nothing was done.
      expired();
      return;
    }
    broker.publish(request, (error, partition, baseOffset, stored, duplicate, routed) => {
      signal.removeEventListener("abort", expired);
      const unroutable = request.mandatory ? (routed?.unroutable ?? []) : [];
      if (error === null) resolve({ partition, baseOffset, count: stored, duplicate, routed: routed?.copies ?? 0, unroutable });
      else reject(error);
    });
  });
}
