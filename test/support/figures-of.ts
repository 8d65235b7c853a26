// One mode of `npm run bench` that holds figures against what was wanted, tiny.

import { readFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { isMet, type FigureReport } from "../../bench/figures.ts";
import { runProgram } from "./run.ts";

const MAIN = fileURLToPath(new URL("../../dist/bench/main.js", import.meta.url));

/**
 * A bench of figures: it runs, what it prints stands in its JSON as well, and nothing was missed; unless its figures are
 * times (`isTimed`), which say nothing on a machine that is busy with other tests.
 */
export async function figuresOf<T>(args: readonly string[], isTimed = false): Promise<T & FigureReport & { stdout: string }> {
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
    expect(code, `${stdout.toString()}\n${stderr}`).toBe(0);
    const report = JSON.parse(await readFile(file, "utf8")) as T & FigureReport;
    for (const figure of report.figures) {
      expect(stdout.toString()).toContain(figure.name);
      if (!isTimed) expect(isMet(figure), `${figure.name}: ${figure.measured}`).toBe(true);
    }
    return { ...report, stdout: stdout.toString() };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
