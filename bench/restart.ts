// How long a node is away when it is stopped and started again with gigabytes of log: until it says that it is ready, and
// until every replica on it is open and has everything.

import { setTimeout as delay } from "node:timers/promises";
import { Flotilla } from "../src/client/index.ts";
import { mebibytes, type Figure, type FigureRun } from "./figures.ts";
import { publishBytes } from "./flow.ts";
import { Nodes, NODES } from "./nodes.ts";
import { Pace } from "./pace.ts";

const PARTITIONS = 10;
const POLL_MS = 20;
const WAIT_MS_MAX = 120_000;
const VICTIM = 2;
const TOPIC = "stored";
const WANTED_MS = 3_000;

type Start = {
  readonly how: string;
  /** From the start of the process. */
  readonly readyMs: number;
  readonly caughtUpMs: number;
};
export type RestartReport = { readonly storedBytes: number; readonly starts: readonly Start[] };

export async function runRestart(directory: string, gigabytes: number, progress: (text: string) => void): Promise<FigureRun> {
  const report = await measureRestart(directory, gigabytes * 1e9, progress);
  return { report, figures: figuresOf(report) };
}

async function measureRestart(directory: string, bytes: number, progress: (text: string) => void): Promise<RestartReport> {
  progress("starting three nodes");
  const nodes = await Nodes.start(directory);
  try {
    {
      await using client = await Flotilla.connect({ endpoints: nodes.endpoints });
      await client.admin.createTopic({ name: TOPIC, partitions: PARTITIONS, replicas: 3 });
      const pace = new Pace("publishing", bytes, progress);
      await publishBytes(client, TOPIC, { bytes, batchBytes: 128 * 1024, acked: (done) => pace.update(done) });
    }
    await until("every node has everything", () => caughtUp(nodes), nodes);
    const starts: Start[] = [];
    for (const [how, signal] of [
      // In this order: a graceful stop leaves nothing to be applied again.
      ["killed (SIGKILL)", "SIGKILL"],
      ["stopped (SIGTERM)", "SIGTERM"],
    ] as const) {
      progress(`node ${VICTIM} is ${how}`);
      nodes.signal(VICTIM, signal);
      await nodes.gone(VICTIM);
      const began = performance.now();
      nodes.launch(VICTIM);
      await until("the node is ready", async () => (await nodes.get(VICTIM, "readyz")).ok, nodes);
      const readyMs = performance.now() - began;
      await until("the node has everything", () => caughtUp(nodes), nodes);
      starts.push({ how, readyMs, caughtUpMs: performance.now() - began });
      progress(`ready after ${readyMs.toFixed(0)} ms, everything there after ${starts[starts.length - 1]!.caughtUpMs.toFixed(0)} ms`);
    }
    return { storedBytes: bytes, starts };
  } finally {
    await nodes.stop();
  }
}

function figuresOf({ storedBytes, starts }: RestartReport): Figure[] {
  return starts.flatMap(({ how, readyMs, caughtUpMs }) =>
    [
      ["until it is ready", readyMs],
      ["until its replicas are open and have everything", caughtUpMs],
    ].map(([what, ms]) => ({
      name: `${how} with ${mebibytes(storedBytes)}: ${what}`,
      unit: "s",
      measured: Number(ms) / 1000,
      wanted: { atMost: WANTED_MS / 1000 },
    })),
  );
}

/** All replicas are open on all nodes, have applied what is committed, and no follower lacks anything. */
async function caughtUp(nodes: Nodes): Promise<boolean> {
  for (const node of NODES) {
    const [groups, unapplied, behind] = await Promise.all(
      ["flotilla_groups", "flotilla_groups_unapplied", "flotilla_followers_behind"].map((name) => nodes.metric(node, name)),
    );
    if (groups !== PARTITIONS + 1 || unapplied !== 0 || behind !== 0) return false;
  }
  return true;
}

async function until(what: string, condition: () => Promise<boolean>, nodes: Nodes): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`${what}: not so after ${WAIT_MS_MAX / 1000} s\n${nodes.outputOf(VICTIM)}`);
    await delay(POLL_MS);
  }
}
