import { expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { PayloadMemory } from "../../src/base/payload-memory.ts";
import { Prng } from "../../src/base/prng.ts";
import { Connection, TYPE_HELLO } from "../../src/peer/connection.ts";
import { CHANNEL_BULK, CHANNEL_MAIN, encodeHello, type Channel } from "../../src/peer/hello.ts";
import { PeerLinks } from "../../src/peer/links.ts";
import { tcpNetwork } from "../../src/peer/network.ts";
import { systemClock } from "../../src/server/system-clock.ts";
import { eventually } from "../support/host-cluster.ts";

test("links: a bulk connection that is there before the main one is told of once that one is", async () => {
  const told: string[] = [];
  const memory = new PayloadMemory(1024 * 1024, 8 * 1024 * 1024);
  const settings = { clusterId: "test", incarnation: 1, rulesVersion: 1 };
  await using links = new PeerLinks(
    { ...settings, nodeId: 2 as NodeId, storeId: "store-2", listenHost: "127.0.0.1", listenPort: 0, livenessTimeoutMs: 60_000 },
    {
      network: tcpNetwork(),
      clock: systemClock,
      random: new Prng(1),
      logger: silentLogger,
      memory,
      admit: () => null,
      state: () => ({ joining: false, used: true }),
      handler: {
        onFrame: () => {},
        onUp: (peer) => void told.push(`up ${peer}`),
        onDown: (peer) => void told.push(`down ${peer}`),
        onBulkUp: (peer) => void told.push(`bulk ${peer}`),
        onDrain: () => {},
        onRefused: () => {},
      },
    },
  );
  await links.start();
  let answers = 0;
  const dial = async (channel: Channel): Promise<Connection> => {
    const connection = new Connection(tcpNetwork().connect("127.0.0.1", links.port), memory, {
      frame: () => (answers += 1),
      closed: () => {},
      drained: () => {},
    });
    const who = { ...settings, nodeId: 1 as NodeId, storeId: "store-1", compares: true, port: 1, joining: false, used: true };
    const before = answers;
    connection.send(TYPE_HELLO, [encodeHello({ ...who, channel })]);
    await eventually(() => answers > before, "the hello is answered");
    return connection;
  };
  const bulk = await dial(CHANNEL_BULK);
  expect(told).toEqual([]);
  const main = await dial(CHANNEL_MAIN);
  expect(told).toEqual(["up 1", "bulk 1"]);
  for (const connection of [bulk, main]) connection.close("the test is over");
});
