// What the simulated network does on purpose, by itself.

import { expect, test } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import { LANE_FORWARD, LANE_RAFT } from "../../src/peer/transport.ts";
import { action, drawAction } from "./actions.ts";
import { cutsOf } from "./cuts.ts";
import { FrameShuffler } from "./frame-shuffler.ts";
import { FAULTS } from "./options.ts";

function frame(lane: number, number: number): Buffer {
  const bytes = Buffer.alloc(9);
  bytes.writeUInt32LE(5, 0);
  bytes[4] = lane;
  bytes.writeUInt32LE(number, 5);
  return bytes;
}

function inOrder(numbers: readonly number[]): number[] {
  return [...numbers].sort((a, b) => a - b);
}

function framesOf(bytes: Buffer): { lane: number; number: number }[] {
  const frames: { lane: number; number: number }[] = [];
  for (let at = 0; at < bytes.length; at += 9) frames.push({ lane: bytes[at + 4]!, number: bytes.readUInt32LE(at + 5) });
  return frames;
}

test("datagrams: frames of the consensus lane are lost, doubled and overtaken, all others keep their order", () => {
  const felt = new Set<string>();
  const shuffler = new FrameShuffler(new Prng(1), (what) => void felt.add(what));
  const sent = Buffer.concat(Array.from({ length: 400 }, (_, number) => frame(number % 2 === 0 ? LANE_RAFT : LANE_FORWARD, number)));
  const out: Buffer[] = [];
  // In pieces that end anywhere.
  for (let at = 0; at < sent.length; at += 7) out.push(shuffler.pass(sent.subarray(at, at + 7), { lost: 20, doubled: 20, overtaken: 20 }));
  out.push(shuffler.pass(Buffer.alloc(0), null));
  const frames = framesOf(Buffer.concat(out));
  const forwarded = frames.filter(({ lane }) => lane === LANE_FORWARD).map(({ number }) => number);
  expect(forwarded).toEqual(Array.from({ length: 200 }, (_, at) => 2 * at + 1));
  const raft = frames.filter(({ lane }) => lane === LANE_RAFT).map(({ number }) => number);
  expect(new Set(raft).size).toBeLessThan(180);
  expect(raft.length).toBeGreaterThan(new Set(raft).size);
  expect(raft).not.toEqual([...raft].sort((a, b) => a - b));
  expect([...felt].sort()).toEqual(["frame doubled", "frame lost", "frame overtaken"]);
});

test("partitions have the shapes that they are named after", () => {
  const reached = (shape: string, count: number): number[][] => {
    const cuts = cutsOf(shape, count, 2, new Prng(7));
    return Array.from({ length: count }, (_, from) =>
      Array.from({ length: count }, (__, to) => to).filter((to) => to !== from && !cuts.some(([a, b]) => a === from && b === to)),
    );
  };
  expect(reached("leader", 3)).toEqual([[1], [0], []]);
  expect(inOrder(reached("halves", 5).map((list) => list.length))).toEqual([1, 1, 2, 2, 2]);
  // Each has a majority with itself, and no two the same.
  const ring = reached("ring", 5);
  expect(ring.map((list) => list.length)).toEqual([2, 2, 2, 2, 2]);
  expect(new Set(ring.map((list, at) => inOrder([...list, at]).join())).size).toBe(5);
  expect(inOrder(reached("bridge", 5).map((list) => list.length))).toEqual([2, 2, 2, 2, 4]);
  expect(inOrder(reached("bridge", 3).map((list) => list.length))).toEqual([1, 1, 2]);
  const oneWay = reached("oneway", 4).map((list) => list.length);
  expect(inOrder(oneWay)).toEqual([1, 1, 3, 3]);
});

test("an action says all of what it does, and is drawn alike from the same seed", () => {
  for (const fault of FAULTS) {
    expect(drawAction(new Prng(3), fault, 3)).toEqual(drawAction(new Prng(3), fault, 3));
    const { node, peer } = drawAction(new Prng(3), fault, 3);
    expect(node).not.toBe(peer);
    expect(JSON.parse(JSON.stringify(action(fault)))).toEqual(action(fault));
  }
});
