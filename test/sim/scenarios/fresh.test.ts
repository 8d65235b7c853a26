// A cluster that is empty, or nearly: what is not there must not be taken for lost.

import { expect, test } from "vitest";
import { CATALOG_GROUP, type NodeId } from "../../../src/base/ids.ts";
import type { CatalogMachine } from "../../../src/machine/catalog/catalog.ts";
import { Cluster } from "./cluster.ts";

// Found by seed 351: a log that nothing was ever written to gave back its only file, and the next start took that for the loss of
// all data. A cluster without topics that was started again as a whole had lost its catalog on all nodes, for ever.
test.each(["kill", "power"] as const)(
  "a cluster without topics rests, and all nodes start again after a %s",
  { timeout: 60_000 },
  async (how) => {
    const cluster = new Cluster();
    const isReady = (): boolean => cluster.machines.every(({ broker }) => broker?.ready === true);
    cluster.startNodes();
    await cluster.until("every node is ready", isReady);
    await cluster.run(60_000);
    cluster.crash(how, 1, 2, 3);
    await cluster.run(1_000);
    cluster.startNodes();
    await cluster.until("every node is ready again", isReady);
    expect(cluster.said("cannot be relied on")).toEqual([]);
    await cluster.createTopic("t2", 1, 3);
    expect(await cluster.publish(1, "t2", "a")).toBe(0);
  },
);

// Consumers of queues are told apart by the start of the node that they are connected to: see seed 46 of the regressions.
test("a node that opens all of its parts again is to the others one that was started again", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start();
  const machine = cluster.node(2);
  const started = (): number => (cluster.node(1).host!.get(CATALOG_GROUP)!.machine as CatalogMachine).node(2 as NodeId)!.incarnation;
  const before = started();
  type Life = { node: { restart: (reason: string, between: () => Promise<void>) => void } };
  (machine.life as unknown as Life).node.restart("a test", () => Promise.resolve());
  await cluster.until("it is known again", () => machine.broker?.ready === true && started() > before);
  expect(started()).toBe(before + 1);
});
