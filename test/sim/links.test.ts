// The links between nodes over a simulated network.

import { expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { PayloadMemory } from "../../src/base/payload-memory.ts";
import { Prng } from "../../src/base/prng.ts";
import { PeerLinks } from "../../src/peer/links.ts";
import { SimNet } from "./sim-net.ts";
import { World, type Owner } from "./world.ts";

const owner: Owner = {
  name: "test",
  isDead: false,
  pausedUntilUs: 0,
  failed: (error) => {
    throw error;
  },
};

/** The second node starts so much later than the first, and the main connection dies so long after both have settled. */
async function eventsAfterLoss(gapMs: number, phaseMs: number): Promise<string[]> {
  const world = new World(1);
  const net = new SimNet(world, new Prng(1), { latencyUs: 15_000, jitterUs: 0, splitPercent: 0 }, owner);
  const events: string[] = [];
  const links = (id: number): PeerLinks =>
    new PeerLinks(
      {
        clusterId: "c",
        nodeId: id as NodeId,
        storeId: `s${id}`,
        incarnation: 1,
        rulesVersion: 1,
        listenHost: `h${id}`,
        listenPort: 7441,
        livenessTimeoutMs: 500,
      },
      {
        network: net.for(`h${id}`, owner, () => {}),
        clock: {
          monotonicMs: () => world.nowMs,
          wallMs: () => world.nowMs,
          schedule: (delayMs, callback) => world.after(delayMs * 1_000, owner, "timer", callback),
          defer: (callback) => void world.after(10, owner, "turn", callback),
        },
        random: new Prng(id),
        logger: silentLogger,
        handler: {
          onFrame: () => {},
          onUp: (peer) => void events.push(`${id}: ${peer} is up`),
          onBulkUp: (peer) => void events.push(`${id}: bulk to ${peer}`),
          onDown: (peer) => void events.push(`${id}: ${peer} is down`),
          onDrain: () => {},
          onRefused: () => {},
        },
        memory: new PayloadMemory(1 << 16, 1 << 20),
        admit: () => null,
        state: () => ({ used: true, joining: false }),
      },
    );
  const [one, two] = [links(1), links(2)];
  await two.start();
  two.setPeer(1 as NodeId, "h1", 7441);
  await world.run(world.nowUs + gapMs * 1_000);
  await one.start();
  one.setPeer(2 as NodeId, "h2", 7441);
  await world.run(world.nowUs + (2_000 + phaseMs) * 1_000);
  expect(events.filter((event) => event.includes("bulk"))).toHaveLength(2);
  events.length = 0;
  const main = [...net.sockets].find(({ host }) => host === "h1")!;
  main.isHalfOpen = true;
  main.other!.isHalfOpen = true;
  await world.run(world.nowUs + 5_000_000);
  return events;
}

test("the bulk connection that comes before the main one, as only one side noticed a loss, counts once both are there", async () => {
  for (let gapMs = 10; gapMs < 100; gapMs += 10)
    for (let phaseMs = 0; phaseMs < 100; phaseMs += 20) {
      const events = await eventsAfterLoss(gapMs, phaseMs);
      const last = (name: string): string | undefined => events.filter((event) => event.startsWith(name)).pop();
      expect([last("1"), last("2")], `${gapMs} ms, ${phaseMs} ms: ${events.join("; ")}`).toEqual(["1: bulk to 2", "2: bulk to 1"]);
    }
});
