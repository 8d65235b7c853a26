// What transactions were asked for, what was answered, and what is there at the end: T1 to T4.

import { Violation } from "./history.ts";

/** What its client knows of it: nothing yet, that it took effect, that it did not and will not, or that nobody could say. */
export type TransactionFate = "open" | "committed" | "refused" | "unknown";

export type SentTransaction = {
  readonly id: string;
  /** Queues that get a message of its id. */
  readonly targets: readonly string[];
  /** The message that it takes from the source; "" = none. */
  readonly takes: string;
  fate: TransactionFate;
};

/** How often each id lies in a queue. */
export type Ids = ReadonlyMap<string, number>;

export class TransactionHistory {
  readonly counts = { transactions: 0, committed: 0, refused: 0, unknown: 0, taken: 0 };
  private readonly transactions = new Map<string, SentTransaction>();

  sending(transaction: SentTransaction): void {
    this.transactions.set(transaction.id, transaction);
    this.counts.transactions += 1;
  }

  /** Somebody was told so for sure, or nobody will be. */
  answered(transaction: SentTransaction, fate: Exclude<TransactionFate, "open">): void {
    const { fate: before } = transaction;
    // Nobody knew; somebody else does.
    if (before === fate || (before !== "open" && fate === "unknown")) return;
    if (before !== "open" && before !== "unknown")
      throw new Violation("T2", `${transaction.id} was answered as ${before}, and then as ${fate}`);
    transaction.fate = fate;
    this.counts[fate] += 1;
    if (before === "unknown") this.counts.unknown -= 1;
  }

  /** Nothing is under way any more: what lies in the targets, and in the source. */
  complete(targets: ReadonlyMap<string, Ids>, source: string): void {
    const takers = new Map<string, string>();
    for (const transaction of this.transactions.values()) {
      const { id, takes } = transaction;
      if (!this.isEverywhere(transaction, targets, source) || takes === "") continue;
      this.counts.taken += 1;
      const other = takers.get(takes);
      if (other !== undefined) throw new Violation("T4", `${takes} was taken by ${other} and by ${id}`);
      takers.set(takes, id);
    }
    const left = targets.get(source)!;
    for (const [message, taker] of takers)
      if (left.has(message)) throw new Violation("T4", `${message} was taken by ${taker} and is there`);
    for (const transaction of this.transactions.values()) {
      const { id } = transaction;
      const isDue = transaction.targets.includes(source) && this.isEverywhere(transaction, targets, source);
      if (isDue && !left.has(id) && !takers.has(id)) throw new Violation("T4", `${id} is gone from ${source}, and no transaction took it`);
    }
    this.known(targets);
  }

  /** By those of its targets that nobody takes from. */
  private isEverywhere({ id, targets, fate }: SentTransaction, found: ReadonlyMap<string, Ids>, source: string): boolean {
    const copies = targets.map((target) => found.get(target)!.get(id) ?? 0);
    const twice = copies.findIndex((count) => count > 1);
    if (twice >= 0) throw new Violation("T3", `${id} is ${copies[twice]} times in ${targets[twice]}`);
    const kept = copies.filter((_, at) => targets[at] !== source);
    const isThere = kept.some((count) => count > 0);
    if (isThere && kept.some((count) => count === 0))
      throw new Violation("T1", `${id} is in ${targets.filter((_, at) => copies[at]! > 0).join()} of ${targets.join()}`);
    if (!isThere && copies.some((count) => count > 0)) throw new Violation("T1", `${id} is in ${source} alone`);
    if (fate === "committed" && !isThere) throw new Violation("T2", `${id} was committed, and is not there`);
    if (fate === "refused" && isThere) throw new Violation("T2", `${id} was refused or rolled back, and is there`);
    return isThere;
  }

  private known(targets: ReadonlyMap<string, Ids>): void {
    for (const [target, ids] of targets)
      for (const id of ids.keys())
        if (this.transactions.get(id)?.targets.includes(target) !== true) throw new Violation("T1", `nobody sent ${id} to ${target}`);
  }
}
