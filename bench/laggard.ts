// A follower's process is stopped under full load and goes on later: what the leaders hold for it meanwhile, what its
// coming back costs the others, and how long it takes.

import { mkdirSync, readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { FlotillaSystem } from "./flotilla.ts";
import { NODES } from "./nodes.ts";

const RECORD_BYTES = 1024;
const PARTITIONS = 6;
const VICTIM = 3;
/** Beyond this the oldest of a partition goes, or minutes of full load would fill the disk. */
const RETENTION_BYTES = 512 * 1024 * 1024;
/** With less room the bench ends rather than get in the way of others. */
const FREE_BYTES_MIN = 8 * 1024 * 1024 * 1024;
const SAMPLE_MS = 100;
/** The victim counts as caught up when nobody sends it old entries for so long. */
const QUIET_MS = 1_000;
/** Then the bench gives up waiting. */
const CATCH_UP_MS_MAX = 600_000;

export type LaggardPlan = {
  readonly stopSeconds: number;
  /** Load before anything is measured, and before the stop. */
  readonly warmUpSeconds: number;
  readonly beforeSeconds: number;
  readonly progress: (text: string) => void;
};

type Phase = { readonly seconds: number; readonly recordsPerSecond: number; readonly peakRssBytes: number };

export type LaggardReport = {
  readonly recordBytes: number;
  readonly before: Phase;
  readonly stopped: Phase;
  readonly catchingUp: Phase;
  /** Rate while catching up to the rate before. */
  readonly ratio: number;
  readonly bytesMissed: number;
};

export async function measureLaggard(directory: string, plan: LaggardPlan): Promise<LaggardReport> {
  const { progress } = plan;
  const folder = join(directory, "laggard");
  mkdirSync(folder);
  progress("starting three nodes");
  const system = await FlotillaSystem.start(folder);
  const victim = system.pids[VICTIM - 1]!;
  try {
    const target = await system.createTarget(PARTITIONS, RETENTION_BYTES);
    await system.drain(VICTIM);
    let acked = 0;
    let isOver = false;
    const load = system.publish({
      target,
      bytes: RECORD_BYTES,
      seconds: CATCH_UP_MS_MAX,
      acked: (count) => (acked += count),
      stopped: () => isOver,
    });
    const leaders = system.pids.filter((pid) => pid !== victim);
    const others = NODES.filter((node) => node !== VICTIM);
    /** Runs until `done`, at the latest `seconds`. */
    const phase = async (name: string, seconds: number, done: () => Promise<boolean>): Promise<Phase> => {
      const start = performance.now();
      const ackedBefore = acked;
      let peakRssBytes = 0;
      let saidMs = start;
      for (;;) {
        await Promise.race([delay(SAMPLE_MS), load.then(() => Promise.reject(new Error("the load ended early")))]);
        peakRssBytes = Math.max(peakRssBytes, ...leaders.map(rssOf));
        const { bavail, bsize } = statfsSync(folder);
        if (bavail * bsize < FREE_BYTES_MIN) throw new Error(`less than ${FREE_BYTES_MIN} bytes are free in ${folder}`);
        const now = performance.now();
        const elapsed = (now - start) / 1000;
        if (now - saidMs > 5_000) {
          saidMs = now;
          const sent = (await sumOf(system, others, "flotilla_recovery_sent_bytes_total")) / 2 ** 20;
          const rate = ((acked - ackedBefore) / elapsed).toFixed(0);
          progress(`${name}: ${elapsed.toFixed(0)} s, ${rate} records/s, ${sent.toFixed(0)} MiB sent to catch up`);
        }
        if (elapsed < seconds && !(await done())) continue;
        return { seconds: elapsed, recordsPerSecond: (acked - ackedBefore) / elapsed, peakRssBytes };
      }
    };
    const never = (): Promise<boolean> => Promise.resolve(false);
    await phase("warming up", plan.warmUpSeconds, never);
    const before = await phase("before", plan.beforeSeconds, never);
    const ackedAtStop = acked;
    process.kill(victim, "SIGSTOP");
    progress(`follower stopped for ${plan.stopSeconds} s`);
    const stopped = await phase("stopped", plan.stopSeconds, never);
    const ackedAtReturn = acked;
    process.kill(victim, "SIGCONT");
    progress("follower goes on");
    let seenMs = 0;
    let quietMs = 0;
    const began = performance.now();
    const catchingUp = await phase("catching up", CATCH_UP_MS_MAX / 1000, async () => {
      const now = performance.now();
      const groups = await sumOf(system, others, "flotilla_recovery_groups");
      if (groups > 0) {
        seenMs = now;
        quietMs = 0;
      } else if (quietMs === 0) quietMs = now;
      // Until its links are up again nobody sends it anything either.
      return quietMs > 0 && now - quietMs > QUIET_MS && (seenMs > 0 || now - began > 3 * QUIET_MS);
    });
    isOver = true;
    await load;
    return {
      recordBytes: RECORD_BYTES,
      before,
      stopped,
      catchingUp: { ...catchingUp, seconds: catchingUp.seconds - QUIET_MS / 1000 },
      ratio: catchingUp.recordsPerSecond / before.recordsPerSecond,
      bytesMissed: (ackedAtReturn - ackedAtStop) * RECORD_BYTES,
    };
  } finally {
    try {
      process.kill(victim, "SIGCONT");
    } catch {
      // It ended.
    }
    await system.stop();
  }
}

export function renderLaggard(report: LaggardReport): string {
  const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
  const rows = [
    ["follower", "seconds", "records/s", "MiB/s", "peak RSS of a leader, MiB"],
    ...(["before", "stopped", "catchingUp"] as const).map((name) => {
      const { seconds, recordsPerSecond, peakRssBytes } = report[name];
      return [
        name === "catchingUp" ? "catching up" : name,
        seconds.toFixed(1),
        recordsPerSecond.toFixed(0),
        mib(recordsPerSecond * report.recordBytes),
        mib(peakRssBytes),
      ];
    }),
  ];
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  const table = rows.map((row) => row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!))).join("  "));
  return `${table.join("\n")}\ncaught up with ${mib(report.bytesMissed)} MiB after ${report.catchingUp.seconds.toFixed(1)} s, the load going on at ${report.ratio.toFixed(2)} of its rate before (wanted: 0.67)\n`;
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024;
}

/** A gauge of several nodes, added up. */
async function sumOf(system: FlotillaSystem, nodes: readonly number[], name: string): Promise<number> {
  const texts = await Promise.all(nodes.map(async (node) => (await system.nodes.get(node, "metrics")).text()));
  let sum = 0;
  for (const text of texts) for (const [, value] of text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\d+)$`, "gm"))) sum += Number(value);
  return sum;
}
