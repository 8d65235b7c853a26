// What goes past the environment is found, even where somebody swallows the error.

import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { gzip } from "node:zlib";
import { afterEach, expect, test } from "vitest";
import { SegmentLog } from "../../src/log/segment-log.ts";
import { optionsOf } from "./options.ts";
import { Simulation } from "./simulation.ts";
import { World, type Owner } from "./world.ts";

const STRAYS: readonly (readonly [name: string, use: () => unknown])[] = [
  ["Date.now", () => Date.now()],
  ["new Date()", () => new Date()],
  ["Math.random", () => Math.random()],
  ["global.setTimeout", () => setTimeout(() => {}, 1)],
  ["global.setInterval", () => setInterval(() => {}, 1)],
  ["global.setImmediate", () => setImmediate(() => {})],
  ["timers/promises.setTimeout", () => sleep(1)],
  ["performance.now", () => performance.now()],
  ["process.hrtime", () => process.hrtime()],
  ["process.hrtime.bigint", () => process.hrtime.bigint()],
  ["process.memoryUsage", () => process.memoryUsage()],
  ["AbortSignal.timeout", () => AbortSignal.timeout(1)],
  ["crypto.randomBytes", () => randomBytes(4)],
  ["crypto.randomUUID", () => randomUUID()],
  ["crypto.getRandomValues", () => crypto.getRandomValues(new Uint8Array(4))],
  ["fs.readFileSync", () => readFileSync("package.json")],
  ["fs.promises.readFile", () => readFile("package.json")],
  ["zlib.gzip", () => gzip(new Uint8Array(1), () => {})],
];

/** Runs `work` as an event; what its owner is told. */
async function told(work: () => void): Promise<string[]> {
  const world = new World(1);
  const errors: string[] = [];
  const owner: Owner = { name: "a", isDead: false, pausedUntilUs: 0, failed: (error) => void errors.push(error.message) };
  world.after(1, owner, "event", work);
  await world.run(10);
  return errors;
}

test.each(STRAYS)("%s is found in an event, and free outside of one", async (name, use) => {
  const swallowed = await told(() => {
    try {
      use();
    } catch {
      // As a product's own catch might.
    }
  });
  expect(swallowed).toEqual([`${name} was used past the environment: no two runs would be the same`]);
  const inPromise = await told(
    () =>
      void Promise.resolve()
        .then(use)
        .catch(() => {}),
  );
  expect(inPromise).toHaveLength(1);
  if (name.startsWith("global.set")) return;
  expect(use).not.toThrow();
});

test("what needs no machine is free in an event", async () => {
  const errors = await told(() => {
    expect(new Date(5).toISOString()).toBe("1970-01-01T00:00:00.005Z");
    expect(new Date(5)).toBeInstanceOf(Date);
    queueMicrotask(() => {});
    process.nextTick(() => {});
  });
  expect(errors).toEqual([]);
});

type Append = (this: SegmentLog, ...call: Parameters<SegmentLog["append"]>) => void;
const methods = SegmentLog.prototype as { append: Append };
const original = methods.append;
afterEach(() => {
  methods.append = original;
});

test("a node that asks the real clock fails its seed", async () => {
  methods.append = function (...call) {
    Date.now();
    original.apply(this, call);
  };
  const { failure } = await new Simulation(optionsOf({ seed: 1, nodes: 3, groups: 1, seconds: 1, faults: [] })).run();
  expect(failure?.message).toContain("Date.now was used past the environment");
});
