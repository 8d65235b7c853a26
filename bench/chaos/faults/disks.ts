// Power cuts, disks that are full, that fail and that are slow.

import { join } from "node:path";
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
import { Tracer } from "../tracer.ts";
import { cutPower } from "../volume.ts";

const FILL_EVERY_MS = 50;

/** What was not synced is gone on all of these at the same moment. */
function powerCut(draw: Draw, all: boolean): Strike {
  const victim = drawVictim(draw);
  let struck: readonly number[] = [];
  let dead = 0;
  return {
    seconds: seconds(draw, 0, 3),
    begin: async (world) => {
      const { cluster } = world;
      const { node, who } = await resolveVictim(world, victim);
      struck = (all ? cluster.ids : [node]).filter((one) => !cluster.isDown(one));
      for (const one of struck) cluster.abandon(one);
      await cutPower(struck.map((one) => cluster.volumes.get(one)!));
      dead = struck.filter((one) => cluster.volumes.get(one)!.isDead()).length;
      await Promise.all(struck.map((one) => cluster.kill(one)));
      return all ? "all nodes at once" : who;
    },
    end: async ({ cluster }) => {
      await Promise.all(
        struck.map(async (one) => {
          await cluster.volumes.get(one)!.powerOn();
          cluster.launch(one);
        }),
      );
      return { bit: dead === struck.length, proof: `${dead} file systems refused all writes, and were mounted again` };
    },
  };
}

/** To the last byte, again and again: what the node gives back of its reserve and its files goes, too. */
function diskFull(draw: Draw): Strike {
  const victim = drawVictim(draw);
  const isOver = new AbortController();
  let [taken, struck, least] = [0, 0, Number.POSITIVE_INFINITY];
  let loop: Promise<void> = Promise.resolve();
  return {
    seconds: seconds(draw, 2, 8),
    begin: async (world) => {
      const { node, who } = await resolveVictim(world, victim);
      const volume = world.cluster.volumes.get(node)!;
      struck = node;
      taken = await volume.fill();
      loop = (async () => {
        while (!isOver.signal.aborted) {
          taken += await volume.fill();
          least = Math.min(least, volume.freeBytes);
          await delay(FILL_EVERY_MS);
        }
      })();
      return who;
    },
    end: async ({ cluster }) => {
      isOver.abort();
      await loop;
      cluster.volumes.get(struck)!.empty();
      return { bit: least === 0, proof: `${(taken / 2 ** 20).toFixed(0)} MiB taken, at the least ${least} bytes free` };
    },
  };
}

async function trace(world: World, node: number, injection: string): Promise<Tracer> {
  const pid = world.cluster.nodes.pid(node);
  const tracer = new Tracer(pid, injection, join(world.cluster.directory, `trace-${node}`));
  await tracer.attached(pid);
  return tracer;
}

/** After a sync that failed nobody knows what is on disk: the process must end, and be started again. */
function failingSync(draw: Draw): Strike {
  const victim = drawVictim(draw);
  const when = between(draw.random, 1, 20);
  let tracer: Tracer | null = null;
  let [struck, restarts, pid] = [0, 0, 0];
  return {
    seconds: seconds(draw, 3, 5),
    begin: async (world) => {
      const { cluster } = world;
      const { node, who } = await resolveVictim(world, victim);
      struck = node;
      cluster.endanger(node);
      pid = cluster.nodes.pid(node);
      ({ restarts } = cluster);
      tracer = await trace(world, node, `fdatasync:error=EIO:when=${when}+`);
      return `${who}, from its ${when}th sync on`;
    },
    end: async ({ cluster }): Promise<Bite> => {
      const failed = (await tracer?.end()) ?? 0;
      cluster.spare(struck);
      const hasEnded = cluster.restarts > restarts && cluster.nodes.pid(struck) !== pid;
      const proof = `${failed} syncs failed with EIO; ${hasEnded ? "the process ended and was started again" : "the process went on"}`;
      return { bit: failed > 0, proof };
    },
  };
}

function slowSync(draw: Draw): Strike {
  const victim = drawVictim(draw);
  const ms = pick(draw.random, [30, 120, 500, 1_500]);
  let tracer: Tracer | null = null;
  return {
    seconds: seconds(draw, 3, 8),
    begin: async (world) => {
      const { node, who } = await resolveVictim(world, victim);
      tracer = await trace(world, node, `fdatasync:delay_enter=${ms * 1_000}`);
      return `${who}, each sync ${ms} ms later`;
    },
    end: async () => {
      const slowed = (await tracer?.end()) ?? 0;
      return { bit: slowed > 0, proof: `${slowed} syncs slowed down` };
    },
  };
}

export const DISK_FAULTS: readonly FaultKind[] = [
  {
    name: "power",
    what: "power cut of one node: what it had not synced is gone",
    needs: ["mount", "shutdown"],
    mixes: true,
    draw: (draw) => powerCut(draw, false),
  },
  {
    name: "power-all",
    what: "power cut of the whole cluster at one moment",
    needs: ["mount", "shutdown"],
    draw: (draw) => powerCut(draw, true),
  },
  { name: "disk-full", what: "no byte is left on one node's disk, and then space again", needs: ["mount"], draw: diskFull },
  { name: "eio", what: "syncs of one node fail with EIO", needs: ["strace"], draw: failingSync },
  { name: "slow-disk", what: "each sync of one node takes long", needs: ["strace"], draw: slowSync },
];
