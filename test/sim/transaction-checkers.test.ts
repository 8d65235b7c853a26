// A history of transactions must be wrong where it is: each check with one that it has to refuse, beside one that is right.

import { expect, test } from "vitest";
import { TransactionHistory, type SentTransaction, type TransactionFate } from "./transaction-history.ts";

class Bench {
  readonly history = new TransactionHistory();
  private readonly found = new Map<string, Map<string, number>>([
    ["in", new Map()],
    ["a", new Map()],
    ["b", new Map()],
  ]);

  send(id: string, targets: readonly string[], fate: Exclude<TransactionFate, "open">, takes = ""): SentTransaction {
    const transaction: SentTransaction = { id, targets, takes, fate: "open" };
    this.history.sending(transaction);
    this.history.answered(transaction, fate);
    return transaction;
  }

  there(id: string, ...queues: string[]): void {
    for (const queue of queues) this.found.get(queue)!.set(id, (this.found.get(queue)!.get(id) ?? 0) + 1);
  }

  complete(): void {
    this.history.complete(this.found, "in");
  }
}

test("transaction history: a right one passes", () => {
  const bench = new Bench();
  bench.send("x", ["a", "b"], "committed");
  bench.send("y", ["a", "b"], "refused");
  bench.send("u", ["a", "b"], "unknown");
  bench.send("v", ["a", "b"], "unknown");
  bench.send("m", ["in", "a", "b"], "committed");
  bench.send("n", ["in", "a", "b"], "committed");
  bench.send("t", ["a", "b"], "committed", "m");
  for (const id of ["x", "u", "m", "n", "t"]) bench.there(id, "a", "b");
  bench.there("n", "in");
  bench.complete();
  expect(bench.history.counts).toMatchObject({ transactions: 7, committed: 4, refused: 1, unknown: 2, taken: 1 });
});

test("T1: in one target and not in another, or of nobody", () => {
  const half = new Bench();
  half.send("x", ["a", "b"], "unknown");
  half.there("x", "a");
  expect(() => half.complete()).toThrow("T1: x is in a of a,b");
  const strange = new Bench();
  strange.there("s", "b");
  expect(() => strange.complete()).toThrow("T1: nobody sent s");
});

test("T2: committed and not there, refused and there, and answered both ways", () => {
  const lost = new Bench();
  lost.send("x", ["a", "b"], "committed");
  expect(() => lost.complete()).toThrow("T2");
  const undead = new Bench();
  undead.send("x", ["a", "b"], "refused");
  undead.there("x", "a", "b");
  expect(() => undead.complete()).toThrow("T2");
  const both = new Bench();
  const transaction = both.send("x", ["a", "b"], "unknown");
  both.history.answered(transaction, "committed");
  both.history.answered(transaction, "unknown");
  expect(() => both.history.answered(transaction, "refused")).toThrow("T2");
});

test("T3: twice in one target", () => {
  const bench = new Bench();
  bench.send("x", ["a", "b"], "committed");
  bench.there("x", "a", "a", "b");
  expect(() => bench.complete()).toThrow("T3: x is 2 times in a");
});

test("T4: taken by two, taken and still there, and gone without anybody", () => {
  const bench = (left: boolean, ...takers: string[]): Bench => {
    const made = new Bench();
    made.send("m", ["in", "a", "b"], "committed");
    for (const taker of takers) made.send(taker, ["a", "b"], "committed", "m");
    for (const id of ["m", ...takers]) made.there(id, "a", "b");
    if (left) made.there("m", "in");
    return made;
  };
  bench(false, "t").complete();
  bench(true).complete();
  expect(() => bench(false, "t", "u").complete()).toThrow("T4");
  expect(() => bench(true, "t").complete()).toThrow("T4");
  expect(() => bench(false).complete()).toThrow("T4: m is gone");
});
