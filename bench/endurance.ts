// Minutes of steady load on three nodes while one fault after the other happens to them, again and again: a disk filled to
// the last byte, a process stopped for a while, a node killed and its data wiped. In the end everything is read through
// every node and held against what was acknowledged.

import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Flotilla } from "../src/client/index.ts";
import { type Figure, type FigureRun } from "./figures.ts";
import { Nodes, NODES } from "./nodes.ts";
import { NumberedLoad, readAll, violations } from "./numbered-load.ts";
import { SmallDisk } from "./small-disk.ts";

const TOPIC = "endured";
const PARTITIONS = 6;
const KEYS = 100;
/** Between two rounds of a record per key. */
const LOAD_PAUSE_MS = 40;
const MIB = 1024 * 1024;
/** Of the node whose disk gets full. Many times what a run stores. */
const SMALL_DISK_BYTES = 512 * MIB;
const SMALL_DISK_NODE = 2;
const SETTINGS = {
  FLOTILLA_SEGMENT_BYTES: String(4 * MIB),
  FLOTILLA_DISK_WATERMARK_BYTES: String(48 * MIB),
  FLOTILLA_DISK_RESERVE_BYTES: String(8 * MIB),
  FLOTILLA_LOG_LEVEL: "info",
};
const SAMPLE_MS = 500;
/** A node that is not whole so long after a fault is over will not be. */
const RECOVERY_MS_MAX = 90_000;
const GAP_WANTED_MS = 5_000;

export type FaultKind = "disk full" | "stopped" | "wiped";
export const FAULT_KINDS: readonly FaultKind[] = ["disk full", "stopped", "wiped"];

type EndurancePlan = {
  readonly seconds: number;
  /** Between two faults, and how long the throughput before and after one is measured. */
  readonly restSeconds: number;
  /** How long the disk stays full, and the process stopped: in turn. */
  readonly fullSeconds: readonly number[];
  readonly stopSeconds: readonly number[];
  readonly progress: (text: string) => void;
};

type Fault = {
  readonly kind: FaultKind;
  readonly node: number;
  /** Longest time that a partition was without an acknowledgement, from the fault to the recovery. */
  readonly gapMs: number;
  /** From the end of the fault until the node was whole and could lead again; -1 = never. */
  readonly recoveryMs: number;
  /** Records per second before it, from it to the recovery, and after that. */
  readonly before: number;
  readonly during: number;
  readonly after: number;
};

export type EnduranceReport = {
  readonly seconds: number;
  readonly acked: number;
  readonly faults: readonly Fault[];
  /** Faults that this machine does not allow. */
  readonly skipped: readonly FaultKind[];
  readonly violations: readonly string[];
  /** The most that any node took. */
  readonly peakRssBytes: number;
};

/** Tiny: faults of a second or two. */
export async function runEndurance(
  directory: string,
  minutes: number,
  isTiny: boolean,
  progress: (text: string) => void,
): Promise<FigureRun> {
  const lengths = isTiny
    ? { restSeconds: 1, fullSeconds: [2], stopSeconds: [2] }
    : { restSeconds: 4, fullSeconds: [8, 3, 15], stopSeconds: [3, 60, 10, 30] };
  const report = await new Endurance(directory, { seconds: minutes * 60, ...lengths, progress }).run();
  return { report, figures: figuresOf(report), summary: summaryOf(report) };
}

class Endurance {
  private readonly directory: string;
  private readonly plan: EndurancePlan;
  private readonly faults: Fault[] = [];
  private readonly problems: string[] = [];
  /** Those that may be down now. */
  private readonly down = new Set<number>();
  private disk: SmallDisk | null = null;
  private nodes!: Nodes;
  private client!: Flotilla;
  private load!: NumberedLoad;
  private peakRssBytes = 0;

  constructor(directory: string, plan: EndurancePlan) {
    this.directory = directory;
    this.plan = plan;
  }

  async run(): Promise<EnduranceReport> {
    const { progress, seconds } = this.plan;
    progress("starting three nodes");
    if (!SmallDisk.isPossible) progress("NOT RUN: a full disk: it needs root and Linux, for a small file system of its own");
    this.nodes = await Nodes.start(this.directory, {
      env: SETTINGS,
      prepare: (node, dataDir) => {
        if (node === SMALL_DISK_NODE && SmallDisk.isPossible) this.disk = new SmallDisk(dataDir, SMALL_DISK_BYTES);
      },
    });
    const began = performance.now();
    try {
      this.client = await Flotilla.connect({ endpoints: this.nodes.endpoints });
      await this.client.admin.createTopic({ name: TOPIC, partitions: PARTITIONS, replicas: 3 });
      this.load = new NumberedLoad(await this.client.producer(TOPIC, { lingerMs: 2 }), KEYS, LOAD_PAUSE_MS);
      this.load.start();
      const sampler = setInterval(() => this.sample(), SAMPLE_MS);
      try {
        await this.injectAll(began + seconds * 1000);
        await this.load.stop();
      } catch (error) {
        this.problems.push(`the load ended: ${(error as Error).message}`);
      } finally {
        clearInterval(sampler);
      }
      const elapsed = (performance.now() - began) / 1000;
      await this.judge();
      await this.client.close();
      return {
        seconds: elapsed,
        acked: this.load.acked.length,
        faults: this.faults,
        skipped: SmallDisk.isPossible ? [] : ["disk full"],
        violations: this.problems,
        peakRssBytes: this.peakRssBytes,
      };
    } finally {
      // What is stopped would not hear of its end.
      for (const node of NODES) if (this.nodes.isRunning(node)) this.nodes.signal(node, "SIGCONT");
      await this.nodes.stop();
      this.disk?.unmount();
    }
  }

  /** One fault after the other until time is up, each kind at least once. */
  private async injectAll(untilMs: number): Promise<void> {
    const kinds = FAULT_KINDS.filter((kind) => kind !== "disk full" || this.disk !== null);
    for (let turn = 0; turn < kinds.length || performance.now() < untilMs; turn++) {
      const round = Math.floor(turn / kinds.length);
      const kind = kinds[turn % kinds.length]!;
      const node = kind === "disk full" ? SMALL_DISK_NODE : NODES[(round + (kind === "wiped" ? 0 : 1)) % NODES.length]!;
      const left = Math.max(0, (untilMs - performance.now()) / 1000).toFixed(0);
      this.plan.progress(`${this.load.acked.length} records so far, ${left} s left: node ${node}: ${kind}`);
      const fault = await this.inject(kind, node, round);
      this.faults.push(fault);
      const rates = [fault.before, fault.during, fault.after].map((rate) => rate.toFixed(0)).join(", ");
      this.plan.progress(
        `  longest time of a partition without acknowledgements ${fault.gapMs} ms, whole again after ${fault.recoveryMs} ms; records/s before, during, after: ${rates}`,
      );
      if (fault.recoveryMs >= 0) continue;
      this.problems.push(`node ${node} was not whole ${RECOVERY_MS_MAX / 1000} s after: ${kind}\n${this.nodes.outputOf(node)}`);
      return;
    }
  }

  private async inject(kind: FaultKind, node: number, round: number): Promise<Fault> {
    const { restSeconds } = this.plan;
    const before = await this.rateFor(restSeconds);
    this.load.longestGapMs = 0;
    const start = performance.now();
    const ackedAtStart = this.load.acked.length;
    await this.happen(kind, node, round);
    const over = performance.now();
    const isWhole = await this.recovered(node, round);
    const recoveryMs = isWhole ? Math.round(performance.now() - over) : -1;
    const gapMs = Math.max(this.load.longestGapMs, this.load.silentMs);
    const during = (this.load.acked.length - ackedAtStart) / ((performance.now() - start) / 1000);
    const after = await this.rateFor(restSeconds);
    return { kind, node, gapMs, recoveryMs, before, during, after };
  }

  /** The fault, from its beginning to its end. */
  private async happen(kind: FaultKind, node: number, round: number): Promise<void> {
    const { fullSeconds, stopSeconds } = this.plan;
    switch (kind) {
      case "disk full":
        // Again and again: what the node gives back of its reserve and its files goes, too.
        for (const until = performance.now() + fullSeconds[round % fullSeconds.length]! * 1000; performance.now() < until;) {
          this.disk!.fill();
          await delay(50);
        }
        this.disk!.empty();
        return;
      case "stopped":
        this.nodes.signal(node, "SIGSTOP");
        await delay(stopSeconds[round % stopSeconds.length]! * 1000);
        this.nodes.signal(node, "SIGCONT");
        return;
      case "wiped":
        this.down.add(node);
        this.nodes.kill(node);
        await this.nodes.gone(node);
        for (const name of readdirSync(this.nodes.dataDir(node)))
          rmSync(join(this.nodes.dataDir(node), name), { recursive: true, force: true });
        this.nodes.launch(node);
        this.down.delete(node);
        return;
    }
  }

  /** Resolves with true when the node serves, nothing is on its way to it any more, and it can lead, by its own doing. */
  private async recovered(node: number, round: number): Promise<boolean> {
    const deadline = performance.now() + RECOVERY_MS_MAX;
    while (performance.now() < deadline) {
      try {
        if (await this.hasAll(node)) {
          const transfer = { topic: TOPIC, partition: round % PARTITIONS, toNode: node, signal: AbortSignal.timeout(5_000) };
          await this.client.cluster.transferLeader(transfer);
          return true;
        }
      } catch {
        // Not yet.
      }
      await delay(100);
    }
    return false;
  }

  /** It serves, holds a replica of every group, and none is being replaced. */
  private async hasAll(node: number): Promise<boolean> {
    if (!(await this.nodes.get(node, "readyz")).ok) return false;
    if ((await this.nodes.metric(node, "flotilla_groups")) !== PARTITIONS + 1) return false;
    return (await this.client.cluster.listMoves()).length === 0;
  }

  private async rateFor(seconds: number): Promise<number> {
    const start = performance.now();
    const acked = this.load.acked.length;
    await delay(seconds * 1000);
    return (this.load.acked.length - acked) / ((performance.now() - start) / 1000);
  }

  private sample(): void {
    for (const node of NODES) {
      this.peakRssBytes = Math.max(this.peakRssBytes, this.nodes.residentBytes(node));
      if (this.nodes.isRunning(node) || this.down.has(node)) continue;
      this.down.add(node);
      this.problems.push(`node ${node} ended by itself:\n${this.nodes.outputOf(node)}`);
    }
  }

  private async judge(): Promise<void> {
    for (const [at, endpoint] of this.nodes.endpoints.entries()) {
      this.plan.progress(`reading everything through node ${at + 1}`);
      try {
        for (const problem of violations(this.load.acked, await readAll(endpoint, TOPIC)))
          this.problems.push(`through node ${at + 1}: ${problem}`);
      } catch (error) {
        this.problems.push(`through node ${at + 1}: ${(error as Error).message}`);
      }
    }
  }
}

function figuresOf({ seconds, acked, faults, skipped, violations: problems, peakRssBytes }: EnduranceReport): Figure[] {
  return [
    ...FAULT_KINDS.flatMap((kind): Figure[] => {
      if (skipped.includes(kind)) return [{ name: kind, unit: "", measured: null, wanted: null, note: "NOT RUN: needs root and Linux" }];
      return figuresOfKind(
        kind,
        faults.filter((fault) => fault.kind === kind),
      );
    }),
    { name: "peak memory of any node", unit: "MiB", measured: peakRssBytes / MIB, wanted: null },
    {
      name: `lost, doubled or out of order, of ${acked} records in ${(seconds / 60).toFixed(1)} minutes, through every node`,
      unit: "violations",
      measured: problems.length,
      wanted: { atMost: 0 },
    },
  ];
}

function figuresOfKind(kind: FaultKind, faults: readonly Fault[]): Figure[] {
  const slowestMs = Math.max(0, ...faults.map(({ recoveryMs }) => recoveryMs));
  const rate = (pick: (fault: Fault) => number): number => faults.reduce((sum, fault) => sum + pick(fault), 0) / faults.length;
  return [
    {
      name: `${kind}, ${faults.length} times: longest time of a partition without acknowledgements`,
      unit: "ms",
      measured: Math.max(0, ...faults.map(({ gapMs }) => gapMs)),
      wanted: { atMost: GAP_WANTED_MS },
    },
    {
      name: `${kind}: whole again, by itself, after`,
      unit: "s",
      measured: faults.some(({ recoveryMs }) => recoveryMs < 0) ? null : slowestMs / 1000,
      wanted: { atMost: RECOVERY_MS_MAX / 1000 },
    },
    {
      name: `${kind}: load meanwhile`,
      unit: "records/s",
      measured: rate(({ during }) => during),
      wanted: null,
      note: `${rate(({ before }) => before).toFixed(0)} before, ${rate(({ after }) => after).toFixed(0)} after`,
    },
  ];
}

/** The last line of a run. */
function summaryOf({ seconds, acked, faults, violations: problems }: EnduranceReport): string {
  const gapMs = Math.max(0, ...faults.map((fault) => fault.gapMs));
  return `${problems.map((problem) => `violation: ${problem}\n`).join("")}endurance: ${(seconds / 60).toFixed(1)} min, ${acked} records acknowledged, ${faults.length} faults, ${problems.length} violations, at most ${gapMs} ms of a partition without acknowledgements\n`;
}
