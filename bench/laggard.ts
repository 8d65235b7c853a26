// A follower's process is stopped under full load and goes on later: what the leaders hold for it meanwhile, what its
// coming back costs the others, and how long it takes.

import { mkdirSync, readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { PAYLOAD_BYTES_MAX, PEER_SEND_BYTES_MAX, RECOVERY_BYTES_MAX } from "../src/base/limits.ts";
import { mebibytes, type Figure, type FigureRun } from "./figures.ts";
import { FlotillaSystem } from "./flotilla.ts";
import { NODES } from "./nodes.ts";
import { table } from "./table.ts";

const MIB = 2 ** 20;
/** Others may get slower by a third. */
const RATIO_WANTED = 2 / 3;
/** What an empty node takes, and V8 before it collects what calls and frames passed by. */
const BASE_BYTES = 320 * MIB;
/**
 * All that a leader's process may take, whoever stands still: payloads, two connections' queues, and what is read for the one
 * that lags.
 */
const LEADER_BYTES_MAX = BASE_BYTES + PAYLOAD_BYTES_MAX + 2 * PEER_SEND_BYTES_MAX + RECOVERY_BYTES_MAX;

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

type LaggardPlan = {
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
  /** The most that one leader held that was read for the follower. */
  readonly heldBytes: number;
  /** Resident memory of each leader after all garbage was collected: before the stop, and at its end. */
  readonly settled: readonly { readonly before: number; readonly stopped: number }[];
};

export async function runLaggard(directory: string, plan: LaggardPlan): Promise<FigureRun> {
  const report = await measureLaggard(directory, plan);
  return { report, figures: figuresOf(report), head: headOf(report) };
}

async function measureLaggard(directory: string, plan: LaggardPlan): Promise<LaggardReport> {
  const { progress } = plan;
  const folder = join(directory, "laggard");
  mkdirSync(folder);
  progress("starting three nodes");
  const system = await FlotillaSystem.start(folder, { settles: true });
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
          const sent = (await sumsOf(system, others, "flotilla_recovery_sent_bytes_total")).reduce((sum, bytes) => sum + bytes, 0) / MIB;
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
    const settledBytes = (): Promise<number[]> => Promise.all(others.map((node) => system.nodes.settledBytes(node)));
    const settledBefore = await settledBytes();
    const ackedAtStop = acked;
    process.kill(victim, "SIGSTOP");
    progress(`follower stopped for ${plan.stopSeconds} s`);
    const stopped = await phase("stopped", plan.stopSeconds, never);
    const settledStopped = await settledBytes();
    const ackedAtReturn = acked;
    process.kill(victim, "SIGCONT");
    progress("follower goes on");
    let seenMs = 0;
    let quietMs = 0;
    let heldBytes = 0;
    const began = performance.now();
    const catchingUp = await phase("catching up", CATCH_UP_MS_MAX / 1000, async () => {
      const now = performance.now();
      heldBytes = Math.max(heldBytes, ...(await sumsOf(system, others, "flotilla_recovery_bytes")));
      const groups = Math.max(...(await sumsOf(system, others, "flotilla_recovery_groups")));
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
      heldBytes,
      settled: settledBefore.map((bytes, at) => ({ before: bytes, stopped: settledStopped[at]! })),
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

function headOf(report: LaggardReport): string {
  const mib = (bytes: number): string => (bytes / MIB).toFixed(0);
  const rows = (["before", "stopped", "catchingUp"] as const).map((name) => {
    const { seconds, recordsPerSecond, peakRssBytes } = report[name];
    const rate = recordsPerSecond * report.recordBytes;
    return [name === "catchingUp" ? "catching up" : name, seconds.toFixed(1), recordsPerSecond.toFixed(0), mib(rate), mib(peakRssBytes)];
  });
  return `${table([["follower", "seconds", "records/s", "MiB/s", "peak RSS of a leader, MiB"], ...rows])}\n\n`;
}

function figuresOf({ ratio, heldBytes, settled, catchingUp, bytesMissed, stopped }: LaggardReport): Figure[] {
  return [
    {
      name: "load of the others while the follower catches up, of what it was before",
      unit: "",
      measured: ratio,
      wanted: { atLeast: RATIO_WANTED },
    },
    {
      name: "read for the follower and not yet confirmed by it, at one leader",
      unit: "MiB",
      measured: heldBytes / MIB,
      wanted: { atMost: RECOVERY_BYTES_MAX / MIB },
    },
    {
      name: "a leader's peak memory while the follower stands still",
      unit: "MiB",
      measured: stopped.peakRssBytes / MIB,
      wanted: { atMost: LEADER_BYTES_MAX / MIB },
    },
    {
      name: "a leader's memory at the end of the stop above that before it, all garbage collected",
      unit: "MiB",
      measured: Math.max(...settled.map(({ before, stopped: after }) => after - before)) / MIB,
      wanted: null,
    },
    {
      name: "caught up after",
      unit: "s",
      measured: catchingUp.seconds,
      wanted: null,
      note: mebibytes(bytesMissed),
    },
  ];
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024;
}

/** A metric of each of the nodes, its labels added up. */
async function sumsOf(system: FlotillaSystem, nodes: readonly number[], name: string): Promise<number[]> {
  const texts = await Promise.all(nodes.map(async (node) => (await system.nodes.get(node, "metrics")).text()));
  const samples = new RegExp(`^${name}(?:\\{.*\\})? (\\d+)$`, "gm");
  return texts.map((text) => [...text.matchAll(samples)].reduce((sum, [, value]) => sum + Number(value), 0));
}
