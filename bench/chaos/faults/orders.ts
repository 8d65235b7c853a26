// What operators do: leaders and replicas move, nodes leave and come back. And what a client may ask for.

import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { FlotillaError } from "../../../src/client/index.ts";
import { ATTACK_PROGRAM } from "../../attacking.ts";
import { run, type Running } from "../../processes.ts";
import { drawVictim, pick, resolveVictim, seconds, type Bite, type Draw, type FaultKind, type Strike, type World } from "../fault.ts";
import { shuffled } from "../shapes.ts";

const CALL_MS = 10_000;
const EMPTY_MS_MAX = 60_000;
const TRANSFERS = 12;
/** None of these stores anything: they are about the node's time and memory. */
const ATTACKS = [
  "Publish, 2,000,000 empty records",
  "Publish, the topic 2,000,000 times",
  "Publish, 2,000,000 unknown fields",
  "Fetch, 2,000,000 positions",
  "GetOffsets, 1,024 partitions by time",
  "64 MB out of 64 KB of gzip",
];

/** An order may be refused while other things go wrong; what counts is that it is an answer. */
async function ordered(work: (signal: AbortSignal) => Promise<unknown>): Promise<boolean> {
  try {
    await work(AbortSignal.timeout(CALL_MS));
    return true;
  } catch (error) {
    if (!(error instanceof FlotillaError)) throw error;
    return false;
  }
}

function transferring(draw: Draw): Strike {
  const { random, nodes, partitions } = draw;
  const orders = Array.from({ length: TRANSFERS }, () => ({
    partition: random.below(partitions),
    toNode: pick(random, nodes),
    isCatalog: random.below(4) === 0,
  }));
  let [done, asked] = [0, 0];
  const isOver = new AbortController();
  let loop: Promise<void> = Promise.resolve();
  return {
    seconds: seconds(draw, 2, 4),
    begin: ({ client, topic }) => {
      loop = (async () => {
        for (const { partition, toNode, isCatalog } of orders) {
          if (isOver.signal.aborted) return;
          asked += 1;
          const target = isCatalog ? { toNode } : { topic, partition, toNode };
          if (await ordered((signal) => client.cluster.transferLeader(target, { signal }))) done += 1;
        }
      })();
      return Promise.resolve(`${orders.length} partitions and catalogs, one after the other`);
    },
    end: async () => {
      isOver.abort();
      await loop;
      return { bit: done > 0, proof: `${done} of ${asked} leaders moved` };
    },
  };
}

function moving(draw: Draw): Strike {
  const { random, nodes, partitions } = draw;
  const orders = Array.from({ length: Math.min(4, partitions) }, (_, at) => ({
    partition: (random.below(partitions) + at) % partitions,
    nodes: shuffled(nodes, random).slice(0, 3),
  }));
  let done = 0;
  return {
    seconds: seconds(draw, 3, 6),
    begin: async ({ client, topic }) => {
      for (const order of orders) if (await ordered((signal) => client.cluster.moveReplicas({ topic, ...order }, { signal }))) done += 1;
      return orders.map(({ partition, nodes: to }) => `partition ${partition} to nodes ${to.join(", ")}`).join("; ");
    },
    end: () => Promise.resolve({ bit: done > 0, proof: `${done} of ${orders.length} orders taken` }),
  };
}

function draining(draw: Draw): Strike {
  const node = pick(draw.random, draw.nodes);
  return {
    seconds: seconds(draw, 2, 5),
    begin: async ({ client }) => {
      await ordered((signal) => client.cluster.drainNode(node, {}, { signal }));
      return `node ${node}`;
    },
    end: async ({ client }) => {
      const info = await client.cluster.describe().catch(() => null);
      const seen = info?.nodes.find(({ id }) => id === node);
      await untilOrdered((signal) => client.cluster.drainNode(node, { drained: false }, { signal }));
      const proof =
        seen === undefined
          ? "the node was not to be seen"
          : `it was ${seen.drained ? "" : "not "}drained, and still led ${seen.leaders} groups`;
      return { bit: seen?.drained === true, proof };
    },
  };
}

/** Everything off it, out of the cluster, and back in with an empty disk. */
function replacing(draw: Draw): Strike {
  const node = draw.victim;
  const said: string[] = [];
  return {
    seconds: 0,
    begin: async (world) => {
      const { client, cluster } = world;
      await untilOrdered((signal) => client.cluster.drainNode(node, { moveReplicas: true }, { signal }));
      if (!(await isEmpty(world, node))) return `node ${node}, which did not get rid of its replicas in time`;
      said.push("it got rid of all replicas");
      await cluster.stop(node);
      await delay(500);
      if (await untilOrdered((signal) => client.cluster.forgetNode(node, { signal }))) said.push("it was forgotten");
      cluster.volumes.get(node)!.wipe();
      return `node ${node}`;
    },
    end: async ({ client, cluster }): Promise<Bite> => {
      if (cluster.isDown(node)) cluster.launch(node);
      await cluster.nodes.ready(node);
      await untilOrdered((signal) => client.cluster.drainNode(node, { drained: false }, { signal }));
      return { bit: said.length === 2, proof: said.join(", ") };
    },
  };
}

async function isEmpty({ client }: World, node: number): Promise<boolean> {
  for (const until = Date.now() + EMPTY_MS_MAX; Date.now() < until; await delay(200)) {
    const info = await client.cluster.describe().catch(() => null);
    if (info?.nodes.find(({ id }) => id === node)?.replicas === 0) return true;
  }
  return false;
}

async function untilOrdered(work: (signal: AbortSignal) => Promise<unknown>): Promise<boolean> {
  for (const until = Date.now() + EMPTY_MS_MAX; Date.now() < until; await delay(200)) if (await ordered(work)) return true;
  return false;
}

function attacking(draw: Draw): Strike {
  const victim = drawVictim(draw);
  const chosen = shuffled(ATTACKS, draw.random).slice(0, 3);
  const length = seconds(draw, 3, 5);
  let attack: Running | null = null;
  return {
    seconds: length,
    begin: async (world) => {
      const { node, who } = await resolveVictim(world, victim);
      const { topic, partitions, cluster } = world;
      const targets = { topic, wide: topic, partitions, tiny: topic };
      attack = run(process.execPath, [ATTACK_PROGRAM, cluster.nodes.endpoint(node), String(length), JSON.stringify(targets), ...chosen]);
      return `${who}: ${chosen.join("; ")}`;
    },
    end: async () => {
      const { child } = attack!;
      const ended = child.exitCode === null && child.signalCode === null ? once(child, "exit") : Promise.resolve();
      await Promise.race([ended, delay(CALL_MS, undefined, { ref: false })]);
      if (child.exitCode === null) child.kill("SIGKILL");
      const text = attack!.output().trim();
      const calls = [...text.matchAll(/:(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
      return { bit: calls > 0, proof: `${calls} calls` };
    },
  };
}

export const ORDER_FAULTS: readonly FaultKind[] = [
  {
    name: "transfer",
    what: "leaders of partitions and of the catalog are sent from node to node",
    needs: [],
    mixes: true,
    draw: transferring,
  },
  { name: "drain", what: "one node is drained of its leaders, and used again", needs: [], draw: draining },
  { name: "move", what: "replicas move to other nodes", needs: [], nodesMin: 4, mixes: true, draw: moving },
  {
    name: "replace",
    what: "one node is emptied, stopped, forgotten, and joins again with an empty disk",
    needs: [],
    nodesMin: 4,
    takesData: "wipes",
    draw: replacing,
  },
  {
    name: "hostile",
    what: "a client sends the most expensive requests as fast as they are taken",
    needs: [],
    mixes: true,
    draw: attacking,
  },
];
