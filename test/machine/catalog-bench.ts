// A catalog of three nodes, for its tests.

import { expect } from "vitest";
import { replicaId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import { CATALOG_OK } from "../../src/machine/catalog/codes.ts";
import {
  encodeCreateTopic,
  encodeInitialize,
  encodePlaceReplicas,
  encodeRegisterNode,
  type CreateTopic,
} from "../../src/machine/catalog/commands.ts";
import { CONFIG, nodeRow, placed } from "./entries.ts";
import { MachineRun } from "./machine-run.ts";

export function create(changes: Partial<CreateTopic> = {}): Uint8Array {
  return encodeCreateTopic({
    vhost: "/",
    name: "orders",
    replicas: 2,
    config: CONFIG,
    placement: placed([1, 2], [2, 3]),
    ...changes,
  });
}

/** Three nodes and the topic "orders" with two partitions: groups 1 and 2. */
export function cluster(): MachineRun<CatalogMachine> {
  const run = new MachineRun(new CatalogMachine());
  run.command(encodeInitialize("blue"));
  for (const id of [1, 2, 3]) run.command(encodeRegisterNode(nodeRow(id)));
  expect(run.command(create()).code).toBe(CATALOG_OK);
  return run;
}

export const FIRST = 1 as GroupId;
/** Places group 1, which is thought to be on nodes `from`. */
export const placing = (from: number[], to: number[]): Uint8Array =>
  encodePlaceReplicas({ group: FIRST, expected: from.map((node) => replicaId(node as NodeId, 0)), nodes: placed(to)[0]! });
