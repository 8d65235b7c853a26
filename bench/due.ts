// Many messages of one queue that are due at the same moment: how long after it the last one comes, and that none comes before.

import { Flotilla } from "../src/client/index.ts";
import type { Figure, FigureRun } from "./figures.ts";
import { Nodes } from "./nodes.ts";
import { payload } from "./system.ts";

const BYTES = 128;
const QUEUE = "due";
const PREFETCH = 10_000;
/** What publishing them takes at most, so that all are there before they are due. */
const AHEAD_MS = 10_000;
const TINY_AHEAD_MS = 3_000;
const TURN_RECORDS = 500;

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
    await publish(client, messages, dueMs);
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

async function publish(client: Flotilla, messages: number, deliverAtMs: number): Promise<void> {
  const producer = await client.producer(QUEUE, { lingerMs: 1, batchBytes: 128 * 1024 });
  const record = { body: payload(BYTES), deliverAtMs };
  let failure: Error | null = null;
  for (let sent = 0; sent < messages && failure === null; sent++) {
    if (!producer.append(record, (error) => (failure ??= error))) await producer.ready();
    if (sent % TURN_RECORDS === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await producer.close();
  if (failure !== null) throw failure as Error;
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
