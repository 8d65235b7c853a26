// News of leaders: told soon, and no more often than telling them costs.

import { EventEmitter } from "node:events";
import type { handleServerStreamingCall } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { clusterService } from "../../src/api/cluster-service.ts";
import type { UnarySettings } from "../../src/api/unary.ts";
import type { Broker } from "../../src/broker/types.ts";

class Call extends EventEmitter {
  readonly request = { value: { vhost: "", topic: "t" }, error: null };
  told = 0;

  write(): boolean {
    this.told += 1;
    this.emit("told");
    return true;
  }

  end(): void {}
}

/** A watcher of a topic of which each look takes so long; all is new each time. Returns how many looks there were in `ms`. */
async function looksWithin(ms: number, costMs: number): Promise<number> {
  let changed = (): void => {};
  let looks = 0;
  const broker = {
    watch: (listener: () => void) => {
      changed = listener;
      return () => (changed = () => {});
    },
    resolve: () => {
      looks += 1;
      for (const beganMs = performance.now(); performance.now() - beganMs < costMs;);
      return { nodes: [], partitions: [{ partition: looks, group: 1, leader: 1, term: looks, replicas: [] }] };
    },
  } as unknown as Broker;
  const settings = { pacer: { turn: () => null }, stopping: new AbortController().signal } as unknown as UnarySettings;
  const call = new Call();
  const handler = clusterService(broker, settings)["WatchTopology"] as handleServerStreamingCall<unknown, unknown>;
  handler(call as never);
  const changes = setInterval(() => changed(), 1);
  await new Promise((resolve) => setTimeout(resolve, ms));
  clearInterval(changes);
  call.emit("cancelled");
  expect(call.told).toBe(looks);
  return looks;
}

test("watch: changes of a topic that takes long to tell are told together, and at last", async () => {
  // Each look is followed by ten times as long without one.
  const looks = await looksWithin(600, 8);
  expect(looks).toBeGreaterThan(1);
  expect(looks).toBeLessThanOrEqual(8);
});

test("watch: however long telling takes, the next news are not far", async () => {
  expect(await looksWithin(1_500, 40)).toBeGreaterThan(3);
});
