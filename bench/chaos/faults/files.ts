// Damage of what one node has stored. It heals from the others, without an operator.

import { cp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { DAMAGES, find, KINDS } from "../../damaged-files.ts";
import { pick, seconds, type Draw, type FaultKind, type Strike, type World } from "../fault.ts";

function damaging(draw: Draw, isRunning: boolean): Strike {
  const node = draw.victim;
  // The drawn kind of file, or the next one of which there is any.
  const all = Object.keys(KINDS);
  const first = draw.random.below(all.length);
  const kinds = [...all.slice(first), ...all.slice(0, first)];
  const damage = pick(draw.random, Object.keys(DAMAGES));
  let struck = "";
  return {
    // While it runs somebody has to come across it: the node reads all that it has again and again.
    seconds: isRunning ? seconds(draw, 3, 5) : 0,
    begin: async (world) => {
      const { cluster } = world;
      const older = join(cluster.directory, `older-${node}`);
      const { dataDir } = cluster.volumes.get(node)!;
      if (damage === "older copy") await keepCopy(dataDir, older, world);
      if (isRunning) cluster.endanger(node);
      else await cluster.kill(node);
      for (const kind of kinds) if (struck === "" && (await strike({ dataDir, older, kind, damage }))) struck = kind;
      await rm(older, { recursive: true, force: true });
      return `node ${node}, ${struck === "" ? kinds[0]! : struck}, ${damage}${isRunning ? ", while it runs" : ""}`;
    },
    end: ({ cluster }) => {
      if (isRunning) cluster.spare(node);
      else cluster.launch(node);
      return Promise.resolve({ bit: struck !== "", proof: struck === "" ? "there was nothing to damage" : "the file is not what it was" });
    },
  };
}

/** False when there is no such file, or nothing of it changed. */
async function strike(where: { dataDir: string; older: string; kind: string; damage: string }): Promise<boolean> {
  const { dataDir, older, kind, damage } = where;
  try {
    const path = await find(kind, dataDir);
    const olderPath = damage === "older copy" ? await find(kind, older) : "";
    if (path === null || olderPath === null) return false;
    const file = join(dataDir, path);
    const before = await digestOf(file);
    await DAMAGES[damage]!(file, join(older, olderPath));
    return (await digestOf(file)) !== before;
  } catch (error) {
    // A running node may have put it elsewhere meanwhile.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** -1 = it is gone. */
function digestOf(file: string): Promise<number> {
  return readFile(file).then(crc32, () => -1);
}

/** What the node goes on to write is no part of the copy. */
async function keepCopy(dataDir: string, older: string, { cluster }: World): Promise<void> {
  await rm(older, { recursive: true, force: true });
  await cp(dataDir, older, { recursive: true, filter: (path) => !path.endsWith("LOCK") }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  // So that it is older by something.
  const before = await cluster.metric(1, "flotilla_log_syncs_total");
  for (let tries = 0; tries < 40 && (await cluster.metric(1, "flotilla_log_syncs_total")) < before + 20; tries++) await delay(25);
}

function wiping(draw: Draw): Strike {
  const node = draw.victim;
  return {
    seconds: seconds(draw, 0, 2),
    begin: async ({ cluster }) => {
      await cluster.kill(node);
      cluster.volumes.get(node)!.wipe();
      return `node ${node}`;
    },
    end: ({ cluster }) => {
      cluster.launch(node);
      return Promise.resolve({ bit: true, proof: "its folder was emptied" });
    },
  };
}

export const FILE_FAULTS: readonly FaultKind[] = [
  {
    name: "corrupt",
    what: "a file of one stopped node is changed, cut, emptied, removed or replaced by an older copy",
    needs: [],
    takesData: "damages",
    draw: (draw) => damaging(draw, false),
  },
  {
    name: "corrupt-running",
    what: "the same under a node that runs",
    needs: [],
    takesData: "damages",
    draw: (draw) => damaging(draw, true),
  },
  { name: "wipe", what: "one node loses its disk", needs: [], takesData: "wipes", draw: wiping },
];
