import { expect, test } from "vitest";
import type { Replica } from "../../src/replica/replica.ts";
import { TailBudget } from "../../src/replica/tail-budget.ts";
import { TailCache } from "../../src/replica/tail-cache.ts";
import { Entry } from "../../src/raft/types.ts";

/** As much of a replica as the budget sees. */
function cached(entries: number): Replica {
  const cache = new TailCache();
  cache.append(Array.from({ length: entries }, (_, at) => Entry.noop(at + 1, 1, 0)));
  const evictTail = (index: number): boolean => {
    cache.evictTo(index);
    return true;
  };
  return { closed: false, cache, evictTail } as unknown as Replica;
}

test("tail budget: entries without a payload count as well, so that their number is bounded", () => {
  const budget = new TailBudget(64 * 1024);
  const replica = cached(10_000);
  for (let index = 1; index <= 10_000; index++) budget.added(replica, index, 0);
  expect(budget.size).toBeLessThan(300);
  expect(replica.cache.firstIndex).toBeGreaterThan(9_700);
});

test("tail budget: it holds nothing of closed replicas, nor of what is cached no more", () => {
  const budget = new TailBudget(1024 * 1024);
  const [closed, evicted, open] = [cached(1), cached(1), cached(1)];
  for (const replica of [closed, evicted, open]) budget.added(replica, 1, 0);
  evicted.evictTail(1);
  budget.sweep();
  expect(budget.size).toBe(3);
  closed.closed = true;
  budget.released();
  budget.sweep();
  expect(budget.size).toBe(1);
});
