// One system, one fault after the other: shuffled, each on a node that leads something, with calm in between.

import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "../../src/base/prng.ts";
import { gapOf, type Gap } from "./failover-gaps.ts";
import { MachineWatch, type Disturbance } from "./failover-machine.ts";
import { Probes, type ErrorCounts } from "./failover-probes.ts";
import type { FailoverKind, FailoverTarget, Parts } from "./failover-target.ts";
import { shuffled } from "./shapes.ts";

export type PartitionGap = Gap & {
  readonly partition: number;
  /** By the node that was struck. */
  readonly wasLedThere: boolean;
  readonly parts?: Parts;
};

export type FailoverRun = {
  readonly system: string;
  readonly kind: FailoverKind;
  readonly node: number;
  readonly gaps: readonly PartitionGap[];
  /** The longest time without service of any partition while the node came back and leaders went home. */
  readonly returnMs: number;
  /** Seen by the client that tries again, and by the one that does not. */
  readonly errors: ErrorCounts;
  readonly withoutRetry: { readonly calls: number; readonly errors: ErrorCounts };
  readonly disturbance: Disturbance;
};

export type SeriesPlan = {
  readonly kinds: readonly FailoverKind[];
  /** Of each kind. */
  readonly runs: number;
  readonly calmMs: number;
  readonly random: Random;
  /** No fault begins later than so long after the first one. */
  readonly minutesMax: number;
  /** A fault is over: what came of it, in words. */
  readonly progress: (text: string) => void;
};

/** At least so long is watched, and until every partition was served in the last moments. */
const WATCH_MS = 1_000;
const SERVED_WITHIN_MS = 60;
const POLL_MS = 5;
/** Who is not served by then is taken for lost. */
const WATCH_MS_MAX = 60_000;
const CALM_MS_MAX = 120_000;

/** Hands each run to `done` as soon as it is over, so that nothing is lost when a later one cannot be made. */
export async function runSeries(target: FailoverTarget, plan: SeriesPlan, done: (run: FailoverRun) => void): Promise<void> {
  const { runs, random, progress, minutesMax } = plan;
  const kinds = plan.kinds.filter((kind) => target.kinds.has(kind));
  const order = shuffled(
    kinds.flatMap((kind) => Array.from({ length: runs }, () => kind)),
    random,
  );
  const probes = new Probes(target.partitions, target.send, target.sendOnce);
  const machine = new MachineWatch();
  const beganMs = performance.now();
  probes.start();
  try {
    for (const kind of order) {
      if (performance.now() - beganMs > minutesMax * 60_000) break;
      const run = await oneRun(target, kind, { plan, probes, machine });
      done(run);
      const gaps = run.gaps.filter(({ wasLedThere }) => wasLedThere).map(({ ms, isOver }) => `${isOver ? "" : "over "}${ms.toFixed(0)}`);
      progress(`${target.name}: ${kind} of node ${run.node}: ${gaps.join(", ")} ms`);
    }
  } finally {
    probes.stop();
    machine.stop();
  }
}

async function oneRun(
  target: FailoverTarget,
  kind: FailoverKind,
  { plan, probes, machine }: { readonly plan: SeriesPlan; readonly probes: Probes; readonly machine: MachineWatch },
): Promise<FailoverRun> {
  await target.settle();
  await calm(probes, plan.calmMs);
  const leaders = await target.leaders();
  const node = leaders[plan.random.below(leaders.length)]!;
  // So that faults do not keep step with probes and ticks.
  await delay(plan.random.below(100));
  probes.mark();
  machine.begin();
  const faultWallMs = Date.now();
  const faultMs = performance.now();
  const { over } = target.strike(kind, node);
  await over;
  await until(() => performance.now() - faultMs >= WATCH_MS && probes.isServed(faultMs, SERVED_WITHIN_MS), faultMs + WATCH_MS_MAX);
  const endMs = performance.now();
  const disturbance = machine.end();
  const there = leaders.flatMap((leader, partition) => (leader === node ? [partition] : []));
  const parts = target.parts?.(node, faultWallMs, there);
  const gaps = leaders.map((leader, partition): PartitionGap => {
    const gap = gapOf(
      probes.acksOf(partition).filter((ms) => ms <= endMs),
      faultMs,
      endMs,
      SERVED_WITHIN_MS,
    );
    const own = parts?.get(partition);
    return { partition, wasLedThere: leader === node, ...gap, ...(own === undefined ? {} : { parts: own }) };
  });
  const { errorsSeen: errors, withoutRetry } = probes;
  const [errorsNow, withoutRetryNow] = [{ ...errors }, { calls: withoutRetry.calls, errors: { ...withoutRetry.errors } }];
  probes.mark();
  const healMs = performance.now();
  await target.heal(kind, node);
  await target.settle();
  await until(() => probes.isServed(healMs, SERVED_WITHIN_MS), healMs + WATCH_MS_MAX);
  const backMs = performance.now();
  const returnMs = Math.max(
    ...leaders.map(
      (_, partition) =>
        gapOf(
          probes.acksOf(partition).filter((ms) => ms <= backMs),
          healMs,
          backMs,
          SERVED_WITHIN_MS,
        ).ms,
    ),
  );
  return { system: target.name, kind, node, gaps, returnMs, errors: errorsNow, withoutRetry: withoutRetryNow, disturbance };
}

/** Every partition was served without a pause for so long. */
async function calm(probes: Probes, calmMs: number): Promise<void> {
  const startMs = performance.now();
  let sinceMs = startMs;
  await until(() => {
    const now = performance.now();
    if (!probes.isServed(startMs, SERVED_WITHIN_MS)) sinceMs = now;
    return now - sinceMs >= calmMs;
  }, startMs + CALM_MS_MAX);
}

async function until(holds: () => boolean, deadlineMs: number): Promise<void> {
  while (!holds() && performance.now() < deadlineMs) await delay(POLL_MS);
}
