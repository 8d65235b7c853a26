// A run as data: the schedule of its faults makes the same run, it is written down and read again, and it is made smaller.

import { expect, test } from "vitest";
import { action } from "./actions.ts";
import { FAULTS, optionsOf } from "./options.ts";
import { parseScript, printScript, type Script } from "./script.ts";
import { shrink, type Run } from "./shrink.ts";
import { Simulation } from "./simulation.ts";

const QUICK = { nodes: 3, groups: 2, seconds: 4, faults: FAULTS };

test("the schedule of a run makes the same run", { timeout: 60_000 }, async () => {
  for (const seed of [1, 2, 3]) {
    const options = { ...optionsOf({ ...QUICK, seed }), storms: 2, calmSeconds: 2, faultEveryMs: 400 };
    const drawn = await new Simulation(options).run();
    expect(drawn.schedule.length).toBeGreaterThan(2);
    const again = await new Simulation(options, drawn.schedule).run();
    expect(again.hash, `seed ${seed}`).toBe(drawn.hash);
  }
});

test("a script is read as it was written", () => {
  const script: Script = {
    about: ["what it found", "", "and more"],
    planted: "no-dedup",
    expects: "L2",
    options: { ...optionsOf({ seed: 7 }), hopeless: true },
    schedule: [
      { atUs: 1_234_567, action: action("partition", { node: 2, how: "ring", ms: 300, roll: 4_000_000_000 }) },
      { atUs: 2_000_001, action: action("effect", { how: "batch, synced", amount: 7 }) },
    ],
  };
  expect(parseScript(printScript(script))).toEqual(script);
  expect(printScript(script)).toContain('fault 2000.001 effect peer=2 how="batch, synced" amount=7 roll=1\n');
  expect(() => parseScript("option speed 3\n")).toThrow("line 1");
  expect(() => parseScript("expects L0\nfault 1 flood node=1\n")).toThrow("line 2");
});

test("shrinking keeps what the failure needs and nothing else", async () => {
  // It fails whenever node 2 is killed while node 1 is paused before, with at least two groups.
  const violated = ({ options, schedule }: Run): Promise<string> => {
    const paused = schedule.findIndex(({ action: { fault, node } }) => fault === "pause" && node === 1);
    const killed = schedule.map(({ action: { fault, node } }) => `${fault} ${node}`).lastIndexOf("kill 2");
    return Promise.resolve(options.groups >= 2 && paused >= 0 && killed > paused ? "L0" : "");
  };
  const schedule = Array.from({ length: 60 }, (_, at) => ({
    atUs: at * 1_000_000,
    action: action(at % 7 === 3 ? "pause" : at % 5 === 4 ? "kill" : "reset", { node: 1 + (at % 3) }),
  }));
  const run: Run = { options: optionsOf({ seed: 1, nodes: 5 }), schedule };
  expect(await violated(run)).toBe("L0");
  const small = await shrink(run, "L0", { violated, runsMax: 500, seedsPerStep: 1, tell: () => {} });
  expect(await violated(small)).toBe("L0");
  expect(small.schedule.map(({ action: { fault, node } }) => `${fault} ${node}`)).toEqual(["pause 1", "kill 2"]);
  const { nodes, groups, producers, readers, storms, calmSeconds } = small.options;
  expect({ nodes, groups, producers, readers, storms, calmSeconds }).toEqual({
    nodes: 3,
    groups: 2,
    producers: 1,
    readers: 0,
    storms: 1,
    calmSeconds: 0,
  });
});
