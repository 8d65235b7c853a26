import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { PayloadMemory } from "../../src/base/payload-memory.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const SLAB = 4_096;

test("payload memory: nobody is given the same bytes twice", () => {
  const memory = new PayloadMemory(SLAB, 64 * SLAB);
  const taken = Array.from({ length: 100 }, (_, at) => memory.take(1 + ((at * 37) % 900)));
  taken.forEach((bytes, at) => bytes.fill(at + 1));
  taken.forEach((bytes, at) =>
    expect(
      [...bytes].every((byte) => byte === at + 1),
      `taken ${at}`,
    ).toBe(true),
  );
});

test("payload memory: slabs are bounded; beyond the bound it is ordinary memory, until slabs are collected", async () => {
  const memory = new PayloadMemory(SLAB, 8 * SLAB);
  let held: Uint8Array[] = [];
  for (let count = 0; count < 40; count++) held.push(memory.take(3_000));
  expect(memory.slabBytesAlive).toBe(8 * SLAB);
  expect(held.filter(({ buffer }) => buffer instanceof SharedArrayBuffer)).toHaveLength(8);
  held = [];
  // Finalizers run some time after a collection.
  for (let tries = 0; memory.slabBytesAlive > SLAB && tries < 200; tries++) {
    collect();
    await delay(5);
  }
  expect(memory.slabBytesAlive).toBeLessThanOrEqual(SLAB);
  expect(memory.take(3_000).buffer).toBeInstanceOf(SharedArrayBuffer);
});

test("payload memory: what is larger than a slab does not end the one in use", () => {
  const memory = new PayloadMemory(SLAB, 64 * SLAB);
  const first = memory.take(100);
  expect(memory.take(3 * SLAB)).toHaveLength(3 * SLAB);
  expect(memory.take(100).buffer).toBe(first.buffer);
});
