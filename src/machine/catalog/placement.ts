// Which nodes get the replicas of new partitions: evenly by load, spread over zones first, leaders in turn.

import { assert } from "../../base/assert.ts";
import type { NodeId } from "../../base/ids.ts";

export type PlacementNode = {
  readonly id: NodeId;
  readonly dc: string;
  readonly zone: string;
  /** What it holds already. */ readonly replicas: number;
  readonly leaders: number;
};

/** One list per partition, the preferred leader first. Deterministic; `start` varies who wins between equals. */
export function place(request: { nodes: readonly PlacementNode[]; partitions: number; replicas: number; start: number }): NodeId[][] {
  const { nodes, partitions, replicas, start } = request;
  assert(replicas >= 1 && replicas <= nodes.length, "there are as many nodes as replicas");
  const loads = nodes.map((node, at) => ({ ...node, turn: (at + start) % nodes.length }));
  const placement: NodeId[][] = [];
  for (let partition = 0; partition < partitions; partition++) {
    const chosen: typeof loads = [];
    while (chosen.length < replicas) {
      const zonesUsed = new Set(chosen.map(zoneOf));
      const candidates = loads.filter((node) => !chosen.includes(node));
      const fresh = candidates.filter((node) => !zonesUsed.has(zoneOf(node)));
      chosen.push(least(fresh.length > 0 ? fresh : candidates, (node) => node.replicas));
    }
    const leader = least(chosen, (node) => node.leaders);
    leader.leaders += 1;
    for (const node of chosen) node.replicas += 1;
    for (const node of loads) node.turn = (node.turn + 1) % loads.length;
    placement.push([leader.id, ...chosen.filter((node) => node !== leader).map(({ id }) => id)]);
  }
  return placement;
}

function zoneOf(node: PlacementNode): string {
  // Without labels every node is a zone of its own.
  return node.dc === "" && node.zone === "" ? `#${node.id}` : `${node.dc}/${node.zone}`;
}

type Load = PlacementNode & { replicas: number; leaders: number; turn: number };

function least<T extends Load>(nodes: readonly T[], loadOf: (node: T) => number): T {
  let best = nodes[0]!;
  for (const node of nodes) {
    const difference = loadOf(node) - loadOf(best);
    if (difference < 0 || (difference === 0 && node.turn < best.turn)) best = node;
  }
  return best;
}
