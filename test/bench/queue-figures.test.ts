// The modes of `npm run bench` about queues, tiny: that they run, and that nothing was missed that is no time.

import { expect, test } from "vitest";
import type { BacklogReport } from "../../bench/backlog.ts";
import type { BindingsReport } from "../../bench/bindings.ts";
import type { DueReport } from "../../bench/due.ts";
import type { UnsettledReport } from "../../bench/unsettled.ts";
import { figuresOf } from "../support/figures-of.ts";

test("the backlog bench: all of it is taken in the end, in order", { timeout: 120_000 }, async () => {
  const { messages, taken, isInOrder } = await figuresOf<BacklogReport>(["--backlog", "0.02"], true);
  expect([messages, taken, isInOrder]).toEqual([20_000, 20_000, true]);
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

test("the unsettled bench: one message that stays holds back no more than itself", { timeout: 180_000 }, async () => {
  const { disks, isRight, attempt } = await figuresOf<UnsettledReport>(["--unsettled", "0.15"]);
  expect([isRight, attempt]).toEqual([true, 2]);
  for (const { ok } of disks) expect(ok).toBe(true);
});
