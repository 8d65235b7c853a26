// What counts as found, and what is promised.

import { expect, test } from "vitest";
import { PLANTED } from "./planted.ts";
import { searchPlanted } from "./planted-search.ts";

const BUG = PLANTED.find(({ name }) => name === "producers-forgotten")!;

async function search(bug: typeof BUG, seeds: number): Promise<{ found: unknown; lines: readonly string[] }> {
  const lines: string[] = [];
  const settings = { bugs: [bug], first: 1, seeds, given: { seconds: 12, groups: 4 }, jobs: 1 };
  const found = await searchPlanted(settings, (line) => void lines.push(line));
  return { found, lines };
}

test("planted bugs: one that is open is listed apart with its reason, and breaks no promise", { timeout: 60_000 }, async () => {
  const { found, lines } = await search({ ...BUG, open: "nobody asks" }, 0);
  expect(found).toEqual({ promised: 0, found: 0, open: 1, openFound: 0 });
  expect(lines.at(-1)).toBe("not found yet: producers-forgotten, in 0 seeds: nobody asks");
});

test("planted bugs: one that is promised and found is told with its check", { timeout: 60_000 }, async () => {
  const { found, lines } = await search(BUG, BUG.within);
  expect(found).toEqual({ promised: 1, found: 1, open: 0, openFound: 0 });
  expect(lines.at(-1)).toMatch(/^producers-forgotten +\d+ +\d+ \w+ /);
});
