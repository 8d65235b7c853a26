// A node lives for months: what a fetch leaves behind must be nothing.

import { EventEmitter } from "node:events";
import type { handleUnaryCall, ServerUnaryCall } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { messagingService } from "../../src/api/messaging-service.ts";
import { Traffic } from "../../src/api/traffic.ts";
import { BrokerError } from "../../src/base/errors.ts";
import type { Logger } from "../../src/base/logger.ts";
import { Pacer } from "../../src/base/pacer.ts";
import type { Broker } from "../../src/broker/types.ts";
import { FakeLoop } from "../support/fake-loop.ts";
import { heapBytes } from "../support/memory.ts";

const FETCHES = 5_000;
/** Far less than an object of any size for each. */
const LEFT_BYTES_MAX = FETCHES * 256;

class Call extends EventEmitter {
  readonly request = { value: {}, error: null };

  getDeadline(): number {
    return Number.POSITIVE_INFINITY;
  }
}

function serve(fetch: Broker["fetch"], stopping: AbortSignal): () => Promise<{ error: unknown }> {
  const pacer = new Pacer({ sliceMs: 8, waitingMax: 10 }, new FakeLoop());
  const logger = { error: () => {} } as unknown as Logger;
  const settings = { defaultDeadlineMs: 60_000, logger, pacer, worked: () => {}, stopping };
  const handle = messagingService({ fetch } as Broker, settings, new Traffic())["Fetch"] as handleUnaryCall<unknown, unknown>;
  return () => new Promise((resolve) => handle(new Call() as unknown as ServerUnaryCall<unknown, unknown>, (error) => resolve({ error })));
}

test("fetch: nothing of it is left in the node once it is answered", async () => {
  const call = serve(async () => ({}) as Awaited<ReturnType<Broker["fetch"]>>, new AbortController().signal);
  const usedBytes = async (): Promise<number> => {
    for (let count = 0; count < FETCHES; count++) await call();
    return heapBytes();
  };
  const before = await usedBytes();
  expect((await usedBytes()) - before).toBeLessThan(LEFT_BYTES_MAX);
});

test("fetch: one that waits is told to go elsewhere when the node stops", async () => {
  const stopping = new AbortController();
  const call = serve(
    (_request, signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new BrokerError("TIMEOUT", "ended")))),
    stopping.signal,
  );
  const answer = call();
  stopping.abort();
  expect((await answer).error).toMatchObject({ details: expect.stringContaining("the node is shutting down") as string });
});
