// Pages of subscriptions out of partitions that each know some of them.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { GroupOffsets } from "../../src/broker/local-groups.ts";
import { subscriptionPage, subscriptionsPerPage } from "../../src/broker/subscriptions.ts";
import { SUBSCRIPTION_ROWS_MAX } from "../../src/base/limits.ts";

function answer(names: readonly string[], after: string, max: number): GroupOffsets {
  const page = [...names].sort().filter((name) => name > after);
  return {
    startOffset: 0,
    endOffset: 9,
    bytes: 0,
    committedOffset: -1,
    metadata: "",
    timeOffset: -1,
    cursors: page.slice(0, max).map((name) => ({ name, offset: 5, committedMs: 1 })),
    error: null,
  };
}

test("subscriptions: the pages together are every subscription with every partition, once, by name", () => {
  const name = fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h");
  fc.assert(
    fc.property(fc.array(fc.uniqueArray(name), { minLength: 1, maxLength: 4 }), fc.integer({ min: 1, max: 5 }), (partitions, max) => {
      const found: [string, number[]][] = [];
      for (let after = "", pages = 0; pages < 30; pages++) {
        const page = subscriptionPage(
          partitions.map((names) => answer(names, after, max)),
          max,
        );
        expect(page.subscriptions.length).toBeLessThanOrEqual(max);
        for (const { name: one, partitions: rows } of page.subscriptions) found.push([one, rows.map(({ partition }) => partition)]);
        if (page.next === null) break;
        after = page.next;
      }
      const names = [...new Set(partitions.flat())].sort();
      expect(found).toEqual(names.map((one) => [one, partitions.flatMap((held, at) => (held.includes(one) ? [at] : []))]));
    }),
  );
});

test("subscriptions: a page has at most so many rows, and one subscription at least", () => {
  expect(subscriptionsPerPage(1, 0)).toBe(SUBSCRIPTION_ROWS_MAX);
  expect(subscriptionsPerPage(1_000, 0)).toBe(SUBSCRIPTION_ROWS_MAX / 1_000);
  expect(subscriptionsPerPage(1_000, 3)).toBe(3);
  expect(subscriptionsPerPage(1_000, 1_000_000)).toBe(SUBSCRIPTION_ROWS_MAX / 1_000);
  expect(subscriptionsPerPage(SUBSCRIPTION_ROWS_MAX * 2, 0)).toBe(1);
});
