// Ports for nodes: below those that others are given, and each once.

import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { freePorts } from "../../bench/ports.ts";

test("ports: none comes from the range that outgoing connections and proxies take theirs from, and none twice", async () => {
  const ports = [...(await freePorts(20)), ...(await freePorts(20))];
  expect(new Set(ports).size).toBe(40);
  for (const port of ports) expect(port).toBeLessThan(32_768);
});

test("ports: one that somebody listens on is left out", async () => {
  const [taken] = await freePorts(1);
  const server = createServer();
  await once(server.listen(taken! + 1, "127.0.0.1"), "listening");
  expect((server.address() as AddressInfo).port).toBe(taken! + 1);
  expect(await freePorts(2)).not.toContain(taken! + 1);
  server.close();
});
