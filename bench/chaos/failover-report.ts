// The failover series in words: a row for each kind of fault and system, and what is wanted of Flotilla.

import type { Figure } from "../figures.ts";
import { table } from "../table.ts";
import { distributionOf, type Distribution } from "./failover-gaps.ts";
import type { ManyRun } from "./failover-many.ts";
import type { ErrorCounts } from "./failover-probes.ts";
import type { FailoverRun } from "./failover-series.ts";
import { FAILOVER_KINDS, type FailoverKind } from "./failover-target.ts";

export type SystemInfo = { readonly name: string; readonly version: string; readonly settings: string };
export type FailoverReport = {
  readonly systems: readonly SystemInfo[];
  readonly partitions: number;
  readonly seed: number;
  readonly runs: readonly FailoverRun[];
  readonly many: readonly ManyRun[];
  /** What was left out or cut short, and why. */
  readonly notes: readonly string[];
};

/** With fewer gaps a kind's 99th percentile is its maximum, and one hiccup of the machine decides it: the bounds are wider. */
export const COUNT_FOR_P99 = 100;
const MARGIN_P50 = 2;
const MARGIN_MAX = 3;
const MANY_WANTED_MS = 1_500;

/** Of all partitions that the struck nodes led. */
export function gapsOf(report: FailoverReport, system: string, kind: FailoverKind): number[] {
  return report.runs.flatMap((run) =>
    run.system === system && run.kind === kind ? run.gaps.flatMap(({ wasLedThere, ms }) => (wasLedThere ? [ms] : [])) : [],
  );
}

export function kindsIn(report: FailoverReport): FailoverKind[] {
  return (Object.keys(FAILOVER_KINDS) as FailoverKind[]).filter((kind) => report.runs.some((run) => run.kind === kind));
}

export function renderFailover(report: FailoverReport): string {
  const rows = [
    [
      "fault",
      "system",
      "runs",
      "gaps",
      "p50",
      "p90",
      "p99",
      "max",
      "led elsewhere",
      "coming back",
      "errors",
      "without retry",
      "steal",
      "loop",
    ],
  ];
  for (const kind of kindsIn(report))
    for (const { name } of report.systems) {
      const runs = report.runs.filter((run) => run.kind === kind && run.system === name);
      if (runs.length > 0) rows.push(rowOf(kind, name, runs, distributionOf(gapsOf(report, name, kind))!));
    }
  const text = [
    table(rows),
    "",
    "ms without an acknowledgement, per partition: of those that the struck node led; the most of the others, and while it came back.",
  ];
  const parts = kindsIn(report).flatMap((kind) =>
    partsText(
      report.runs.filter((run) => run.kind === kind && run.system === "flotilla"),
      kind,
    ),
  );
  if (parts.length > 0) text.push("", "where Flotilla's time goes, medians (largest):", ...parts);
  for (const { node, partitions, p50Ms, p99Ms, lastMs, errors } of report.many)
    text.push(
      `SIGKILL of node ${node}, which led ${partitions} partitions: half served again after ${p50Ms.toFixed(0)} ms, 99 % after ${p99Ms.toFixed(0)} ms, all after ${lastMs.toFixed(0)} ms; errors: ${errors}`,
    );
  text.push(...report.notes);
  text.push("", ...report.systems.map(({ name, version, settings }) => `${name} ${version}: ${settings}`));
  return `${text.join("\n")}\n`;
}

/** What is wanted of Flotilla. A short series is held against wider bounds: of the median and the maximum. */
export function failoverFigures(report: FailoverReport): Figure[] {
  const figures: Figure[] = [];
  for (const kind of kindsIn(report)) {
    const runs = report.runs.filter((run) => run.system === "flotilla" && run.kind === kind);
    const gaps = distributionOf(gapsOf(report, "flotilla", kind));
    if (gaps === null) continue;
    const { what, wanted } = FAILOVER_KINDS[kind];
    const isLong = gaps.count >= COUNT_FOR_P99;
    const note = `${gaps.count} gaps`;
    const at = (name: string, measured: number, most: number): void =>
      void figures.push({ name: `${what}: time without service, ${name}`, unit: "ms", measured, wanted: { atMost: most }, note });
    if (wanted.p50Ms !== null) at("p50", gaps.p50, wanted.p50Ms * (isLong ? 1 : MARGIN_P50));
    if (isLong) at("p99", gaps.p99, wanted.p99Ms);
    else at("max", gaps.max, wanted.p99Ms * MARGIN_MAX);
    const errors = runs.reduce((sum, run) => sum + countOf(run.errors), 0);
    figures.push({ name: `${what}: errors that a client which tries again sees`, unit: "", measured: errors, wanted: { atMost: 0 } });
    const lost = runs.flatMap((run) => run.gaps).filter(({ isOver }) => !isOver).length;
    figures.push({ name: `${what}: partitions that were not served again`, unit: "", measured: lost, wanted: { atMost: 0 } });
  }
  if (report.many.length > 0) {
    const last = distributionOf(report.many.map(({ lastMs }) => lastMs))!;
    const partitions = Math.min(...report.many.map((run) => run.partitions));
    figures.push({
      name: `SIGKILL: all ${partitions} partitions of the node served again, p50`,
      unit: "ms",
      measured: last.p50,
      wanted: { atMost: MANY_WANTED_MS },
      note: `max ${last.max.toFixed(0)} ms of ${last.count} runs`,
    });
  }
  return figures;
}

/** What holds on any machine, however busy: whoever was struck, all partitions are served again, and no client is let down. */
export function serviceFigures(report: FailoverReport, withinMs: number): Figure[] {
  return kindsIn(report).flatMap((kind) => {
    const runs = report.runs.filter((run) => run.system === "flotilla" && run.kind === kind);
    const gaps = runs.flatMap((run) => run.gaps);
    if (gaps.length === 0) return [];
    const { what } = FAILOVER_KINDS[kind];
    const longest = gaps.every(({ isOver }) => isOver) ? Math.max(...gaps.map(({ ms }) => ms)) : null;
    const errors = runs.reduce((sum, run) => sum + countOf(run.errors), 0);
    return [
      { name: `${what}: longest time without service of any partition`, unit: "ms", measured: longest, wanted: { atMost: withinMs } },
      { name: `${what}: errors that a client which tries again sees`, unit: "", measured: errors, wanted: { atMost: 0 } },
    ];
  });
}

function rowOf(kind: FailoverKind, system: string, runs: readonly FailoverRun[], gaps: Distribution): string[] {
  const elsewhere = runs.flatMap((run) => run.gaps.flatMap(({ wasLedThere, ms }) => (wasLedThere ? [] : [ms])));
  const calls = runs.reduce((sum, run) => sum + run.withoutRetry.calls, 0);
  const steal = runs.flatMap(({ disturbance }) => disturbance.stealPercent ?? []);
  return [
    FAILOVER_KINDS[kind].what,
    system,
    String(runs.length),
    String(gaps.count),
    ...[gaps.p50, gaps.p90, gaps.p99, gaps.max].map((ms) => ms.toFixed(0)),
    elsewhere.length === 0 ? "-" : Math.max(...elsewhere).toFixed(0),
    Math.max(...runs.map(({ returnMs }) => returnMs)).toFixed(0),
    errorsText(runs.map(({ errors }) => errors)),
    calls === 0 ? "-" : `${errorsText(runs.map(({ withoutRetry }) => withoutRetry.errors))} of ${calls}`,
    steal.length === 0 ? "-" : `${Math.max(...steal).toFixed(0)} %`,
    `${Math.max(...runs.map(({ disturbance }) => disturbance.loopDelayMs)).toFixed(0)} ms`,
  ];
}

function partsText(runs: readonly FailoverRun[], kind: FailoverKind): string[] {
  const steps = runs.flatMap(({ gaps }) =>
    gaps.flatMap(({ parts, ms }) =>
      parts !== undefined && Number.isFinite(parts.ledMs) && Number.isFinite(parts.noticedMs)
        ? [[parts.noticedMs, parts.allNoticedMs, parts.ledMs, ms] as const]
        : [],
    ),
  );
  if (steps.length === 0) return [];
  const shown = (at: 0 | 1 | 2 | 3): string => {
    const { p50, max } = distributionOf(steps.map((step) => step[at]))!;
    return `${p50.toFixed(0)} (${max.toFixed(0)})`;
  };
  return [
    `  ${FAILOVER_KINDS[kind].what}: noticed by the first after ${shown(0)} ms, by both after ${shown(1)}, led after ${shown(2)}, gap ${shown(3)}`,
  ];
}

function countOf(errors: ErrorCounts): number {
  return Object.values(errors).reduce((sum, count) => sum + count, 0);
}

function errorsText(all: readonly ErrorCounts[]): string {
  const sums = new Map<string, number>();
  for (const errors of all) for (const [code, count] of Object.entries(errors)) sums.set(code, (sums.get(code) ?? 0) + count);
  return sums.size === 0 ? "0" : [...sums].map(([code, count]) => `${count} ${code}`).join(", ");
}
