// Nothing fails, and nobody may be elected: minutes of load near what the cluster takes at most, then the most expensive
// legal requests, one kind after the other to every node, beside a load. Three nodes with the product's own settings.

import { join } from "node:path";
import { mkdirSync } from "node:fs";
import { Flotilla } from "../../src/client/index.ts";
import { prepareTargets, sendAttack, type Outcome } from "../attacking.ts";
import { attacks, type Targets } from "../attacks.ts";
import type { Figure, FigureRun } from "../figures.ts";
import { FlotillaSystem } from "../flotilla.ts";
import { spread } from "../spread.ts";
import type { Target } from "../system.ts";
import { electionsBetween, ElectionWatch, type Elections } from "./elections.ts";
import { SteadyLoad } from "./steady-load.ts";
import { Timeline, type Gap, type Second } from "./timeline.ts";

const PARTITIONS = 6;
const RECORD_BYTES = 1_024;
const RETENTION_BYTES = 64 * 1024 * 1024;
/** Of the widest topic that the requests are aimed at; its groups are at rest until then. */
const WIDE_PARTITIONS = 100;
const PEAK_ROUNDS = 3;
const PEAK_SECONDS = 4;
/** Beside the requests the load is so much less. */
const BESIDE_PART = 0.25;
/** Of one kind to one node, in a run of ten minutes. */
const ATTACK_SECONDS = 4;
/** A run of seconds, to see that it works: one node is asked. */
const TINY_SCALE = 0.05;
const PROGRESS_MS = 10_000;
/** What the load takes together while it waits for a slow node. */
const BATCH_BYTES = 512 * 1024;
const BUFFER_BYTES = 96 * 1024 * 1024;

export type CalmOptions = {
  readonly minutes: number;
  /** Percent of the measured peak. */
  readonly loadPercent: number;
  readonly progress: (text: string) => void;
  /** Tests have something happen in the middle of the first part. */
  readonly meanwhile?: (system: FlotillaSystem, topic: string) => Promise<void>;
};

export type CalmPart = {
  readonly name: string;
  readonly seconds: number;
  readonly rate: number;
  readonly offered: number;
  readonly acked: number;
  readonly notOffered: number;
  readonly errors: number;
  readonly errorTexts: readonly string[];
  readonly elections: Elections;
  readonly timeline: readonly Second[];
  readonly gaps: readonly Gap[];
  /** By kind of request. */
  readonly calls: Readonly<Record<string, Outcome>>;
};

export type CalmReport = { readonly peak: number; readonly peaks: readonly number[]; readonly parts: readonly CalmPart[] };

export async function runCalm(directory: string, options: CalmOptions): Promise<FigureRun> {
  const { progress } = options;
  const logs = join(directory, "logs");
  mkdirSync(logs, { recursive: true });
  progress("starting three nodes");
  const system = await FlotillaSystem.start(join(directory, "nodes"), { logs, env: { FLOTILLA_LOG_LEVEL: "info" } });
  try {
    const report = await new Calm(system, options).run();
    return { report, figures: figuresOf(report), summary: summaryOf(report) };
  } finally {
    await system.stop();
  }
}

class Calm {
  private readonly system: FlotillaSystem;
  private readonly options: CalmOptions;
  private readonly scale: number;

  constructor(system: FlotillaSystem, options: CalmOptions) {
    this.system = system;
    this.options = options;
    this.scale = Math.min(1, options.minutes / 10);
  }

  async run(): Promise<CalmReport> {
    const { system, scale } = this;
    const { minutes, loadPercent, progress, meanwhile } = this.options;
    const target = await system.createTarget(PARTITIONS, RETENTION_BYTES);
    const fillSeconds = Math.max(0.5, 2 * scale);
    const targets = await prepareTargets(system, { partitions: WIDE_PARTITIONS, retentionBytes: RETENTION_BYTES, fillSeconds });
    await using client = await Flotilla.connect({ endpoints: system.nodes.endpoints });
    const watch = new ElectionWatch(system.nodes, client, [target.name, targets.topic, targets.wide, targets.tiny]);
    await watch.settled();
    const peaks = await this.measurePeaks(target);
    const peak = spread(peaks).median;
    progress(`the peak is ${peak.toFixed(0)} records/s`);
    await watch.settled();
    const part = (name: string, percent: number, work: CalmPlan["work"]): Promise<CalmPart> =>
      this.part({ name, rate: (peak * percent) / 100, target, client, watch, work });
    const first = await part(`at ${loadPercent} % of the peak`, loadPercent, async () => {
      const until = performance.now() + minutes * 60_000;
      await sleep((until - performance.now()) / 2);
      await meanwhile?.(system, target.name);
      await sleep(until - performance.now());
    });
    const beside = loadPercent * BESIDE_PART;
    const second = await part(`at ${beside} % of the peak, beside the most expensive legal requests`, beside, (calls) =>
      this.attackAll(targets, calls),
    );
    return { peak, peaks, parts: [first, second] };
  }

  /** Records a second, as fast as acknowledgements come. */
  private async measurePeaks(target: Target): Promise<number[]> {
    const seconds = Math.max(0.5, PEAK_SECONDS * this.scale);
    const peaks: number[] = [];
    await this.system.publish({ target, bytes: RECORD_BYTES, seconds: seconds / 2, acked: () => {} });
    for (let round = 1; round <= PEAK_ROUNDS; round++) {
      this.options.progress(`measuring the peak, ${round} of ${PEAK_ROUNDS}`);
      const began = performance.now();
      let acked = 0;
      await this.system.publish({ target, bytes: RECORD_BYTES, seconds, acked: (count) => (acked += count) });
      peaks.push(acked / ((performance.now() - began) / 1_000));
    }
    return peaks;
  }

  private async attackAll(targets: Targets, calls: Record<string, Outcome>): Promise<void> {
    const { scale } = this;
    const seconds = Math.max(0.2, ATTACK_SECONDS * scale);
    const legal = attacks(targets).filter(({ isLegal }) => isLegal);
    const endpoints = this.system.nodes.endpoints.slice(0, scale < TINY_SCALE ? 1 : undefined);
    for (const [at, { name }] of legal.entries())
      for (const [node, endpoint] of endpoints.entries()) {
        const left = Math.ceil(((legal.length - at) * endpoints.length - node) * seconds);
        this.options.progress(`${name}, to node ${node + 1}; about ${left} s left`);
        const outcome = await sendAttack({ endpoint, seconds, targets, name });
        calls[name] = added(calls[name] ?? {}, outcome);
      }
  }

  private async part({ name, rate, target, client, watch, work }: CalmPlan): Promise<CalmPart> {
    const { progress } = this.options;
    const began = performance.now();
    const now = (): number => performance.now() - began;
    const timeline = new Timeline(now);
    const producer = await client.producer(target.name, { lingerMs: 0, batchBytes: BATCH_BYTES, bufferBytesMax: BUFFER_BYTES });
    const load = new SteadyLoad(producer, { rate, bytes: RECORD_BYTES, timeline, now });
    const before = await watch.look();
    const said = setInterval(() => {
      const last = timeline.seconds.at(-1);
      progress(
        `${name}: ${(now() / 1_000).toFixed(0)} s, ${last?.acked ?? 0} records/s of ${rate.toFixed(0)}, p99 ${last?.p99?.toFixed(0) ?? "-"} ms`,
      );
    }, PROGRESS_MS);
    const calls: Record<string, Outcome> = {};
    try {
      load.start();
      await work(calls);
      await load.stop();
    } finally {
      clearInterval(said);
    }
    const elections = electionsBetween(before, await watch.look());
    timeline.finish();
    await producer.close().catch(() => {});
    const { offered, acked, notOffered, errors, errorTexts } = load;
    const { seconds, gaps } = timeline;
    return {
      name,
      seconds: now() / 1_000,
      rate,
      offered,
      acked,
      notOffered,
      errors,
      errorTexts,
      elections,
      timeline: seconds,
      gaps,
      calls,
    };
  }
}

type CalmPlan = {
  readonly name: string;
  readonly rate: number;
  readonly target: Target;
  readonly client: Flotilla;
  readonly watch: ElectionWatch;
  /** Resolves when the part is over; puts the calls of clients there. */
  readonly work: (calls: Record<string, Outcome>) => Promise<void>;
};

function added(sum: Outcome, more: Outcome): Outcome {
  const all = { ...sum };
  for (const [status, count] of Object.entries(more)) all[status] = (all[status] ?? 0) + count;
  return all;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}

function figuresOf({ parts }: CalmReport): Figure[] {
  return parts.flatMap(({ name, seconds, rate, offered, acked, errors, errorTexts, elections, timeline, gaps, calls }): Figure[] => {
    const figure = (what: string, unit: string, measured: number, more: Partial<Figure> = {}): Figure => ({
      name: `${name}, ${(seconds / 60).toFixed(1)} min: ${what}`,
      unit,
      measured,
      wanted: null,
      ...more,
    });
    const none = { atMost: 0 };
    const p99 = timeline.flatMap((second) => second.p99 ?? []);
    const answered = Object.values(calls).flatMap((outcome) =>
      Object.entries(outcome).flatMap(([status, n]) => (status === "" ? [] : [n])),
    );
    const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0);
    return [
      figure("terms begun, on any node", "", Math.max(...elections.terms), { wanted: none, note: `by node ${elections.terms.join(", ")}` }),
      figure("partitions (and the controller) with another leader or term", "", elections.changes.length, {
        wanted: none,
        ...(elections.changes.length === 0 ? {} : { note: elections.changes.slice(0, 5).join("; ") }),
      }),
      figure("records of the load that failed", "", errors, { wanted: none, ...(errors === 0 ? {} : { note: errorTexts[0]! }) }),
      figure("acknowledged", "records/s", acked / seconds, { note: `${rate.toFixed(0)} asked for, ${offered} offered` }),
      ...(p99.length === 0
        ? []
        : [figure("p99 of the median second, and of the worst", "ms", spread(p99).median, { note: `${Math.max(...p99).toFixed(0)} ms` })]),
      figure(
        "longest time of a partition without an acknowledgement",
        "ms",
        Math.max(0, ...gaps.map(({ fromMs, toMs }) => toMs - fromMs)),
        {
          note: "0: below 250",
        },
      ),
      figure("event loop late by 0.1 s", "times", sum(elections.late), { note: `by node ${elections.late.join(", ")}` }),
      ...(answered.length === 0 ? [] : [figure("calls answered", "", sum(answered), { note: `of ${Object.keys(calls).length} kinds` })]),
    ];
  });
}

/** The last line of a run. */
function summaryOf({ peak, parts }: CalmReport): string {
  const [terms, leaders] = [
    parts.map(({ elections }) => Math.max(...elections.terms)),
    parts.map(({ elections }) => elections.changes.length),
  ];
  const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0);
  const lengths = parts.map(({ name, seconds }) => `${(seconds / 60).toFixed(1)} min ${name}`).join(", ");
  return `calm: peak ${Math.round(peak).toLocaleString("en")} records/s; ${lengths}; ${sum(terms)} terms begun, ${sum(leaders)} leaders changed\n`;
}
