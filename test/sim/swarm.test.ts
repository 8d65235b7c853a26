// What becomes of seeds whose process does not do as it should, and when the time is over.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Tally } from "./report.ts";
import { lostOutcome, type Outcome, type Task } from "./run-seed.ts";
import { runSwarm } from "./swarm.ts";

/** Answers with its number as the hash; 3 ends it, and of 4 nothing is ever heard. After 5 it is large. */
const WORKER = `
process.on("message", ({ given: { seed } }) => {
  if (seed === 3) process.exit(7);
  if (seed !== 4) process.send({ seed, failure: null, hash: String(process.pid), memoryLeftBytes: seed === 5 ? 2 ** 31 : 2 ** 20 });
});
process.on("disconnect", () => process.exit(0));
`;

let folder = "";
let worker = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "flotilla-swarm-"));
  worker = join(folder, "worker.mjs");
  writeFileSync(worker, WORKER);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function swarm(seeds: number[], jobs: number, endMs = Number.POSITIVE_INFINITY): Promise<{ done: Outcome[]; givenUp: number[] }> {
  const done: Outcome[] = [];
  const givenUp: number[] = [];
  const next = (): Task | null => {
    const seed = seeds.shift();
    return seed === undefined || performance.now() >= endMs ? null : { given: { seed }, twice: false, planted: "" };
  };
  await runSwarm(jobs, {
    next,
    done: (_task, outcome) => void done.push(outcome),
    endMs,
    worker,
    givenUp: ({ given }) => void givenUp.push(given.seed),
  });
  return { done, givenUp };
}

test("swarm: a process that ends is a failure of its seed, and another one goes on", async () => {
  const { done } = await swarm([1, 3, 2, 6, 7, 8], 2);
  expect(done.map(({ seed }) => seed).sort((a, b) => a - b)).toEqual([1, 2, 3, 6, 7, 8]);
  expect(done.find(({ seed }) => seed === 3)!.failure!.message).toContain("ended with 7");
  expect(done.filter(({ failure }) => failure !== null)).toHaveLength(1);
});

test("swarm: when the time is over, what still runs is given up, and is no failure", async () => {
  const { done, givenUp } = await swarm([4, 1], 1, performance.now() + 500);
  expect(done).toEqual([]);
  expect(givenUp).toEqual([4]);
});

test("swarm: a process that has grown is replaced, any other one kept", async () => {
  const { done } = await swarm([1, 2, 5, 6], 1, performance.now() + 30_000);
  const [first, second, large, fresh] = done.map(({ hash }) => hash);
  expect(second).toBe(first);
  expect(large).toBe(first);
  expect(fresh).not.toBe(first);
});

test("report: seeds, hours, speed by CPU time for each size of cluster, memory, and what was given up", () => {
  const tally = new Tally({ commit: "abc", seeds: 3, endMs: Number.POSITIVE_INFINITY });
  const spent = { realMs: 20_000, cpuMs: 10_000 };
  const storms = { virtualMs: 600_000, spent: { realMs: 16_000, cpuMs: 8_000 } };
  const outcome = { ...lostOutcome({ seed: 1 }, ""), failure: null, spent, storms, memoryBytes: 300 * 2 ** 20 };
  tally.add({ ...outcome, nodes: 3, virtualMs: 1_800_000 });
  tally.add({ ...outcome, nodes: 5, virtualMs: 900_000 });
  tally.givenUp.push(9);
  const text = tally.summary().join("\n");
  expect(text).toContain("2 seeds of commit abc, 0 failed; 0.75 cluster-hours");
  expect(text).toContain(
    "speed per core, by its CPU time: 135; 180 with 3 nodes, 90 with 5 nodes; 75 in storms, which are 44 % of the time",
  );
  expect(text).toContain("a job held at most 300 MiB");
  expect(text).toContain("given up as the time was over: 9");
});
