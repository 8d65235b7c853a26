// Clients that run transactions in the simulated cluster: publishes to two queues, sometimes with a message taken from a third; in one call or
// prepared, and then decided, through whatever node, sometimes both ways at one time, or by nobody.

import { BrokerError } from "../../src/base/errors.ts";
import { ProtoReader, ProtoWriter } from "../../src/base/protobuf.ts";
import {
  STATE_COMMITTED,
  STATE_PREPARED,
  STATE_ROLLED_BACK,
  type Transacted,
  type TransactCall,
  type TransactionSettle,
  type Verdict,
} from "../../src/broker/transactions/types.ts";
import { OUTCOME_ACK, type Delivered } from "../../src/broker/work/types.ts";
import { ask, type ClientParts } from "./clients.ts";
import { Violation } from "./history.ts";
import type { SentTransaction, TransactionFate, TransactionHistory } from "./transaction-history.ts";
import { between, pick } from "./world.ts";

/** Messages are taken from the first one. */
export const SOURCE = "tx.in";
const OUT = ["tx.out1", "tx.out2"] as const;
export const TX_QUEUES: readonly string[] = [SOURCE, ...OUT];
const RETRY_MS = 100;
/** A transaction is sent again until somebody knows; beyond it nobody is asked any more. */
const TRIES_MAX = 200;
const LEASE_MS = 3_000;
/** Whatever became of the numbers before: these say what became of the transaction. */
const FINAL: ReadonlySet<string> = new Set(["LEASE_LOST", "TRANSACTION_ENDED", "EXISTS_DIFFERENT"]);

export class TransactionClient {
  private readonly id: number;
  private readonly parts: ClientParts;
  private readonly history: TransactionHistory;
  private readonly thinkMs: number;
  private sequence = 0;
  /** Of which somebody else may have decided already. */
  private readonly hasty = new Set<SentTransaction>();
  private isStopping = false;
  /** Transactions that nobody knows the fate of yet. */
  private open = 0;
  lastFailure = "";

  constructor(id: number, parts: ClientParts, history: TransactionHistory, thinkMs: number) {
    this.id = id;
    this.parts = parts;
    this.history = history;
    this.thinkMs = thinkMs;
  }

  get isIdle(): boolean {
    return this.open === 0;
  }

  start(): void {
    this.later(between(this.parts.random, 0, this.thinkMs * 2), () => this.next());
  }

  stop(): void {
    this.isStopping = true;
  }

  private later(delayMs: number, callback: () => void): void {
    this.parts.world.after(delayMs * 1_000, this.parts.owner, "transaction client", callback);
  }

  private next(): void {
    if (this.isStopping) return;
    const { random, pace } = this.parts;
    if (pace?.isCalm === true) {
      this.later(2_000, () => this.next());
      return;
    }
    if (random.below(2) === 0) this.begin(null);
    else this.take();
  }

  private again(): void {
    this.later(between(this.parts.random, 0, this.thinkMs * 2), () => this.next());
  }

  /** Takes a message, if there is one, for the transaction that comes then. */
  private take(): void {
    const { machines, random } = this.parts;
    const call = { vhost: "", queue: SOURCE, subscription: "", maxMessages: 1, maxWaitMs: 200, leaseMs: LEASE_MS, autoAck: false };
    ask(
      this.parts,
      pick(random, machines),
      2_000,
      (broker, signal) => broker.queues.receive(call, signal),
      (error, delivered) => {
        if (error !== null) check(error, "a receive");
        // Some think about it for longer than the message is theirs.
        else if (delivered!.length > 0) this.later(pick(random, [1, 50, 500, LEASE_MS + 500]), () => this.begin(delivered![0]!));
        if (error !== null || delivered!.length === 0) this.again();
      },
    );
  }

  private begin(taken: Delivered | null): void {
    const { random } = this.parts;
    const targets = taken === null ? pick(random, [TX_QUEUES, TX_QUEUES, OUT]) : OUT;
    const takes = taken === null ? "" : idOf(taken.records);
    const transaction: SentTransaction = { id: `tx/${this.id}/${this.sequence}`, targets, takes, fate: "open" };
    this.history.sending(transaction);
    this.open += 1;
    const isPrepared = random.below(4) === 0;
    const call: TransactCall = {
      vhost: "",
      publishes: targets.map((topic) => publishOf(topic, transaction.id)),
      settles: taken === null ? [] : [settleOf(taken)],
      isPrepared,
      timeoutMs: pick(random, [2_000, 20_000]),
      name: isPrepared && random.below(2) === 0 ? transaction.id : "",
      producerId: this.id,
      producerEpoch: 0,
      sequence: this.sequence++,
    };
    this.send(transaction, call, 0);
    // Somebody who knows the name may be quicker than who prepares it.
    if (call.name === "" || random.below(2) === 0) return;
    this.hasty.add(transaction);
    this.later(between(random, 0, 20), () => this.commitByName(transaction, call.name));
  }

  /** With the same numbers, until it is known what became of it. */
  private send(transaction: SentTransaction, call: TransactCall, tries: number): void {
    const { machines, random } = this.parts;
    ask<Transacted>(
      this.parts,
      pick(random, machines),
      pick(random, [300, 3_000, 25_000]),
      (broker, signal) => broker.transactions.transact(call, signal),
      (error, done) => {
        if (error === null) {
          if (done!.state === STATE_PREPARED) this.decide(transaction, done!.id);
          else this.ended(transaction, done!.state === STATE_COMMITTED ? "committed" : "refused");
          return;
        }
        check(error, "a transaction");
        this.lastFailure = error.message;
        const isFinal = error instanceof BrokerError && FINAL.has(error.code);
        const isOver = error instanceof BrokerError && error.details["over"] !== undefined;
        if (isFinal) this.ended(transaction, "refused");
        else if (isOver || tries >= TRIES_MAX) this.ended(transaction, "unknown");
        else this.later(between(random, RETRY_MS >> 1, RETRY_MS * 3), () => this.send(transaction, call, tries + 1));
      },
    );
  }

  private commitByName(transaction: SentTransaction, name: string): void {
    const { machines, random } = this.parts;
    ask<Transacted>(
      this.parts,
      pick(random, machines),
      3_000,
      (broker, signal) => broker.transactions.end({ vhost: "", id: "", name }, STATE_COMMITTED, signal),
      (error, done) => {
        if (error === null) this.history.answered(transaction, fateOf(done!.state));
        else check(error, "a verdict by name");
      },
    );
  }

  private decide(transaction: SentTransaction, id: string): void {
    const { random } = this.parts;
    const roll = random.below(10);
    // Nobody decides: its time comes, and nothing of it is there in the end.
    if (roll === 0) this.ended(transaction, this.hasty.has(transaction) ? "unknown" : "refused");
    else if (roll < 6) this.later(between(random, 0, 500), () => this.end(transaction, id, [STATE_COMMITTED], 0));
    else if (roll < 8) this.later(between(random, 0, 500), () => this.end(transaction, id, [STATE_ROLLED_BACK], 0));
    else this.end(transaction, id, [STATE_COMMITTED, STATE_ROLLED_BACK], 0);
  }

  /** Says each of the verdicts, through whatever node; with two of them one is refused. */
  private end(transaction: SentTransaction, id: string, verdicts: readonly Verdict[], tries: number): void {
    const { machines, random } = this.parts;
    let left = verdicts.length;
    for (const verdict of verdicts)
      ask<Transacted>(
        this.parts,
        pick(random, machines),
        pick(random, [300, 3_000, 25_000]),
        (broker, signal) => broker.transactions.end({ vhost: "", id, name: "" }, verdict, signal),
        (error, done) => {
          left -= 1;
          if (error === null) this.history.answered(transaction, fateOf(done!.state));
          else check(error, "a verdict");
          const code = error instanceof BrokerError ? error.code : "";
          if (code === "TRANSACTION_ENDED") this.history.answered(transaction, verdict === STATE_COMMITTED ? "refused" : "committed");
          if (left > 0) return;
          if (transaction.fate !== "open") this.ended(transaction, "unknown");
          else if (code === "UNKNOWN_TRANSACTION" || tries >= TRIES_MAX) this.ended(transaction, "unknown");
          else this.later(RETRY_MS, () => this.end(transaction, id, verdicts, tries + 1));
        },
      );
  }

  private ended(transaction: SentTransaction, fate: Exclude<TransactionFate, "open">): void {
    this.history.answered(transaction, fate);
    this.open -= 1;
    this.again();
  }
}

function fateOf(state: Transacted["state"]): "committed" | "refused" {
  return state === STATE_COMMITTED ? "committed" : "refused";
}

function publishOf(topic: string, id: string): TransactCall["publishes"][number] {
  const writer = new ProtoWriter(64);
  const mark = writer.open(1);
  writer.string(2, id).close(mark);
  const how = { partition: -1, partitionKey: null, count: 1, exchange: null, routingKey: "", mandatory: false };
  return { topic, records: writer.finish(), ...how };
}

function settleOf({ firstOffset, token, consumer }: Delivered): TransactionSettle {
  const settlement = { partition: 0, firstOffset, count: 1, token, outcome: OUTCOME_ACK, delayMs: -1, leaseMs: 0, consumer } as const;
  return { queue: SOURCE, subscription: "", settlements: [settlement] };
}

function idOf(records: Uint8Array): string {
  const reader = new ProtoReader(records);
  while (reader.next()) {
    if (reader.field !== 1) {
      reader.skip();
      continue;
    }
    const record = reader.message();
    while (record.next())
      if (record.field === 2) return record.string();
      else record.skip();
  }
  throw new Violation("L1", `a message of ${SOURCE} has no body`);
}

function check(error: Error, what: string): void {
  const isBug =
    error instanceof BrokerError ? error.code === "INTERNAL" || error.code === "INVALID_ARGUMENT" : error.message !== "no answer";
  if (isBug) throw new Violation("bug", `${what} ended with ${error.stack ?? error.message}`);
}
