// The delay of the event loop, measured on a loop of our own.

import { expect, test } from "vitest";
import type { Logger } from "../../src/base/logger.ts";
import { LongestWork } from "../../src/base/work.ts";
import { LoopWatch } from "../../src/server/loop-watch.ts";
import { FakeLoop } from "../support/fake-loop.ts";

const SAMPLE_MS = 20;

function watched(): { loop: FakeLoop; watch: LoopWatch; longest: LongestWork; warnings: Record<string, unknown>[] } {
  const loop = new FakeLoop();
  const warnings: Record<string, unknown>[] = [];
  const logger = { warn: (fields: object) => void warnings.push(fields as Record<string, unknown>) } as unknown as Logger;
  const longest = new LongestWork(() => loop.nowMs);
  const watch = new LoopWatch({ stallMs: [100, 250], warnMs: 250 }, { clock: loop, logger, longest, cpuMs: () => loop.nowMs / 2 });
  watch.start();
  return { loop, watch, longest, warnings };
}

/** The loop turns on time, or so much too late. */
function sample(loop: FakeLoop, lateMs = 0): void {
  loop.nowMs += SAMPLE_MS + lateMs;
  loop.turn();
}

test("loop watch: every delay is in the histogram, in its bucket and the sum, and stalls are counted by length", () => {
  const { loop, watch } = watched();
  for (const late of [0, 0, 3, 120, 300, 7_000]) sample(loop, late);
  const { bounds, sum } = watch.delaySeconds;
  const cumulative = watch.delaySeconds.cumulative();
  expect(sum).toBeCloseTo(7.423);
  const upTo = (bound: number): number => cumulative[bounds.indexOf(bound)]!;
  expect([upTo(0.001), upTo(0.005), upTo(0.1), upTo(0.25), upTo(0.5), upTo(5)]).toEqual([2, 3, 3, 4, 5, 5]);
  expect(cumulative[cumulative.length - 1]).toBe(6);
  expect(watch.stallCounts()).toEqual([
    [100, 3],
    [250, 2],
  ]);
});

test("loop watch: one stall does not raise the percentile, several within seconds do, and it falls again", () => {
  const { loop, watch } = watched();
  for (let count = 0; count < 250; count++) sample(loop);
  sample(loop, 4_900);
  expect(watch.p99Ms).toBe(0);
  for (let count = 0; count < 5; count++) sample(loop, 300);
  expect(watch.p99Ms).toBeGreaterThanOrEqual(300);
  for (let count = 0; count < 300; count++) sample(loop);
  expect(watch.p99Ms).toBe(0);
});

test("loop watch: a long stall is written down with what held the loop; the next ones wait a while, and are counted", () => {
  const { loop, watch, longest, warnings } = watched();
  sample(loop);
  const began = loop.nowMs;
  loop.nowMs += 400;
  longest.worked("applying entries of a group", began);
  longest.worked("something short", loop.nowMs - 1);
  loop.turn();
  expect(warnings).toEqual([
    { delayMs: 380, cpuMs: 200, longestWork: "applying entries of a group", longestWorkMs: 400, othersSinceLastWarning: 0 },
  ]);
  for (let count = 0; count < 10; count++) sample(loop, 300);
  expect(warnings).toHaveLength(1);
  for (let count = 0; count < 300; count++) sample(loop);
  sample(loop, 260);
  expect(warnings).toHaveLength(2);
  expect(warnings[1]).toMatchObject({ delayMs: 260, longestWork: "", othersSinceLastWarning: 10 });
  watch.stop();
});
