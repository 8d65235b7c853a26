import { expect, test } from "vitest";
import { callController, endAfter, waitUntil } from "../../src/broker/wait-until.ts";
import { TestClock } from "../support/test-clock.ts";

test("waits of one call: as many as it has partitions, and each of them ends with it", async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error): number => warnings.push(warning);
  process.on("warning", warned);
  try {
    for (const [end, signal] of [calls(), ends()]) {
      const waits = Array.from({ length: 100 }, () =>
        waitUntil(
          () => false,
          () => () => {},
          signal,
          "it did not come",
        ),
      );
      end();
      for (const outcome of await Promise.allSettled(waits))
        expect(outcome).toMatchObject({ status: "rejected", reason: { code: "TIMEOUT" } });
    }
    await new Promise(setImmediate);
    expect(warnings).toEqual([]);
  } finally {
    process.off("warning", warned);
  }
});

function calls(): [() => void, AbortSignal] {
  const controller = callController();
  return [() => controller.abort(), controller.signal];
}

function ends(): [() => void, AbortSignal] {
  const clock = new TestClock();
  const signal = endAfter(clock, 10);
  return [() => clock.advance(10), signal];
}
