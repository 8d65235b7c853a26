// Processes that die, stop and stall.

import { setTimeout as delay } from "node:timers/promises";
import {
  between,
  drawVictim,
  pick,
  resolveVictim,
  seconds,
  type Bite,
  type Draw,
  type FaultKind,
  type Strike,
  type World,
} from "../fault.ts";

const text = (nodes: readonly number[]): string => nodes.join(", ");

/** Kills these nodes and starts them again later. */
function killing(length: number, whom: (world: World) => Promise<{ nodes: readonly number[]; who: string }>): Strike {
  let struck: readonly number[] = [];
  return {
    seconds: length,
    begin: async (world) => {
      const { nodes, who } = await whom(world);
      struck = nodes.filter((node) => !world.cluster.isDown(node));
      await Promise.all(struck.map((node) => world.cluster.kill(node)));
      return who;
    },
    end: ({ cluster }) => {
      const killed = struck.filter((node) => cluster.nodes.endOf(node).signal === "SIGKILL");
      for (const node of struck) cluster.launch(node);
      return Promise.resolve({ bit: killed.length > 0, proof: `killed: ${text(killed)}` });
    },
  };
}

function pausing(draw: Draw, length: number, all: boolean): Strike {
  const victim = drawVictim(draw);
  let struck: readonly number[] = [];
  let stopped: readonly number[] = [];
  return {
    seconds: length,
    begin: async (world) => {
      const { cluster } = world;
      const { node, who } = await resolveVictim(world, victim);
      struck = (all ? cluster.ids : [node]).filter((one) => !cluster.isDown(one));
      for (const one of struck) cluster.nodes.signal(one, "SIGSTOP");
      await delay(5);
      stopped = struck.filter((one) => cluster.nodes.isRunning(one) && cluster.stateOf(one) === "T");
      return all ? "all nodes" : who;
    },
    end: ({ cluster }) => {
      for (const one of struck) cluster.nodes.signal(one, "SIGCONT");
      return Promise.resolve({ bit: stopped.length > 0, proof: `stopped by the kernel: ${text(stopped)}` });
    },
  };
}

/** Stops it for a fraction of a second again and again: what garbage collections and neighbours do. */
function stalling(draw: Draw): Strike {
  const victim = drawVictim(draw);
  const [stopMs, runMs] = [between(draw.random, 60, 420), between(draw.random, 50, 400)];
  const isOver = new AbortController();
  let pulses = 0;
  let loop: Promise<void> = Promise.resolve();
  let before = 0;
  let struck = 0;
  return {
    seconds: seconds(draw, 2, 6),
    begin: async (world) => {
      const { cluster } = world;
      const { node, who } = await resolveVictim(world, victim);
      struck = node;
      before = await cluster.metric(node, "flotilla_event_loop_stalls_total");
      loop = (async () => {
        while (!isOver.signal.aborted && cluster.nodes.isRunning(node)) {
          cluster.nodes.signal(node, "SIGSTOP");
          await delay(stopMs);
          cluster.nodes.signal(node, "SIGCONT");
          pulses += 1;
          await delay(runMs);
        }
      })();
      return `${who}, ${stopMs} ms of every ${stopMs + runMs}`;
    },
    end: async ({ cluster }): Promise<Bite> => {
      isOver.abort();
      await loop;
      const seen = (await cluster.metric(struck, "flotilla_event_loop_stalls_total")) - before;
      return { bit: pulses > 0, proof: `${pulses} stalls${Number.isFinite(seen) ? `, counted by the node itself: ${seen}` : ""}` };
    },
  };
}

async function restarted({ cluster }: World, node: number): Promise<string> {
  const { code, ms } = await cluster.stop(node);
  cluster.launch(node);
  return code === 0
    ? `node ${node} stopped in ${ms.toFixed(0)} ms`
    : `node ${node} did not stop well (${code ?? "killed"} after ${ms.toFixed(0)} ms)`;
}

function restarting(draw: Draw, isRolling: boolean): Strike {
  const victim = drawVictim(draw);
  const said: string[] = [];
  let isWell = true;
  return {
    seconds: 0,
    begin: async (world) => {
      const { cluster } = world;
      const { node, who } = await resolveVictim(world, victim);
      for (const one of isRolling ? cluster.ids : [node]) {
        said.push(await restarted(world, one));
        if (isRolling) await cluster.nodes.ready(one);
      }
      isWell = said.every((line) => line.includes("stopped in"));
      return isRolling ? "every node in turn" : who;
    },
    end: () => Promise.resolve({ bit: isWell, proof: said.join("; ") }),
  };
}

export const PROCESS_FAULTS: readonly FaultKind[] = [
  {
    name: "kill",
    what: "SIGKILL of one node; started again up to four seconds later",
    needs: [],
    mixes: true,
    draw: (draw) => {
      const victim = drawVictim(draw);
      return killing(seconds(draw, 0, 4), async (world) => {
        const { node, who } = await resolveVictim(world, victim);
        return { nodes: [node], who };
      });
    },
  },
  {
    name: "kill-majority",
    what: "SIGKILL of all but a minority",
    needs: [],
    draw: (draw) => {
      const { nodes, random } = draw;
      const first = random.below(nodes.length);
      const chosen = Array.from({ length: Math.floor(nodes.length / 2) + 1 }, (_, at) => nodes[(first + at) % nodes.length]!);
      return killing(seconds(draw, 0, 3), () => Promise.resolve({ nodes: chosen, who: `nodes ${text(chosen)}` }));
    },
  },
  {
    name: "kill-all",
    what: "SIGKILL of the whole cluster",
    needs: [],
    draw: (draw) => killing(seconds(draw, 0, 2), ({ cluster }) => Promise.resolve({ nodes: cluster.ids, who: "all nodes" })),
  },
  {
    name: "pause",
    what: "SIGSTOP of one node for up to ten seconds",
    needs: ["linux"],
    mixes: true,
    draw: (draw) => pausing(draw, draw.scale * pick(draw.random, [0.4, 1.5, 4, 10]), false),
  },
  {
    name: "pause-all",
    what: "SIGSTOP of all nodes at once: a frozen host",
    needs: ["linux"],
    draw: (draw) => pausing(draw, seconds(draw, 1, 4), true),
  },
  {
    name: "stall",
    what: "event-loop stalls: one node stands still for a fraction of a second, again and again",
    needs: [],
    mixes: true,
    draw: stalling,
  },
  { name: "restart", what: "graceful restart of one node", needs: [], draw: (draw) => restarting(draw, false) },
  {
    name: "rolling",
    what: "graceful restart of every node in turn, as an upgrade does",
    needs: [],
    draw: (draw) => restarting(draw, true),
  },
];
