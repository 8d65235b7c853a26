// The part of flotilla.v1.Messaging that is about transactions.

import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { BrokerError } from "../base/errors.ts";
import type { Transactions } from "../broker/transactions/transactions.ts";
import { STATE_COMMITTED, STATE_ROLLED_BACK, type TransactionInfo, type TransactionKey } from "../broker/transactions/types.ts";
import { count } from "./definitions.ts";
import { placeOf, tokenOf } from "./page-tokens.ts";
import type { TransactFrame } from "./transaction-codec.ts";
import { unary, type UnarySettings } from "./unary.ts";

const ACTION_COMMIT = 1;
const ACTION_ROLLBACK = 2;
const ACTION_PREPARE = 3;
const OUTCOMES = ["ack", "return", "release", "reject"] as const;

type Named = { vhost: string; transaction: { id: string; name: string } | null };

export function transactionMethods(transactions: Transactions, settings: UnarySettings): UntypedServiceImplementation {
  return {
    Transact: unary(settings, async ({ action, ...call }: TransactFrame, signal) => {
      if (action !== ACTION_COMMIT && action !== ACTION_PREPARE) throw badAction(action, "COMMIT (1) or PREPARE (3)");
      const { id, state, isComplete, copies } = await transactions.transact({ ...call, isPrepared: action === ACTION_PREPARE }, signal);
      return { id, state, complete: isComplete, routed: copies };
    }),
    EndTransaction: unary(settings, async (request: Named & { action: number }, signal) => {
      const { action } = request;
      if (action !== ACTION_COMMIT && action !== ACTION_ROLLBACK) throw badAction(action, "COMMIT (1) or ROLLBACK (2)");
      const verdict = action === ACTION_COMMIT ? STATE_COMMITTED : STATE_ROLLED_BACK;
      const { state, isComplete } = await transactions.end(keyOf(request), verdict, signal);
      return { state, complete: isComplete };
    }),
    ListTransactions: unary(
      settings,
      async ({ vhost, pageSize, pageToken }: { vhost: string; pageSize: number; pageToken: string }, signal) => {
        const from = count(placeOf(pageToken) || "0", "page_token");
        const page = await transactions.list({ vhost, from, max: pageSize }, signal);
        return { transactions: page.transactions.map(infoMessage), nextPageToken: page.next < 0 ? "" : tokenOf(String(page.next)) };
      },
    ),
    DescribeTransaction: unary(settings, async (request: Named, signal) => ({
      transaction: infoMessage(await transactions.describe(keyOf(request), signal)),
    })),
  };
}

function keyOf({ vhost, transaction }: Named): TransactionKey {
  return { vhost, id: transaction?.id ?? "", name: transaction?.name ?? "" };
}

function infoMessage({ held, ...info }: TransactionInfo): object {
  return { ...info, holds: held.map((hold) => ({ ...hold, outcome: OUTCOMES.indexOf(hold.outcome) + 1 })) };
}

function badAction(action: number, wanted: string): BrokerError {
  return new BrokerError("INVALID_ARGUMENT", `action must be ${wanted}, not ${action}`, { field: "action" });
}
