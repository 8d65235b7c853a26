// What is said to the work subscriptions of a group, on its way into the group's log: what comes within one turn of the event loop is one
// entry. What was certainly not carried out is tried again below here; who hears of an unknown outcome knows whether saying it again harms.

import { BrokerError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import type { GroupId } from "../../base/ids.ts";
import { WORK_OPERATIONS_BATCH_MAX } from "../../base/limits.ts";
import { NOTHING } from "../../base/nothing.ts";
import { STREAM_OK } from "../../machine/stream/codes.ts";
import { decodeResults, encodeWork } from "../../machine/stream/commands.ts";
import type { Run } from "../../machine/work/lanes.ts";
import type { WorkOperation } from "../../machine/work/operations.ts";
import { ENTRY_COMMAND } from "../../raft/types.ts";
import type { Router } from "../router.ts";

/**
 * `result` is the machine's: below 0 it says why nothing was done. `lost`: of a settlement of which some messages were the consumer's, those
 * that were not.
 */
export type OperateDone = (error: BrokerError | null, result: number, lost: readonly Run[]) => void;

type Said = { readonly operation: WorkOperation; readonly done: OperateDone };

/** Operations of one entry: one that is refused costs no more than it has to. */
const BATCH_MAX = WORK_OPERATIONS_BATCH_MAX;

export class WorkOperator {
  private readonly router: Router;
  private readonly clock: Clock;
  private waiting = new Map<GroupId, Said[]>();

  constructor(router: Router, clock: Clock) {
    this.router = router;
    this.clock = clock;
  }

  /** Says it to the group, wherever it is led. `done` is called once. */
  operate(group: GroupId, operation: WorkOperation, done: OperateDone): void {
    if (this.waiting.size === 0) this.clock.defer(() => this.flush());
    const said = this.waiting.get(group);
    if (said === undefined) this.waiting.set(group, [{ operation, done }]);
    else said.push({ operation, done });
  }

  /** The same; rejects with the error. */
  ask(group: GroupId, operation: WorkOperation, signal?: AbortSignal): Promise<number> {
    return new Promise((resolve, reject) => {
      const abort = (): void =>
        reject(new BrokerError("TIMEOUT", "the deadline passed before the queue answered; it may still be carried out"));
      if (signal?.aborted === true) {
        abort();
        return;
      }
      signal?.addEventListener("abort", abort, { once: true });
      this.operate(group, operation, (error, result) => {
        signal?.removeEventListener("abort", abort);
        if (error === null) resolve(result);
        else reject(error);
      });
    });
  }

  private flush(): void {
    const { waiting } = this;
    this.waiting = new Map();
    for (const [group, said] of waiting)
      for (let start = 0; start < said.length; start += BATCH_MAX) this.propose(group, said.slice(start, start + BATCH_MAX));
  }

  private propose(group: GroupId, said: readonly Said[]): void {
    const command = encodeWork(said.map(({ operation }) => operation));
    this.router.propose(group, ENTRY_COMMAND, command, false, (error, code, _value, detail) => {
      const failure = error ?? (code === STREAM_OK && detail !== null ? null : new BrokerError("INTERNAL", `the queue replied ${code}`));
      if (failure !== null) {
        for (const { done } of said) done(failure, 0, NOTHING);
        return;
      }
      const { results, lost } = decodeResults(detail!);
      said.forEach(({ done }, at) => done(null, results[at] ?? 0, lost.of(at)));
    });
  }
}
