// Which nodes are fit to lead, as they tell each other: no leader goes to one whose disk is full or slow or whose event loop
// stalls, and no records go where most members have no room for them.

import { nodeOfReplica, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Fitness } from "../replica/fitness.ts";
import type { Configuration } from "../raft/types.ts";

const WORDS: readonly Fitness[] = ["fit", "full", "slow", "stalled"];

export class Unfit {
  private readonly self: NodeId;
  /** Nodes that are not fit. */
  private readonly nodes = new Map<NodeId, Fitness>();

  constructor(self: NodeId) {
    this.self = self;
  }

  get own(): Fitness {
    return this.of(this.self);
  }

  of(node: NodeId): Fitness {
    return this.nodes.get(node) ?? "fit";
  }

  set(node: NodeId, fitness: Fitness): void {
    if (fitness === "fit") this.nodes.delete(node);
    else this.nodes.set(node, fitness);
  }

  /** A node that is gone says nothing of its disk. */
  forget(node: NodeId): void {
    this.nodes.delete(node);
  }

  /** This node and a majority of the voters have room. */
  takesRecords({ voters }: Configuration): boolean {
    if (this.nodes.size === 0) return true;
    if (this.own === "full") return false;
    const withRoom = voters.filter((peer) => this.of(nodeOfReplica(peer as ReplicaId)) !== "full").length;
    return withRoom > voters.length / 2;
  }
}

export function encodeFitness(fitness: Fitness): Uint8Array {
  return new Uint8Array([WORDS.indexOf(fitness)]);
}

/** A word that this release does not know is taken for the mildest one that keeps leaders away. */
export function decodeFitness(body: Uint8Array): Fitness {
  return WORDS[body[0] ?? 0] ?? "slow";
}
