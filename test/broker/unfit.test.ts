import { expect, test } from "vitest";
import { decodeFitness, encodeFitness, Unfit } from "../../src/broker/unfit.ts";
import type { NodeId } from "../../src/base/ids.ts";

const [SELF, OTHER] = [1 as NodeId, 2 as NodeId];

test("unfit: a node that stops is told as such, takes no leaders, and is like any other once it is back", () => {
  const unfit = new Unfit(SELF);
  unfit.set(OTHER, decodeFitness(encodeFitness("stopping")));
  expect([unfit.of(OTHER), unfit.takesLeaders(OTHER), unfit.takesLeaders(SELF)]).toEqual(["stopping", false, true]);
  unfit.forget(OTHER);
  expect([unfit.of(OTHER), unfit.takesLeaders(OTHER)]).toEqual(["fit", true]);
});

test("unfit: a word of a later release keeps leaders away", () => {
  expect(decodeFitness(new Uint8Array([200]))).toBe("slow");
});
