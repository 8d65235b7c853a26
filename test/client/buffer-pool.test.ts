import { expect, test } from "vitest";
import { BufferPool } from "../../src/client/buffer-pool.ts";

test("buffer pool: what was given back is used again when it fits, and no memory is handed out twice", () => {
  const pool = new BufferPool(100_000);
  const first = pool.take(20_000);
  expect(first.length).toBeGreaterThanOrEqual(20_000);
  pool.give(first);
  const again = pool.take(19_000);
  expect(again).toBe(first);
  expect(pool.take(19_000)).not.toBe(first);
});

test("buffer pool: another size drops what no longer fits, and no more than the bound is kept", () => {
  const pool = new BufferPool(50_000);
  const large = [pool.take(40_000), pool.take(40_000)];
  for (const memory of large) pool.give(memory);
  // The second one was over the bound; the first is far too large by now.
  expect(large).not.toContain(pool.take(8_192));
  expect(large).not.toContain(pool.take(40_000));
  const small = pool.take(100);
  pool.give(small);
  expect(pool.take(100)).not.toBe(small);
});
