// What a run came to: for machines as it stands here, for people as one page (page.ts) and one line.

import { table } from "../table.ts";
import type { FaultRecord } from "./nemesis.ts";
import type { QueueCounts } from "./queue-ledger.ts";
import type { Gap, Second } from "./timeline.ts";
import { INVARIANTS, type Finding } from "./verdict.ts";

export type Skipped = { readonly kind: string; readonly why: string };
export type KindSummary = {
  readonly kind: string;
  readonly family: string;
  readonly what: string;
  readonly count: number;
  /** Of these, those that are proven to have done something. */
  readonly bit: number;
  /** Median and longest, over its faults, of the longest time of any partition without an acknowledgement. */
  readonly gapMedianMs: number;
  readonly gapMaxMs: number;
  /** Longest time from its end until everything was whole again; -1 = never. */
  readonly wholeMaxMs: number;
  /** The same from its beginning. */
  readonly healedMaxMs: number;
};

export type ChaosReport = {
  readonly started: string;
  /** What does the same again. */
  readonly command: string;
  readonly seed: number;
  readonly seconds: number;
  /** Whose cluster it was. */
  readonly cluster: "own" | "foreign";
  readonly nodes: number;
  readonly partitions: number;
  readonly replicas: number;
  /** Records a second. */
  readonly rate: number;
  readonly machine: string;
  readonly rounds: number;
  readonly sent: number;
  readonly acked: number;
  /** Fell due while a producer's buffer was full. */
  readonly notOffered: number;
  readonly readLive: number;
  readonly readByJudge: number;
  readonly commits: number;
  /** Of all rounds together; `count` is of one. Absent: there were none. */
  readonly queues?: QueueCounts & { readonly count: number };
  readonly kinds: readonly KindSummary[];
  readonly skipped: readonly Skipped[];
  readonly faults: readonly FaultRecord[];
  readonly timeline: readonly Second[];
  readonly gaps: readonly Gap[];
  readonly gapsLeftOut: number;
  /** By partition: all times without service together. */
  readonly downMs: readonly number[];
  readonly longestGapMs: number;
  /** The most that any node took. */
  readonly peakRssBytes: number;
  /** The longest that the harness itself stood still: latencies and gaps are no more exact than that. */
  readonly harnessStallMs: number;
  readonly violations: number;
  readonly findings: readonly Finding[];
};

export function summariesOf(
  faults: readonly FaultRecord[],
  kinds: readonly { readonly name: string; readonly what: string }[],
  familyOf: (kind: string) => string,
): KindSummary[] {
  return kinds.flatMap(({ name, what }) => {
    const own = faults.filter(({ kind }) => kind === name);
    if (own.length === 0) return [];
    const gaps = own.map(({ longestGapMs }) => longestGapMs).sort((a, b) => a - b);
    return [
      {
        kind: name,
        family: familyOf(name),
        what,
        count: own.length,
        bit: own.filter(({ bit }) => bit).length,
        gapMedianMs: gaps[gaps.length >> 1]!,
        gapMaxMs: gaps.at(-1)!,
        wholeMaxMs: longest(own, ({ endedMs }) => endedMs),
        healedMaxMs: longest(own, ({ beganMs }) => beganMs),
      },
    ];
  });
}

/** From then until everything was whole again; -1 = never. */
function longest(faults: readonly FaultRecord[], since: (fault: FaultRecord) => number): number {
  if (faults.some(({ wholeMs }) => wholeMs < 0)) return -1;
  return Math.round(Math.max(...faults.map((fault) => fault.wholeMs - since(fault))));
}

/** The last line of a run. */
export function summaryLine(report: ChaosReport): string {
  const { seed, seconds, acked, faults, kinds, skipped, violations, longestGapMs } = report;
  const missed = faults.filter(({ bit }) => !bit).length;
  const parts = [
    `${(seconds / 60).toFixed(1)} min`,
    `${acked.toLocaleString("en")} records acknowledged`,
    `${faults.length} faults of ${kinds.length} kinds${missed > 0 ? ` (${missed} did not bite)` : ""}`,
    ...(skipped.length > 0 ? [`${skipped.length} kinds skipped`] : []),
    `longest time of a partition without service ${(longestGapMs / 1_000).toFixed(2)} s`,
    `${violations} violations`,
  ];
  return `chaos: seed ${seed}, ${parts.join(", ")}`;
}

/** Of those that queues had: what became of their messages. */
function queuesText({
  count,
  queued,
  delivered,
  settled,
  returned,
  unconfirmed,
  dead,
  violations,
}: NonNullable<ChaosReport["queues"]>): string {
  const parts = [
    `${queued.toLocaleString("en")} messages queued`,
    `delivered ${delivered.toLocaleString("en")} times`,
    `${settled.toLocaleString("en")} settled`,
    `${returned.toLocaleString("en")} returned`,
    `${unconfirmed.toLocaleString("en")} without a clear answer`,
    `${dead.toLocaleString("en")} dead letters`,
    `${violations} violations`,
  ];
  return `${count} queues: ${parts.join(", ")}`;
}

/** A line for each kind of fault that struck. */
function kindsText(kinds: readonly KindSummary[]): string {
  const seconds = (ms: number): string => (ms < 0 ? "never" : (ms / 1_000).toFixed(1));
  const rows = kinds.map(({ kind, count, bit, gapMedianMs, gapMaxMs, wholeMaxMs, healedMaxMs }) => [
    kind,
    ...[count, bit, gapMedianMs, gapMaxMs].map(String),
    ...[wholeMaxMs, healedMaxMs].map(seconds),
  ]);
  const head = [
    "fault",
    "times",
    "bit",
    "without service, median ms",
    "longest ms",
    "whole again, s after its end",
    "s after its beginning",
  ];
  return table([head, ...rows]);
}

/** What each kind of fault did, what was skipped, what was found, what queues had, and the last line. */
export function reportText(report: ChaosReport): string {
  const found = report.findings.flatMap(({ invariant, count, texts }) => [
    `VIOLATED ${invariant}, ${count} times: ${INVARIANTS[invariant]}`,
    ...texts.map((text) => `  ${text}`),
  ]);
  const skipped = report.skipped.map(({ kind, why }) => `SKIPPED ${kind}: ${why}`);
  const kinds = report.kinds.length === 0 ? [] : [kindsText(report.kinds)];
  const queues = report.queues === undefined ? [] : [queuesText(report.queues)];
  return `${[...kinds, ...skipped, ...found, ...queues, summaryLine(report)].join("\n")}\n`;
}
