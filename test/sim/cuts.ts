// Shapes of partitions, as directions between nodes in which nothing gets through.

import type { Random } from "../../src/base/prng.ts";
import { chance, pick } from "./world.ts";

/** Nodes by their places in a list of so many. */
export type Cut = readonly [from: number, to: number];

/** `leader`: the place of the node to be left alone, for the shape of that name. */
export function cutsOf(shape: string, count: number, leader: number, random: Random): Cut[] {
  const order = shuffled(random, count);
  switch (shape) {
    case "leader":
      return apart(count, (place) => (place === leader ? 1 : 2));
    case "halves":
      return apart(count, (place) => (order.indexOf(place) < count / 2 ? 1 : 2));
    // Everybody reaches a majority, and no two the same one; of three nodes everybody reaches all.
    case "ring":
      return pairs(count).filter(([a, b]) => {
        const steps = Math.abs(order.indexOf(a) - order.indexOf(b));
        return steps > 1 && steps < count - 1;
      });
    // Two sides that share one node.
    case "bridge":
      return apart(count, (place) => (place === order[0] ? 3 : order.indexOf(place) <= count / 2 ? 1 : 2));
    case "oneway":
      return apart(count, (place) => (order.indexOf(place) < count / 2 ? 1 : 2)).filter(([from]) => order.indexOf(from) < count / 2);
    default: {
      const sides = order.map(() => (chance(random, 50) ? 1 : 2));
      return apart(count, (place) => sides[place]!);
    }
  }
}

/** All directions between different sides; what is on both (1 + 2) is reached by both. */
function apart(count: number, sideOf: (place: number) => number): Cut[] {
  return pairs(count).filter(([a, b]) => (sideOf(a) & sideOf(b)) === 0);
}

function pairs(count: number): Cut[] {
  const cuts: Cut[] = [];
  for (let from = 0; from < count; from++) for (let to = 0; to < count; to++) if (from !== to) cuts.push([from, to]);
  return cuts;
}

function shuffled(random: Random, count: number): number[] {
  const left = Array.from({ length: count }, (_, place) => place);
  const order: number[] = [];
  while (left.length > 0) {
    const next = pick(random, left);
    left.splice(left.indexOf(next), 1);
    order.push(next);
  }
  return order;
}
