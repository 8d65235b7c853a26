// The use cases of transactions: all of its parts take effect or none does, whoever dies at whatever moment. What a transaction is stands in one
// record (book.ts), and so does what is decided of it; what it comes to is carried out by whoever is there (executor.ts, recoverer.ts).

import { BrokerError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import type { GroupId } from "../../base/ids.ts";
import {
  DELIVERY_BYTES_MAX,
  SPARSE_SEQUENCES_MAX,
  TRANSACTIONS_PER_NODE_BYTES_MAX,
  TRANSACTIONS_PER_NODE_MAX,
  TRANSACTIONS_PER_PAGE_MAX,
} from "../../base/limits.ts";
import { utf8Encode } from "../../base/bytes.ts";
import type { Transaction } from "../../machine/transaction-marks.ts";
import { vhostOf } from "../admin.ts";
import { asBrokerError } from "../fetcher.ts";
import { hashKey } from "../publisher.ts";
import { endAfter } from "../wait-until.ts";
import { GRACE_MS, unknownOutcome, type Book, type Origin } from "./book.ts";
import type { BookRow } from "./codec.ts";
import type { Executor } from "./executor.ts";
import { invalid, type Planner } from "./planner.ts";
import {
  STATE_COMMITTED,
  STATE_PREPARED,
  STATE_ROLLED_BACK,
  type Intent,
  type Transacted,
  type TransactCall,
  type TransactionInfo,
  type TransactionKey,
  type TransactionPage,
  type TransactionState,
  type Verdict,
} from "./types.ts";

const TIMEOUT_MS_DEFAULT = 60_000;
/** Of one that is decided in the call that begins it, and holds messages: what its node has to decide it. */
const UNDECIDED_MS = 30_000;
/** How long a call tries to find out, and to get things done, before it says how far it came. */
const CALL_MS = 20_000;
const CARRY_OUT_MS = GRACE_MS - 1_000;
const READ_MS = 10_000;
const NAMES_MAX = 1_000;
/** Producers of one node whose numbers tell its transactions apart. */
const PRODUCERS = TRANSACTIONS_PER_NODE_MAX / SPARSE_SEQUENCES_MAX;

export type TransactionsComponents = {
  readonly book: Book;
  readonly planner: Planner;
  readonly executor: Executor;
  readonly clock: Clock;
  /** Of this start of this node, and of no other. */
  readonly producerId: number;
  readonly checkVhost: (vhost: string) => Promise<void>;
};

type Written = { readonly transaction: Transaction; readonly intent: Intent };

export class Transactions {
  private readonly components: TransactionsComponents;
  private sequence = 0;
  private underWay = 0;
  private bytesUnderWay = 0;

  constructor(components: TransactionsComponents) {
    this.components = components;
  }

  /** Begins a transaction, and commits it or leaves it prepared. An error that does not say that the outcome is unknown: nothing happens of it. */
  transact(call: TransactCall, signal: AbortSignal): Promise<Transacted> {
    return this.counted(bytesIn(call), async () => {
      const { book, planner, clock } = this.components;
      const vhost = vhostOf(call.vhost);
      await this.components.checkVhost(vhost);
      const intent = { name: call.name, isPrepared: call.isPrepared, createdMs: clock.wallMs(), ...(await planner.plan(call)) };
      const copies = copiesOf(intent);
      if (intent.targets.length === 0 && intent.held.length === 0 && !call.isPrepared)
        return { id: "", state: STATE_COMMITTED, isComplete: true, copies };
      const group = (await book.groupOf(vhost, true, signal))!;
      const untilMs = clock.monotonicMs() + CALL_MS;
      const isCommitted = !call.isPrepared && intent.held.length === 0;
      const undecidedMs = call.isPrepared ? call.timeoutMs || TIMEOUT_MS_DEFAULT : UNDECIDED_MS;
      const how = { isCommitted, delayMs: isCommitted ? GRACE_MS : undecidedMs, nameHash: hashOf(call.name), origin: this.originOf(call) };
      const { offset, isDuplicate } = await book.write(group, intent, how, untilMs);
      const written = { transaction: { group, offset }, intent };
      if (isDuplicate) return this.again(written, isCommitted, untilMs);
      return this.goOn(written, isCommitted, untilMs);
    });
  }

  /** Decides a prepared transaction. Said again it changes nothing; against what was decided before it is refused. */
  end(key: TransactionKey, verdict: Verdict, signal: AbortSignal): Promise<Transacted> {
    return this.counted(0, async () => {
      const { book, clock } = this.components;
      const written = await this.find(key, signal);
      const { group, offset } = written.transaction;
      const untilMs = clock.monotonicMs() + CALL_MS;
      if (verdict === STATE_COMMITTED && written.intent.held.length > 0) {
        const state = await book.stateOf(group as GroupId, offset);
        // It may be found by its name before whoever prepares it has come so far.
        if (state === STATE_PREPARED) return this.goOn({ ...written, intent: { ...written.intent, isPrepared: false } }, false, untilMs);
      }
      const state = await book.decide(group as GroupId, offset, verdict, untilMs).catch(rethrowUnknown);
      if (state === null) throw unknownTransaction();
      if (state !== verdict) throw ended(state);
      return this.finish(written, verdict);
    });
  }

  /** Those that are not over, in the order in which they came, from this number on. */
  async list(call: { vhost: string; from: number; max: number }, signal: AbortSignal): Promise<TransactionPage> {
    const vhost = vhostOf(call.vhost);
    await this.components.checkVhost(vhost);
    const group = await this.components.book.groupOf(vhost, false, signal);
    if (group === null) return { transactions: [], next: -1 };
    const max = call.max === 0 ? 100 : Math.min(call.max, TRANSACTIONS_PER_PAGE_MAX);
    const page = await this.components.book.ask({ group, from: call.from, max, nameHash: 0 });
    const transactions: TransactionInfo[] = [];
    let bytes = 0;
    for (const row of page.rows) {
      if (bytes >= DELIVERY_BYTES_MAX) return { transactions, next: row.offset };
      const intent = await this.read(group, row.offset);
      if (intent === null) continue;
      const info = infoOf({ group, offset: row.offset }, row, intent);
      transactions.push(info);
      bytes += info.bytes;
    }
    return { transactions, next: page.next };
  }

  async describe(key: TransactionKey, signal: AbortSignal): Promise<TransactionInfo> {
    const { transaction, intent } = await this.find(key, signal);
    const { rows } = await this.components.book.ask({
      group: transaction.group as GroupId,
      from: transaction.offset,
      max: 1,
      nameHash: 0,
    });
    if (rows[0]?.offset !== transaction.offset) throw unknownTransaction();
    return infoOf(transaction, rows[0], intent);
  }

  private async counted<Value>(bytes: number, work: () => Promise<Value>): Promise<Value> {
    const isFull = this.underWay > 0 && this.bytesUnderWay + bytes > TRANSACTIONS_PER_NODE_BYTES_MAX;
    if (isFull || this.underWay >= TRANSACTIONS_PER_NODE_MAX)
      throw new BrokerError("OVERLOADED", "as many transactions, or bytes of them, as may be are under way on this node already");
    this.underWay += 1;
    this.bytesUnderWay += bytes;
    try {
      return await work();
    } finally {
      this.underWay -= 1;
      this.bytesUnderWay -= bytes;
    }
  }

  private originOf({ producerId, producerEpoch, sequence }: TransactCall): Origin {
    if (producerId !== 0) return { producerId, producerEpoch, sequence };
    // Of each producer the last few numbers are remembered: with several of them enough for all that is under way here.
    const number = this.sequence++;
    const producer = this.components.producerId * PRODUCERS + (number % PRODUCERS);
    return { producerId: producer, producerEpoch: 0, sequence: Math.floor(number / PRODUCERS) };
  }

  /** From what is written down to what was asked for. */
  private async goOn(written: Written, isCommitted: boolean, untilMs: number): Promise<Transacted> {
    const { transaction, intent } = written;
    const { book, executor } = this.components;
    if (isCommitted) return this.finish(written, STATE_COMMITTED);
    const group = transaction.group as GroupId;
    try {
      await this.checkName(written);
      await executor.hold(transaction, intent, untilMs);
    } catch (error) {
      return this.giveUp(written, asBrokerError(error), untilMs);
    }
    if (intent.isPrepared) return { id: idOf(written), state: STATE_PREPARED, isComplete: false, copies: copiesOf(intent) };
    const state = await book.decide(group, transaction.offset, STATE_COMMITTED, untilMs).catch(rethrowUnknown);
    if (state === STATE_COMMITTED) return this.finish(written, STATE_COMMITTED);
    if (state === null) throw unknownOutcome();
    throw ended(state);
  }

  /** The same was asked for before, here or through another node, and nobody there may be left: whatever is missing is done. */
  private async again({ transaction, intent: asked }: Written, wasCommitted: boolean, untilMs: number): Promise<Transacted> {
    const { group, offset } = transaction;
    const [intent, state] = await Promise.all([
      this.read(group as GroupId, offset),
      this.components.book.stateOf(group as GroupId, offset),
    ]);
    if (intent === null || state === null) {
      if (!wasCommitted)
        throw new BrokerError("TIMEOUT", "the transaction is over; what became of it nobody knows any more", { over: "true" });
      return { id: idOf({ transaction, intent: asked }), state: STATE_COMMITTED, isComplete: true, copies: copiesOf(asked) };
    }
    if (state === STATE_ROLLED_BACK) throw ended(state);
    return this.goOn({ transaction, intent }, state === STATE_COMMITTED, untilMs);
  }

  /** Nothing is to happen of it; unless somebody else who asked for the same has committed it. */
  private async giveUp(written: Written, reason: BrokerError, untilMs: number): Promise<Transacted> {
    const { group, offset } = written.transaction;
    const state = await this.components.book.decide(group as GroupId, offset, STATE_ROLLED_BACK, untilMs).catch(rethrowUnknown);
    if (state === STATE_COMMITTED) return this.finish(written, STATE_COMMITTED);
    if (state === null) throw unknownOutcome();
    await this.finish(written, STATE_ROLLED_BACK);
    // Not committed by anybody, and never: whatever is unknown of its parts.
    throw reason.maybeApplied ? new BrokerError("NO_LEADER", `the transaction was rolled back: ${reason.message}`) : reason;
  }

  /** Carries out what was decided, for a while; the leader of the book goes on with what is left. */
  private async finish(written: Written, verdict: Verdict): Promise<Transacted> {
    const { transaction, intent } = written;
    const { executor, book, clock } = this.components;
    const done = { id: idOf(written), state: verdict, copies: copiesOf(intent) };
    try {
      await executor.carryOut(transaction, intent, verdict, clock.monotonicMs() + CARRY_OUT_MS);
    } catch (error) {
      asBrokerError(error);
      return { ...done, isComplete: false };
    }
    // Nobody waits for that: left behind, it is found to be done.
    book.withdraw(transaction.group as GroupId, transaction.offset).catch(asBrokerError);
    return { ...done, isComplete: true };
  }

  /** Of those of one name the first one stays: both are written down, so the later one sees it. */
  private async checkName({ transaction, intent }: Written): Promise<void> {
    if (intent.name === "") return;
    const [first] = await this.named(transaction.group as GroupId, intent.name);
    if (first !== undefined && first.transaction.offset < transaction.offset)
      throw new BrokerError("EXISTS_DIFFERENT", `a transaction of the name ${JSON.stringify(intent.name)} is not over yet: ${idOf(first)}`);
  }

  private async find({ vhost: given, id, name }: TransactionKey, signal: AbortSignal): Promise<Written> {
    if ((id === "") === (name === "")) throw invalid("a transaction is named by its id or by its name: one of the two");
    const vhost = vhostOf(given);
    await this.components.checkVhost(vhost);
    const group = await this.components.book.groupOf(vhost, false, signal);
    if (group === null) throw unknownTransaction();
    if (name !== "") {
      const [first] = await this.named(group, name);
      if (first === undefined) throw unknownTransaction();
      return first;
    }
    const [, inGroup, at, createdMs] = /^(\d{1,10})-(\d{1,16})-([0-9a-z]{1,11})$/.exec(id) ?? [];
    if (at === undefined) throw invalid("that is no transaction's id");
    const offset = Number(at);
    const intent = Number(inGroup) === group ? await this.read(group, offset) : null;
    if (intent === null || intent.createdMs !== Number.parseInt(createdMs!, 36)) throw unknownTransaction();
    return { transaction: { group, offset }, intent };
  }

  /** Those of the name that are not over, the first one first. */
  private async named(group: GroupId, name: string): Promise<Written[]> {
    const { rows } = await this.components.book.ask({ group, from: 0, max: NAMES_MAX, nameHash: hashOf(name) });
    const found: Written[] = [];
    for (const { offset } of rows) {
      const intent = await this.read(group, offset);
      if (intent?.name === name) found.push({ transaction: { group, offset }, intent });
    }
    return found;
  }

  /** Null: it is over. */
  private async read(group: GroupId, offset: number): Promise<Intent | null> {
    try {
      return await this.components.book.read(group, offset, endAfter(this.components.clock, READ_MS));
    } catch (error) {
      if (asBrokerError(error).code === "OFFSET_OUT_OF_RANGE") return null;
      throw error;
    }
  }
}

/** It was said, and may have been heard. */
function rethrowUnknown(error: unknown): never {
  asBrokerError(error);
  throw unknownOutcome();
}

/** Where it is, and when it began: a number alone could be mistyped. */
function idOf({ transaction: { group, offset }, intent: { createdMs } }: Written): string {
  return `${group}-${offset}-${createdMs.toString(36)}`;
}

function hashOf(name: string): number {
  return name === "" ? 0 : hashKey(utf8Encode(name)) || 1;
}

function bytesIn({ publishes }: TransactCall): number {
  return publishes.reduce((sum, { records }) => sum + records.length, 0);
}

function copiesOf({ targets }: Intent): number {
  return targets.reduce((sum, { count }) => sum + count, 0);
}

function infoOf(transaction: Transaction, { state, untilMs }: BookRow, intent: Intent): TransactionInfo {
  const { name, createdMs, targets, held } = intent;
  return {
    id: idOf({ transaction, intent }),
    name,
    state,
    createdMs,
    untilMs,
    bytes: targets.reduce((sum, { records }) => sum + records.length, 0),
    targets: targets.map(({ name: target, partition, count }) => ({ name: target, partition, records: count })),
    held: held.map(({ queue, subscription, partition, from, end, outcome }) => ({
      queue,
      subscription,
      partition,
      firstOffset: from,
      count: end - from,
      outcome: outcome.kind,
    })),
  };
}

function unknownTransaction(): BrokerError {
  return new BrokerError("UNKNOWN_TRANSACTION", "there is no such transaction: it is over, or there never was one");
}

function ended(state: TransactionState): BrokerError {
  const what = state === STATE_COMMITTED ? "committed" : "rolled back";
  return new BrokerError("TRANSACTION_ENDED", `the transaction was ${what} already`, { state: what });
}
