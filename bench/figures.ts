// What a bench of one figure shares: a table of what was wanted and what was measured, and progress with rate and time left.

import { writeFileSync } from "node:fs";

export type Figure = { readonly name: string; readonly value: string; readonly wanted: string; readonly ok: boolean };
/** What a mode of the bench hands back: all that it measured, its table, and a closing line if it has one. */
export type FigureRun = { readonly report: object; readonly figures: readonly Figure[]; readonly summary?: string };

/** Prints what was measured against what was wanted; a figure that was missed fails the process. */
export function finishFigures({ report, figures, summary = "" }: FigureRun, { json }: { readonly json?: string }): void {
  process.stdout.write(renderFigures(figures) + summary);
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ ...report, figures }, null, 2)}\n`);
  if (!figures.every(({ ok }) => ok)) process.exitCode = 1;
}

function renderFigures(figures: readonly Figure[]): string {
  const rows = [
    ["figure", "measured", "wanted", ""],
    ...figures.map(({ name, value, wanted, ok }) => [name, value, wanted, ok ? "ok" : "MISSED"]),
  ];
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => cell.padEnd(widths[at]!))
      .join("  ")
      .trimEnd();
  return `${rows.map(line).join("\n")}\n`;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Says how far a long step is, every so often. */
export class Pace {
  private readonly what: string;
  private readonly total: number;
  private readonly say: (text: string) => void;
  private readonly startMs = performance.now();
  private saidMs = performance.now();

  constructor(what: string, total: number, say: (text: string) => void) {
    this.what = what;
    this.total = total;
    this.say = say;
  }

  /** `done` of the total, in bytes. */
  update(done: number): void {
    const now = performance.now();
    if (now - this.saidMs < 2_000) return;
    this.saidMs = now;
    const rate = done / ((now - this.startMs) / 1000);
    const left = rate > 0 ? ((this.total - done) / rate).toFixed(0) : "?";
    this.say(`${this.what}: ${((100 * done) / this.total).toFixed(0)} %, ${(rate / 1e6).toFixed(0)} MB/s, ${left} s left`);
  }
}
