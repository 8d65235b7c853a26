// Which nodes get the replicas of new partitions: spread over zones first, then evenly by load, leaders in turn.

import { assert } from "../../base/assert.ts";
import type { NodeId } from "../../base/ids.ts";

export type PlacementNode = {
  readonly id: NodeId;
  readonly dc: string;
  readonly zone: string;
  /** What it holds already. */
  readonly replicas: number;
  readonly leaders: number;
};

/** A node while partitions are being placed. `turn` is its place among equals and moves on with each partition. */
type Load = { readonly id: NodeId; readonly zone: number; replicas: number; leaders: number; turn: number };

/** One list per partition, the preferred leader first. Deterministic; `start` varies who wins between equals. */
export function place(request: { nodes: readonly PlacementNode[]; partitions: number; replicas: number; start: number }): NodeId[][] {
  const { partitions, replicas } = request;
  assert(replicas >= 1 && replicas <= request.nodes.length, "there are as many nodes as replicas");
  const loads = loadsOf(request.nodes, request.start);
  const placement: NodeId[][] = [];
  for (let partition = 0; partition < partitions; partition++) {
    const chosen = choose(loads, replicas);
    const leader = least(chosen, (a, b) => a.leaders - b.leaders);
    leader.leaders += 1;
    for (const node of chosen) node.replicas += 1;
    for (const node of loads) node.turn = (node.turn + 1) % loads.length;
    placement.push([leader.id, ...chosen.filter((node) => node !== leader).map(({ id }) => id)]);
  }
  return placement;
}

/** The nodes of one partition: a zone is used again only when all that have a node left are used as often. */
function choose(loads: readonly Load[], replicas: number): Load[] {
  const chosen: Load[] = [];
  const uses = new Map<number, number>();
  const usesOf = (node: Load): number => uses.get(node.zone) ?? 0;
  while (chosen.length < replicas) {
    const candidates = loads.filter((node) => !chosen.includes(node));
    const next = least(candidates, (a, b) => usesOf(a) - usesOf(b) || a.replicas - b.replicas);
    uses.set(next.zone, usesOf(next) + 1);
    chosen.push(next);
  }
  return chosen;
}

function loadsOf(nodes: readonly PlacementNode[], start: number): Load[] {
  const zones = new Map<string, number>();
  return nodes.map(({ id, dc, zone, replicas, leaders }, at) => {
    // Without labels every node is a zone of its own.
    const label = dc === "" && zone === "" ? `#${id}` : `${dc}\0${zone}`;
    const known = zones.get(label) ?? zones.size;
    zones.set(label, known);
    return { id, zone: known, replicas, leaders, turn: (at + start) % nodes.length };
  });
}

function least(nodes: readonly Load[], compare: (a: Load, b: Load) => number): Load {
  return nodes.reduce((best, node) => ((compare(node, best) || node.turn - best.turn) < 0 ? node : best));
}
