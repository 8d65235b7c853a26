// Keeps small what the streams led here know of transactions: once it has come apart into many runs, the queue of transactions is asked which
// are not over yet, and all others become one run.

import type { Clock } from "../../base/clock.ts";
import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { TRANSACTION_MARKS_KEPT, TRANSACTIONS_PER_VHOST_MAX } from "../../base/limits.ts";
import { encodeTransactions } from "../../machine/stream/commands.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import type { TransactionMarks } from "../../machine/transaction-marks.ts";
import { ENTRY_COMMAND } from "../../raft/types.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import type { Book } from "./book.ts";

/** Where many are not over it stays in many runs. */
const AGAIN_MS = 1_000;

export type SweeperComponents = { readonly host: ReplicaHost; readonly book: Book; readonly clock: Clock };

export class Sweeper {
  private readonly components: SweeperComponents;
  /** Groups that ask, or asked a moment ago: for each batch this costs a look at a number, and nothing else. */
  private readonly busy = new Set<GroupId>();

  constructor(components: SweeperComponents) {
    this.components = components;
  }

  /** Something was applied in the group. */
  look(group: GroupId): void {
    const replica = this.components.host.get(group);
    if (replica === undefined || replica.descriptor.kind === "catalog" || !replica.isLeader) return;
    const marks = marksOf(replica.machine as StreamMachine);
    if (marks === null || this.busy.has(group)) return;
    this.busy.add(group);
    const ended = (error: unknown): void => {
      if (error !== null && !(error instanceof BrokerError)) throw error;
      this.components.clock.schedule(AGAIN_MS, () => {
        this.busy.delete(group);
        this.look(group);
      });
    };
    this.sweep(group, marks.group as GroupId).then(() => ended(null), ended);
  }

  private async sweep(group: GroupId, transactions: GroupId): Promise<void> {
    const { host, book } = this.components;
    const { rows, below, next } = await book.ask({ group: transactions, from: 0, max: TRANSACTIONS_PER_VHOST_MAX, nameHash: 0 });
    const known = { group: transactions, below: next < 0 ? below : next, unfinished: rows.map(({ offset }) => offset) };
    await new Promise<void>((resolve) => host.propose(group, ENTRY_COMMAND, encodeTransactions(known), () => resolve()));
  }
}

/** What has come apart; null where all is well. */
function marksOf({ transactions, works }: StreamMachine): TransactionMarks | null {
  if (transactions.runs > TRANSACTION_MARKS_KEPT) return transactions;
  const ofWorks = works.size === 0 ? undefined : works.marks;
  return ofWorks !== undefined && ofWorks.runs > TRANSACTION_MARKS_KEPT ? ofWorks : null;
}
