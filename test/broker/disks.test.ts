import { expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { decodeDiskUse, Disks, encodeDiskUse } from "../../src/broker/disks.ts";

const use = (freeBytes: number): { logBytes: number; liveBytes: number; freeBytes: number } => ({
  logBytes: 2 ** 40,
  liveBytes: 7,
  freeBytes,
});

test("disks: a node tells the others at once, then every five seconds, and always knows its own latest", () => {
  const disks = new Disks(2 as NodeId);
  const told = Array.from({ length: 24 }, (_, at) => at * 500).filter((nowMs) => disks.seen(use(nowMs), nowMs));
  expect(told).toEqual([0, 5_000, 10_000]);
  expect(disks.own).toEqual(use(11_500));
});

test("disks: what a node told is known until it is gone", () => {
  const disks = new Disks(2 as NodeId);
  disks.seen(use(1), 0);
  disks.heard(1 as NodeId, decodeDiskUse(encodeDiskUse(use(2 ** 50))));
  expect(disks.all()).toEqual([
    { node: 1, ...use(2 ** 50) },
    { node: 2, ...use(1) },
  ]);
  disks.forget(1 as NodeId);
  expect(disks.all().map(({ node }) => node)).toEqual([2]);
});
