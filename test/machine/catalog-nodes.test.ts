// Where replicas are, and nodes that come, go and come back.

import { expect, test } from "vitest";
import { lifeOfReplica, replicaId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import { CATALOG_CONFLICT, CATALOG_OK, CATALOG_STORE_MISMATCH } from "../../src/machine/catalog/codes.ts";
import {
  encodeForgetNode,
  encodeJoinNode,
  encodePlaceReplicas,
  encodePreferLeader,
  encodeRegisterNode,
  encodeRenewReplicas,
} from "../../src/machine/catalog/commands.ts";
import { forget, nodeRow, placed } from "./entries.ts";
import { MachineRun } from "./machine-run.ts";
import { cluster, create, FIRST } from "./catalog-bench.ts";

const replicasOf = (run: MachineRun<CatalogMachine>, group = 1): readonly number[] => {
  const { topic, partition } = run.machine.group(group as GroupId)!;
  return topic.partitions[partition]!.replicas;
};
const id = (node: number, life: number): number => replicaId(node as NodeId, life);

test("catalog: a preferred leader comes first, and nobody else moves", () => {
  const run = cluster();
  expect(run.command(encodePreferLeader({ group: FIRST, node: 2 as NodeId })).code).toBe(CATALOG_OK);
  expect([replicasOf(run), replicasOf(run, 2)]).toEqual([
    [id(2, 0), id(1, 0)],
    [id(2, 0), id(3, 0)],
  ]);
});

test("catalog: a replica that moves gets a new id each time, also where one was before; the founders stay on record", () => {
  const run = cluster();
  const place = (nodes: number[]): void => {
    const expected = replicasOf(run) as never;
    expect(run.command(encodePlaceReplicas({ group: FIRST, expected, nodes: placed(nodes)[0]! })).code).toBe(CATALOG_OK);
  };
  place([1, 3]);
  expect(replicasOf(run)).toEqual([id(1, 0), id(3, 1)]);
  place([2, 1]);
  expect(replicasOf(run)).toEqual([id(2, 1), id(1, 0)]);
  place([3]);
  expect(replicasOf(run)).toEqual([id(3, 2)]);
  expect(run.machine.topic("/", "orders")!.partitions[0]!.founders).toEqual([id(1, 0), id(2, 0)]);
});

test("catalog: damaged replicas get successors of one new life, asked once or twice", () => {
  const run = cluster();
  const command = encodeRenewReplicas({
    node: 2 as NodeId,
    damaged: [
      { group: 1 as GroupId, replica: replicaId(2 as NodeId, 0) },
      { group: 2 as GroupId, replica: replicaId(2 as NodeId, 0) },
      { group: 7 as GroupId, replica: replicaId(2 as NodeId, 0) },
    ],
  });
  expect(run.command(command).code).toBe(CATALOG_OK);
  expect(run.command(command).code).toBe(CATALOG_CONFLICT);
  expect([replicasOf(run), replicasOf(run, 2)]).toEqual([
    [id(1, 0), id(2, 1)],
    [id(2, 1), id(3, 0)],
  ]);
});

test("catalog: a node that comes with another disk gets all replicas under a new life; asking again gives the same one", () => {
  const run = cluster();
  const join = (storeId: string, lostLife: number): number => {
    const { code, value } = run.command(encodeJoinNode({ node: nodeRow(2, { storeId, incarnation: 1 }), lostLife }));
    expect(code).toBe(CATALOG_OK);
    return value;
  };
  const life = join("new-disk", -1);
  expect([life, join("new-disk", -1)]).toEqual([1, 1]);
  expect([replicasOf(run), replicasOf(run, 2)]).toEqual([
    [id(1, 0), id(2, life)],
    [id(2, life), id(3, 0)],
  ]);
  expect(run.command(encodeRegisterNode(nodeRow(2, { storeId: "store-2" }))).code).toBe(CATALOG_STORE_MISMATCH);
  // It counts its starts anew, and goes on after the last one that was known: its consumers are not those of before.
  expect(run.command(encodeRegisterNode(nodeRow(2, { storeId: "new-disk", incarnation: 1 })))).toMatchObject({
    code: CATALOG_CONFLICT,
    value: 2,
  });
  expect(run.command(encodeRegisterNode(nodeRow(2, { storeId: "new-disk", incarnation: 2 }))).code).toBe(CATALOG_OK);
  // Only its replica of the catalog is damaged: the others stay.
  expect([join("new-disk", life), join("new-disk", life)]).toEqual([2, 2]);
  expect([run.machine.node(2 as NodeId)!.catalogLife, lifeOfReplica(replicasOf(run)[1] as never)]).toEqual([2, life]);
});

test("catalog: a node that joins as a new one has no replica of life 0, and its number is not used twice", () => {
  const run = cluster();
  expect(run.command(encodeJoinNode({ node: nodeRow(4), lostLife: -1 })).value).toBe(1);
  expect(run.command(encodeForgetNode(forget(4))).code).toBe(CATALOG_OK);
  expect([run.machine.node(4 as NodeId), run.machine.wasForgotten(4 as NodeId)]).toEqual([undefined, true]);
  expect(run.command(encodeRegisterNode(nodeRow(4))).code).toBe(CATALOG_STORE_MISMATCH);
  expect(run.command(encodeJoinNode({ node: nodeRow(4, { storeId: "other" }), lostLife: -1 })).value).toBe(2);
  expect(run.machine.wasForgotten(4 as NodeId)).toBe(false);
  // The same order once more, late: it was for the disk that is gone.
  expect(run.command(encodeForgetNode(forget(4)))).toMatchObject({
    code: CATALOG_CONFLICT,
    detail: expect.stringContaining("another disk"),
  });
  expect(run.machine.node(4 as NodeId)).toMatchObject({ storeId: "other" });
});

test("catalog: a node that was forgotten and comes back goes on after its last start, also after the catalog was saved in between", () => {
  const run = cluster();
  expect(run.command(encodeJoinNode({ node: nodeRow(4, { incarnation: 7 }), lostLife: -1 })).value).toBe(1);
  expect(run.command(encodeForgetNode(forget(4))).code).toBe(CATALOG_OK);
  run.machine.restore(run.machine.snapshot());
  const back = nodeRow(4, { storeId: "other", incarnation: 1 });
  expect(run.command(encodeJoinNode({ node: back, lostLife: -1 })).value).toBe(2);
  expect(run.command(encodeRegisterNode(back))).toMatchObject({ code: CATALOG_CONFLICT, value: 8 });
  expect(run.command(encodeRegisterNode({ ...back, incarnation: 8 })).code).toBe(CATALOG_OK);
});

test("catalog: partitions that lie alike share one list of replicas, made or restored", () => {
  const run = cluster();
  const name = "wide";
  run.command(create({ name, placement: placed(...Array.from({ length: 30 }, (_, at) => (at % 2 === 0 ? [1, 2] : [3, 1]))) }));
  const restored = new CatalogMachine();
  restored.restore(run.machine.snapshot());
  for (const catalog of [run.machine, restored]) {
    const { partitions } = catalog.topic("/", name)!;
    expect(partitions).toHaveLength(30);
    expect(new Set(partitions.flatMap(({ replicas, founders }) => [replicas, founders])).size).toBe(2);
  }
});
