// The calm: it counts what it is there to count, and fails then.

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runCalm, type CalmReport } from "../../../bench/chaos/calm.ts";
import { electionsBetween, type Seen } from "../../../bench/chaos/elections.ts";
import { isMet, type FigureReport } from "../../../bench/figures.ts";
import { Flotilla } from "../../../src/client/index.ts";
import { runProgram } from "../../support/run.ts";

const MAIN = fileURLToPath(new URL("../../../dist/bench/chaos/main.js", import.meta.url));

async function inFolder(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-calm-test-"));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("elections: terms are counted by node, and other leaders and terms are named", () => {
  const seen = (terms: readonly number[], leader: number, term: number): Seen => ({
    terms,
    late: [0, 1, 0],
    groups: new Map([
      ["controller", { leader: 1, term: 0 }],
      ["t/0", { leader, term }],
    ]),
  });
  expect(electionsBetween(seen([3, 4, 5], 1, 2), seen([3, 4, 5], 1, 2))).toEqual({ terms: [0, 0, 0], late: [0, 0, 0], changes: [] });
  expect(electionsBetween(seen([3, 4, 5], 1, 2), seen([4, 5, 5], 2, 3))).toEqual({
    terms: [1, 1, 0],
    late: [0, 0, 0],
    changes: ["t/0: node 1 in term 2, then node 2 in term 3"],
  });
});

test("calm: a leader that moves in the middle of it is counted, and its figures are missed", { timeout: 120_000 }, () =>
  inFolder(async (directory) => {
    const { report, figures, summary } = await runCalm(directory, {
      minutes: 0.03,
      loadPercent: 5,
      progress: () => {},
      meanwhile: async ({ nodes }, topic) => {
        await using client = await Flotilla.connect({ endpoints: nodes.endpoints });
        const { leader, replicas } = (await client.cluster.resolve(topic)).partitions[0]!;
        await client.cluster.transferLeader({ topic, partition: 0, toNode: replicas.find((node) => node !== leader)! });
      },
    });
    const [first] = (report as CalmReport).parts;
    expect(Math.max(...first!.elections.terms)).toBeGreaterThan(0);
    expect(figures.filter((figure) => !isMet(figure)).map(({ name }) => name)).toEqual(
      expect.arrayContaining([expect.stringContaining("terms begun"), expect.stringContaining("another leader")]),
    );
    expect(summary).not.toContain(" 0 terms begun");
    // Every kind of legal request was answered.
    const { calls, acked } = (report as CalmReport).parts[1]!;
    expect(Object.keys(calls).length).toBeGreaterThan(10);
    expect(acked).toBeGreaterThan(0);
  }),
);

test("calm: it says how it was, and its exit code is 1 only if somebody was elected", { timeout: 120_000 }, () =>
  inFolder(async (directory) => {
    const json = join(directory, "report.json");
    const args = [MAIN, "--calm", "0.03", "--load", "5", "--json", json, "--directory", directory];
    const { code, stdout, stderr } = await runProgram(process.execPath, args);
    const { figures, peak } = JSON.parse(await readFile(json, "utf8")) as CalmReport & FigureReport;
    expect(peak).toBeGreaterThan(0);
    // On a machine that is busy with other tests somebody may be elected.
    expect(code, stderr).toBe(figures.every(isMet) ? 0 : 1);
    expect(stdout.toString()).toMatch(/^calm: peak .* terms begun, .* leaders changed$/m);
    const refused = await runProgram(process.execPath, [MAIN, "--calm", "1", "--endpoints", "localhost:1"]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining("--endpoints")]);
  }),
);
