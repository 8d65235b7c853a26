// What was sent to a queue, what its consumers were given and what they said of it; every answer is held against it at once. Invariants
// Q1 to Q9 by their names in the research, but Q6 (held-watch.ts).

import { Violation } from "./history.ts";

/** A message that a producer sent, however often. */
export type SentMessage = {
  readonly id: string;
  readonly key: string;
  readonly priority: number;
  readonly delayMs: number;
  readonly ttlMs: number;
  isAcked: boolean;
  /** Where it is, once somebody said so; -1 before. */
  offset: number;
};

/** One message as a consumer was given it. */
export type GivenMessage = {
  readonly id: string;
  readonly offset: number;
  readonly token: number;
  readonly attempt: number;
  readonly storedMs: number;
  /** The log's time when it was given. */
  readonly givenMs: number;
  readonly consumer: string;
};

type Known = {
  readonly sent: SentMessage;
  /** By token, ascending: who was given it, and for the how manyth time. */
  readonly given: { token: number; consumer: string; attempt: number }[];
  /** The token under which it was acknowledged, or rejected, for sure. */
  settledToken: number;
  isRejected: boolean;
  /** Somebody said it and does not know what came of it. */
  isUnknown: boolean;
};

export class QueueHistory {
  readonly queue: string;
  readonly counts = { queued: 0, given: 0, settled: 0, returned: 0, lost: 0, dead: 0 };
  private readonly deliveryLimit: number;
  /** Clocks of nodes jump: times of one node say nothing of those of another. */
  private readonly clocksJump: boolean;
  private readonly messages = new Map<string, Known>();
  private readonly byKey = new Map<string, SentMessage[]>();

  constructor(queue: string, deliveryLimit: number, clocksJump: boolean) {
    this.queue = queue;
    this.deliveryLimit = deliveryLimit;
    this.clocksJump = clocksJump;
  }

  sending(message: SentMessage): void {
    this.messages.set(message.id, { sent: message, given: [], settledToken: 0, isRejected: false, isUnknown: false });
    if (message.key === "" || message.delayMs > 0) return;
    const key = `${message.key}/${message.priority}`;
    const before = this.byKey.get(key);
    if (before === undefined) this.byKey.set(key, [message]);
    else before.push(message);
  }

  acknowledged(message: SentMessage, offset: number): void {
    if (message.offset >= 0 && message.offset !== offset)
      throw new Violation("L2", `${this.queue}: ${message.id} is at ${message.offset} and at ${offset}`);
    message.isAcked = true;
    message.offset = offset;
    this.counts.queued += 1;
  }

  given(message: GivenMessage): void {
    const { id, offset, token, attempt, consumer, storedMs, givenMs } = message;
    const known = this.messages.get(id);
    if (known === undefined) throw new Violation("L1", `${this.queue}: what was given at ${offset} was never sent`);
    const { sent, given } = known;
    const where = `${this.queue}: ${id} at ${offset}`;
    if (sent.offset >= 0 && sent.offset !== offset) throw new Violation("L4", `${where} was stored at ${sent.offset}`);
    sent.offset = offset;
    this.counts.given += 1;
    const same = given.find((one) => one.token === token);
    if (same !== undefined) throw new Violation("Q2", `${where} was given to ${same.consumer} and to ${consumer} under token ${token}`);
    if (known.settledToken > 0 && token > known.settledToken)
      throw new Violation("Q4", `${where} was settled under token ${known.settledToken} and given again under ${token}`);
    for (const before of given) {
      const isFewer = token > before.token ? attempt < before.attempt : attempt > before.attempt;
      if (isFewer) throw new Violation("Q2", `${where}: attempt ${attempt} under token ${token}, ${before.attempt} under ${before.token}`);
    }
    if (this.deliveryLimit > 0 && attempt > this.deliveryLimit)
      throw new Violation("Q5", `${where} was given for the ${attempt}th time, ${this.deliveryLimit} are allowed`);
    if (givenMs < storedMs + sent.delayMs) throw new Violation("Q8", `${where} was given ${storedMs + sent.delayMs - givenMs} ms early`);
    const expiresMs = storedMs + sent.delayMs + sent.ttlMs;
    if (sent.ttlMs > 0 && givenMs >= expiresMs && !this.clocksJump)
      throw new Violation("Q7", `${where} was given ${givenMs - expiresMs} ms after it had expired`);
    given.push({ token, consumer, attempt });
    this.inOrder(known, token, attempt);
  }

  /** What may be said before the question is asked: somebody else was given it since. */
  isSuperseded(id: string, token: number): boolean {
    return this.messages.get(id)!.given.some((one) => one.token > token);
  }

  /** `wasSuperseded`: when the question was asked. */
  settled(id: string, token: number, outcome: string, wasSuperseded: boolean): void {
    const known = this.messages.get(id)!;
    if (wasSuperseded) throw new Violation("Q3", `${this.queue}: ${id} was settled under token ${token}, which is not the newest`);
    if (outcome !== "ack" && outcome !== "reject") {
      this.counts.returned += 1;
      return;
    }
    if (known.settledToken > 0 && known.settledToken !== token)
      throw new Violation("Q4", `${this.queue}: ${id} was settled under token ${known.settledToken} and again under ${token}`);
    for (const one of known.given)
      if (one.token > token)
        throw new Violation("Q4", `${this.queue}: ${id} was settled under token ${token} and given under ${one.token}`);
    known.settledToken = token;
    if (outcome === "reject") known.isRejected = true;
    this.counts.settled += 1;
  }

  refused(): void {
    this.counts.lost += 1;
  }

  unknown(id: string): void {
    this.messages.get(id)!.isUnknown = true;
  }

  /** Q1, Q5: the queue is empty, and these are its dead letters: nothing that was taken is missing. */
  complete(dead: ReadonlyMap<string, number>): void {
    for (const { sent, settledToken, isRejected, isUnknown, given } of this.messages.values()) {
      if (!sent.isAcked) continue;
      const copies = dead.get(sent.id) ?? 0;
      this.counts.dead += copies;
      if (isRejected && copies === 0) throw new Violation("Q5", `${this.queue}: ${sent.id} was rejected and is no dead letter`);
      const isDone = settledToken > 0 || isUnknown || copies > 0 || sent.ttlMs > 0;
      if (!isDone)
        throw new Violation("Q1", `${this.queue}: ${sent.id} was taken at ${sent.offset}, given ${given.length} times, and is gone`);
    }
  }

  /** Of one key and priority the first ones come in the order in which they were stored. */
  private inOrder({ sent }: Known, token: number, attempt: number): void {
    if (attempt > 1 || sent.key === "" || sent.delayMs > 0) return;
    for (const other of this.byKey.get(`${sent.key}/${sent.priority}`) ?? []) {
      if (other.offset <= sent.offset || other.offset < 0) continue;
      const before = this.messages.get(other.id)!.given.find((one) => one.token < token);
      if (before !== undefined)
        throw new Violation(
          "Q9",
          `${this.queue}: ${other.id} at ${other.offset} was given before ${sent.id} at ${sent.offset}, of one key`,
        );
    }
  }
}
