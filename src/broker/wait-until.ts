import { setMaxListeners } from "node:events";
import type { Clock } from "../base/clock.ts";
import { BrokerError } from "../base/errors.ts";

/** Of a call that may wait for many partitions, each with a listener of its own: Node takes more than ten for a leak. */
export function callController(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}

/** Aborts after `ms` of this clock. */
export function endAfter(clock: Clock, ms: number): AbortSignal {
  const ended = callController();
  clock.schedule(ms, () => ended.abort());
  return ended.signal;
}

/**
 * Resolves as soon as the condition holds; rejects with TIMEOUT and this message when the signal aborts. `subscribe` has the
 * check called whenever the condition may have changed, and returns the way to end that.
 */
export function waitUntil(
  condition: () => boolean,
  subscribe: (check: () => void) => () => void,
  signal: AbortSignal,
  message: string,
): Promise<void> {
  if (condition()) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const finish = (): void => {
      unsubscribe();
      signal.removeEventListener("abort", abort);
    };
    const abort = (): void => {
      finish();
      reject(new BrokerError("TIMEOUT", message));
    };
    const unsubscribe = subscribe(() => {
      if (!condition()) return;
      finish();
      resolve();
    });
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
  });
}
