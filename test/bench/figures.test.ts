// The modes of `npm run bench` that hold figures against what was wanted, tiny: that they run, and that nothing was missed.

import { readFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { FAULT_KINDS, type EnduranceReport } from "../../bench/endurance.ts";
import { isMet, type Figure } from "../../bench/figures.ts";
import { chosenParts, isPassed, measureParts, PARTS, renderParts, type Part, type PartResult } from "../../bench/every-figure.ts";
import type { PinnedReport } from "../../bench/pinned.ts";
import type { RestartReport } from "../../bench/restart.ts";
import { spread } from "../../bench/spread.ts";
import { figuresOf } from "../support/figures-of.ts";
import { runProgram } from "../support/run.ts";

const MAIN = fileURLToPath(new URL("../../dist/bench/main.js", import.meta.url));

async function runFigures(args: readonly string[]): Promise<{ stdout: string; parts: readonly PartResult[] }> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-test-"));
  try {
    const file = join(directory, "report.json");
    const all = ["--figures", ...args, "--tiny", "--json", file, "--directory", directory];
    const { code, stdout, stderr } = await runProgram(process.execPath, [MAIN, ...all]);
    expect(code, `${stdout.toString()}\n${stderr}`).toBe(0);
    return { stdout: stdout.toString(), parts: (JSON.parse(await readFile(file, "utf8")) as { parts: PartResult[] }).parts };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("the pinned bench: a record that stays leaves two segments and what is live", { timeout: 120_000 }, async () => {
  const { disks, isRecordRight, peakBytes } = await figuresOf<PinnedReport>(["--pinned", "0.1"]);
  expect(isRecordRight).toBe(true);
  for (const { apparentBytes, liveBytes } of disks) {
    expect(liveBytes).toBeGreaterThan(0);
    expect(apparentBytes).toBeLessThan(peakBytes);
  }
});

test("the restart bench: a node is back, with everything, killed and stopped", { timeout: 120_000 }, async () => {
  const { starts } = await figuresOf<RestartReport>(["--restart", "0.05"], true);
  expect(starts.map(({ how }) => how)).toEqual(["killed (SIGKILL)", "stopped (SIGTERM)"]);
  for (const { readyMs, caughtUpMs } of starts) expect(caughtUpMs).toBeGreaterThanOrEqual(readyMs);
});

test("the endurance bench: every kind of fault, and everything is there after it", { timeout: 150_000 }, async ({ annotate }) => {
  const { acked, faults, skipped, stdout } = await figuresOf<EnduranceReport>(["--endurance", "0.3"]);
  for (const kind of skipped) await annotate(`not run: ${kind}; it needs root and Linux`);
  expect(new Set([...faults.map(({ kind }) => kind), ...skipped])).toEqual(new Set(FAULT_KINDS));
  for (const { kind, before, gapMs } of faults) {
    expect(before, kind).toBeGreaterThan(0);
    // Of the partitions that the node led.
    if (kind !== "disk full") expect(gapMs, kind).toBeGreaterThan(0);
  }
  expect(acked).toBeGreaterThan(5_000);
  expect(stdout).toMatch(/\nendurance: .* 0 violations/);
});

test(
  "figures: each part runs, and one table says what was wanted, whether it is met and what measures it alone",
  {
    timeout: 120_000,
  },
  async () => {
    const { stdout, parts } = await runFigures(["--only", "restart"]);
    expect(parts.map(({ name }) => name)).toEqual(["restart"]);
    const lines = stdout.trimEnd().split("\n");
    const figures = parts.flatMap((part) => part.figures);
    expect(lines[0]).toMatch(/^figure +measured +wanted +met\? +measured alone by$/);
    expect(lines).toHaveLength(figures.length + 2);
    for (const { name, command, figures: own } of parts) {
      expect(own.length, name).toBeGreaterThan(2);
      const rows = lines.filter((line) => line.endsWith(command));
      expect(rows.map((row) => own.filter((figure) => row.startsWith(figure.name)).length)).toEqual(own.map(() => 1));
    }
    expect(lines.at(-1)).toMatch(/^figures: \d+ of \d+ met, 0 of 1 parts failed$/);
  },
);

test("figures: a part that fails is told as failed, and the others still run", { timeout: 60_000 }, async () => {
  const broken: Part = { name: "broken", args: ["--against", "zeromq"], tinyArgs: ["--against", "zeromq"], minutes: 1 };
  const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-test-"));
  try {
    const said: string[] = [];
    const plan = { directory, isTiny: true, progress: (text: string) => said.push(text) };
    const results = await measureParts([broken, ...chosenParts("restart")], plan);
    expect(results.map(({ figures }) => figures.length > 0)).toEqual([false, true]);
    expect(results[0]!.failure).toBe("it ended with 1: Error: --against knows rabbitmq and nats, not zeromq");
    expect(said.some((line) => line.startsWith("[broken, 1 of 2] "))).toBe(true);
    expect(renderParts(results)).toMatch(/^broken +failed: .* NO +npm run bench -- --against zeromq$/m);
    expect(renderParts(results)).toMatch(/, 1 of 2 parts failed\n$/);
    expect(isPassed(results, true)).toBe(false);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("figures: a missed figure fails the run, but not a tiny one; one that was not measured is missed", () => {
  const figure: Figure = { name: "a rate", unit: "MB/s", measured: 10, range: [8, 12], wanted: { atLeast: 10 } };
  const result = { name: "part", command: "command", failure: null };
  const cases: [Figure, boolean][] = [
    [figure, true],
    [{ ...figure, measured: 9.9 }, false],
    [{ ...figure, measured: 10.1, wanted: { atMost: 10 } }, false],
    [{ ...figure, measured: null }, false],
    [{ ...figure, measured: null, wanted: null }, true],
  ];
  for (const [one, met] of cases) {
    expect(isMet(one), JSON.stringify(one)).toBe(met);
    expect(isPassed([{ ...result, figures: [figure, one] }], false)).toBe(met);
    expect(isPassed([{ ...result, figures: [figure, one] }], true)).toBe(true);
  }
  const text = renderParts([{ ...result, figures: [figure, { ...figure, measured: 9 }] }]);
  expect(text).toMatch(/^a rate +10 MB\/s \(8\.\.12\) +at least 10 MB\/s +yes +command$/m);
  expect(text).toMatch(/^a rate +9 MB\/s .* NO +command$/m);
  expect(text).toContain("figures: 1 of 2 met, 0 of 1 parts failed");
});

test("figures: parts are chosen by name", () => {
  expect(chosenParts(undefined)).toEqual(PARTS);
  // In their usual order, whatever was asked for first.
  expect(chosenParts("restart,pinned").map(({ name }) => name)).toEqual(["pinned", "restart"]);
  expect(() => chosenParts("restart,speed")).toThrow(/^--only knows publish, .*, not speed$/);
});

test("the median of an even number of rounds lies between the two in the middle", () => {
  expect(spread([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
  expect(spread([9, 1, 3])).toEqual({ median: 3, min: 1, max: 9 });
});
