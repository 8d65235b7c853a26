// The books of one queue: what was sent to it, who was given what under which token, and what was said of it; every answer is held
// against them at once, and at the end that nothing is missing. A few numbers for each message and each delivery; a round ends
// before MESSAGES_MAX. What somebody was not told (an answer was an error, or never came) may or may not have happened.

import type { QueueContent, ReceivedBody } from "./queue-content.ts";
import type { Invariant, Verdict } from "./verdict.ts";

/** Messages of one queue in one round. */
export const MESSAGES_MAX = 250_000;

const NONE = -1;

/** Numbers that only grow in count; `NONE` where none was set. */
class Column {
  private values = new Float64Array(1024).fill(NONE);

  get(at: number): number {
    return this.values[at] ?? NONE;
  }

  set(at: number, value: number): void {
    if (at >= this.values.length) {
      const grown = new Float64Array(Math.max(at + 1, this.values.length * 2)).fill(NONE);
      grown.set(this.values);
      this.values = grown;
    }
    this.values[at] = value;
  }

  raise(at: number, value: number): void {
    this.set(at, Math.max(this.get(at), value));
  }
}

/** A message as a consumer was given it. */
export type GivenMessage = ReceivedBody & {
  readonly offset: number;
  readonly token: number;
  readonly attempt: number;
  /** Both by the log's time. */
  readonly storedMs: number;
  readonly deadlineMs: number;
};
/** What a consumer holds. */
export type Held = { readonly number: number; readonly token: number; readonly givenMs: number };
export type QueueOutcome = "ack" | "nack" | "reject";
/** What a consumer has said and not been answered. */
export type Saying = {
  readonly held: Held;
  readonly outcome: QueueOutcome;
  readonly delayMs: number;
  /** By then somebody else was known to have been given it. */
  readonly wasSuperseded: boolean;
};
export type DeadLetter = ReceivedBody & { readonly reason: string; readonly attempts: number };

export type QueueCounts = {
  /** Messages that the queue took, for sure. */
  readonly queued: number;
  /** Fell due and had no room. */
  readonly notOffered: number;
  readonly delivered: number;
  /** Acknowledged or rejected, and given back, for sure. */
  readonly settled: number;
  readonly returned: number;
  /** Said and not confirmed. */
  readonly unconfirmed: number;
  readonly dead: number;
  readonly violations: number;
};

/** First deliveries of one key and priority, by offset. */
type Order = { readonly offsets: number[]; readonly tokens: number[] };

export class QueueLedger {
  readonly queue: string;
  readonly counts = { queued: 0, notOffered: 0, delivered: 0, settled: 0, returned: 0, unconfirmed: 0, dead: 0, violations: 0 };
  sent = 0;
  private readonly content: QueueContent;
  private readonly deliveryLimit: number;
  private readonly verdict: Verdict;
  // By message.
  private readonly offsets = new Column();
  private readonly isQueued = new Column();
  private readonly newestToken = new Column();
  private readonly lastDelivery = new Column();
  /** The token under which it was acknowledged, or rejected, for sure. */
  private readonly ackedToken = new Column();
  private readonly rejectedToken = new Column();
  /** The newest one under which somebody said so, whatever came of it. */
  private readonly saidAck = new Column();
  private readonly saidReject = new Column();
  /** When it was given back for sure: under which token, and when it may come again. */
  private readonly returnedToken = new Column();
  private readonly dueMs = new Column();
  private readonly copies = new Column();
  // By delivery.
  private deliveries = 0;
  private readonly tokens = new Column();
  private readonly attempts = new Column();
  private readonly consumers = new Column();
  /** The one before it of the same message. */
  private readonly before = new Column();
  private readonly orders = new Map<string, Order>();

  /** `deliveryLimit` 0: any number. */
  constructor(queue: string, { content, deliveryLimit }: { content: QueueContent; deliveryLimit: number }, verdict: Verdict) {
    this.queue = queue;
    this.content = content;
    this.deliveryLimit = deliveryLimit;
    this.verdict = verdict;
  }

  get isFull(): boolean {
    return this.sent >= MESSAGES_MAX;
  }

  /** The number of the next message, which is sent now. */
  sending(): number {
    return this.sent++;
  }

  notOffered(): void {
    this.counts.notOffered += 1;
  }

  /** The queue took it. `offset` -1: at a place that is not known. */
  acknowledged(number: number, offset: number): void {
    this.counts.queued += 1;
    this.isQueued.set(number, 1);
    if (offset >= 0) this.place(number, offset);
  }

  /** A consumer has it now, for `leaseMs` from when it was given. Null: it is none of this queue's, or not as it was sent. */
  given(message: GivenMessage, { leaseMs, consumer }: { readonly leaseMs: number; readonly consumer: number }): Held | null {
    const { offset, token, attempt, storedMs, deadlineMs } = message;
    this.counts.delivered += 1;
    const number = this.identify(message, `offset ${offset}`);
    if (number === null) return null;
    this.place(number, offset);
    const givenMs = deadlineMs - leaseMs;
    const isNew = this.isTokenNew(number, token, attempt, consumer);
    const name = this.nameOf(number);
    if (this.deliveryLimit > 0 && attempt > this.deliveryLimit)
      this.report("Q5", `${name} was given for the ${attempt}th time, ${this.deliveryLimit} are allowed`);
    const earlyMs = storedMs + this.content.delayMs(number) - givenMs;
    if (earlyMs > 0) this.report("Q8", `${name} was given ${earlyMs} ms before its time`);
    const [acked, rejected] = [this.ackedToken.get(number), this.rejectedToken.get(number)];
    if (acked >= 0 && token > acked) this.report("Q4", `${name} was acknowledged under token ${acked} and given again under ${token}`);
    if (rejected >= 0 && token > rejected) this.report("Q5", `${name} was rejected under token ${rejected} and given again under ${token}`);
    if (token > this.returnedToken.get(number) && givenMs < this.dueMs.get(number))
      this.report("Q8", `${name} was to wait once it was given back, and was given ${this.dueMs.get(number) - givenMs} ms too early`);
    if (isNew) this.inOrder(number, offset, token, attempt);
    return { number, token, givenMs };
  }

  /** Before the question; `delayMs` of a nack: how long it is to wait. */
  saying(held: Held, outcome: QueueOutcome, delayMs = 0): Saying {
    const { number, token } = held;
    if (outcome === "ack") this.saidAck.raise(number, token);
    if (outcome === "reject") this.saidReject.raise(number, token);
    return { held, outcome, delayMs, wasSuperseded: this.newestToken.get(number) > token };
  }

  /** The queue says that it was carried out. */
  confirmed({ held, outcome, delayMs, wasSuperseded }: Saying): void {
    const { number, token, givenMs } = held;
    const name = this.nameOf(number);
    if (wasSuperseded) this.report("Q3", `${name}: the ${outcome} under token ${token} was taken, which was not the newest`);
    if (outcome === "nack") {
      this.counts.returned += 1;
      if (token <= this.returnedToken.get(number)) return;
      this.returnedToken.set(number, token);
      this.dueMs.set(number, givenMs + delayMs);
      return;
    }
    this.counts.settled += 1;
    const settled = Math.max(this.ackedToken.get(number), this.rejectedToken.get(number));
    if (settled >= 0) this.report("Q4", `${name} was settled under token ${settled} and again under ${token}`);
    const newest = this.newestToken.get(number);
    if (newest > token && !wasSuperseded)
      this.report(
        outcome === "ack" ? "Q4" : "Q5",
        `${name}: its ${outcome} under token ${token} was taken, and it was given under ${newest}`,
      );
    (outcome === "ack" ? this.ackedToken : this.rejectedToken).raise(number, token);
  }

  /** Refused, or nobody knows. */
  unconfirmed(): void {
    this.counts.unconfirmed += 1;
  }

  /** It stands in the queue of the dead letters; twice, when leaders changed meanwhile. */
  buried(letter: DeadLetter): void {
    const { reason, attempts } = letter;
    this.counts.dead += 1;
    const number = this.identify(letter, "a dead letter");
    if (number === null) return;
    this.copies.set(number, Math.max(0, this.copies.get(number)) + 1);
    const name = this.nameOf(number);
    if (reason === "rejected") {
      if (this.saidReject.get(number) < 0) this.report("Q5", `${name} is a dead letter, and nobody has rejected it`);
    } else if (reason !== "delivery-limit" || this.deliveryLimit === 0 || attempts < this.deliveryLimit)
      this.report("Q5", `${name} is a dead letter (${reason}) after ${attempts} attempts of ${this.deliveryLimit}`);
  }

  /** The queue is empty, and all its dead letters were shown: whatever it took has come to an end. */
  complete(): void {
    for (let number = 0; number < this.sent; number++) {
      const isDead = this.copies.get(number) > 0;
      const isAcked = this.ackedToken.get(number) >= 0;
      if (isAcked && isDead) this.report("Q4", `${this.nameOf(number)} was acknowledged, and is a dead letter`);
      if (isAcked || isDead || this.isQueued.get(number) < 0) continue;
      if (this.rejectedToken.get(number) >= 0) this.report("Q5", `${this.nameOf(number)} was rejected and is no dead letter`);
      else if (!this.mayBeAcked(number)) this.report("Q1", `${this.nameOf(number)} ${this.fateOf(number)}, and is gone`);
    }
  }

  /** Somebody said so of its newest lease. Under an older one it cannot have been taken, or there were no newer one. */
  private mayBeAcked(number: number): boolean {
    const said = this.saidAck.get(number);
    return said >= 0 && said >= this.newestToken.get(number);
  }

  private fateOf(number: number): string {
    const last = this.lastDelivery.get(number);
    const offset = this.offsets.get(number);
    const where = offset < 0 ? "was taken" : `was taken at offset ${offset}`;
    if (last < 0) return `${where}, given to nobody`;
    return `${where}, given last under token ${this.tokens.get(last)} for the ${this.attempts.get(last)}th time, never settled`;
  }

  private identify(message: ReceivedBody, where: string): number | null {
    const number = this.content.numberOf(message.body);
    if (number === null || number >= this.sent) this.report("L1", `${this.queue}: ${where}: ${message.body.length} bytes that nobody sent`);
    else if (!this.content.isExact(number, message)) this.report("L1", `${this.nameOf(number)}, ${where}, is not as it was sent`);
    else return number;
    return null;
  }

  private place(number: number, offset: number): void {
    const known = this.offsets.get(number);
    if (known < 0) this.offsets.set(number, offset);
    else if (known !== offset) this.report("L2", `${this.nameOf(number)} stands at offset ${known} and again at ${offset}`);
  }

  /** Nobody had it under this token; attempts rise with tokens, since nobody here gives anything back as if it had never come. */
  private isTokenNew(number: number, token: number, attempt: number, consumer: number): boolean {
    const last = this.lastDelivery.get(number);
    const name = this.nameOf(number);
    let isTold = false;
    for (let at = last; at >= 0; at = this.before.get(at)) {
      const [otherToken, otherAttempt, other] = [this.tokens.get(at), this.attempts.get(at), this.consumers.get(at)];
      if (otherToken === token) {
        this.report(
          "Q2",
          `${name} was given to consumer ${other} and to ${other === consumer ? "it again" : consumer} under token ${token}`,
        );
        return false;
      }
      if (isTold || (token > otherToken ? attempt > otherAttempt : attempt < otherAttempt)) continue;
      isTold = true;
      this.report("Q2", `${name}: attempt ${attempt} under token ${token}, and ${otherAttempt} under ${otherToken}`);
    }
    const delivery = this.deliveries++;
    this.tokens.set(delivery, token);
    this.attempts.set(delivery, attempt);
    this.consumers.set(delivery, consumer);
    this.before.set(delivery, last);
    this.lastDelivery.set(number, delivery);
    this.newestToken.raise(number, token);
    return true;
  }

  /** By tokens, not by when consumers hear of it. What was delayed has no place among the others. */
  private inOrder(number: number, offset: number, token: number, attempt: number): void {
    const key = this.content.key(number);
    if (attempt > 1 || key === null || this.content.delayMs(number) > 0) return;
    const name = `${key}/${this.content.priority(number)}`;
    let order = this.orders.get(name);
    if (order === undefined) this.orders.set(name, (order = { offsets: [], tokens: [] }));
    const { offsets, tokens } = order;
    let at = offsets.length;
    while (at > 0 && offsets[at - 1]! > offset) at -= 1;
    const [earlier, later] = [tokens[at - 1] ?? NONE, tokens[at] ?? Number.POSITIVE_INFINITY];
    if (earlier > token)
      this.report("Q9", `${this.nameOf(number)} at offset ${offset} was given before the one at ${offsets[at - 1]}, of key ${name}`);
    else if (later < token)
      this.report("Q9", `${this.nameOf(number)} at offset ${offset} was given after the one at ${offsets[at]}, of key ${name}`);
    else {
      offsets.splice(at, 0, offset);
      tokens.splice(at, 0, token);
    }
  }

  private nameOf(number: number): string {
    return `message ${number} of ${this.queue}`;
  }

  private report(invariant: Invariant, text: string): void {
    this.counts.violations += 1;
    this.verdict.report(invariant, text);
  }
}

/** Of all queues together. */
export function sumOf(all: readonly QueueCounts[]): QueueCounts {
  const sum = { queued: 0, notOffered: 0, delivered: 0, settled: 0, returned: 0, unconfirmed: 0, dead: 0, violations: 0 };
  for (const counts of all) for (const name of Object.keys(sum) as (keyof QueueCounts)[]) sum[name] += counts[name];
  return sum;
}
