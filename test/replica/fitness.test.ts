// Whether a node may lead, on a clock of our own.

import { expect, test } from "vitest";
import { Unfit, decodeFitness, encodeFitness } from "../../src/broker/unfit.ts";
import type { Logger } from "../../src/base/logger.ts";
import { replicaId, type NodeId } from "../../src/base/ids.ts";
import { FitnessWatch, type Fitness } from "../../src/replica/fitness.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const quiet = { info: () => {}, warn: () => {} } as unknown as Logger;

async function watched(): Promise<{
  loop: FakeLoop;
  told: Fitness[];
  state: { loopDelayMs: number; writeMs: number };
  watch: FitnessWatch;
}> {
  const loop = new FakeLoop();
  const told: Fitness[] = [];
  const state = { loopDelayMs: 0, writeMs: 0 };
  const watch = new FitnessWatch(
    { watermarkBytes: 0, slowWriteMs: 1_000, stallMs: 250 },
    {
      clock: loop,
      logger: quiet,
      freeBytes: () => Promise.resolve(1),
      oldestWriteMs: () => state.writeMs,
      loopDelayMs: () => state.loopDelayMs,
      changed: (fitness) => told.push(fitness),
    },
  );
  await watch.start();
  return { loop, told, state, watch };
}

function pass(loop: FakeLoop, ms: number): void {
  for (const until = loop.nowMs + ms; loop.nowMs < until; loop.turn()) loop.nowMs += 500;
}

test("fitness: a node whose event loop is late again and again is stalled, and fit again only when it was quick for long", async () => {
  const { loop, told, state } = await watched();
  state.loopDelayMs = 250;
  pass(loop, 5_000);
  expect(told).toEqual([]);
  state.loopDelayMs = 251;
  pass(loop, 500);
  expect(told).toEqual(["stalled"]);
  state.loopDelayMs = 0;
  pass(loop, 8_000);
  state.loopDelayMs = 300;
  pass(loop, 500);
  state.loopDelayMs = 0;
  pass(loop, 9_500);
  expect(told).toEqual(["stalled"]);
  pass(loop, 1_000);
  expect(told).toEqual(["stalled", "fit"]);
});

test("fitness: a slow disk goes before a stalled loop, and all words cross the wire", async () => {
  const { loop, told, state } = await watched();
  state.loopDelayMs = 300;
  state.writeMs = 2_000;
  pass(loop, 500);
  expect(told).toEqual(["slow"]);
  for (const fitness of ["fit", "full", "slow", "stalled"] as const) expect(decodeFitness(encodeFitness(fitness))).toBe(fitness);
  // A word of a later release keeps leaders away, no more.
  expect(decodeFitness(new Uint8Array([99]))).toBe("slow");
});

test("fitness: a process that was stopped does not take that time for its disk's", async () => {
  const { loop, told, state } = await watched();
  pass(loop, 1_000);
  // The write under way seems to take as long as the stop did, until its end is heard of.
  state.writeMs = 6_000;
  loop.nowMs += 6_000;
  loop.turn();
  expect(told).toEqual([]);
  state.writeMs = 0;
  pass(loop, 500);
  expect(told).toEqual([]);
  // One that really takes long is found out by the next round.
  state.writeMs = 7_000;
  loop.nowMs += 6_000;
  loop.turn();
  pass(loop, 500);
  expect(told).toEqual(["slow"]);
});

test("fitness: a stalled node takes records, or a busy cluster would take none", () => {
  const unfit = new Unfit(1 as NodeId);
  const voters = [1, 2, 3].map((node) => replicaId(node as NodeId, 0));
  const configuration = { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
  for (const node of [1, 2, 3]) unfit.set(node as NodeId, "stalled");
  expect(unfit.takesRecords(configuration)).toBe(true);
  unfit.set(1 as NodeId, "full");
  expect(unfit.takesRecords(configuration)).toBe(false);
});
