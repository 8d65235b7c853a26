// One message that a consumer keeps for as long as it takes, and gigabytes that pass through the same queue behind it: what is left on every
// node's disk in the end.

import { setTimeout as delay } from "node:timers/promises";
import { SEGMENT_BYTES_DEFAULT } from "../src/base/limits.ts";
import { Flotilla, type Message, type QueueConsumer } from "../src/client/index.ts";
import { diskFigures, peakOf, settledDisks, type DiskUse } from "./disk-use.ts";
import { mebibytes, type Figure, type FigureRun } from "./figures.ts";
import { publishBytes } from "./flow.ts";
import { Nodes } from "./nodes.ts";
import { Pace } from "./pace.ts";

const QUEUE = "unsettled";
const TINY_SEGMENT_BYTES = 8 * 1024 * 1024;
/** Enough of them to keep up with who publishes. */
const CONSUMERS = 3;
const AHEAD_BYTES = 32 * 1024 * 1024;
const POLL_MS = 5;

export type UnsettledReport = {
  readonly publishedBytes: number;
  readonly segmentBytes: number;
  readonly disks: readonly DiskUse[];
  readonly peakBytes: number;
  readonly settledMs: number;
  /** The message that stayed, once it was given back and taken again: its body, and for the how manieth time it came. */
  readonly isRight: boolean;
  readonly attempt: number;
};

/** With the product's segments, or, tiny, with small ones. */
export async function runUnsettled(
  directory: string,
  gigabytes: number,
  isTiny: boolean,
  progress: (text: string) => void,
): Promise<FigureRun> {
  const segmentBytes = isTiny ? TINY_SEGMENT_BYTES : SEGMENT_BYTES_DEFAULT;
  const bytes = gigabytes * 1e9;
  progress("starting three nodes");
  const nodes = await Nodes.start(directory, { env: { FLOTILLA_SEGMENT_BYTES: String(segmentBytes) } });
  try {
    await using client = await Flotilla.connect({ endpoints: nodes.endpoints });
    await client.queues.createQueue({ name: QUEUE });
    const body = `it stays ${"x".repeat(100)}`;
    await client.publish(QUEUE, [{ body }]);
    const keeper = await client.queueConsumer(QUEUE, { prefetch: 1 });
    const kept = (await keeper.next())!;
    const peakBytes = await peakOf(nodes, pass(client, bytes, segmentBytes, progress));
    progress("the load is over: waiting for the disk");
    const { disks, settledMs } = await settledDisks(nodes, segmentBytes);
    await kept.nack();
    const again = (await keeper.next())!;
    const { attempt } = again;
    const isRight = Buffer.from(again.body).toString() === body;
    await again.ack();
    await keeper.close();
    const report: UnsettledReport = { publishedBytes: bytes, segmentBytes, disks, peakBytes, settledMs, isRight, attempt };
    return { report, figures: figuresOf(report) };
  } finally {
    await nodes.stop();
  }
}

/** Publishes it all, and has it taken and acknowledged meanwhile. */
async function pass(client: Flotilla, bytes: number, segmentBytes: number, progress: (text: string) => void): Promise<void> {
  const pace = new Pace("through the queue", bytes, progress);
  let taken = 0;
  let published = 0;
  const consumers = await Promise.all(Array.from({ length: CONSUMERS }, () => client.queueConsumer(QUEUE, { prefetch: 1_000 })));
  const work = async (consumer: QueueConsumer): Promise<void> => {
    for (let batch: Message[] = await consumer.nextBatch(); batch.length > 0; batch = await consumer.nextBatch()) {
      await consumer.ackAll(batch);
      for (const message of batch) taken += message.body.length;
      pace.update(taken);
    }
  };
  const working = consumers.map(work);
  const batchBytes = Math.min(128 * 1024, segmentBytes / 64);
  // What waits in the queue is live: who publishes stays near those who take, so that the disk tells of what is settled.
  while (published < bytes) {
    const part = Math.min(AHEAD_BYTES, bytes - published);
    await publishBytes(client, QUEUE, { bytes: part, batchBytes, acked: () => {} });
    published += part;
    while (taken < published - AHEAD_BYTES) await delay(POLL_MS);
  }
  while (taken < published) await delay(POLL_MS);
  await Promise.all(consumers.map((consumer) => consumer.close()));
  await Promise.all(working);
}

function figuresOf({ publishedBytes, disks, peakBytes, settledMs, isRight, attempt }: UnsettledReport): Figure[] {
  return [
    ...diskFigures(disks, `${mebibytes(publishedBytes)} were settled behind one message that was not`),
    {
      name: "the message that stayed, given back and taken again: times it was another one",
      unit: "",
      measured: isRight && attempt === 2 ? 0 : 1,
      wanted: { atMost: 0 },
    },
    {
      name: "from the load's end until the space was back",
      unit: "s",
      measured: settledMs < 0 ? null : settledMs / 1_000,
      wanted: { atMost: 60 },
    },
    { name: "the most that a log took under load", unit: "MiB", measured: peakBytes / 2 ** 20, wanted: null },
  ];
}
