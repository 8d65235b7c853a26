// Finishes transactions that nobody else does, for the queues of transactions led here: those that were decided by a node which is gone or
// could not bring everything to its place, and those whose time was up before anybody decided.

import type { Clock } from "../../base/clock.ts";
import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { TRANSACTION_JOBS_MAX } from "../../base/limits.ts";
import type { Logger } from "../../base/logger.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import { PRIORITY, type WorkState } from "../../machine/work/state.ts";
import { QUEUE } from "../../machine/work/works.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import { endAfter } from "../wait-until.ts";
import { stateFor, type Book } from "./book.ts";
import type { Executor } from "./executor.ts";
import { STATE_COMMITTED, STATE_ROLLED_BACK } from "./types.ts";

/** Many may be stuck while others come and go: they are not looked at with every entry. */
const LOOK_MS = 100;
/** One round of tries for one transaction. */
const ROUND_MS = 2_000;
const READ_MS_MAX = 10_000;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;
/** Transactions of which it is known when they were tried last. */
const JOBS_REMEMBERED_MAX = 20_000;

export type RecovererComponents = {
  readonly host: ReplicaHost;
  readonly book: Book;
  readonly executor: Executor;
  readonly clock: Clock;
  readonly logger: Logger;
};
type Job = { readonly failures: number; readonly notBeforeMs: number };

export class Recoverer {
  private readonly components: RecovererComponents;
  /** By group and number: those that are under way, or wait for their next try. */
  private readonly jobs = new Map<string, Job>();
  private readonly looking = new Set<GroupId>();
  private running = 0;

  constructor(components: RecovererComponents) {
    this.components = components;
  }

  /** Something was applied in the queue of transactions, which is led here: soon it is looked for those whose time has come. */
  look(group: GroupId): void {
    if (this.looking.has(group) || (this.stateOf(group)?.lanes.size ?? 0) === 0) return;
    this.looking.add(group);
    this.components.clock.schedule(LOOK_MS, () => {
      this.looking.delete(group);
      this.lookNow(group);
    });
  }

  private lookNow(group: GroupId): void {
    const state = this.stateOf(group);
    if (state === null) return;
    const nowMs = this.components.clock.monotonicMs();
    for (let offset = state.lanes.from(0); offset >= 0 && this.running < TRANSACTION_JOBS_MAX; offset = state.lanes.from(offset + 1)) {
      const job = this.jobs.get(keyOf(group, offset));
      if (job === undefined || job.notBeforeMs <= nowMs) this.begin(group, offset, job?.failures ?? 0);
    }
  }

  private stateOf(group: GroupId): WorkState | null {
    const replica = this.components.host.get(group);
    if (replica === undefined || !replica.isLeader) return null;
    return (replica.machine as StreamMachine).works.get(QUEUE)?.state ?? null;
  }

  private begin(group: GroupId, offset: number, failures: number): void {
    const { clock, logger } = this.components;
    const key = keyOf(group, offset);
    this.jobs.set(key, { failures, notBeforeMs: Number.POSITIVE_INFINITY });
    this.running += 1;
    const ended = (error: unknown): void => {
      this.running -= 1;
      this.jobs.delete(key);
      if (error !== null) {
        if (!(error instanceof BrokerError)) throw error;
        const waitMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failures, 10));
        this.jobs.set(key, { failures: failures + 1, notBeforeMs: clock.monotonicMs() + waitMs });
        if (this.jobs.size > JOBS_REMEMBERED_MAX) this.jobs.delete(this.jobs.keys().next().value!);
        logger.warn({ transaction: offset, error: error.message }, "a transaction is not everywhere yet; it is tried again");
      }
      // There may be more than were begun at one time.
      this.look(group);
    };
    this.finish(group, offset).then(() => ended(null), ended);
  }

  private async finish(group: GroupId, offset: number): Promise<void> {
    const { book, executor, clock } = this.components;
    const state = this.stateOf(group);
    // Somebody else has finished it, or leads meanwhile.
    if (state === null || state.lanes.runEnd(offset) === 0) return;
    const isCommitted = stateFor(state.facts.get(offset, PRIORITY, 0), false) === STATE_COMMITTED;
    let intent;
    try {
      intent = await book.read(group, offset, endAfter(clock, READ_MS_MAX));
    } catch (error) {
      if (error instanceof BrokerError && error.code === "OFFSET_OUT_OF_RANGE") return;
      throw error;
    }
    const verdict = isCommitted ? STATE_COMMITTED : STATE_ROLLED_BACK;
    await executor.carryOut({ group, offset }, intent, verdict, clock.monotonicMs() + ROUND_MS);
    await book.withdraw(group, offset);
  }
}

function keyOf(group: GroupId, offset: number): string {
  return `${group}/${offset}`;
}
