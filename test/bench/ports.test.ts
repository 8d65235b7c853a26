// Ports for nodes: below those that others are given, and each once.

import { createSocket } from "node:dgram";
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

// Found by a run of all tests: what takes ten seconds to listen found its port taken by a node of another test file.
test("ports: what one process was given, whether or not it listens there yet, is given to no other", async () => {
  const [mine] = await freePorts(1);
  const other = createSocket("udp4");
  other.bind(mine!, "127.0.0.1");
  await expect(once(other, "listening")).rejects.toMatchObject({ code: "EADDRINUSE" });
  other.close();
  // As if another had been given the next one: if one was, so much the better.
  const claim = createSocket("udp4").bind(mine! + 1, "127.0.0.1");
  await once(claim, "listening").catch(() => {});
  expect(await freePorts(2)).not.toContain(mine! + 1);
  claim.close();
});
