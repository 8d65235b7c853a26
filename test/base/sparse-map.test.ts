import { expect, test } from "vitest";
import { NOTHING } from "../../src/base/nothing.ts";
import { SparseMap } from "../../src/base/sparse-map.ts";

test("sparse map: a map, and nothing but one field once its last entry is gone", () => {
  const map = new SparseMap<number, string>();
  const isNothing = (): boolean => Object.values(map).every((field) => field === null);
  map.delete(1);
  map.clear();
  expect([map.size, map.get(1), map.has(1), map.entries(), isNothing()]).toEqual([0, undefined, false, [], true]);
  map.set(1, "a");
  map.set(2, "b");
  map.set(1, "c");
  for (const [key] of map.entries()) if (key === 1) map.delete(key);
  expect([map.size, map.get(1), map.has(2), map.entries(), isNothing()]).toEqual([1, undefined, true, [[2, "b"]], false]);
  map.delete(2);
  expect([map.size, isNothing()]).toEqual([0, true]);
});

test("nothing: who would add to what all share is stopped", () => {
  expect(() => (NOTHING as number[]).push(1)).toThrow(TypeError);
});
