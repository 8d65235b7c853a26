// What the simulated network does on purpose, by itself.

import { expect, test } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import type { PeerSocket } from "../../src/peer/network.ts";
import { LANE_FORWARD, LANE_RAFT } from "../../src/peer/transport.ts";
import { action, drawAction } from "./actions.ts";
import { cutsOf } from "./cuts.ts";
import { FrameShuffler } from "./frame-shuffler.ts";
import { FAULTS } from "./options.ts";
import { SimNet } from "./sim-net.ts";
import { World, type Owner } from "./world.ts";

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

test("a stream arrives in its order and whole, also while its reader stands still now and then", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const world = new World(seed);
    const { random } = world;
    const owner = (name: string): { -readonly [K in keyof Owner]: Owner[K] } => ({
      name,
      isDead: false,
      pausedUntilUs: 0,
      failed: (error) => {
        throw error;
      },
    });
    const [kernel, writer, reader] = [owner("net"), owner("a"), owner("b")];
    const net = new SimNet(world, world.fork(), { latencyUs: 50, jitterUs: 10, splitPercent: 30 }, kernel);
    const received: Buffer[] = [];
    const accept = (socket: PeerSocket): void => {
      socket.on("data", (bytes: Buffer) => void received.push(Buffer.from(bytes)));
    };
    await net.for("b", reader, () => {}).listen({ host: "b", port: 1, connectionsMax: 1 }, accept);
    const socket = net.for("a", writer, () => {}).connect("b", 1);
    const sent: Buffer[] = [];
    for (let burst = 0; burst < 40; burst++) {
      world.after(random.below(20_000), writer, "write", () => {
        for (let count = random.below(40); count > 0; count--) {
          const bytes = Buffer.alloc(1 + random.below(9), random.below(256));
          sent.push(bytes);
          socket.write(bytes);
        }
      });
      world.after(random.below(20_000), kernel, "pause", () => {
        reader.pausedUntilUs = world.nowUs + random.below(200);
      });
    }
    await world.run(1_000_000);
    expect(Buffer.concat(received).equals(Buffer.concat(sent)), `seed ${seed}`).toBe(true);
  }
});
