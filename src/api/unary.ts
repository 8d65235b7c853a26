// Unary calls: a deadline on every one, an AbortSignal for the work, one way out for errors.

import type { handleUnaryCall, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Pacer } from "../base/pacer.ts";
import type { Worked } from "../base/work.ts";
import type { Decoded } from "./definitions.ts";
import { toStatus, unknownFailure } from "./status.ts";
import { callController } from "../broker/wait-until.ts";

export type UnarySettings = {
  readonly defaultDeadlineMs: number;
  readonly logger: Logger;
  readonly pacer: Pacer;
  readonly worked: Worked;
  /** Aborts when this node stops taking calls: whoever waits goes elsewhere. */
  readonly stopping: AbortSignal;
};

/** Serves a unary method by `work`, which rejects with BrokerError for everything that is not a bug. */
export function unary<Request, Response>(
  settings: UnarySettings,
  work: (request: Request, signal: AbortSignal) => Promise<Response> | Response,
): handleUnaryCall<Decoded<Request>, Response> {
  return (call, callback) => {
    if (call.request.error !== null) {
      callback(toStatus(call.request.error));
      return;
    }
    const { signal, done } = deadlineOf(call, settings.defaultDeadlineMs);
    run(settings, call.request.value, signal, work).then(
      (response) => {
        done();
        callback(null, response);
      },
      (error: unknown) => {
        done();
        fail(error, callback, settings.logger);
      },
    );
  };
}

async function run<Request, Response>(
  { pacer, worked }: UnarySettings,
  request: Request,
  signal: AbortSignal,
  work: (request: Request, signal: AbortSignal) => Promise<Response> | Response,
): Promise<Response> {
  const turn = pacer.turn();
  if (turn !== null) await turn;
  if (signal.aborted) throw new BrokerError("TIMEOUT", "the deadline passed before the call was begun: nothing was done");
  const beganMs = performance.now();
  try {
    return work(request, signal);
  } finally {
    worked("beginning a call of a client", beganMs);
  }
}

function fail(error: unknown, callback: sendUnaryData<never>, logger: Logger): void {
  if (error instanceof BrokerError) {
    callback(toStatus(error));
    return;
  }
  logger.error({ error: (error as Error).stack }, "a call failed unexpectedly");
  callback(unknownFailure());
}

/** Aborts when the caller leaves or its time, or the default, is up. `done` frees the timer. */
export function deadlineOf(call: ServerUnaryCall<unknown, unknown>, defaultMs: number): { signal: AbortSignal; done: () => void } {
  const controller = callController();
  const deadline = call.getDeadline();
  const until = deadline instanceof Date ? deadline.getTime() : deadline;
  const ms = Math.max(0, Math.min(Number.isFinite(until) ? until - Date.now() : defaultMs, 0x7fff_ffff));
  const timer = setTimeout(() => controller.abort(), ms);
  timer.unref();
  const cancelled = (): void => controller.abort();
  call.on("cancelled", cancelled);
  return { signal: controller.signal, done: () => clearTimeout(timer) };
}
