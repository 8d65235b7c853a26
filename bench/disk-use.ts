// What the log of each node takes of its disk, beside what it may take: two segments and what is live.

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { mebibytes, type Figure } from "./figures.ts";
import { NODES, type Nodes } from "./nodes.ts";

const SAMPLE_MS = 250;
/** Space comes back within seconds of the load's end; then the bench gives up. */
const WAIT_MS_MAX = 90_000;

export type DiskUse = {
  readonly node: number;
  readonly liveBytes: number;
  /** Of all files of the data log: as long as they are, and as much of the disk as they take. */
  readonly apparentBytes: number;
  readonly allocatedBytes: number;
  readonly boundBytes: number;
  readonly ok: boolean;
};

/** The most that any node's log takes while `work` goes on. */
export async function peakOf(nodes: Nodes, work: Promise<void>): Promise<number> {
  let peakBytes = 0;
  const sampler = setInterval(() => {
    for (const node of NODES) peakBytes = Math.max(peakBytes, filesOf(nodes.dataDir(node)).apparentBytes);
  }, SAMPLE_MS);
  await work.finally(() => clearInterval(sampler));
  return peakBytes;
}

/** Waits until all nodes are within their bounds; `settledMs` = -1: never. */
export async function settledDisks(nodes: Nodes, segmentBytes: number): Promise<{ disks: DiskUse[]; settledMs: number }> {
  const began = performance.now();
  let disks = await disksOf(nodes, segmentBytes);
  while (disks.some(({ ok }) => !ok) && performance.now() - began < WAIT_MS_MAX) {
    await delay(SAMPLE_MS);
    disks = await disksOf(nodes, segmentBytes);
  }
  return { disks, settledMs: disks.every(({ ok }) => ok) ? Math.round(performance.now() - began) : -1 };
}

/** `gone`: what became of how much, as the name of the figure says it. */
export function diskFigures(disks: readonly DiskUse[], gone: string): Figure[] {
  const mib = (bytes: number): number => bytes / 2 ** 20;
  return disks.map(({ node, liveBytes, apparentBytes, allocatedBytes, boundBytes }) => ({
    name: `node ${node}: disk that the log takes after ${gone}: two segments and what is live`,
    unit: "MiB",
    measured: mib(Math.max(apparentBytes, allocatedBytes)),
    wanted: { atMost: mib(boundBytes) },
    note: `${mebibytes(allocatedBytes)} allocated, ${mebibytes(liveBytes)} live`,
  }));
}

function disksOf(nodes: Nodes, segmentBytes: number): Promise<DiskUse[]> {
  return Promise.all(
    NODES.map(async (node) => {
      const liveBytes = await nodes.metric(node, "flotilla_log_live_bytes", '{log="data"}');
      const files = filesOf(nodes.dataDir(node));
      const boundBytes = 2 * segmentBytes + liveBytes;
      return { node, liveBytes, ...files, boundBytes, ok: files.apparentBytes <= boundBytes && files.allocatedBytes <= boundBytes };
    }),
  );
}

function filesOf(dataDir: string): { apparentBytes: number; allocatedBytes: number } {
  const folder = join(dataDir, "log");
  let apparentBytes = 0;
  let allocatedBytes = 0;
  for (const name of readdirSync(folder)) {
    const found = statSync(join(folder, name), { throwIfNoEntry: false });
    apparentBytes += found?.size ?? 0;
    allocatedBytes += (found?.blocks ?? 0) * 512;
  }
  return { apparentBytes, allocatedBytes };
}
