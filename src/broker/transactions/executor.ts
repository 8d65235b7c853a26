// Carries out what a transaction was decided to be, or takes back what it holds. Everything here may be done again, by anybody, at any time:
// each place knows what it has of a transaction already.

import { BrokerError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import type { GroupId } from "../../base/ids.ts";
import type { PayloadMemory } from "../../base/payload-memory.ts";
import type { CatalogMachine } from "../../machine/catalog/catalog.ts";
import { STREAM_DUPLICATE, STREAM_FENCED, STREAM_OK } from "../../machine/stream/codes.ts";
import type { Transaction } from "../../machine/transaction-marks.ts";
import type { WorkOperation } from "../../machine/work/operations.ts";
import { WORK_TOO_MANY, WORK_UNKNOWN } from "../../machine/work/works.ts";
import { ENTRY_RECORDS } from "../../raft/types.ts";
import { asBrokerError } from "../fetcher.ts";
import { streamError } from "../publisher.ts";
import { recordsPayload } from "../records-payload.ts";
import type { Router } from "../router.ts";
import type { WorkOperator } from "../work/operator.ts";
import { STATE_COMMITTED, type HeldPart, type Intent, type TargetPart, type Verdict } from "./types.ts";
import { until } from "./until.ts";

export type ExecutorComponents = {
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly operator: WorkOperator;
  readonly memory: PayloadMemory;
  readonly clock: Clock;
};

export class Executor {
  private readonly components: ExecutorComponents;

  constructor(components: ExecutorComponents) {
    this.components = components;
  }

  /** Everything that is to be settled is the transaction's from here on. Rejects with LEASE_LOST when some of it is not the consumer's any more. */
  async hold(transaction: Transaction, { held }: Intent, untilMs: number): Promise<void> {
    await all(held.map((part) => until(this.components.clock, untilMs, () => this.holdPart(transaction, part))));
  }

  /** Tries each part until `untilMs`, whatever comes of the others; rejects with what is wrong with one of those that are left. */
  async carryOut(transaction: Transaction, { targets, held }: Intent, verdict: Verdict, untilMs: number): Promise<void> {
    const { clock } = this.components;
    const steps =
      verdict === STATE_COMMITTED
        ? [...targets.map((part) => () => this.publish(transaction, part)), ...held.map((part) => () => this.settle(transaction, part))]
        : subscriptionsOf(held).map((part) => () => this.letGo(transaction, part));
    await all(steps.map((step) => until(clock, untilMs, step)));
  }

  private async holdPart(transaction: Transaction, part: HeldPart): Promise<void> {
    const { group, subscription: name, consumer, token, from, end } = part;
    const result = await this.components.operator.ask(group, { op: "hold", name, consumer, token, from, end, transaction });
    if (result === end - from) return;
    if (result === WORK_TOO_MANY) throw new BrokerError("TOO_MANY", `transactions hold as much of ${part.queue} as they may`);
    throw new BrokerError("LEASE_LOST", `messages ${from} to ${end - 1} of ${part.queue} are not the consumer's, or not any more`);
  }

  private publish({ group: producerId, offset: sequence }: Transaction, part: TargetPart): Promise<void> {
    const { router, memory } = this.components;
    const origin = { count: part.count, producerId, producerEpoch: 0, sequence };
    const payload = recordsPayload(memory, origin, "transaction", part.sidecar, [part.records]);
    return new Promise((resolve, reject) =>
      router.propose(part.group, ENTRY_RECORDS, payload, false, (error, code) => {
        const isDone = error === null ? [STREAM_OK, STREAM_DUPLICATE, STREAM_FENCED].includes(code) : this.isGone(part.group);
        if (isDone) resolve();
        else reject(error ?? streamError(code, part.name));
      }),
    );
  }

  /** What is not held any more was settled by an earlier try, or is gone with all that was there. */
  private async settle(transaction: Transaction, { group, subscription: name, token, from, end, outcome }: HeldPart): Promise<void> {
    await this.say(group, { op: "conclude", name, token, from, end, outcome, transaction });
  }

  private async letGo(transaction: Transaction, { group, subscription: name }: HeldPart): Promise<void> {
    await this.say(group, { op: "letGo", name, transaction });
  }

  private async say(group: GroupId, operation: WorkOperation): Promise<void> {
    try {
      const result = await this.components.operator.ask(group, operation);
      if (result === WORK_TOO_MANY) throw new BrokerError("OVERLOADED", "too many transactions were rolled back here at one time");
      // A subscription that was deleted holds nothing.
      if (result < 0 && result !== WORK_UNKNOWN) throw new BrokerError("INTERNAL", `the queue replied ${result}`);
    } catch (error) {
      if (!this.isGone(group)) throw asBrokerError(error);
    }
  }

  /** The target was deleted: it takes nothing. */
  private isGone(group: GroupId): boolean {
    return this.components.catalog.groupState(group) === "deleted";
  }
}

/** Of each subscription one part: what is let go of is all that the transaction holds there. */
function subscriptionsOf(held: readonly HeldPart[]): HeldPart[] {
  return [...new Map(held.map((part) => [`${part.group}/${part.subscription}`, part])).values()];
}

/** Waits for all of them, then rejects with the first failure. */
async function all(works: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(works);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw asBrokerError(outcome.reason);
}
