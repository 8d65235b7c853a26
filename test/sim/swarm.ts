// Runs over several processes: whichever is done with one seed gets the next. One that fails stops nobody.

import { fork, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { lostOutcome, runSeed, type Outcome, type Task } from "./run-seed.ts";

/** Real time after which a seed is taken for one that never ends. */
const SEED_MS_MAX = 10 * 60_000;
/** Short-lived objects are nearly all that there is: with room for them few survive into what costs more to collect. */
const WORKER_FLAGS = ["--max-semi-space-size=32"];

export type SwarmParts = {
  /** What is to be run next; null: nothing any more. */
  readonly next: () => Task | null;
  readonly done: (task: Task, outcome: Outcome) => void;
};

/** The n-th seed of a commit: new ones with each commit, and known from its name alone. */
export function seedOfCommit(commit: string, at: number): number {
  return createHash("sha256").update(`${commit} ${at}`).digest().readUInt32LE(0);
}

/** With one job everything runs in this process: for debuggers and profilers. */
export async function runSwarm(jobs: number, { next, done }: SwarmParts): Promise<void> {
  if (jobs > 1) {
    await Promise.all(Array.from({ length: jobs }, () => runJob({ next, done })));
    return;
  }
  for (let task = next(); task !== null; task = next()) done(task, await runSeed(task));
}

/** One process at a time, and a new one where one was lost. */
async function runJob({ next, done }: SwarmParts): Promise<void> {
  let child: ChildProcess | null = null;
  for (let task = next(); task !== null; task = next()) {
    child ??= fork(fileURLToPath(new URL("./worker.js", import.meta.url)), { execArgv: WORKER_FLAGS });
    const { outcome, isLost } = await ask(child, task);
    if (isLost) {
      child.kill("SIGKILL");
      child = null;
    }
    done(task, outcome);
  }
  child?.disconnect();
}

/** Always resolves: a process that ends, or does not come to an end, is a failure of its seed. */
function ask(child: ChildProcess, task: Task): Promise<{ outcome: Outcome; isLost: boolean }> {
  return new Promise((resolve) => {
    const finish = (outcome: Outcome, isLost: boolean): void => {
      clearTimeout(timer);
      child.off("message", onMessage).off("exit", onExit);
      resolve({ outcome, isLost });
    };
    const lost = (what: string): void => finish(lostOutcome(task.given, what), true);
    const onMessage = (outcome: unknown): void => finish(outcome as Outcome, false);
    const onExit = (code: number | null, signal: string | null): void => lost(`the process of the simulator ended with ${signal ?? code}`);
    const timer = setTimeout(() => lost(`did not end within ${SEED_MS_MAX / 60_000} minutes`), SEED_MS_MAX);
    child.on("message", onMessage).on("exit", onExit);
    child.send(task);
  });
}
