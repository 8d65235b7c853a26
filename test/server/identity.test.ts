import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { NodeDisk } from "../../src/log/node-disk.ts";
import { Identity } from "../../src/server/identity.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "flotilla-identity-"));
});
afterAll(() => rm(directory, { recursive: true }));

const open = (): Promise<Identity> =>
  Identity.open(
    { directory, clusterId: "test", nodeId: 1 as NodeId },
    { disk: new NodeDisk(), newStoreId: () => "store", logger: silentLogger },
  );

test("identity: a start knows how new a catalog the last one acted on, whatever else was written at that time", async () => {
  const identity = await open();
  expect(identity.actedView).toBe(0);
  await Promise.all([identity.actOn(7), identity.scrub(), identity.joined(2), identity.actOn(5), identity.scrub()]);
  const again = await open();
  expect([again.actedView, again.meta.catalogLife, again.meta.incarnation]).toEqual([7, 2, 2]);
  // Another disk's or another replica's catalog is the same cluster's.
  await again.lostCatalog("a test");
  await again.lostStore("a test");
  expect((await open()).actedView).toBe(7);
});

test("identity: a file of a release that did not keep it is read", async () => {
  await open();
  const path = join(directory, "node.json");
  const { crc: _crc, actedView: _view, ...meta } = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  const crc = crc32(JSON.stringify(Object.entries(meta).sort(([a], [b]) => (a < b ? -1 : 1))));
  await writeFile(path, JSON.stringify({ ...meta, crc }));
  const identity = await open();
  expect([identity.actedView, identity.meta.storeId]).toEqual([0, meta["storeId"]]);
});
