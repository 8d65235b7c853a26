// The shapes of partitions, as the ordered pairs between which nothing passes.

import type { Random } from "../../src/base/prng.ts";

export type DirectedPair = readonly [from: number, to: number];

export const SHAPES = ["isolate", "halves", "ring", "bridge", "one-way"] as const;
export type Shape = (typeof SHAPES)[number];

/** With fewer nodes the shape is another one of these. */
export function nodesMin(shape: Shape): number {
  return shape === "ring" ? 4 : 3;
}

/** `order` names all nodes; the shape is drawn around its first ones. */
export function cutsOf(shape: Shape, order: readonly number[]): DirectedPair[] {
  const [first] = order;
  switch (shape) {
    case "isolate":
      return between([first!], order.slice(1));
    case "halves": {
      const minority = Math.floor((order.length - 1) / 2);
      return between(order.slice(0, minority), order.slice(minority));
    }
    // Each sees its two neighbours only, so that all majorities differ.
    case "ring":
      return order.flatMap((from, at) =>
        order.flatMap((to, other): DirectedPair[] => {
          const distance = (other - at + order.length) % order.length;
          return distance === 0 || distance === 1 || distance === order.length - 1 ? [] : [[from, to]];
        }),
      );
    // The first sees everybody, and is the only one whom both sides see.
    case "bridge": {
      const half = 1 + Math.ceil((order.length - 1) / 2);
      return between(order.slice(1, half), order.slice(half));
    }
    // The first hears of the others and is not heard.
    case "one-way":
      return order.slice(1).map((to): DirectedPair => [first!, to]);
  }
}

/** All ordered pairs with this node, or of all nodes. */
export function linksOf(nodes: readonly number[], node: number | null): DirectedPair[] {
  return nodes.flatMap((from) =>
    nodes.flatMap((to): DirectedPair[] => (from === to || (node !== null && from !== node && to !== node) ? [] : [[from, to]])),
  );
}

export function shuffled<T>(values: readonly T[], random: Random): T[] {
  const order = [...values];
  for (let at = order.length - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  return order;
}

function between(one: readonly number[], other: readonly number[]): DirectedPair[] {
  return one.flatMap((a) =>
    other.flatMap((b): DirectedPair[] => [
      [a, b],
      [b, a],
    ]),
  );
}
