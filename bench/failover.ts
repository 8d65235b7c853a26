// How long nobody is served after the leader's process is killed: a load on one partition, SIGKILL, the time from the
// last acknowledgement before to the first one after.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { FlotillaSystem } from "./flotilla.ts";

const PROBE_MS = 5;

export async function measureFailover(directory: string, runs: number, progress: (text: string) => void): Promise<string> {
  const gaps: number[] = [];
  const folder = join(directory, "failover");
  mkdirSync(folder);
  const system = await FlotillaSystem.start(folder);
  try {
    for (let run = 0; run < runs; run++) {
      const gap = await system.failover(PROBE_MS);
      gaps.push(gap);
      progress(`run ${run + 1} of ${runs}: ${gap.toFixed(0)} ms without an acknowledgement`);
    }
  } finally {
    await system.stop();
  }
  const sorted = [...gaps].sort((a, b) => a - b);
  const at = (part: number): string => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!.toFixed(0);
  return `SIGKILL of the leader, ${runs} runs: p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, max ${sorted[sorted.length - 1]!.toFixed(0)} ms without an acknowledgement\nall runs: ${gaps.map((gap) => gap.toFixed(0)).join(" ")} ms\n`;
}
