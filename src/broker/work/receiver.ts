// Receive: a consumer that comes for a moment. It takes what there is, or waits for the first message, and stays known to the group only
// as long as it holds something.

import { RECEIVE_MESSAGES_MAX, DELIVERY_BYTES_MAX } from "../../base/limits.ts";
import { BrokerError } from "../../base/errors.ts";
import { asBrokerError } from "../fetcher.ts";
import { sliceRecords } from "../record-scan.ts";
import type { LeasedRun } from "./codec.ts";
import type { Gateway } from "./gateway.ts";
import { Part } from "./part.ts";
import type { RecordSlice } from "./run-reader.ts";
import type { SessionTerms } from "./session.ts";
import type { Delivered } from "./types.ts";

/** A group gets this long for its answer beyond what the caller waits for a message. */
const GRACE_MS = 1_000;
/** Partitions that are asked at one time. */
const PARTITIONS_MAX = 64;

export type ReceiveTerms = SessionTerms & { readonly maxMessages: number; readonly maxWaitMs: number };

/** Resolves with the first messages that come; with none when time is up. Rejects with BrokerError. */
export async function receive(gateway: Gateway, terms: ReceiveTerms, signal: AbortSignal): Promise<readonly Delivered[]> {
  const { clock } = gateway.components;
  const { subscription, priority, leaseMs, maxMessages, maxWaitMs } = terms;
  if (terms.partitions.length > PARTITIONS_MAX)
    throw new BrokerError("INVALID_ARGUMENT", `a topic of more than ${PARTITIONS_MAX} partitions is read with Consume`);
  let wake = (): void => {};
  const woken = new Promise<void>((resolve) => (wake = resolve));
  let failure: BrokerError | null = null;
  const staysMs = maxWaitMs + GRACE_MS;
  let attached = 0;
  const parts = terms.partitions.map(
    ({ group, partition }) =>
      new Part(gateway, { group, partition, subscription, priority, leaseMs, staysMs }, Math.min(maxMessages, RECEIVE_MESSAGES_MAX), {
        attached: () => {
          attached += 1;
          // Whoever waits for nothing has heard all there is once every group has answered: what it gives comes before its answer does.
          if (attached === parts.length && maxWaitMs === 0) clock.defer(wake);
        },
        given: wake,
        revoked: () => {},
        failed: (error) => {
          failure ??= error;
          wake();
        },
      }),
  );
  const timer = clock.schedule(staysMs, wake);
  signal.addEventListener("abort", wake, { once: true });
  try {
    if (maxWaitMs > 0) clock.schedule(maxWaitMs, wake);
    await woken;
    if (failure !== null) throw failure;
    return await take(gateway, terms, parts, signal);
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", wake);
    for (const part of parts) part.leave();
  }
}

async function take(gateway: Gateway, terms: ReceiveTerms, parts: readonly Part[], signal: AbortSignal): Promise<readonly Delivered[]> {
  const delivered: Delivered[] = [];
  let bytes = 0;
  let left = terms.maxMessages;
  for (const part of parts) {
    await part.drain().catch((error: unknown) => void asBrokerError(error));
    while (part.pendingMessages > 0 && left > 0 && bytes < DELIVERY_BYTES_MAX && !signal.aborted) {
      const run = part.pending[0]!;
      const slice = await firstSlice(gateway, part, run, DELIVERY_BYTES_MAX - bytes, signal);
      // Meanwhile it may have been taken back, or something missed has come before it.
      if (part.pending[0] !== run) continue;
      if (slice === null) {
        part.takeFirst(Number.MAX_SAFE_INTEGER);
        continue;
      }
      const taken = part.takeFirst(Math.min(left, slice.end - slice.from));
      const records = taken.end === slice.end ? slice.records : sliceRecords(slice.records, 0, taken.end - taken.from);
      if (terms.autoAck && !(await settled(gateway, part, taken))) continue;
      const { from, end, token, deadlineMs, deliveries } = taken;
      const { partition } = part.terms;
      delivered.push({
        partition,
        firstOffset: from,
        count: end - from,
        timeMs: slice.timeMs,
        records,
        token,
        deadlineMs,
        deliveries,
        consumer: part.consumer,
      });
      left -= end - from;
      bytes += records.length;
    }
  }
  return delivered;
}

/** At most once: settled before it is given to the caller. */
async function settled(gateway: Gateway, part: Part, { from, end, token }: LeasedRun): Promise<boolean> {
  const result = await gateway.components.operator.ask(part.group, {
    op: "settle",
    name: part.subscription,
    consumer: part.consumer,
    token,
    from,
    end,
    outcome: { kind: "ack" },
  });
  return result === end - from;
}

/** Null: they are not held any more. */
async function firstSlice(
  gateway: Gateway,
  part: Part,
  { from, end }: LeasedRun,
  maxBytes: number,
  signal: AbortSignal,
): Promise<RecordSlice | null> {
  try {
    return (await gateway.components.reader.readOn(part.group, from, end, maxBytes, signal))[0]!;
  } catch (error) {
    if (asBrokerError(error).code === "OFFSET_OUT_OF_RANGE") return null;
    throw error;
  }
}
