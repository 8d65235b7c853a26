// One flipped bit in one file of one node, by kind of file: at rest, so that the node finds it as it starts or later, or under
// the running node. What nobody reads is found by the slow round, and some of it at the next start only: so a strike lasts until
// the node has read everything twice, and one under a running node until it has done so again after a restart.

import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { find, flipOne, KINDS } from "../../damaged-files.ts";
import type { Draw, FaultKind, Strike, World } from "../fault.ts";

const HEALS_WITHIN_SECONDS = 60;
const LOOK_MS = 50;
/** For a file of a kind that is not there yet. */
const FILE_MS_MAX = 20_000;
const ROUNDS = "flotilla_scrub_rounds_total";
const DAMAGED = "flotilla_replicas_damaged_total";
/** The round under way may be past the place. */
const ROUNDS_WANTED = 2;
const PART_STEPS = 1_000_000;

function flipping(draw: Draw, kind: string): Strike {
  const { random, victim: node } = draw;
  const isRunning = random.below(2) === 0;
  const part = random.below(PART_STEPS) / PART_STEPS;
  const bit = random.below(8);
  const before = { pid: 0, damaged: 0 };
  let struck = false;
  return {
    seconds: 0,
    begin: async (world) => {
      const { cluster } = world;
      await makeSure(world, node, kind);
      if (isRunning) {
        before.damaged = await cluster.metric(node, DAMAGED);
        cluster.endanger(node);
      } else await cluster.kill(node);
      before.pid = cluster.nodes.pid(node);
      const path = await find(kind, cluster.volumes.get(node)!.dataDir);
      if (path !== null) {
        // A running node may put it elsewhere meanwhile.
        struck = await flipOne(join(cluster.volumes.get(node)!.dataDir, path), part, bit).then(
          () => true,
          () => false,
        );
      }
      return `node ${node}, ${path ?? kind}, ${(part * 100).toFixed(0)} % into it, ${isRunning ? "while it runs" : "while it is down"}`;
    },
    end: async (world) => {
      const { cluster } = world;
      const said: string[] = [];
      if (isRunning) {
        const hasRead = await readEverything(world, node);
        cluster.spare(node);
        const hasEnded = cluster.nodes.pid(node) !== before.pid;
        const damaged = (await cluster.metric(node, DAMAGED)) - (hasEnded ? 0 : before.damaged);
        said.push(
          `${hasEnded ? "it ended and was started again; " : ""}${found(damaged)} while it ${hasRead ? "read everything" : "DID NOT READ everything"}`,
        );
        // What is read at a start only is found then.
        await cluster.kill(node);
      }
      cluster.launch(node);
      const hasRead = await readEverything(world, node);
      said.push(`started again, ${found(await cluster.metric(node, DAMAGED))} until it had read everything`);
      return struck ? { bit: hasRead, proof: said.join("; ") } : { bit: false, proof: "there was no such file" };
    },
  };
}

function found(replicas: number): string {
  return replicas > 0 ? `took ${replicas} replicas out of service` : "had nothing to fetch again";
}

/** The store makes a table of its log only when it is opened again; a file of the log is sealed when the load has filled it. */
async function makeSure({ cluster }: World, node: number, kind: string): Promise<void> {
  const isThere = async (): Promise<boolean> => (await find(kind, cluster.volumes.get(node)!.dataDir)) !== null;
  if (await isThere()) return;
  await cluster.kill(node);
  cluster.launch(node);
  await cluster.nodes.ready(node);
  for (const until = Date.now() + FILE_MS_MAX; Date.now() < until && !(await isThere());) await delay(LOOK_MS);
}

/** Every byte that the node has was read by one of its processes, however often it started anew. */
async function readEverything({ cluster }: World, node: number): Promise<boolean> {
  let [pid, first] = [0, 0];
  for (const until = Date.now() + HEALS_WITHIN_SECONDS * 1_000; Date.now() < until; await delay(LOOK_MS)) {
    const rounds = await cluster.metric(node, ROUNDS);
    if (Number.isNaN(rounds)) continue;
    const now = cluster.nodes.pid(node);
    if (now !== pid) [pid, first] = [now, rounds];
    if (rounds - first >= ROUNDS_WANTED) return true;
  }
  return false;
}

export const BIT_FAULTS: readonly FaultKind[] = Object.keys(KINDS).map((kind) => ({
  name: `bit-${kind.replaceAll(/[ .]/g, "-")}`,
  what: `one bit of a file is flipped: ${kind}`,
  needs: [],
  takesData: "damages",
  healsWithinSeconds: HEALS_WITHIN_SECONDS,
  draw: (draw) => flipping(draw, kind),
}));
