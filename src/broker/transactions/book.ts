// The records of a vhost's transactions, in a queue of its own that nobody consumes. What is decided of one is state of its message there: its
// priority is the verdict, and it is delayed until somebody has to look at it. So a verdict is one entry of one log, and the first one counts.

import { DecodeError } from "../../base/bytes.ts";
import { BrokerError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import type { GroupId, NodeId } from "../../base/ids.ts";
import { BATCH_BYTES_MAX } from "../../base/limits.ts";
import type { PayloadMemory } from "../../base/payload-memory.ts";
import type { CatalogMachine } from "../../machine/catalog/catalog.ts";
import { STREAM_DUPLICATE, STREAM_FULL, STREAM_OK, STREAM_OUT_OF_SEQUENCE } from "../../machine/stream/codes.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import { encodeSidecar } from "../../machine/work/sidecar.ts";
import { PRIORITY, type WorkState } from "../../machine/work/state.ts";
import { QUEUE } from "../../machine/work/works.ts";
import { ENTRY_RECORDS } from "../../raft/types.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import { asBrokerError } from "../fetcher.ts";
import type { Serve } from "../forwarder.ts";
import { streamError } from "../publisher.ts";
import { recordsPayload } from "../records-payload.ts";
import { TRANSACTIONS_QUEUE } from "../reserved.ts";
import type { Router } from "../router.ts";
import type { WorkOperator } from "../work/operator.ts";
import type { RunReader } from "../work/run-reader.ts";
import { decodeBookPage, decodeBookQuestion, encodeBookPage, encodeBookQuestion, type BookPage, type BookQuestion } from "./codec.ts";
import { decodeIntent, encodeIntent } from "./intent.ts";
import { tooLarge } from "./planner.ts";
import { STATE_COMMITTED, STATE_PREPARED, STATE_ROLLED_BACK, type Intent, type TransactionState, type Verdict } from "./types.ts";
import { until } from "./until.ts";

export const OP_BOOK = 14;
/** What a decided transaction is given before somebody else takes it for abandoned. */
export const GRACE_MS = 5_000;
/** The priority of a message that says what was decided. */
const UNDECIDED = 0;
const ROLLED_BACK = 1;
const COMMITTED = 2;
const READ_BYTES_MAX = 512 * 1024;

export type BookComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly operator: WorkOperator;
  readonly reader: RunReader;
  readonly memory: PayloadMemory;
  readonly clock: Clock;
  /** Makes the queue of the vhost; making it again is no error. */
  readonly declare: (vhost: string, signal: AbortSignal) => Promise<void>;
  readonly viewIsCurrent: () => Promise<void>;
};
export type Origin = { readonly producerId: number; readonly producerEpoch: number; readonly sequence: number };

export class Book {
  private readonly components: BookComponents;

  constructor(components: BookComponents) {
    this.components = components;
  }

  /** The group in which the vhost's transactions are written down; null when it has none, and none is to be made. */
  async groupOf(vhost: string, isMade: boolean, signal: AbortSignal): Promise<GroupId | null> {
    const known = (): GroupId | undefined => this.components.catalog.topic(vhost, TRANSACTIONS_QUEUE)?.partitions[0]!.group;
    if (known() === undefined) await this.components.viewIsCurrent();
    if (known() === undefined && isMade) await this.components.declare(vhost, signal);
    return known() ?? null;
  }

  /**
   * Writes a transaction down, undecided for so long, or committed. Said again with the same numbers it is the same one. Rejects with TIMEOUT
   * when it is not known whether it was written.
   */
  async write(
    group: GroupId,
    intent: Intent,
    how: { isCommitted: boolean; delayMs: number; nameHash: number; origin: Origin },
    untilMs: number,
  ): Promise<{ offset: number; isDuplicate: boolean }> {
    const { router, memory, clock } = this.components;
    const { isCommitted, delayMs, nameHash: keyHash, origin } = how;
    const facts = { count: 1, priority: isCommitted ? COMMITTED : UNDECIDED, dueMs: 0, delayMs, ttlMs: 0, keyHash };
    const sidecar = encodeSidecar([facts]);
    const records = encodeIntent(intent);
    if (records.length > BATCH_BYTES_MAX) throw tooLarge();
    let isUnknown = false;
    const attempt = (): Promise<{ code: number; offset: number }> => {
      const payload = recordsPayload(memory, { count: 1, ...origin }, "sparse", sidecar, [records]);
      return new Promise((resolve, reject) =>
        router.propose(group, ENTRY_RECORDS, payload, false, (error, code, offset) => {
          isUnknown ||= error?.maybeApplied === true;
          if (error === null) resolve({ code, offset });
          else reject(error);
        }),
      );
    };
    const { code, offset } = await until(clock, untilMs, attempt).catch((error: unknown) => {
      throw isUnknown ? unknownOutcome() : error;
    });
    if (code === STREAM_OK || code === STREAM_DUPLICATE) return { offset, isDuplicate: code === STREAM_DUPLICATE };
    // So many others have come since that nobody can tell.
    if (code === STREAM_OUT_OF_SEQUENCE || isUnknown) throw unknownOutcome();
    throw code === STREAM_FULL ? tooMany() : streamError(code, TRANSACTIONS_QUEUE);
  }

  /** The first verdict stands. Resolves with what that is; null when the transaction is over. */
  async decide(group: GroupId, offset: number, verdict: Verdict, untilMs: number): Promise<TransactionState | null> {
    const { clock, operator } = this.components;
    const priority = verdict === STATE_COMMITTED ? COMMITTED : ROLLED_BACK;
    return until(clock, untilMs, async () => {
      const said = { op: "expedite" as const, name: QUEUE, offset, delayMs: GRACE_MS, priority, whilePriority: UNDECIDED };
      return (await operator.ask(group, said)) === 1 ? verdict : this.stateOf(group, offset);
    });
  }

  /** Null when it is over, or never was. */
  async stateOf(group: GroupId, offset: number): Promise<TransactionState | null> {
    const { rows } = await this.ask({ group, from: offset, max: 1, nameHash: 0 });
    return rows[0]?.offset === offset ? rows[0].state : null;
  }

  /** Rejects with OFFSET_OUT_OF_RANGE once it is gone, with INTERNAL when this release cannot read it. */
  async read(group: GroupId, offset: number, signal: AbortSignal): Promise<Intent> {
    const [slice] = await this.components.reader.read(group, offset, offset + 1, READ_BYTES_MAX, signal);
    try {
      return decodeIntent(slice!.records);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      throw new BrokerError("INTERNAL", `transaction ${offset} cannot be read: ${error.message}`);
    }
  }

  /** The transaction is over. */
  withdraw(group: GroupId, offset: number): Promise<number> {
    return this.components.operator.ask(group, { op: "recall", name: QUEUE, offset });
  }

  /** Asks the leader; rejects with BrokerError. */
  async ask(question: BookQuestion): Promise<BookPage> {
    const { nodeId, router } = this.components;
    const leader = await router.leader(question.group);
    if (leader !== nodeId) return decodeBookPage(await router.ask(leader, OP_BOOK, [encodeBookQuestion(question)], NEVER));
    return this.here(question);
  }

  readonly serve: Serve = (_from, body, reply) => {
    this.here(decodeBookQuestion(body)).then(
      (page) => reply(null, [encodeBookPage(page)]),
      (error: unknown) => reply(asBrokerError(error), []),
    );
  };

  private here(question: BookQuestion): Promise<BookPage> {
    const { host } = this.components;
    return new Promise((resolve, reject) =>
      host.readBarrier(question.group, (isLeader) => {
        const machine = host.get(question.group)?.machine as StreamMachine | undefined;
        const state = machine?.works.get(QUEUE)?.state;
        if (!isLeader || state === undefined) reject(new BrokerError("NO_LEADER", "the queue of transactions has no leader at the moment"));
        else resolve(pageOf(state, machine!.endOffset, question));
      }),
    );
  }
}

/** Links say by themselves that they are lost. */
const NEVER = new AbortController().signal;

function pageOf(state: WorkState, below: number, { from, max, nameHash }: BookQuestion): BookPage {
  const rows: { offset: number; state: TransactionState; untilMs: number }[] = [];
  let at = from;
  const named = nameHash === 0 ? null : state.keys.keyed(from, below);
  for (;;) {
    const offset = named === null ? state.unsettledFrom(at) : nextNamed(named, state, nameHash);
    if (offset < 0 || rows.length === max) return { rows, below, next: offset };
    rows.push(rowOf(state, offset));
    at = offset + 1;
  }
}

function nextNamed(named: Generator<number>, state: WorkState, nameHash: number): number {
  for (let next = named.next(); next.done !== true; next = named.next()) if (state.keys.hashOf(next.value) === nameHash) return next.value;
  return -1;
}

function rowOf(state: WorkState, offset: number): { offset: number; state: TransactionState; untilMs: number } {
  const isDelayed = state.delayed.has(offset);
  const priority = state.facts.get(offset, PRIORITY, 0);
  return { offset, state: stateFor(priority, isDelayed), untilMs: isDelayed ? state.delayed.get(offset, 0, 0) : 0 };
}

/** Whose time is up without a verdict is rolled back. */
export function stateFor(priority: number, isDelayed: boolean): TransactionState {
  if (priority === COMMITTED) return STATE_COMMITTED;
  return priority === UNDECIDED && isDelayed ? STATE_PREPARED : STATE_ROLLED_BACK;
}

export function unknownOutcome(): BrokerError {
  return new BrokerError("TIMEOUT", "it is not known whether the transaction was taken; it may be carried out");
}

function tooMany(): BrokerError {
  return new BrokerError(
    "OVERLOADED",
    "as many transactions of this vhost as there may be are not over: decide some (flotilla transaction list)",
  );
}
