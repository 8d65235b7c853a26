import { defineConfig } from "vitest/config";

// Two cores: test files run two at a time, and a file that starts a real cluster has the time it needs.
export default defineConfig({
  test: { include: ["test/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 60_000, maxWorkers: 2, pool: "forks" },
});
