// Whom a node lets in, and what it makes of a refusal.

import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { CATALOG_GROUP, replicaId, type NodeId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { PayloadMemory } from "../../src/base/payload-memory.ts";
import { Prng } from "../../src/base/prng.ts";
import { settingsSchema } from "../../src/config/settings.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import { encodeRegisterNode } from "../../src/machine/catalog/commands.ts";
import { RULES_VERSION } from "../../src/machine/versions.ts";
import type { PeerLinks } from "../../src/peer/links.ts";
import { tcpNetwork } from "../../src/peer/network.ts";
import type { ReplicaHost } from "../../src/replica/host.ts";
import type { NodeMeta } from "../../src/server/node-meta.ts";
import { makeLinks, startLinks } from "../../src/server/peering.ts";
import { systemClock } from "../../src/server/system-clock.ts";
import { nodeRow } from "../machine/entries.ts";
import { MachineRun } from "../machine/machine-run.ts";
import { eventually } from "../support/host-cluster.ts";

/** The links of a node on `storeId` whose catalog knows the nodes by those disks. */
function linksOf(id: number, storeId: string, known: Readonly<Record<number, string>>, ports: readonly number[]): PeerLinks {
  const catalog = new MachineRun(new CatalogMachine());
  for (const [node, store] of Object.entries(known)) catalog.command(encodeRegisterNode(nodeRow(Number(node), { storeId: store })));
  const replica = { machine: catalog.machine, raft: { term: 1, lastIndex: 9 }, descriptor: { self: replicaId(id as NodeId, 0) } };
  const host = { get: (group: number) => (group === CATALOG_GROUP ? replica : undefined) } as unknown as ReplicaHost;
  const meta: NodeMeta = {
    formatVersion: 2,
    clusterId: "test",
    nodeId: id,
    storeId,
    incarnation: 1,
    catalogLife: 0,
    lostLife: -1,
    mustJoin: false,
    actedView: 0,
  };
  return makeLinks(settingsSchema.parse({ nodeId: id, clusterId: "test", peerPort: ports[id - 1] }), meta, {
    network: tcpNetwork(),
    rulesVersion: RULES_VERSION,
    clock: systemClock,
    random: new Prng(id),
    logger: silentLogger,
    memory: new PayloadMemory(1024 * 1024, 8 * 1024 * 1024),
    handler: { onFrame: () => {}, onUp: () => {}, onBulkUp: () => {}, onDown: () => {} },
    host: () => host,
    peers: [],
    fatal: (error) => expect.unreachable(error.message),
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test.each([
  { name: "the one that dials", lags: 1, isNew: 2 },
  { name: "the one that is dialled", lags: 2, isNew: 1 },
])(
  "peering: a node talks to one that came back with another disk before its own catalog knows of it: $name lags",
  async ({ lags, isNew }) => {
    const ports = [await freePort(), await freePort()];
    const stores: Record<number, string> = { [lags]: "lags", [isNew]: "new" };
    await using one = linksOf(lags, stores[lags]!, { ...stores, [isNew]: "lost" }, ports);
    await using other = linksOf(isNew, stores[isNew]!, stores, ports);
    const peers = ports.map((port, at) => ({ id: at + 1, host: "127.0.0.1", port }));
    await startLinks(one, lags, peers);
    await startLinks(other, isNew, peers);
    await eventually(() => one.isUp(isNew as NodeId) && other.isUp(lags as NodeId), "the link is up");
  },
);
