import type { Clock } from "../../base/clock.ts";
import { asBrokerError } from "../fetcher.ts";

const RETRY_MS_MIN = 20;
const RETRY_MS_MAX = 500;

/** Tries again what may succeed later, and does no harm twice, until `untilMs` of the clock's monotonic time; then rejects as the last try did. */
export async function until<Value>(clock: Clock, untilMs: number, attempt: () => Promise<Value>): Promise<Value> {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      const waitMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(tries, 8));
      if (!asBrokerError(error).retryable || clock.monotonicMs() + waitMs > untilMs) throw error;
      await new Promise<void>((resolve) => clock.schedule(waitMs, resolve));
    }
  }
}
