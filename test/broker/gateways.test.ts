// Whose consumers are taken for gone.

import { expect, test } from "vitest";
import { gatewayOf, type NodeId } from "../../src/base/ids.ts";
import { Gateways } from "../../src/broker/work/gateways.ts";
import type { CatalogMachine } from "../../src/machine/catalog/catalog.ts";

const NODE = 2 as NodeId;
const GRACE_MS = 3_000;

class Bench {
  linked = 4;
  isKnown = true;
  readonly gateways = new Gateways(
    { nodes: () => (this.isKnown ? [{ id: NODE }] : []), node: () => (this.isKnown ? {} : undefined) } as unknown as CatalogMachine,
    () => this.linked,
  );

  /** Whether each of these starts of the node is over, as a round sees it. */
  round(nowMs: number, ...incarnations: number[]): boolean[] {
    this.gateways.begin(nowMs);
    return incarnations.map((incarnation) => this.gateways.isGone(gatewayOf(NODE, incarnation), nowMs));
  }
}

test("gateways: an earlier start of a node is over, the one that is linked is not", () => {
  const bench = new Bench();
  expect(bench.round(0, 3, 4)).toEqual([true, false]);
  bench.isKnown = false;
  expect(bench.round(1_000, 4)).toEqual([true]);
});

test("gateways: a node that is away is waited for, for a while", () => {
  const bench = new Bench();
  bench.linked = 0;
  expect(bench.round(0, 4)).toEqual([false]);
  expect(bench.round(GRACE_MS - 1, 4)).toEqual([false]);
  bench.linked = 4;
  expect(bench.round(GRACE_MS, 4)).toEqual([false]);
  bench.linked = 0;
  expect(bench.round(GRACE_MS + 1, 4)).toEqual([false]);
  expect(bench.round(2 * GRACE_MS + 1, 4)).toEqual([true]);
});

test("gateways: a later start than the linked one is over only if it stays so: the node lost its disk, and counts anew", () => {
  const bench = new Bench();
  expect(bench.round(0, 5)).toEqual([false]);
  bench.linked = 5;
  expect(bench.round(1_000, 5)).toEqual([false]);
  bench.linked = 1;
  expect(bench.round(2_000, 5, 1)).toEqual([false, false]);
  expect(bench.round(2_000 + GRACE_MS, 5, 1)).toEqual([true, false]);
});
