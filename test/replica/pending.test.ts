import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { PendingProposals } from "../../src/replica/pending.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

test("pending: a proposal that was answered holds no memory, although others of its group still wait", async () => {
  const pending = new PendingProposals();
  const answered: string[] = [];
  const propose = (index: number): WeakRef<Uint8Array> => {
    const records = new Uint8Array(1024);
    pending.push(index, (code) => answered.push(`${index}: ${code}, ${records.length} bytes`));
    return new WeakRef(records);
  };
  const held = Array.from({ length: 100 }, (_, at) => propose(at + 1));
  for (let index = 1; index < 100; index++) pending.take(index)!(0, 0, null);
  // What a turn of the loop looked at lives until its end.
  await new Promise(setImmediate);
  collectGarbage();
  expect(held.map((records) => records.deref() !== undefined)).toEqual([...Array<boolean>(99).fill(false), true]);
  pending.failAll(7);
  expect(answered).toHaveLength(100);
  expect(answered.at(-1)).toBe("100: 7, 1024 bytes");
});
