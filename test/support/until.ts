// Waiting for what a cluster comes to by itself.

import { setTimeout as delay } from "node:timers/promises";
import type { Flotilla } from "../../src/client/index.ts";
import type { TestCluster } from "./cluster.ts";

const TIMEOUT_MS = 30_000;
const POLL_MS = 50;

/** Asks until it holds; a question that fails is asked again. Rejects with what was waited for. */
export async function until(what: string, holds: () => Promise<boolean> | boolean, timeoutMs = TIMEOUT_MS): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  let failure: unknown;
  for (;;) {
    try {
      if (await holds()) return;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > deadline) throw new Error(`did not happen within ${timeoutMs} ms: ${what}`, { cause: failure });
    await delay(POLL_MS);
  }
}

/** All nodes are there, every group is led, every replica is where it is to be, and none is damaged. */
export async function whole(cluster: TestCluster, client: Flotilla): Promise<void> {
  let last = "";
  await until(
    "the cluster is whole",
    async () => {
      const { nodes, leaderlessGroups, damages } = await client.cluster.describe();
      const moves = await client.cluster.listMoves();
      last = JSON.stringify({ nodes, leaderlessGroups, damages, moves });
      return leaderlessGroups === 0 && damages.length === 0 && moves.length === 0 && nodes.every(({ alive }) => alive);
    },
    60_000,
  ).catch((error: unknown) => {
    throw new Error(`${last}\n${cluster.nodeIds.map((node) => cluster.outputOf(node)).join("\n")}`, { cause: error });
  });
}

/** The text of a one-partition topic's records, through one node. */
export function textOf(records: readonly { readonly body: Uint8Array }[]): string[] {
  return records.map(({ body }) => Buffer.from(body).toString());
}
