// The modes of `npm run bench` that hold figures against what was wanted, tiny: that they run, and that nothing was missed.

import { readFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { FAULT_KINDS, type EnduranceReport } from "../../bench/endurance.ts";
import type { Figure } from "../../bench/figures.ts";
import type { PinnedReport } from "../../bench/pinned.ts";
import type { RestartReport } from "../../bench/restart.ts";
import { runProgram } from "../support/run.ts";

const MAIN = fileURLToPath(new URL("../../dist/bench/main.js", import.meta.url));

type Figures = { readonly figures: readonly Figure[] };

/**
 * A bench of figures: it runs, what it prints stands in its JSON as well, and nothing was missed; unless its figures are
 * times (`isTimed`), which say nothing on a machine that is busy with other tests.
 */
async function figuresOf<T>(args: readonly string[], isTimed = false): Promise<T & Figures & { stdout: string }> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-test-"));
  try {
    const file = join(directory, "report.json");
    const { code, stdout, stderr } = await runProgram(process.execPath, [
      MAIN,
      ...args,
      "--tiny",
      "--json",
      file,
      "--directory",
      directory,
    ]);
    if (!isTimed) expect(code, `${stdout.toString()}\n${stderr}`).toBe(0);
    const report = JSON.parse(await readFile(file, "utf8")) as T & Figures;
    for (const { name, value, ok } of report.figures) {
      expect(stdout.toString()).toContain(value);
      if (!isTimed) expect(ok, `${name}: ${value}`).toBe(true);
    }
    return { ...report, stdout: stdout.toString() };
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
