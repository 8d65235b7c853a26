// What can be done to a cluster. Kinds draw their strikes from a seed alone, before anything has happened: so the same seed
// gives the same faults, whatever the cluster makes of them.

import type { Flotilla } from "../../src/client/index.ts";
import type { Random } from "../../src/base/prng.ts";
import type { ChaosCluster } from "./cluster.ts";
import type { Need } from "./tools.ts";

/** What a strike meets. */
export type World = {
  readonly cluster: ChaosCluster;
  /** To ask and to order. */
  readonly client: Flotilla;
  readonly topic: string;
  readonly partitions: number;
};

/** What it really did. `bit` false: nothing came of it, and it proves nothing. */
export type Bite = { readonly bit: boolean; readonly proof: string };

/** One fault, with everything drawn. `begin` and `end` are called once each, in this order; `end` also when the run is aborted. */
export type Strike = {
  /** Between them. */
  readonly seconds: number;
  /** Resolves with whom it struck, and how, in words. */
  readonly begin: (world: World) => Promise<string>;
  /** Everything is as before, but for what the cluster has to make good itself. */
  readonly end: (world: World) => Promise<Bite>;
};

/** What a draw knows. */
export type Draw = {
  readonly random: Random;
  readonly nodes: readonly number[];
  readonly partitions: number;
  /** Lengths of faults are multiplied by it. */
  readonly scale: number;
  /** The one node whose durable data may be taken now. */
  readonly victim: number;
};

export type FaultKind = {
  readonly name: string;
  readonly what: string;
  readonly needs: readonly Need[];
  readonly nodesMin?: number;
  /**
   * Takes durable data from `Draw.victim`: strikes only while every node has everything. Damage may lie unnoticed for long, so
   * another node's turn comes only after the first one's disk was emptied ("wipes") and it got everything again.
   */
  readonly takesData?: "damages" | "wipes";
  /** From its beginning until everything is whole again; 0 or missing: whatever the run allows after its end. */
  readonly healsWithinSeconds?: number;
  /** May strike beside another one. */
  readonly mixes?: boolean;
  readonly draw: (draw: Draw) => Strike;
};

export function between(random: Random, low: number, high: number): number {
  return low + random.below(high - low + 1);
}

export function pick<T>(random: Random, values: readonly T[]): T {
  return values[random.below(values.length)]!;
}

/** So many seconds, drawn and scaled. */
export function seconds({ random, scale }: Draw, low: number, high: number): number {
  return (scale * between(random, low * 10, high * 10)) / 10;
}

/** A node by its number, or whoever leads a partition when it is struck: leaders are where faults cost most. */
export type Victim = { readonly node: number; readonly leaderOf: number };

export function drawVictim({ random, nodes, partitions }: Draw): Victim {
  return { node: pick(random, nodes), leaderOf: random.below(2) === 0 ? random.below(partitions) : -1 };
}

const ASK_MS = 1_000;

export async function resolveVictim({ client, topic, cluster }: World, { node, leaderOf }: Victim): Promise<{ node: number; who: string }> {
  if (leaderOf >= 0) {
    const found = await client.cluster.resolve(topic, "", { signal: AbortSignal.timeout(ASK_MS) }).catch(() => null);
    const leader = found?.partitions[leaderOf]?.leader ?? 0;
    if (leader !== 0 && !cluster.isDown(leader)) return { node: leader, who: `node ${leader}, which led partition ${leaderOf}` };
  }
  return { node, who: `node ${node}` };
}
