// A process of a swarm: runs the seeds that it is told, one after the other.

import { runSeed, type Task } from "./run-seed.ts";

process.on("message", (task: Task) => {
  runSeed(task).then(
    (outcome) => process.send!(outcome),
    (error: unknown) => {
      // The simulator itself is broken.
      process.stderr.write(`${(error as Error).stack}\n`);
      process.exit(1);
    },
  );
});
process.on("disconnect", () => process.exit(0));
