import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import type { Broker, FetchCall, OffsetCommit, PublishCall as PublishRequest } from "../broker/types.ts";
import { count } from "./definitions.ts";
import { partError } from "./messages.ts";
import { PublishStream, type PublishCall } from "./publish-stream.ts";
import type { PublishedAnswer } from "./raw-codec.ts";
import { unary, type UnarySettings } from "./unary.ts";

const ROUTING_DIRECT = 2;

type CommitRequest = {
  vhost: string;
  topic: string;
  subscription: string;
  offsets: { partition: number; offset: string; metadata: string; reset: boolean }[];
  routing: number;
};
type OffsetsRequest = { vhost: string; topic: string; subscription: string; partitions: number[]; timeMs?: string; routing: number };

/** flotilla.v1.Messaging over the use cases. */
export function messagingService(broker: Broker, settings: UnarySettings): UntypedServiceImplementation {
  return {
    Publish: unary(settings, (request: PublishRequest, signal) => publish(broker, request, signal)),
    PublishStream: (call: PublishCall) => {
      new PublishStream(call, broker, settings);
    },
    Fetch: unary(settings, (request: FetchCall, signal) => fetch(broker, request, signal, settings.stopping)),
    CommitOffsets: unary(settings, async (request: CommitRequest, signal) => {
      const offsets: OffsetCommit[] = request.offsets.map(({ partition, offset, metadata, reset }) => ({
        partition,
        offset: count(offset, "offsets.offset"),
        metadata,
        reset,
      }));
      const outcomes = await broker.commitOffsets({ ...request, offsets, direct: request.routing === ROUTING_DIRECT }, signal);
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

/** Nobody waits at a node that stops for records to come. */
async function fetch(broker: Broker, request: FetchCall, signal: AbortSignal, stopping: AbortSignal): ReturnType<Broker["fetch"]> {
  try {
    return await broker.fetch(request, AbortSignal.any([signal, stopping]));
  } catch (error) {
    if (!stopping.aborted || signal.aborted) throw error;
    throw new BrokerError("STOPPING", "the node is shutting down");
  }
}

function publish(broker: Broker, request: PublishRequest, signal: AbortSignal): Promise<PublishedAnswer> {
  return new Promise((resolve, reject) => {
    const expired = (): void =>
      reject(new BrokerError("TIMEOUT", "the deadline passed before the batch was acknowledged; send it again with the same sequence"));
    signal.addEventListener("abort", expired, { once: true });
    if (signal.aborted) {
      // Time was up before the work began: nothing was done.
      expired();
      return;
    }
    broker.publish(request, (error, partition, baseOffset, stored, duplicate) => {
      signal.removeEventListener("abort", expired);
      if (error === null) resolve({ partition, baseOffset, count: stored, duplicate });
      else reject(error);
    });
  });
}
