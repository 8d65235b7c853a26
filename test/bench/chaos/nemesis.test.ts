// What is written down of a fault, and what of it is a violation.

import { expect, test } from "vitest";
import type { FaultKind, Strike, World } from "../../../bench/chaos/fault.ts";
import { Nemesis } from "../../../bench/chaos/nemesis.ts";
import { reportText, summariesOf, type ChaosReport } from "../../../bench/chaos/report.ts";
import { Timeline } from "../../../bench/chaos/timeline.ts";
import { Verdict } from "../../../bench/chaos/verdict.ts";

const STRIKE: Strike = {
  seconds: 0,
  begin: () => Promise.resolve("node 1"),
  end: () => Promise.resolve({ bit: true, proof: "it was struck" }),
};

/** One act; everything is whole again so many seconds after it, or never. */
async function carriedOut(
  kind: Partial<FaultKind>,
  healSeconds: number | null,
  /** A partition from which acknowledgements are expected, and none come. Time passes then. */
  isSilent = false,
): Promise<{ verdict: Verdict; nemesis: Nemesis }> {
  let nowMs = 1_000;
  const now = (): number => (nowMs += isSilent ? 1_000 : 0);
  const verdict = new Verdict();
  const timeline = new Timeline(now);
  if (isSilent) timeline.expect(1);
  const nemesis = new Nemesis(
    { verdict, timeline, now, progress: () => {} },
    {
      world: () => ({}) as World,
      whole: () => {
        nowMs += (healSeconds ?? 0) * 1_000;
        return Promise.resolve(healSeconds !== null);
      },
      state: () => Promise.resolve("node 1 is down"),
    },
  );
  const full: FaultKind = { name: "kind", what: "", needs: [], draw: () => STRIKE, ...kind };
  await nemesis.carryOut({ number: 1, strikes: [{ kind: full, strike: STRIKE }], overlap: 0, calmSeconds: 0 });
  return { verdict, nemesis };
}

test("nemesis: what is whole again too late, or never, is a violation", async () => {
  const cases = [
    { kind: {}, healSeconds: 61, found: [] },
    { kind: { healsWithinSeconds: 60 }, healSeconds: 59, found: [] },
    { kind: { healsWithinSeconds: 60 }, healSeconds: 61, found: ["kind: whole again after 61.0 s, and not within 60"] },
    { kind: {}, healSeconds: null, found: ["not whole again after kind: node 1 is down"] },
  ];
  for (const { kind, healSeconds, found } of cases) {
    const { verdict, nemesis } = await carriedOut(kind, healSeconds);
    expect(verdict.findings().flatMap(({ texts }) => texts)).toEqual(found);
    expect(nemesis.isLost).toBe(healSeconds === null);
  }
});

test("nemesis: a partition that acknowledges nothing once all nodes are content is a violation", async () => {
  const { verdict, nemesis } = await carriedOut({}, 0, true);
  expect(verdict.findings().flatMap(({ texts }) => texts)).toEqual([
    "not whole again after kind: not every partition acknowledges records",
  ]);
  expect(nemesis.isLost).toBe(true);
});

test("report: each kind of fault has a line, with the time that it took to heal", async () => {
  const { nemesis } = await carriedOut({ name: "bit-node-json" }, 7);
  const kinds = summariesOf(nemesis.records, [{ name: "bit-node-json", what: "a bit" }], () => "bits");
  expect(kinds).toMatchObject([{ count: 1, bit: 1, wholeMaxMs: 7_000, healedMaxMs: 7_000 }]);
  const report = {
    kinds,
    skipped: [],
    findings: [],
    faults: nemesis.records,
    seconds: 60,
    seed: 1,
    acked: 5,
    longestGapMs: 0,
    violations: 0,
  };
  expect(reportText(report as unknown as ChaosReport)).toMatch(/^bit-node-json +1 +1 +0 +0 +7\.0 +7\.0$/m);
});
