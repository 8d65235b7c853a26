import { expect, test } from "vitest";
import { Timeline } from "../../../bench/chaos/timeline.ts";

function timeline(): { now: { ms: number }; line: Timeline } {
  const now = { ms: 0 };
  return { now, line: new Timeline(() => now.ms) };
}

test("timeline: each second has its rates and latencies, and one without anything stands there as well", () => {
  const { now, line } = timeline();
  line.expect(1);
  for (let at = 0; at < 100; at++) {
    now.ms = at * 10;
    line.offer();
    line.ack(0, at);
  }
  now.ms = 3_500;
  line.offer();
  line.finish();
  expect(line.seconds.map(({ at, offered, acked, p50, p99, max }) => [at, offered, acked, p50, p99, max])).toEqual([
    [0, 100, 100, 50, 99, 99],
    [1, 0, 0, null, null, null],
    [2, 0, 0, null, null, null],
    [3, 1, 0, null, null, null],
  ]);
});

test("timeline: with more latencies than are kept the quantiles hold", () => {
  const { line } = timeline();
  for (let at = 0; at < 100_000; at++) line.ack(0, (at * 7_919) % 1_000);
  line.finish();
  expect(line.seconds[0]!.acked).toBe(100_000);
  expect(line.seconds[0]!.p50!).toBeGreaterThan(480);
  expect(line.seconds[0]!.p50!).toBeLessThan(520);
  expect(line.seconds[0]!.p99!).toBeGreaterThan(980);
});

test("timeline: a partition is without service from its last acknowledgement to the next, and not while the load rests", () => {
  const { now, line } = timeline();
  line.expect(2);
  now.ms = 100;
  line.ack(0, 1);
  line.ack(1, 1);
  now.ms = 1_100;
  line.ack(1, 1);
  now.ms = 1_200;
  expect(line.takeLongest()).toEqual([1_100, 1_000]);
  expect([line.isServedSince(100), line.isServedSince(101)]).toEqual([true, false]);
  line.ack(0, 1);
  line.ack(1, 1);
  now.ms = 1_300;
  // What was before the last look is no part of the next one.
  expect(line.takeLongest()).toEqual([100, 100]);
  line.rest();
  now.ms = 9_000;
  line.ack(0, 1);
  expect(line.takeLongest()).toEqual([0, 0]);
  expect(line.isServedSince(8_000)).toBe(true);
  expect(line.gaps).toEqual([
    { partition: 1, fromMs: 100, toMs: 1_100 },
    { partition: 0, fromMs: 100, toMs: 1_200 },
  ]);
  expect(line.downMs()).toEqual([1_100, 1_000]);
});
