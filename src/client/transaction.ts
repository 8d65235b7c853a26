// Publishes and settlements that take effect all or not at all. They are gathered here and sent as one call, with a number, so that the call may
// be sent again.

import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { ProtoReader, ProtoWriter } from "../base/protobuf.ts";
import type { CallOptions } from "./admin.ts";
import type { Channels } from "./channels.ts";
import { FlotillaError } from "./errors.ts";
import type { LeasedMessage, Message, MessageOwner } from "./message.ts";
import { BatchEncoder, bytesOf, HEAD_ROOM_BYTES, type OutgoingRecord } from "./records.ts";
import { writeSettlements, type Outcome, type Settlement, type WorkTarget } from "./work-wire.ts";
import { toBuffer } from "./wire.ts";

export type TransactionOptions = {
  readonly vhost?: string;
  /** Of a prepared one: then it is rolled back by itself, in ms; a minute unless it is given, at most a day. */
  readonly timeoutMs?: number;
  /** Of a prepared one: a name of the caller's own, by which it is found again. */
  readonly name?: string;
};
export type TransactionState = "prepared" | "committed" | "rolled back";
/** `complete`: what was decided has been carried out everywhere; if not, it will be. `routed`: copies of records that it stores. */
export type Transacted = {
  readonly id: string;
  readonly state: TransactionState;
  readonly complete: boolean;
  readonly routed: number;
};
/** An id, or a name that a caller gave. */
export type TransactionKey = string | { readonly name: string };
export type TransactionInfo = {
  readonly id: string;
  readonly name: string;
  readonly state: TransactionState;
  readonly createdMs: number;
  /** When it is rolled back by itself, or else carried on with by another node; 0 = it is at work. */
  readonly untilMs: number;
  readonly bytes: number;
  readonly targets: readonly { readonly name: string; readonly partition: number; readonly records: number }[];
  readonly holds: readonly {
    readonly queue: string;
    readonly subscription: string;
    readonly partition: number;
    readonly firstOffset: number;
    readonly count: number;
    readonly outcome: Outcome;
  }[];
};

const STATES: readonly TransactionState[] = ["prepared", "committed", "rolled back"];
const OUTCOMES: readonly Outcome[] = ["ack", "nack", "release", "reject"];
const ACTION_COMMIT = 1;
const ACTION_ROLLBACK = 2;
const ACTION_PREPARE = 3;
/** These say that nothing of it happened, and never will, whatever tries came before. */
const VERDICTS: ReadonlySet<string> = new Set(["LEASE_LOST", "TRANSACTION_ENDED", "EXISTS_DIFFERENT"]);
/** What is not known is asked again for so long. */
const RETRY_MS_MAX = 60_000;
const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 1_000;

type InfoMessage = Omit<TransactionInfo, "state" | "holds"> & {
  readonly state: number;
  readonly holds: readonly (Omit<TransactionInfo["holds"][number], "outcome"> & { readonly outcome: number })[];
};
type Settled = { readonly message: LeasedMessage; readonly outcome: Outcome; readonly delayMs: number | undefined };

/** Transactions that are not over. */
export class TransactionsClient {
  private readonly channels: Channels;
  private readonly producerId = randomBytes(6).readUIntBE(0, 6) + 1;
  private sequence = 0;

  constructor(channels: Channels) {
    this.channels = channels;
  }

  /** Rejects with TRANSACTION_ENDED when it was rolled back, with UNKNOWN_TRANSACTION when nobody knows it any more. */
  commit(key: TransactionKey, options: CallOptions & { vhost?: string } = {}): Promise<{ complete: boolean }> {
    return this.end(key, ACTION_COMMIT, options);
  }

  rollback(key: TransactionKey, options: CallOptions & { vhost?: string } = {}): Promise<{ complete: boolean }> {
    return this.end(key, ACTION_ROLLBACK, options);
  }

  async list(options: CallOptions & { vhost?: string } = {}): Promise<TransactionInfo[]> {
    const { vhost = "", signal } = options;
    const found: TransactionInfo[] = [];
    let pageToken = "";
    do {
      const page = await this.channels.call<object, { transactions: InfoMessage[]; nextPageToken: string }>(
        "flotilla.v1.Messaging",
        "ListTransactions",
        { vhost, pageToken },
        { signal },
      );
      found.push(...page.transactions.map(infoOf));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return found;
  }

  async describe(key: TransactionKey, options: CallOptions & { vhost?: string } = {}): Promise<TransactionInfo> {
    const { vhost = "", signal } = options;
    const request = { vhost, transaction: keyMessage(key) };
    const answer = await this.channels.call<object, { transaction: InfoMessage }>("flotilla.v1.Messaging", "DescribeTransaction", request, {
      signal,
    });
    return infoOf(answer.transaction);
  }

  /** Sends a whole transaction, again under the same number while it is not known what became of it. */
  async transact(action: number, request: ProtoWriter): Promise<Transacted> {
    const mark = request.uint(4, action).open(7);
    request
      .uint(1, this.producerId)
      .uint(3, this.sequence++)
      .close(mark);
    const bytes = toBuffer(request);
    const beganMs = Date.now();
    let isUnknown = false;
    for (let tries = 0; ; tries++) {
      try {
        return decodeTransacted(await this.channels.callRaw("flotilla.v1.Messaging", "Transact", bytes, { isRepeatable: false }));
      } catch (error) {
        if (!(error instanceof FlotillaError)) throw error;
        isUnknown ||= error.maybeApplied;
        const isOpen = (isUnknown || error.code === "NO_LEADER") && !VERDICTS.has(error.code) && error.details["over"] === undefined;
        if (!isOpen || Date.now() - beganMs > RETRY_MS_MAX) throw isUnknown ? asUnknown(error) : error;
        await delay(Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.min(tries, 6)));
      }
    }
  }

  private end(key: TransactionKey, action: number, options: CallOptions & { vhost?: string }): Promise<{ complete: boolean }> {
    const { vhost = "", signal } = options;
    const request = { vhost, transaction: keyMessage(key), action };
    return this.channels.call<object, { complete: boolean }>("flotilla.v1.Messaging", "EndTransaction", request, { signal });
  }
}

/** One transaction while it is put together. Nothing leaves before `commit` or `prepare`. */
export class Transaction {
  private readonly client: TransactionsClient;
  private readonly options: TransactionOptions;
  private readonly publishes: ((writer: ProtoWriter) => void)[] = [];
  private readonly settled = new Map<Message, Settled>();
  private isEnded = false;

  constructor(client: TransactionsClient, options: TransactionOptions) {
    this.client = client;
    this.options = options;
  }

  /** To a topic or queue; without `partition` and `partitionKey` each record goes by its own key. */
  publish(
    topic: string,
    records: readonly OutgoingRecord[],
    { partition, partitionKey }: { partition?: number; partitionKey?: Uint8Array | string } = {},
  ): this {
    return this.add(records, (writer) => {
      writer.string(1, topic);
      if (partition !== undefined) writer.uintAlways(2, partition);
      if (partitionKey !== undefined) writer.blockAlways(5, bytesOf(partitionKey));
    });
  }

  /** `routingKey` is for records without one; with `mandatory` there is no transaction when a record would go nowhere. */
  publishToExchange(
    exchange: string,
    records: readonly OutgoingRecord[],
    { routingKey = "", mandatory = false }: { routingKey?: string; mandatory?: boolean } = {},
  ): this {
    return this.add(records, (writer) => writer.blockAlways(6, bytesOf(exchange)).string(7, routingKey).bool(8, mandatory));
  }

  ack(message: Message): this {
    return this.settle(message, "ack");
  }

  /** It goes back to its place when the transaction is committed: at once, after `delayMs`, or by the back-off of the queue. */
  nack(message: Message, { delayMs }: { delayMs?: number } = {}): this {
    return this.settle(message, "nack", delayMs);
  }

  reject(message: Message): this {
    return this.settle(message, "reject");
  }

  /**
   * All of it takes effect, or none: then it rejects, and messages that were to be settled go back as if they had never been delivered. Only
   * with `maybeApplied` is it not known which.
   */
  commit(): Promise<Transacted> {
    return this.send(ACTION_COMMIT);
  }

  /** Resolves with the id by which anybody may commit it, or roll it back. What it is to settle is its own from here on. */
  async prepare(): Promise<string> {
    return (await this.send(ACTION_PREPARE)).id;
  }

  /** Nothing of it was sent; messages that were to be settled go back. */
  rollback(): void {
    this.end();
    for (const { message } of this.settled.values()) message.owner.concluded(message, false);
  }

  private add(records: readonly OutgoingRecord[], writeWhere: (writer: ProtoWriter) => void): this {
    this.checkOpen();
    const encoder = new BatchEncoder(Buffer.allocUnsafeSlow(1024));
    for (const record of records) encoder.add(record);
    const batch = encoder.finish().subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + encoder.length);
    this.publishes.push((writer) => {
      const mark = writer.open(2);
      writeWhere(writer);
      writer.blockAlways(3, batch).uint(4, records.length).close(mark);
    });
    return this;
  }

  private settle(message: Message, outcome: Outcome, delayMs?: number): this {
    this.checkOpen();
    if (this.settled.has(message)) throw new FlotillaError("INVALID_ARGUMENT", "the message is in the transaction already");
    const { vhost } = (message as LeasedMessage).owner.target;
    if (vhostOf(vhost) !== vhostOf(this.options.vhost ?? ""))
      throw new FlotillaError("INVALID_ARGUMENT", "the message is of another vhost than the transaction");
    this.settled.set(message, { message: message as LeasedMessage, outcome, delayMs });
    return this;
  }

  private async send(action: number): Promise<Transacted> {
    this.end();
    const claimed: LeasedMessage[] = [];
    const conclude = (isSettled: boolean): void => {
      for (const message of claimed) message.owner.concluded(message, isSettled);
    };
    try {
      for (const { message } of this.settled.values()) {
        message.owner.claim(message);
        claimed.push(message);
      }
      const done = await this.client.transact(action, this.encode());
      conclude(true);
      return done;
    } catch (error) {
      conclude(false);
      throw error;
    }
  }

  private encode(): ProtoWriter {
    const { vhost = "", timeoutMs = 0, name = "" } = this.options;
    const writer = new ProtoWriter(1024).string(1, vhost);
    for (const write of this.publishes) write(writer);
    for (const { target, settlements } of settlesOf([...this.settled.values()])) {
      const mark = writer.open(3);
      writer.string(1, target.queue).string(2, target.subscription);
      writeSettlements(writer, 3, settlements);
      writer.close(mark);
    }
    return writer.uint(5, timeoutMs).string(6, name);
  }

  private end(): void {
    this.checkOpen();
    this.isEnded = true;
  }

  private checkOpen(): void {
    if (this.isEnded) throw new FlotillaError("INVALID_ARGUMENT", "the transaction was sent already: begin another one");
  }
}

/** By queue and subscription, neighbours of one lease as one. */
function settlesOf(settled: readonly Settled[]): { target: WorkTarget; settlements: Settlement[] }[] {
  const found = new Map<string, { target: WorkTarget; settlements: (Settlement & { count: number })[] }>();
  const ordered = [...settled].sort((a, b) => a.message.partition - b.message.partition || a.message.offset - b.message.offset);
  for (const { message, outcome, delayMs } of ordered) {
    const { target }: MessageOwner = message.owner;
    const key = `${target.queue}\n${target.subscription}`;
    let one = found.get(key);
    if (one === undefined) found.set(key, (one = { target, settlements: [] }));
    const { partition, offset, token, consumer } = message;
    const last = one.settlements[one.settlements.length - 1];
    const isNext =
      last?.partition === partition &&
      last.firstOffset + last.count === offset &&
      last.token === token &&
      last.consumer === consumer &&
      last.outcome === outcome &&
      last.delayMs === delayMs;
    if (isNext) last.count += 1;
    else one.settlements.push({ partition, firstOffset: offset, count: 1, token, outcome, delayMs, consumer });
  }
  return [...found.values()];
}

/** An earlier try may have been carried out, whatever the last one says; unless that one says what became of the transaction. */
function asUnknown(error: FlotillaError): FlotillaError {
  if (error.maybeApplied || VERDICTS.has(error.code)) return error;
  return new FlotillaError(error.code, error.message, { details: error.details, maybeApplied: true, cause: error });
}

function decodeTransacted(bytes: Uint8Array): Transacted {
  const reader = new ProtoReader(bytes);
  const done = { id: "", state: "prepared" as TransactionState, complete: false, routed: 0 };
  while (reader.next()) {
    if (reader.field === 1) done.id = reader.string();
    else if (reader.field === 2) done.state = STATES[reader.uint() - 1] ?? "prepared";
    else if (reader.field === 3) done.complete = reader.bool();
    else if (reader.field === 4) done.routed = reader.uint();
    else reader.skip();
  }
  return done;
}

function infoOf({ state, holds, ...info }: InfoMessage): TransactionInfo {
  return {
    ...info,
    state: STATES[state - 1] ?? "prepared",
    holds: holds.map(({ outcome, ...hold }) => ({ ...hold, outcome: OUTCOMES[outcome - 1] ?? "ack" })),
  };
}

function keyMessage(key: TransactionKey): { id: string; name: string } {
  return typeof key === "string" ? { id: key, name: "" } : { id: "", name: key.name };
}

function vhostOf(vhost: string): string {
  return vhost === "" ? "/" : vhost;
}
