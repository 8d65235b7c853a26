// Many messages of one queue that are due at the same moment: how long after it the last one comes, and that none comes before.

import { Flotilla } from "../src/client/index.ts";
import type { Figure, FigureRun } from "./figures.ts";
import { publishRecords } from "./flow.ts";
import { Nodes } from "./nodes.ts";
import { payload } from "./system.ts";

const BYTES = 128;
const BATCH_BYTES = 128 * 1024;
const QUEUE = "due";
const PREFETCH = 10_000;
/** What publishing them takes at most, so that all are there before they are due. */
const AHEAD_MS = 10_000;
const TINY_AHEAD_MS = 3_000;

export type DueReport = {
  readonly messages: number;
  /** After they were due, in ms; below 0 is too early. */
  readonly firstMs: number;
  readonly p50Ms: number;
  readonly lastMs: number;
  /** Before they were due all were stored. */
  readonly storedAheadMs: number;
};

export async function runDue(directory: string, messages: number, isTiny: boolean, progress: (text: string) => void): Promise<FigureRun> {
  const aheadMs = isTiny ? TINY_AHEAD_MS : AHEAD_MS;
  progress("starting three nodes");
  const nodes = await Nodes.start(directory);
  try {
    await using client = await Flotilla.connect({ endpoints: nodes.endpoints });
    await client.queues.createQueue({ name: QUEUE });
    const consumer = await client.queueConsumer(QUEUE, { prefetch: PREFETCH });
    const dueMs = Date.now() + aheadMs;
    progress(`publishing ${messages.toLocaleString("en")} messages that are due in ${aheadMs / 1_000} s`);
    const record = { body: payload(BYTES), deliverAtMs: dueMs };
    await publishRecords(client, QUEUE, { count: messages, recordAt: () => record, batchBytes: BATCH_BYTES, acked: () => {} });
    const storedAheadMs = dueMs - Date.now();
    const afterMs: number[] = [];
    while (afterMs.length < messages) {
      const batch = await consumer.nextBatch();
      const nowMs = Date.now();
      for (let count = 0; count < batch.length; count++) afterMs.push(nowMs - dueMs);
      await consumer.ackAll(batch);
    }
    await consumer.close();
    const [firstMs, p50Ms, lastMs] = [afterMs[0]!, afterMs[Math.floor(messages / 2)]!, afterMs[messages - 1]!];
    const report: DueReport = { messages, firstMs, p50Ms, lastMs, storedAheadMs };
    return { report, figures: figuresOf(report) };
  } finally {
    await nodes.stop();
  }
}

function figuresOf({ messages, firstMs, p50Ms, lastMs, storedAheadMs }: DueReport): Figure[] {
  const count = messages.toLocaleString("en");
  return [
    {
      name: `${count} messages due at once: the first one comes after they are due`,
      unit: "ms",
      measured: firstMs,
      wanted: { atLeast: 0 },
      note: `all were stored ${(storedAheadMs / 1_000).toFixed(1)} s before`,
    },
    { name: `${count} messages due at once: the last one`, unit: "ms", measured: lastMs, wanted: { atMost: 2_000 } },
    { name: `${count} messages due at once: half of them`, unit: "ms", measured: p50Ms, wanted: null },
  ];
}
