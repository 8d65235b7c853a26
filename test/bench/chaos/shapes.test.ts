import { expect, test } from "vitest";
import { Prng } from "../../../src/base/prng.ts";
import { cutsOf, linksOf, SHAPES, shuffled, type DirectedPair } from "../../../bench/chaos/shapes.ts";

const names = (pairs: readonly DirectedPair[]): string[] => pairs.map(([from, to]) => `${from}>${to}`).sort();

test("shapes: who no longer hears whom", () => {
  const three = [2, 1, 3];
  expect(names(cutsOf("isolate", three))).toEqual(["1>2", "2>1", "2>3", "3>2"]);
  expect(names(cutsOf("halves", three))).toEqual(names(cutsOf("isolate", three)));
  expect(names(cutsOf("bridge", three))).toEqual(["1>3", "3>1"]);
  expect(names(cutsOf("one-way", three))).toEqual(["2>1", "2>3"]);
  const five = [1, 2, 3, 4, 5];
  expect(names(cutsOf("halves", five))).toHaveLength(2 * 2 * 3);
  expect(names(cutsOf("bridge", five))).toEqual(["2>4", "2>5", "3>4", "3>5", "4>2", "4>3", "5>2", "5>3"]);
  // Five times two who are not neighbours.
  expect(names(cutsOf("ring", five))).toEqual(["1>3", "1>4", "2>4", "2>5", "3>1", "3>5", "4>1", "4>2", "5>2", "5>3"]);
});

test("shapes: nobody is cut off from itself, and a pair stands once", () => {
  const random = new Prng(1);
  for (const shape of SHAPES)
    for (const count of [3, 4, 5, 7]) {
      const order = shuffled(
        Array.from({ length: count }, (_, at) => at + 1),
        random,
      );
      const pairs = cutsOf(shape, order);
      expect(
        pairs.every(([from, to]) => from !== to && order.includes(from) && order.includes(to)),
        shape,
      ).toBe(true);
      expect(new Set(names(pairs)).size, shape).toBe(pairs.length);
    }
});

test("shapes: the links of one node, and of all", () => {
  expect(linksOf([1, 2, 3], null)).toHaveLength(6);
  expect(names(linksOf([1, 2, 3], 2))).toEqual(["1>2", "2>1", "2>3", "3>2"]);
});
