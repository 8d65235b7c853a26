// What counts as found, and what the table says of it.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { PLANTED } from "./planted.ts";
import { plantedOf, searchPlanted, type SearchState, type Verdict } from "./planted-search.ts";
import { plantedLines, plantedProgress, plantedSummary } from "./planted-table.ts";
import type { Planted } from "./planted/swap.ts";

const BUG = PLANTED.find(({ name }) => name === "producers-forgotten")!;
const BASE = { seconds: 12, groups: 4, floods: false };

async function search(bugs: readonly Planted[], seeds: number | null): Promise<{ verdicts: readonly Verdict[]; states: SearchState[] }> {
  const states: SearchState[] = [];
  const decided: Verdict[] = [];
  const settings = { bugs, first: 1, seeds, base: BASE, given: {}, jobs: 1 };
  const verdicts = await searchPlanted(settings, {
    decided: (verdict) => void decided.push(verdict),
    ran: (state) => void states.push(state),
  });
  expect(new Set(decided)).toEqual(new Set(verdicts));
  return { verdicts, states };
}

test("planted bugs: one that is found is told with its seed and its check", { timeout: 60_000 }, async () => {
  const { verdicts, states } = await search([BUG], null);
  const [verdict] = verdicts;
  expect(verdict!.found).not.toBeNull();
  expect(verdict!.found!.check).toMatch(/^[LRS]\d$/);
  expect(verdict!.tried).toBeLessThanOrEqual(BUG.within);
  expect(states.at(-1)!.decided).toBe(1);
  const [line, told] = plantedLines(verdict!);
  expect(line).toMatch(/^producers-forgotten +\d+ of 40 +\d+ [LRS]\d +\d+\.\d  saved states know no producers$/);
  expect(told!.trim()).toBe(verdict!.found!.message);
  expect(plantedSummary(verdicts, 90)).toBe(`1 of 1 planted bugs found in ${verdict!.tried} seeds and 1.5 min`);
});

test("planted bugs: one that nothing tells of is missed; its runs get what it asks for", { timeout: 60_000 }, async () => {
  // Without a removal nothing is remembered too late.
  const bug = { ...PLANTED.find(({ name }) => name === "older-catalog")!, run: { seconds: 2, faults: [] }, within: 2 };
  const { verdicts } = await search([bug], null);
  expect(verdicts[0]).toMatchObject({ found: null, tried: 2, within: 2, spoiled: 0 });
  const [line, told] = plantedLines(verdicts[0]!);
  expect(line).toMatch(/^older-catalog +2 of 2 +- MISSED /);
  expect(told!.trim()).toBe("no seed tells (runs with --seconds 2 --faults none)");
  expect(plantedSummary(verdicts, 60)).toBe("0 of 1 planted bugs found in 2 seeds and 1.0 min; missed: older-catalog");
});

test("planted bugs: how long it may still take follows from those that are decided", () => {
  const state = { bugs: 40, decided: 10, seeds: 100, name: "no-dedup", begun: 3, of: 20 };
  expect(plantedProgress(state, 120)).toBe("10 of 40 bugs decided, 100 seeds run; now no-dedup, seed 3 of 20; about 6.0 min to go");
  expect(plantedProgress({ ...state, decided: 0 }, 120)).toContain("about ? min to go");
});

test("planted bugs: a commit chooses its own few, always the same", () => {
  const names = (commit: string): string[] => plantedOf("rotating:3", commit).map(({ name }) => name);
  expect(names("a")).toEqual(names("a"));
  expect(new Set(names("a")).size).toBe(3);
  const met = new Set(Array.from({ length: 400 }, (_, at) => names(`commit ${at}`)).flat());
  expect(met.size).toBe(PLANTED.length);
  expect(plantedOf("all", "a")).toBe(PLANTED);
  expect(plantedOf("no-dedup,skip-sync", "a")).toHaveLength(2);
  expect(plantedOf("no-dedup,unheard-of", "a")).toEqual([]);
});

test("planted bugs: at least 25, each under a name of its own, each with a bound", () => {
  expect(PLANTED.length).toBeGreaterThanOrEqual(25);
  expect(new Set(PLANTED.map(({ name }) => name)).size).toBe(PLANTED.length);
  for (const { within } of PLANTED) expect(within).toBeGreaterThan(0);
});

// The compiler lets neither import what lies outside of it (their tsconfigs have a rootDir of their own), so nothing there can plant one.
test("planted bugs: what is released has none", () => {
  const { files } = JSON.parse(readFileSync("package.json", "utf8")) as { files: string[] };
  expect(files).toEqual(["dist/src", "dist/bench", "proto", "deploy"]);
  for (const folder of ["src", "bench"]) {
    const { compilerOptions, include } = JSON.parse(readFileSync(`${folder}/tsconfig.json`, "utf8")) as {
      compilerOptions: { rootDir: string; outDir: string };
      include: string[];
    };
    expect(compilerOptions).toMatchObject({ rootDir: ".", outDir: `../dist/${folder}` });
    expect(include).toEqual(["**/*.ts"]);
  }
});
