// Bugs of transactions: what was decided is not carried out, or twice, or decided again; what is to be settled is not held, or for good.

import { Executor } from "../../../src/broker/transactions/executor.ts";
import { Recoverer } from "../../../src/broker/transactions/recoverer.ts";
import { TransactionMarks, type Transaction } from "../../../src/machine/transaction-marks.ts";
import { Handover } from "../../../src/machine/work/handover.ts";
import { Work } from "../../../src/machine/work/work.ts";
import { swap, type Planted } from "./swap.ts";

type WithBook = { components: { book: { withdraw(group: number, offset: number): Promise<number> } } };

export const PLANTED_TRANSACTIONS: readonly Planted[] = [
  {
    name: "transaction-forgotten",
    what: "a transaction whose node is gone is put away as if it were done",
    within: 40,
    run: { transactions: 4 },
    plant: () =>
      swap<(this: WithBook, group: number, offset: number) => Promise<void>>(
        Recoverer,
        "finish",
        () =>
          async function (group, offset) {
            await this.components.book.withdraw(group, offset);
          },
      ),
  },
  {
    name: "transaction-twice",
    what: "a target does not tell that it has a transaction's batch already",
    within: 40,
    run: { transactions: 4 },
    plant: () => swap<TransactionMarks["has"]>(TransactionMarks, "has", () => () => false),
  },
  {
    name: "transactions-few-remembered",
    what: "a target remembers its last transaction alone",
    within: 80,
    run: { transactions: 4 },
    plant: () =>
      swap<TransactionMarks["add"]>(
        TransactionMarks,
        "add",
        (add) =>
          function (this: TransactionMarks, transaction: Transaction) {
            Object.assign(this, { offsets: null });
            add.call(this, transaction);
          },
      ),
  },
  {
    name: "verdict-changed",
    what: "the last verdict stands, not the first",
    within: 80,
    run: { transactions: 6 },
    plant: () =>
      swap<Work["expedite"]>(
        Work,
        "expedite",
        (expedite) =>
          function (this: Work, offset, delayMs, priority, _whilePriority, nowMs) {
            return expedite.call(this, offset, delayMs, priority, -1, nowMs);
          },
      ),
  },
  {
    name: "not-held",
    what: "a transaction is told that it holds what its consumer still has",
    within: 40,
    run: { transactions: 4 },
    plant: () =>
      swap<Handover["hold"]>(
        Handover,
        "hold",
        () =>
          (_id, { from, end }) =>
            end - from,
      ),
  },
  {
    name: "held-for-good",
    what: "what a transaction held that was rolled back stays held",
    within: 40,
    run: { transactions: 4 },
    plant: () => swap<() => Promise<void>>(Executor, "letGo", () => () => Promise.resolve()),
  },
];
