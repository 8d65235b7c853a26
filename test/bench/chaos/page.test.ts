// The report as a page: complete, self-contained, of bounded size, and understood by a browser where there is one.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { page } from "../../../bench/chaos/page.ts";
import type { ChaosReport } from "../../../bench/chaos/report.ts";
import { summariesOf, summaryLine } from "../../../bench/chaos/report.ts";
import type { FaultRecord } from "../../../bench/chaos/nemesis.ts";

const FAULTS: readonly FaultRecord[] = [
  {
    act: 1,
    kind: "kill",
    detail: "node 2 & <b>others</b>",
    bit: true,
    proof: "killed: 2",
    beganMs: 5_000,
    endedMs: 8_000,
    wholeMs: 9_500,
    longestGapMs: 180,
    partitionsDown: 0,
  },
  {
    act: 2,
    kind: "isolate",
    detail: "1>2 2>1",
    bit: true,
    proof: "9 bytes held back",
    beganMs: 12_000,
    endedMs: 16_000,
    wholeMs: 16_200,
    longestGapMs: 900,
    partitionsDown: 3,
  },
  {
    act: 2,
    kind: "kill",
    detail: "node 3",
    bit: false,
    proof: "it did not run",
    beganMs: 13_000,
    endedMs: 15_000,
    wholeMs: 16_200,
    longestGapMs: 900,
    partitionsDown: 3,
  },
];

function report(more: Partial<ChaosReport> = {}): ChaosReport {
  const kinds = summariesOf(
    FAULTS,
    [
      { name: "kill", what: "SIGKILL" },
      { name: "isolate", what: "cut off" },
    ],
    (kind) => (kind === "kill" ? "processes" : "links"),
  );
  return {
    started: "2026-11-25T12:00:00.000Z",
    command: "npm run chaos -- --seed 7",
    seed: 7,
    seconds: 60,
    cluster: "own",
    nodes: 3,
    partitions: 2,
    replicas: 3,
    rate: 600,
    machine: "2 cores",
    rounds: 1,
    sent: 36_000,
    acked: 36_000,
    notOffered: 0,
    readLive: 100_000,
    readByJudge: 108_000,
    commits: 50,
    kinds,
    skipped: [{ kind: "packet-loss", why: "it needs nft (Debian: apt-get install nftables)" }],
    faults: FAULTS,
    timeline: Array.from({ length: 60 }, (_, at) => ({
      at,
      offered: 600,
      acked: at === 13 ? 0 : 600,
      p50: at === 13 ? null : 3,
      p99: at === 13 ? null : 20 + at,
      max: 60,
    })),
    gaps: [{ partition: 1, fromMs: 12_300, toMs: 13_200 }],
    gapsLeftOut: 0,
    downMs: [0, 900],
    longestGapMs: 900,
    peakRssBytes: 2 ** 28,
    harnessStallMs: 12,
    violations: 0,
    findings: [],
    ...more,
  };
}

test("page: verdict, timeline, faults and what was skipped stand there, and nothing is fetched from anywhere", () => {
  const html = page(report());
  for (const text of ["Nothing violated", "Throughput", "Latency", "Without service", "nftables", "--seed 7", "did not bite", "p1 0.9 s"])
    expect(html).toContain(text);
  expect(html).toContain("node 2 &amp; &lt;b&gt;others&lt;/b&gt;");
  expect(html).not.toContain("<b>others");
  expect(html).not.toMatch(/https?:|src=|@import|url\(/);
  expect(html).toContain("prefers-color-scheme:dark");
});

test("page: what was violated comes first", () => {
  const html = page(report({ violations: 3, findings: [{ invariant: "L0", count: 3, texts: ["record 7 is <gone>"] }] }));
  expect(html).toContain("3 violations");
  expect(html).toContain("record 7 is &lt;gone&gt;");
  expect(html.indexOf("&lt;gone&gt;")).toBeLessThan(html.indexOf("<figure"));
});

test("page: of a week it is no larger than a browser likes", () => {
  const seconds = 7 * 86_400;
  const timeline = Array.from({ length: seconds }, (_, at) => ({ at, offered: 600, acked: 600, p50: 3, p99: 20, max: 60 }));
  expect(page(report({ seconds, timeline })).length).toBeLessThan(1_000_000);
});

test("report: the last line says everything that matters, and each kind what it cost", () => {
  expect(summaryLine(report())).toBe(
    "chaos: seed 7, 1.0 min, 36,000 records acknowledged, 3 faults of 2 kinds (1 did not bite), 1 kinds skipped, longest time of a partition without service 0.90 s, 0 violations",
  );
  expect(report().kinds).toMatchObject([
    { kind: "kill", count: 2, bit: 1, gapMedianMs: 900, gapMaxMs: 900, wholeMaxMs: 1_500 },
    { kind: "isolate", count: 1, bit: 1, gapMedianMs: 900, gapMaxMs: 900, wholeMaxMs: 200 },
  ]);
});

const browser = ["chromium", "chromium-browser", "google-chrome"].find((name) => {
  try {
    execFileSync(name, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
});

test.skipIf(browser === undefined)("page: a browser draws its charts, and its script runs to the end", { timeout: 60_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "flotilla-page-test-"));
  try {
    const file = join(directory, "report.html");
    writeFileSync(file, page(report()));
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", `--user-data-dir=${directory}`];
    const dom = execFileSync(browser!, [...flags, "--dump-dom", `file://${file}`], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    expect(dom).toContain('data-charts="4"');
  } finally {
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  }
});
