// Runs over several processes: whichever is done with one seed gets the next. One that fails stops nobody.

import { fork, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { lostOutcome, runSeed, type Outcome, type Task } from "./run-seed.ts";

/** Real time after which a seed is taken for one that never ends. */
const SEED_MS_MAX = 10 * 60_000;
/**
 * Short-lived objects are nearly all that there is: with room for them few survive into what costs more to collect. With a job
 * per core there is nobody to help with collecting: a thread that waits for its helpers waits for the other jobs.
 */
const WORKER_FLAGS = ["--max-semi-space-size=32", "--single-threaded-gc", "--expose-gc"];
/** Memory of a process after a seed, beyond which another one takes its place (see worker.ts). */
const WORKER_BYTES_MAX = 1024 * 1024 * 1024;

const WORKER = fileURLToPath(new URL("./worker.js", import.meta.url));

export type SwarmParts = {
  /** What is to be run next; null: nothing any more. */
  readonly next: () => Task | null;
  readonly done: (task: Task, outcome: Outcome) => void;
  /** By `performance.now`: what still runs then is given up. Otherwise it comes to its end. */
  readonly endMs?: number;
  /** What each process runs: otherwise worker.ts. */
  readonly worker?: string;
  /** The time was over before the seed was. */
  readonly givenUp?: (task: Task) => void;
};

/** What became of a seed in another process. `late`: the time was over. `lost`: the process ended, or its seed does not. */
type Answer = { readonly kind: "done" | "lost"; readonly outcome: Outcome } | { readonly kind: "late" };

/** The n-th seed of a commit: new ones with each commit, and known from its name alone. */
export function seedOfCommit(commit: string, at: number): number {
  return createHash("sha256").update(`${commit} ${at}`).digest().readUInt32LE(0);
}

/** With one job and no end everything runs in this process: for debuggers and profilers. */
export async function runSwarm(jobs: number, parts: SwarmParts): Promise<void> {
  const { next, done, endMs = Number.POSITIVE_INFINITY } = parts;
  if (jobs > 1 || endMs !== Number.POSITIVE_INFINITY) {
    await Promise.all(Array.from({ length: jobs }, () => runJob(parts)));
    return;
  }
  for (let task = next(); task !== null; task = next()) done(task, await runSeed(task));
}

/** One process at a time, and a new one where one was lost or has grown. */
async function runJob({ next, done, endMs = Number.POSITIVE_INFINITY, givenUp = () => {}, worker = WORKER }: SwarmParts): Promise<void> {
  let child: ChildProcess | null = null;
  for (let task = next(); task !== null; task = next()) {
    child ??= fork(worker, { execArgv: WORKER_FLAGS });
    const answer = await ask(child, task, endMs);
    if (answer.kind !== "done") child.kill("SIGKILL");
    else if (answer.outcome.memoryLeftBytes > WORKER_BYTES_MAX) child.disconnect();
    else {
      done(task, answer.outcome);
      continue;
    }
    child = null;
    if (answer.kind === "late") givenUp(task);
    else done(task, answer.outcome);
  }
  child?.disconnect();
}

/** Always resolves: a process that ends, or does not come to an end, is a failure of its seed. */
function ask(child: ChildProcess, task: Task, endMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const finish = (answer: Answer): void => {
      clearTimeout(timer);
      child.off("message", onMessage).off("exit", onExit);
      resolve(answer);
    };
    const lost = (what: string): void => finish({ kind: "lost", outcome: lostOutcome(task.given, what) });
    const onMessage = (outcome: unknown): void => finish({ kind: "done", outcome: outcome as Outcome });
    const onExit = (code: number | null, signal: string | null): void => lost(`the process of the simulator ended with ${signal ?? code}`);
    const leftMs = Math.max(0, endMs - performance.now());
    const timer = setTimeout(
      () => (leftMs < SEED_MS_MAX ? finish({ kind: "late" }) : lost(`did not end within ${SEED_MS_MAX / 60_000} minutes`)),
      Math.min(leftMs, SEED_MS_MAX),
    );
    child.on("message", onMessage).on("exit", onExit);
    child.send(task);
  });
}
