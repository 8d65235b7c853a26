// The two kinds of clusters that can be tormented: our own, of which everything can be seen and done, and somebody's, which
// is known by its API and by the commands that its owner named.

import { setTimeout as delay } from "node:timers/promises";
import { Flotilla, FlotillaError } from "../../src/client/index.ts";
import type { ChaosCluster } from "./cluster.ts";
import type { World } from "./fault.ts";
import type { Battlefield } from "./nemesis.ts";
import type { Verdict } from "./verdict.ts";

const LOOK_MS = 100;
const CALL_MS = 5_000;
const MISMATCHES = "flotilla_digest_mismatches_total";
const EXPECTED = "everything is led, replicated and served";

export type FieldOptions = {
  readonly client: Flotilla;
  readonly topic: string;
  readonly partitions: number;
  /** Beside the partitions, with as many replicas each. */
  readonly otherGroups: number;
  readonly replicas: number;
  /** How long the cluster may take to be whole again. */
  readonly recoverySeconds: number;
};

/** Asks until `look` finds nothing that is missing. */
function wholeness(seconds: number, look: () => Promise<string>): Pick<Battlefield, "whole" | "state"> {
  let last = "";
  return {
    whole: async () => {
      for (const until = Date.now() + seconds * 1_000; Date.now() < until; await delay(LOOK_MS)) {
        last = await look().catch((error: unknown) => {
          // The API's, or a page that was not served (fetch), or not in time.
          if (error instanceof FlotillaError || error instanceof TypeError || error instanceof DOMException) return error.message;
          throw error;
        });
        if (last === "") return true;
      }
      return false;
    },
    state: () => Promise.resolve(last === "" ? EXPECTED : last),
  };
}

/** What any client can see of it; "" = all is well. */
async function seenFrom(client: Flotilla, topic: string, replicas: number): Promise<string> {
  const signal = AbortSignal.timeout(CALL_MS);
  const { nodes, leaderlessGroups } = await client.cluster.describe({ signal });
  const down = nodes.filter(({ alive }) => !alive).map(({ id }) => id);
  if (down.length > 0) return `down: ${down.join(", ")}`;
  if (leaderlessGroups > 0) return `${leaderlessGroups} groups have no leader`;
  const moves = await client.cluster.listMoves({ signal });
  if (moves.length > 0) return `replicas on their way: ${moves.map((move) => `${move.topic}/${move.partition}`).join(", ")}`;
  const { partitions } = await client.cluster.resolve(topic, "", { signal });
  const poor = partitions.filter((one) => one.leader === 0 || one.replicas.length !== replicas);
  return poor.length > 0 ? `not led, or not ${replicas} times there: ${poor.map(({ partition }) => partition).join(", ")}` : "";
}

/** Our own: each node says what it has. */
export function ownField(cluster: ChaosCluster, verdict: Verdict, options: FieldOptions): Battlefield {
  const { client, topic, partitions, otherGroups, replicas, recoverySeconds } = options;
  const groups = (partitions + otherGroups) * replicas + cluster.ids.length;
  const sum = async (name: string): Promise<number> =>
    (await Promise.all(cluster.ids.map((node) => cluster.metric(node, name)))).reduce((all, value) => all + value, 0);
  const look = async (): Promise<string> => {
    for (const node of cluster.ids) {
      if (cluster.isDown(node)) return `node ${node} is down`;
      if (!(await cluster.nodes.get(node, "readyz")).ok) return `node ${node} is not ready`;
    }
    const seen = await seenFrom(client, topic, replicas);
    if (seen !== "") return seen;
    const held = await sum("flotilla_groups");
    if (held !== groups) return `${held} replicas of ${groups}`;
    for (const name of ["flotilla_replicas_quarantined", "flotilla_recovery_groups"]) {
      const count = await sum(name);
      if (count !== 0) return `${name} ${count}`;
    }
    return "";
  };
  const { whole, state } = wholeness(recoverySeconds, look);
  const world: World = { cluster, client, topic, partitions };
  return {
    world: () => world,
    whole: async () => {
      const isWhole = await whole();
      // Whatever was damaged is found by its checksum and never applied, so that no fault is an excuse for this.
      const mismatches = await sum(MISMATCHES);
      if (mismatches > 0) verdict.report("R4", `${MISMATCHES} is ${mismatches}: the nodes' logs say which groups`);
      return isWhole;
    },
    state,
  };
}

/** Somebody's. */
export function foreignField(options: FieldOptions): Battlefield {
  const { client, topic, partitions, replicas, recoverySeconds } = options;
  const world: World = {
    client,
    topic,
    partitions,
    get cluster(): never {
      throw new Error("only commands can do something to a cluster that is not ours");
    },
  };
  return { world: () => world, ...wholeness(recoverySeconds, () => seenFrom(client, topic, replicas)) };
}
