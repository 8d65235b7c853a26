// A probe is a line of the product: one that is worded anew there would never be reached again.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { PROBES } from "./probes.ts";
import { Tally } from "./report.ts";
import { lostOutcome } from "./run-seed.ts";

test("each probe is written down somewhere in the product", () => {
  const source = readdirSync("src", { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => readFileSync(join("src", file), "utf8"))
    .join("\n");
  expect(PROBES.filter((probe) => !source.includes(`"${probe}"`))).toEqual([]);
});

test("report: how many probes were reached, and which were not", () => {
  const tally = new Tally({ commit: "abc", seeds: 1, endMs: Number.POSITIVE_INFINITY });
  const said = Object.fromEntries(PROBES.slice(2).map((probe) => [probe, 3]));
  tally.add({ ...lostOutcome({ seed: 1 }, ""), failure: null, said: { ...said, "node is up": 9 } });
  const text = tally.summary().join("\n");
  expect(text).toContain(`probes: ${PROBES.length - 2} of ${PROBES.length} reached`);
  expect(text).toContain(`not reached: ${PROBES[0]} | ${PROBES[1]}`);
});
