// A cluster that is empty, or nearly: what is not there must not be taken for lost.

import { expect, test } from "vitest";
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
