// One record that stays, in a topic of its own, and gigabytes of another topic that retention trims behind it: what is left
// on every node's disk in the end.

import { SEGMENT_BYTES_DEFAULT } from "../src/base/limits.ts";
import { Flotilla } from "../src/client/index.ts";
import { diskFigures, peakOf, settledDisks, type DiskUse } from "./disk-use.ts";
import { mebibytes, type Figure, type FigureRun } from "./figures.ts";
import { publishBytes } from "./flow.ts";
import { Nodes, NODES } from "./nodes.ts";
import { Pace } from "./pace.ts";

/** Beside so few files, what the last ones cost says nothing. */
const FILES_MIN = 50;
/** So much that what consensus keeps of the traffic is little beside it: a file of which half is live stays as it is. */
const TINY_SEGMENT_BYTES = 8 * 1024 * 1024;
const PINNED = "pinned";
const PASSING = "passing";

type PinnedPlan = { readonly bytes: number; readonly segmentBytes: number; readonly progress: (text: string) => void };

export type PinnedReport = {
  readonly publishedBytes: number;
  readonly segmentBytes: number;
  readonly disks: readonly DiskUse[];
  /** The most that any node's log took while the load ran. */
  readonly peakBytes: number;
  /** From the end of the load until all nodes were within their bounds; -1 = never. */
  readonly settledMs: number;
  /** Payload bytes written twice, per byte written; the worst node's. */
  readonly movedRatio: number;
  readonly isRecordRight: boolean;
};

/** With the product's segments, or, tiny, with small ones. */
export async function runPinned(
  directory: string,
  gigabytes: number,
  isTiny: boolean,
  progress: (text: string) => void,
): Promise<FigureRun> {
  const segmentBytes = isTiny ? TINY_SEGMENT_BYTES : SEGMENT_BYTES_DEFAULT;
  const report = await measurePinned(directory, { bytes: gigabytes * 1e9, segmentBytes, progress });
  return { report, figures: figuresOf(report) };
}

async function measurePinned(directory: string, plan: PinnedPlan): Promise<PinnedReport> {
  const { bytes, segmentBytes, progress } = plan;
  progress("starting three nodes");
  const nodes = await Nodes.start(directory, { env: { FLOTILLA_SEGMENT_BYTES: String(segmentBytes) } });
  try {
    await using client = await Flotilla.connect({ endpoints: nodes.endpoints });
    await client.admin.createTopic({ name: PINNED, partitions: 1, replicas: 3 });
    await client.admin.createTopic({ name: PASSING, partitions: 1, replicas: 3, config: { retentionBytes: segmentBytes / 8 } });
    const body = `it stays ${"x".repeat(100)}`;
    await client.publish(PINNED, [{ body }], { partition: 0 });
    const pace = new Pace("publishing", bytes, progress);
    const batchBytes = Math.min(128 * 1024, segmentBytes / 64);
    const peakBytes = await peakOf(nodes, publishBytes(client, PASSING, { bytes, batchBytes, acked: (done) => pace.update(done) }));
    progress("the load is over: waiting for the disk");
    const { disks, settledMs } = await settledDisks(nodes, segmentBytes);
    let movedRatio = 0;
    for (const node of NODES) {
      const [moved, appended] = await Promise.all([
        nodes.metric(node, "flotilla_log_moved_bytes_total", '{log="data"}'),
        nodes.metric(node, "flotilla_log_appended_bytes_total", '{log="data"}'),
      ]);
      movedRatio = Math.max(movedRatio, moved / appended);
    }
    let isRecordRight = true;
    for (const endpoint of nodes.endpoints) isRecordRight &&= (await firstOf(endpoint)) === body;
    return { publishedBytes: bytes, segmentBytes, disks, peakBytes, settledMs, movedRatio, isRecordRight };
  } finally {
    await nodes.stop();
  }
}

function figuresOf({ disks, publishedBytes, segmentBytes, settledMs, movedRatio, isRecordRight, peakBytes }: PinnedReport): Figure[] {
  return [
    ...diskFigures(disks, `${mebibytes(publishedBytes)} were trimmed`),
    {
      name: "the record that stays, read through every node: times it was another one",
      unit: "",
      measured: isRecordRight ? 0 : 1,
      wanted: { atMost: 0 },
    },
    {
      name: "from the load's end until the space was back",
      unit: "s",
      measured: settledMs < 0 ? null : settledMs / 1000,
      wanted: { atMost: 60 },
    },
    {
      name: "written twice, of what was written",
      unit: "%",
      measured: movedRatio * 100,
      wanted: publishedBytes < FILES_MIN * segmentBytes ? null : { atMost: 5 },
    },
    { name: "the most that a log took under load", unit: "MiB", measured: peakBytes / 2 ** 20, wanted: null },
  ];
}

/** The body of the first record, through this node. */
async function firstOf(endpoint: string): Promise<string> {
  await using client = await Flotilla.connect({ endpoints: [endpoint] });
  const consumer = await client.consumer(PINNED, { from: "earliest", partitions: [0] });
  for await (const { body } of consumer) return Buffer.from(body).toString();
  return "";
}
