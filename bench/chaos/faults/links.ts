// Partitions of all shapes, slow and lossy links.

import { setTimeout as delay } from "node:timers/promises";
import { between, pick, resolveVictim, seconds, type Draw, type FaultKind, type Strike, type World } from "../fault.ts";
import type { PacketRule } from "../firewall.ts";
import { cutsOf, linksOf, nodesMin, SHAPES, shuffled, type DirectedPair, type Shape } from "../shapes.ts";

const arrows = (pairs: readonly DirectedPair[]): string => pairs.map(([from, to]) => `${from}>${to}`).join(" ");

/** The shape is drawn around the leader of some partition, or around any node. */
function drawOrder(draw: Draw): (world: World) => Promise<readonly number[]> {
  const order = shuffled(draw.nodes, draw.random);
  const leaderOf = draw.random.below(2) === 0 ? draw.random.below(draw.partitions) : -1;
  return async (world) => {
    const { node } = await resolveVictim(world, { node: order[0]!, leaderOf });
    return [node, ...order.filter((one) => one !== node)];
  };
}

function partition(draw: Draw, shape: Shape): Strike {
  const order = drawOrder(draw);
  // When it is over what was on its way may come after all, or be lost with its connection.
  const resets = draw.random.below(2) === 0;
  let pairs: DirectedPair[] = [];
  let before = 0;
  return {
    seconds: seconds(draw, 1, 8),
    begin: async (world) => {
      const { network } = world.cluster;
      pairs = cutsOf(shape, await order(world));
      before = network.counts.heldBytes;
      network.hold(pairs);
      return arrows(pairs);
    },
    end: ({ cluster: { network } }) => {
      const held = network.counts.heldBytes - before;
      const cut = resets ? network.reset(pairs) : 0;
      network.release(pairs);
      return Promise.resolve({ bit: held > 0, proof: `${held} bytes held back${resets ? `, then ${cut} connections cut` : ""}` });
    },
  };
}

/** On and off, too short for anybody to settle down. */
function flapping(draw: Draw): Strike {
  const order = drawOrder(draw);
  const [cutMs, openMs] = [between(draw.random, 100, 900), between(draw.random, 100, 900)];
  const isOver = new AbortController();
  let [flaps, before] = [0, 0];
  let loop: Promise<void> = Promise.resolve();
  return {
    seconds: seconds(draw, 3, 8),
    begin: async (world) => {
      const { network } = world.cluster;
      const pairs = cutsOf("isolate", await order(world));
      before = network.counts.heldBytes;
      loop = (async () => {
        while (!isOver.signal.aborted) {
          network.hold(pairs);
          await delay(cutMs);
          network.reset(pairs);
          network.release(pairs);
          flaps += 1;
          await delay(openMs);
        }
      })();
      return `node ${pairs[0]![0]}, ${cutMs} ms off and ${openMs} ms on`;
    },
    end: async ({ cluster: { network } }) => {
      isOver.abort();
      await loop;
      const held = network.counts.heldBytes - before;
      return { bit: held > 0, proof: `${flaps} times off, ${held} bytes held back` };
    },
  };
}

function slow(draw: Draw): Strike {
  const { random } = draw;
  const order = drawOrder(draw);
  const isAll = random.below(3) === 0;
  const how = { delayMs: pick(random, [5, 20, 60, 150, 300]), bytesPerSecond: pick(random, [0, 0, 64, 256, 1_024]) * 1_024 };
  let pairs: DirectedPair[] = [];
  let before = 0;
  return {
    seconds: seconds(draw, 3, 8),
    begin: async (world) => {
      const { network } = world.cluster;
      const [first] = await order(world);
      pairs = linksOf(draw.nodes, isAll ? null : first!);
      before = network.counts.slowedBytes;
      network.slow(pairs, how);
      return `${isAll ? "all links" : `the links of node ${first}`}: ${how.delayMs} ms each way${how.bytesPerSecond === 0 ? "" : `, ${how.bytesPerSecond / 1_024} KiB/s`}`;
    },
    end: ({ cluster: { network } }) => {
      const slowed = network.counts.slowedBytes - before;
      network.release(pairs);
      return Promise.resolve({ bit: slowed > 0, proof: `${slowed} bytes slowed down` });
    },
  };
}

/** Connections break in the middle of a frame, again and again. */
function resetting(draw: Draw): Strike {
  const order = drawOrder(draw);
  const isAll = draw.random.below(2) === 0;
  const everyMs = between(draw.random, 40, 700);
  const isOver = new AbortController();
  let cut = 0;
  let loop: Promise<void> = Promise.resolve();
  return {
    seconds: seconds(draw, 2, 6),
    begin: async (world) => {
      const { network } = world.cluster;
      const [first] = await order(world);
      const pairs = linksOf(draw.nodes, isAll ? null : first!);
      loop = (async () => {
        for (let turn = 0; !isOver.signal.aborted; turn++) {
          cut += network.reset([pairs[turn % pairs.length]!]);
          await delay(everyMs / pairs.length);
        }
      })();
      return `${isAll ? "all links" : `the links of node ${first}`}, each every ${everyMs} ms`;
    },
    end: async () => {
      isOver.abort();
      await loop;
      return { bit: cut > 0, proof: `${cut} connections cut` };
    },
  };
}

/** The kernel drops packets: a connection is neither cut nor slowed by us, TCP has to cope. */
function dropping(draw: Draw, what: "loss" | "silence" | "clients"): Strike {
  const order = drawOrder(draw);
  const percent = what === "loss" ? pick(draw.random, [2, 10, 30]) : 100;
  return {
    seconds: seconds(draw, 2, 7),
    begin: async (world) => {
      const { cluster } = world;
      const [first] = await order(world);
      const others = draw.nodes.filter((node) => node !== first);
      const ports =
        what === "clients"
          ? [cluster.nodes.portsOf(first!).api]
          : others.flatMap((other) => [cluster.network.port(first!, other), cluster.network.port(other, first!)]);
      await cluster.firewall.on(ports.map((port): PacketRule => ({ port, percent })));
      return what === "loss" ? `the links of node ${first}, ${percent} % of all packets` : `node ${first}`;
    },
    end: async ({ cluster }) => {
      const packets = await cluster.firewall.off();
      return { bit: packets > 0, proof: `${packets} packets dropped` };
    },
  };
}

const SHAPE_TEXTS: Readonly<Record<Shape, string>> = {
  isolate: "one node is cut off from all others",
  halves: "a minority is cut off from a majority",
  ring: "each node sees two neighbours only",
  bridge: "two sides that only one node in the middle sees",
  "one-way": "one node hears the others and is not heard",
};

export const LINK_FAULTS: readonly FaultKind[] = [
  ...SHAPES.map((shape): FaultKind => ({
    name: shape,
    what: SHAPE_TEXTS[shape],
    needs: [],
    nodesMin: nodesMin(shape),
    mixes: true,
    draw: (draw) => partition(draw, shape),
  })),
  { name: "flap", what: "one node is cut off and comes back, several times a second", needs: [], draw: flapping },
  { name: "slow-links", what: "links with delay, some with little bandwidth", needs: [], mixes: true, draw: slow },
  { name: "reset-links", what: "connections between nodes break again and again", needs: [], mixes: true, draw: resetting },
  {
    name: "packet-loss",
    what: "some packets between nodes are dropped by the kernel",
    needs: ["nft"],
    draw: (draw) => dropping(draw, "loss"),
  },
  {
    name: "silence",
    what: "all packets between one node and the others are dropped",
    needs: ["nft"],
    draw: (draw) => dropping(draw, "silence"),
  },
  {
    name: "client-cut",
    what: "clients cannot reach one node, and the nodes can",
    needs: ["nft"],
    draw: (draw) => dropping(draw, "clients"),
  },
];
