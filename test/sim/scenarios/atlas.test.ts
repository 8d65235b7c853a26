// What the atlas of damage allows: never a majority of any group.

import { expect, test } from "vitest";
import { CATALOG_GROUP } from "../../../src/base/ids.ts";
import { Cluster } from "./cluster.ts";

test("several nodes may be damaged, each in other groups; of no group more than a minority", { timeout: 60_000 }, async () => {
  const cluster = await Cluster.start();
  cluster.load();
  await cluster.run(1_000);
  await cluster.verify();
  const { atlas } = cluster.nemesis.damage;
  const [one, two] = [cluster.node(1), cluster.node(2)];
  const [a, b] = [cluster.groupOf(0), cluster.groupOf(1)];
  let isThere = true;
  expect(atlas.allows(one, [a])).toBe(true);
  atlas.note(one, [a], () => isThere);
  expect(atlas.allows(two, [a])).toBe(false);
  expect(atlas.allows(two, "all")).toBe(false);
  expect(atlas.allows(one, "all")).toBe(true);
  expect(atlas.allows(two, [b])).toBe(true);
  atlas.note(two, [b], () => true);
  expect(atlas.allows(one, "all")).toBe(false);
  expect(atlas.allows(one, [CATALOG_GROUP])).toBe(true);
  // It was overwritten, and the replica has everything.
  isThere = false;
  expect(atlas.allows(two, [a])).toBe(true);
  // Who lags is no good copy: nothing may be taken from the others.
  cluster.crash("kill", 3);
  expect(atlas.allows(one, [cluster.groupOf(2)])).toBe(false);
});
