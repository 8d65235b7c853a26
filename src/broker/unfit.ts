// Which nodes are fit to lead, as they tell each other: no leader goes to one whose disk is full or slow, whose event loop
// stalls, that is about to stop or is still being brought up to date, and no records go where most members have no room for them.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { nodeOfReplica, toNodeId, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Fitness } from "../replica/fitness.ts";
import type { Configuration } from "../raft/types.ts";

const WORDS: readonly Fitness[] = ["fit", "full", "slow", "stalled", "stopping"];

export class Unfit {
  private readonly self: NodeId;
  /** Nodes that are not fit. */
  private readonly nodes = new Map<NodeId, Fitness>();
  /** Nodes that lag in some group, by who leads such groups and says so. */
  private readonly laggards = new Map<NodeId, readonly NodeId[]>();

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

  /** A node that is gone says nothing of its disk, nor of others. */
  forget(node: NodeId): void {
    this.nodes.delete(node);
    this.laggards.delete(node);
  }

  /** `leader` brings these nodes up to date at the moment. False when that is no news. */
  lagging(leader: NodeId, nodes: readonly NodeId[]): boolean {
    const known = this.laggards.get(leader) ?? [];
    if (known.length === nodes.length && known.every((node) => nodes.includes(node))) return false;
    if (nodes.length === 0) this.laggards.delete(leader);
    else this.laggards.set(leader, nodes);
    return true;
  }

  /** Some leader has not yet sent the node all that it misses: until then it leads nothing more. */
  isBehind(node: NodeId): boolean {
    if (this.laggards.size === 0) return false;
    for (const nodes of this.laggards.values()) if (nodes.includes(node)) return true;
    return false;
  }

  /** Leaders that are to go somewhere may go there: the node has everything, and is here to stay. */
  takesLeaders(node: NodeId): boolean {
    return !this.isBehind(node) && this.of(node) !== "stopping";
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

export function encodeLaggards(nodes: readonly NodeId[]): Uint8Array {
  const writer = new ByteWriter(2 * nodes.length + 1);
  for (const node of nodes) writer.u16(node);
  return writer.finish();
}

/** Throws DecodeError. */
export function decodeLaggards(body: Uint8Array): NodeId[] {
  const reader = new ByteReader(body);
  const nodes: NodeId[] = [];
  while (reader.remaining > 0) nodes.push(toNodeId(reader.u16()));
  return nodes;
}
