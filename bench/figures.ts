// What the bench measures stands beside what is wanted of it, in one shape for all its modes: so one table can hold them all.

import { writeFileSync } from "node:fs";
import type { Spread } from "./spread.ts";
import { table } from "./table.ts";

export type Wanted = { readonly atMost: number } | { readonly atLeast: number };

export type Figure = {
  readonly name: string;
  readonly unit: string;
  /** null = not measured, or what was waited for never happened. */
  readonly measured: number | null;
  /** Over the rounds, of which `measured` is the median. */
  readonly range?: readonly [min: number, max: number];
  /** null = for information. */
  readonly wanted: Wanted | null;
  /** What one must know to judge it: its parts, or why it was not measured. */
  readonly note?: string;
};

/** What a mode of the bench hands back: all that it measured, what it says before its table, and a closing line. */
export type FigureRun = { readonly report: object; readonly figures: readonly Figure[]; readonly head?: string; readonly summary?: string };

/** What is printed as JSON, with the report's own fields beside it. */
export type FigureReport = { readonly figures: readonly Figure[] };

export function isMet({ measured, wanted }: Figure): boolean {
  if (wanted === null) return true;
  if (measured === null) return false;
  return "atMost" in wanted ? measured <= wanted.atMost : measured >= wanted.atLeast;
}

export function ofRounds({ median, min, max }: Spread): Pick<Figure, "measured" | "range"> {
  return { measured: median, range: [min, max] };
}

/** Prints what was measured against what was wanted. A missed figure fails the process, but for a tiny run, which says nothing. */
export function finishFigures(run: FigureRun, { json, isTiny }: { readonly json: string | undefined; readonly isTiny: boolean }): void {
  const { report, figures, head = "", summary = "" } = run;
  process.stdout.write(`${head}${table([FIGURE_HEAD, ...figures.map(figureRow)])}\n${summary}`);
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ ...report, figures }, null, 2)}\n`);
  if (!isTiny && !figures.every(isMet)) process.exitCode = 1;
}

export const FIGURE_HEAD: readonly string[] = ["figure", "measured", "wanted", "met?"];

export function figureRow(figure: Figure): string[] {
  const { name, wanted } = figure;
  if (wanted === null) return [name, measuredText(figure), "", ""];
  const bound = "atMost" in wanted ? `at most ${shown(wanted.atMost)}` : `at least ${shown(wanted.atLeast)}`;
  return [name, measuredText(figure), withUnit(bound, figure.unit), isMet(figure) ? "yes" : "NO"];
}

function measuredText({ measured, unit, range, note }: Figure): string {
  const spreadText = range === undefined ? "" : ` (${shown(range[0])}..${shown(range[1])})`;
  const value = measured === null ? "-" : withUnit(shown(measured), unit) + spreadText;
  return note === undefined ? value : `${value}; ${note}`;
}

function withUnit(text: string, unit: string): string {
  return unit === "" ? text : `${text} ${unit}`;
}

function shown(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: 2 });
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
