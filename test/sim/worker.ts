// A process of a swarm: runs the seeds that it is told, one after the other.

import { runSeed, type Outcome, type Task } from "./run-seed.ts";

/** V8 does not count the nodes' shared memory (base/payload-memory.ts): beyond so much of all memory it is told to collect it. */
const TIDY_BYTES = 512 * 1024 * 1024;

process.on("message", (task: Task) => {
  runSeed(task).then(answer, (error: unknown) => {
    // The simulator itself is broken.
    process.stderr.write(`${(error as Error).stack}\n`);
    process.exit(1);
  });
});
process.on("disconnect", () => process.exit(0));

function answer(outcome: Outcome): void {
  if (outcome.memoryBytes > TIDY_BYTES) globalThis.gc?.();
  process.send!({ ...outcome, memoryLeftBytes: process.memoryUsage.rss() });
}
