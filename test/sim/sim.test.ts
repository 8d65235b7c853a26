// A few seeds, and what a simulation must be: the same each time.

import { expect, test } from "vitest";
import { FAULTS, optionsOf } from "./options.ts";
import { Simulation } from "./simulation.ts";
import { World, type Owner } from "./world.ts";

const QUICK = { nodes: 3, groups: 4, seconds: 4 };

test("the same seed gives the same trace, another one another", { timeout: 60_000 }, async () => {
  const run = async (seed: number): Promise<string> => {
    const { failure, hash } = await new Simulation(optionsOf({ ...QUICK, seed, faults: FAULTS })).run();
    expect(failure).toBeNull();
    return hash;
  };
  const hash = await run(1);
  expect(await run(1)).toBe(hash);
  expect(await run(2)).not.toBe(hash);
});

test.each([3, 4, 5, 6, 7, 8])("seed %d with all faults", { timeout: 60_000 }, async (seed) => {
  const result = await new Simulation(optionsOf({ ...QUICK, seed, faults: FAULTS })).run();
  expect(result.failure).toBeNull();
  expect(result.counts["acked"]).toBeGreaterThan(0);
});

test(
  "a node whose log takes no more while its disk stands still waits for it, and does not turn on the spot",
  { timeout: 60_000 },
  async () => {
    // A flood, and a disk that does nothing for eight seconds.
    const { failure, events } = await new Simulation(optionsOf({ nodes: 3, groups: 4, seconds: 6, seed: 901 })).run();
    expect(failure).toBeNull();
    expect(events).toBeLessThan(300_000);
  },
);

test("what a promise does belongs to the event that settled it, and a dead owner does nothing more", async () => {
  const world = new World(1);
  const done: string[] = [];
  const owner: { -readonly [K in keyof Owner]: Owner[K] } = {
    name: "a",
    isDead: false,
    pausedUntilUs: 0,
    failed: (error) => void done.push(error.message),
  };
  world.after(10, owner, "first", () => {
    void (async () => {
      for (let step = 0; step < 100; step++) await Promise.resolve();
      done.push("first is over");
    })();
  });
  world.after(11, owner, "second", () => {
    done.push("second");
    void Promise.reject(new Error("nobody cares"));
    owner.isDead = true;
  });
  world.after(12, owner, "third", () => done.push("third"));
  await world.run(100);
  expect(done).toEqual(["first is over", "second", "nobody cares"]);
});
