import { expect, test } from "vitest";
import { RaftSimulation } from "../support/raft-simulation.ts";

/** RAFT_SEED replays one seed; RAFT_SEEDS sets how many are tried. */
const only = process.env["RAFT_SEED"];
const seeds = only === undefined ? Array.from({ length: Number(process.env["RAFT_SEEDS"] ?? 800) }, (_, at) => at + 1) : [Number(only)];
const STEPS = 8_000;

test("raft: whatever is lost, late, cut off or crashed, the group keeps its promises and goes on afterwards", { timeout: 600_000 }, () => {
  const totals: Record<string, number> = {};
  for (const seed of seeds) {
    const simulation = new RaftSimulation(seed);
    let step = 0;
    try {
      for (; step < STEPS; step++) simulation.step();
      simulation.finish();
    } catch (error) {
      throw new Error(`RAFT_SEED=${seed}, step ${step}: ${(error as Error).message}`, { cause: error });
    }
    for (const [name, count] of Object.entries(simulation.counts)) totals[name] = (totals[name] ?? 0) + count;
  }
  if (only !== undefined) return;
  // A simulation in which nothing happens proves nothing.
  for (const [name, perSeed] of Object.entries({
    committed: 20,
    elections: 2,
    restarts: 5,
    changes: 1,
    joint: 0.1,
    snapshots: 0.5,
    reads: 0.5,
    transfers: 0.5,
  })) {
    expect(totals[name], name).toBeGreaterThan(perSeed * seeds.length);
  }
});
