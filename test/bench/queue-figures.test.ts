// The modes of `npm run bench` about queues, tiny: that they run, and that nothing was missed that is no time.

import { expect, test } from "vitest";
import type { BacklogReport } from "../../bench/backlog.ts";
import type { BindingsReport } from "../../bench/bindings.ts";
import type { DueReport } from "../../bench/due.ts";
import type { UnsettledReport } from "../../bench/unsettled.ts";
import { figuresOf } from "../support/figures-of.ts";

test("the backlog bench: all of it is taken in the end, in order", { timeout: 120_000 }, async () => {
  const { messages, misplaced, left } = await figuresOf<BacklogReport>(["--backlog", "0.02"], true);
  expect([messages, misplaced, left]).toEqual([20_000, 0, 0]);
});

test("the due bench: none comes early", { timeout: 120_000 }, async () => {
  const { messages, firstMs, lastMs, storedAheadMs } = await figuresOf<DueReport>(["--due", "500"], true);
  expect(messages).toBe(500);
  // Otherwise it says nothing.
  expect(storedAheadMs).toBeGreaterThan(0);
  expect(firstMs).toBeGreaterThanOrEqual(0);
  expect(lastMs).toBeGreaterThanOrEqual(firstMs);
});

test("the bindings bench: messages find their queues", async () => {
  const { bindings, fanOut } = await figuresOf<BindingsReport>(["--bindings", "100000"], true);
  expect(bindings).toBe(100_000);
  expect(fanOut).toBeGreaterThan(1);
});

// How much disk so little traffic leaves is a matter of a file more or less: the bench says it at length.
test("the unsettled bench: one message that stays comes back as it was, for the second time", { timeout: 150_000 }, async () => {
  const { isRight, attempt, disks } = await figuresOf<UnsettledReport>(["--unsettled", "0.02"], true);
  expect([isRight, attempt, disks.length]).toEqual([true, 2, 3]);
});
