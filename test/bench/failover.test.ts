// The arithmetic of the failover series: it decides whether a figure is met, so it is held against cases worked out by hand.

import { expect, test } from "vitest";
import { Agenda } from "../../bench/chaos/failover-agenda.ts";
import { distributionOf, gapOf, percentile } from "../../bench/chaos/failover-gaps.ts";
import { failoverFigures, gapsOf, renderFailover, type FailoverReport } from "../../bench/chaos/failover-report.ts";
import { failoverPage } from "../../bench/chaos/failover-page.ts";
import type { FailoverRun } from "../../bench/chaos/failover-series.ts";
import { isMet } from "../../bench/figures.ts";

const gaps: { name: string; acks: number[]; fault: number; end: number; ms: number; isOver: boolean }[] = [
  { name: "from the last before to the first after", acks: [80, 90, 250, 260], fault: 100, end: 265, ms: 160, isOver: true },
  { name: "an answer that was on its way ends nothing", acks: [90, 101, 400, 401], fault: 100, end: 410, ms: 299, isOver: true },
  { name: "a pause before the fault is not the fault's", acks: [10, 95, 130, 131], fault: 100, end: 132, ms: 35, isOver: true },
  { name: "a second interruption counts", acks: [95, 120, 121, 700, 710], fault: 100, end: 715, ms: 579, isOver: true },
  { name: "no service at all", acks: [95], fault: 100, end: 5_100, ms: 5_005, isOver: false },
  { name: "service that went away again", acks: [95, 120, 121], fault: 100, end: 1_000, ms: 879, isOver: false },
  { name: "the end of the watch between two acknowledgements", acks: [95, 112, 120], fault: 100, end: 150, ms: 17, isOver: true },
  { name: "nothing from before the fault", acks: [300, 310], fault: 100, end: 320, ms: 200, isOver: true },
  { name: "nothing at all", acks: [], fault: 100, end: 600, ms: 500, isOver: false },
];
for (const { name, acks, fault, end, ms, isOver } of gaps)
  test(`gap: ${name}`, () => expect(gapOf(acks, fault, end, 50)).toEqual({ ms, isOver }));

test("percentile: always a value that was measured; of a few, the 99th is the largest", () => {
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1);
  for (const [count, p50, p90, p99] of [
    [1, 1, 1, 1],
    [2, 1, 2, 2],
    [3, 2, 3, 3],
    [20, 10, 18, 20],
    [99, 50, 90, 99],
    [100, 50, 90, 99],
    [101, 51, 91, 100],
    [200, 100, 180, 198],
  ] as const)
    expect(
      [0.5, 0.9, 0.99].map((part) => percentile(upTo(count), part)),
      `of ${count}`,
    ).toEqual([p50, p90, p99]);
  expect(distributionOf([])).toBeNull();
  expect(distributionOf([30, 10, 20])).toEqual({ count: 3, p50: 20, p90: 30, p99: 30, max: 30 });
});

function runOf(ms: number, more: Partial<FailoverRun> = {}): FailoverRun {
  return {
    system: "flotilla",
    kind: "kill",
    node: 1,
    gaps: [
      { partition: 0, wasLedThere: true, ms, isOver: true },
      { partition: 1, wasLedThere: false, ms: 9_000, isOver: true },
    ],
    returnMs: 20,
    errors: {},
    withoutRetry: { calls: 0, errors: {} },
    disturbance: { stealPercent: null, loopDelayMs: 3 },
    ...more,
  };
}

function reportOf(runs: readonly FailoverRun[]): FailoverReport {
  const systems = [{ name: "flotilla", version: "0", settings: "<none> & all" }];
  return { systems, partitions: 2, seed: 1, runs, many: [], notes: [] };
}

test("figures: a long series is held against its 99th percentile, a short one against wider bounds and its maximum", () => {
  const missed = (runs: readonly FailoverRun[]): string[] =>
    failoverFigures(reportOf(runs)).flatMap((figure) => (isMet(figure) ? [] : [figure.name]));
  const times = (count: number, run: FailoverRun): FailoverRun[] => Array.from({ length: count }, () => run);
  expect(missed(times(20, runOf(299)))).toEqual([]);
  expect(missed(times(20, runOf(301)))).toEqual(["SIGKILL: time without service, p50"]);
  expect(missed([...times(19, runOf(50)), runOf(1_501)])).toEqual(["SIGKILL: time without service, max"]);
  expect(missed([...times(99, runOf(50)), runOf(1_501)])).toEqual([]);
  expect(missed([...times(98, runOf(50)), ...times(2, runOf(501))])).toEqual(["SIGKILL: time without service, p99"]);
  expect(missed(times(100, runOf(151)))).toEqual(["SIGKILL: time without service, p50"]);
  expect(missed([runOf(50, { errors: { TIMEOUT: 1 } })])).toEqual(["SIGKILL: errors that a client which tries again sees"]);
  const never = runOf(50, { gaps: [{ partition: 0, wasLedThere: true, ms: 60_000, isOver: false }] });
  expect(missed([runOf(50), runOf(50), never])).toContain("SIGKILL: partitions that were not served again");
});

test("report: only what the struck node led makes the distribution; both pages tell it", () => {
  const report = reportOf([runOf(50), runOf(70, { errors: { TIMEOUT: 2 } })]);
  expect(gapsOf(report, "flotilla", "kill")).toEqual([50, 70]);
  const text = renderFailover(report);
  expect(text).toMatch(/^SIGKILL +flotilla +2 +2 +50 +70 +70 +70 +9000 +20 +2 TIMEOUT /m);
  const page = failoverPage(report);
  expect(page.match(/<circle /g)).toHaveLength(2);
  expect(page).toContain("&lt;none&gt; &amp; all");
});

test("agenda: what is left is reckoned from what faults took so far, and from what is usual before the first one", () => {
  let nowMs = 0;
  const parts = [
    { name: "flotilla", faults: 10 },
    { name: "flotilla", faults: 10 },
    { name: "nats", faults: 4 },
  ];
  const agenda = new Agenda(parts, () => nowMs);
  // Starting a cluster is no fault's time.
  nowMs = 100_000;
  agenda.begin();
  nowMs += 6_000;
  expect(agenda.fault("flotilla")).toBe("1 of 24 faults, about 3 min left");
  nowMs += 60_000;
  expect(agenda.fault("flotilla")).toBe("2 of 24 faults, about 11 min left");
  agenda.end("nats");
  expect(agenda.fault("flotilla")).toBe("3 of 20 faults, about 7 min left");
});

test("agenda: a system that has only so long is not reckoned with longer", () => {
  let nowMs = 0;
  const parts = [
    { name: "flotilla", faults: 2 },
    { name: "rabbitmq", faults: 300, secondsMax: 600 },
  ];
  const agenda = new Agenda(parts, () => nowMs);
  nowMs += 60_000;
  // Thirty of twenty seconds each, and one of ours of a minute.
  expect(agenda.fault("flotilla")).toBe("1 of 32 faults, about 11 min left");
  nowMs += 60_000;
  expect(agenda.fault("flotilla")).toBe("2 of 32 faults, about 10 min left");
  nowMs += 300_000;
  expect(agenda.fault("rabbitmq")).toBe("3 of 4 faults, about 5 min left");
});
