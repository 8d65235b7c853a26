// The table of planted bugs, as text: what was looked for, in how many seeds it was found, and which check told.

import type { GivenOptions } from "./options.ts";
import type { SearchState, Verdict } from "./planted-search.ts";

const COLUMNS = [24, 9, 6, 6, 7] as const;

export const PLANTED_HEAD = row(["bug", "seeds", "seed", "check", "s"], "what it breaks, and how it was told");

/** Two lines: the bug with its figures, and the failure that it was found by. */
export function plantedLines(verdict: Verdict): string[] {
  const { name, what, within, tried, found, seconds, spoiled } = verdict;
  const figures = [name, `${tried} of ${within}`, String(found?.seed ?? "-"), found?.check ?? "MISSED", seconds.toFixed(1)];
  const told = found === null ? "no seed tells" : found.message;
  const run = runOf(verdict.run);
  const besides = [
    ...(run === "" ? [] : [`runs with ${run}`]),
    ...(spoiled === 0 ? [] : [`${spoiled} seeds fail without it as well, and do not count`]),
  ];
  return [row(figures, what), row([], `  ${told}${besides.length === 0 ? "" : ` (${besides.join("; ")})`}`)];
}

/** `seconds`: since the search began. */
export function plantedProgress({ bugs, decided, seeds, name, begun, of }: SearchState, seconds: number): string {
  const left = decided === 0 ? "?" : ((seconds / decided) * (bugs - decided)) / 60;
  const minutes = typeof left === "string" ? left : left.toFixed(1);
  return `${decided} of ${bugs} bugs decided, ${seeds} seeds run; now ${name}, seed ${begun} of ${of}; about ${minutes} min to go`;
}

export function plantedSummary(verdicts: readonly Verdict[], seconds: number): string {
  const missed = verdicts.filter(({ found }) => found === null).map(({ name }) => name);
  const seeds = verdicts.reduce((sum, { tried }) => sum + tried, 0);
  const misses = missed.length === 0 ? "" : `; missed: ${missed.join(", ")}`;
  return `${verdicts.length - missed.length} of ${verdicts.length} planted bugs found in ${seeds} seeds and ${(seconds / 60).toFixed(1)} min${misses}`;
}

/** As the options of the command line, which has none for a flood. */
function runOf({ faults, floods, ...rest }: Omit<GivenOptions, "seed">): string {
  const words = Object.entries(rest).map(([name, value]) => `--${name} ${String(value)}`);
  if (floods === true) words.push("a flood");
  if (faults !== undefined) words.push(`--faults ${faults.join(",") || "none"}`);
  return words.join(" ");
}

function row(cells: readonly string[], last: string): string {
  const padded = COLUMNS.map((width, at) => {
    const cell = cells[at] ?? "";
    return at === 0 || at === 3 ? cell.padEnd(width) : cell.padStart(width);
  });
  return `${padded.join(" ")}  ${last}`;
}
