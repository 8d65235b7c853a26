// The books of a queue: each check with a history that it must fail, beside those that it must pass.

import { expect, test } from "vitest";
import { QueueContent } from "../../../bench/chaos/queue-content.ts";
import { MESSAGES_MAX, QueueLedger, sumOf, type GivenMessage, type Held, type QueueOutcome } from "../../../bench/chaos/queue-ledger.ts";
import { Verdict } from "../../../bench/chaos/verdict.ts";

const LEASE_MS = 1_000;
const STORED_MS = 5_000;
const LIMIT = 3;
const content = new QueueContent(7, 0, 90);

/** Numbers of messages of which this is true. */
function numbers(count: number, isWanted: (number: number) => boolean): number[] {
  const found: number[] = [];
  for (let number = 0; found.length < count; number++) if (isWanted(number)) found.push(number);
  return found;
}

const [plain, other] = numbers(2, (number) => content.key(number) === null && content.delayMs(number) === 0) as [number, number];
const [delayed] = numbers(1, (number) => content.delayMs(number) === 500) as [number];
const first = numbers(1, (number) => content.key(number) !== null && content.delayMs(number) === 0)[0]!;
const sameKey = (isSamePriority: boolean): number =>
  numbers(
    2,
    (number) =>
      content.key(number) === content.key(first) &&
      content.delayMs(number) === 0 &&
      (number === first || (content.priority(number) === content.priority(first)) === isSamePriority),
  )[1]!;

class Story {
  readonly verdict = new Verdict();
  readonly ledger = new QueueLedger("q", { content, deliveryLimit: LIMIT }, this.verdict);

  /** Sends so many that all of these are among them; the queue takes those, each at the offset of its number. */
  sent(...taken: number[]): this {
    while (this.ledger.sent <= Math.max(...taken)) this.ledger.sending();
    for (const number of taken) this.ledger.acknowledged(number, number);
    return this;
  }

  message(number: number, token: number, facts: Partial<GivenMessage> = {}): GivenMessage {
    const key = content.key(number);
    return {
      key: key === null ? null : Buffer.from(key),
      priority: content.priority(number),
      body: Buffer.from(content.record(number).body as Buffer),
      offset: number,
      token,
      attempt: 1,
      storedMs: STORED_MS,
      deadlineMs: STORED_MS + 2_000 + LEASE_MS,
      ...facts,
    };
  }

  give(number: number, token: number, facts: Partial<GivenMessage> = {}, consumer = 1): Held {
    return this.ledger.given(this.message(number, token, facts), { leaseMs: LEASE_MS, consumer })!;
  }

  say(held: Held, outcome: QueueOutcome, delayMs = 0): this {
    this.ledger.confirmed(this.ledger.saying(held, outcome, delayMs));
    return this;
  }

  bury(number: number, reason = "rejected", attempts = 1): this {
    this.ledger.buried({ ...this.message(number, 0), reason, attempts });
    return this;
  }

  get found(): string[] {
    return this.verdict.findings().map(({ invariant, count }) => `${invariant} ${count}`);
  }

  end(): string[] {
    this.ledger.complete();
    return this.found;
  }
}

test("a right history passes: settled, given back, rejected, tried too often, delayed, and in order", () => {
  const second = sameKey(true);
  const story = new Story().sent(plain, other, delayed, first, second);
  const back = story.give(plain, 7);
  story.say(back, "nack", 500);
  const again = story.give(plain, 9, { attempt: 2, deadlineMs: STORED_MS + 3_000 + LEASE_MS }, 2);
  story.say(again, "ack");
  story.say(story.give(other, 7), "reject").bury(other).bury(other);
  for (const attempt of [1, 2, 3]) story.give(delayed, 10 + attempt, { attempt, deadlineMs: STORED_MS + 500 + LEASE_MS }, attempt);
  story.bury(delayed, "delivery-limit", 3);
  // Heard of in another order than it was given in.
  story.say(story.give(second, 22), "ack");
  story.say(story.give(first, 20, {}, 2), "ack");
  expect(story.end()).toEqual([]);
  expect(story.ledger.counts).toMatchObject({ queued: 5, delivered: 8, settled: 4, returned: 1, dead: 3, violations: 0 });
});

test("what nobody knows is no violation", () => {
  const story = new Story().sent(plain, first);
  // Whether it was taken the producer was not told.
  const unknown = story.ledger.sending();
  story.say(story.give(unknown, 3), "ack");
  // The answer never came; it was carried out.
  story.ledger.saying(story.give(plain, 7), "ack");
  // The answer never came; it was not carried out.
  story.ledger.saying(story.give(first, 7), "reject");
  story.say(story.give(first, 9, { attempt: 2 }), "ack");
  story.ledger.unconfirmed();
  expect(story.end()).toEqual([]);
  expect(story.ledger.counts.unconfirmed).toBe(1);
});

test("L1: what nobody sent, what is another queue's, and what was altered", () => {
  const story = new Story().sent(plain);
  story.give(story.ledger.sent, 3);
  story.give(plain, 4, { body: Buffer.alloc(40, 1) });
  story.give(plain, 5, { body: Buffer.from(new QueueContent(7, 1, 90).record(plain).body as Buffer) });
  const body = Buffer.from(content.record(plain).body as Buffer);
  body[body.length - 1]! ^= 1;
  story.give(plain, 6, { body });
  story.give(plain, 7, { key: Buffer.from("other") });
  story.give(plain, 8, { priority: 9 });
  expect(story.found).toEqual(["L1 6"]);
});

test("L2: one message at two places", () => {
  const story = new Story().sent(plain);
  story.give(plain, 4, { offset: 900 });
  expect(story.found).toEqual(["L2 1"]);
});

test("Q1: taken, and neither settled nor dead", () => {
  expect(new Story().sent(plain).end()).toEqual(["Q1 1"]);
  const held = new Story().sent(plain);
  held.give(plain, 7);
  expect(held.end()).toEqual(["Q1 1"]);
  // Given again since, so what was said before cannot have been carried out.
  const old = new Story().sent(plain);
  old.ledger.saying(old.give(plain, 7), "ack");
  old.give(plain, 9, { attempt: 2 });
  expect(old.end()).toEqual(["Q1 1"]);
  const returned = new Story().sent(plain);
  returned.say(returned.give(plain, 7), "nack");
  expect(returned.end()).toEqual(["Q1 1"]);
});

test("Q2: one token twice, and attempts that go back or stand still", () => {
  const twice = new Story().sent(plain);
  twice.give(plain, 7);
  twice.give(plain, 7, {}, 2);
  expect(twice.found).toEqual(["Q2 1"]);
  const back = new Story().sent(plain);
  back.give(plain, 7, { attempt: 2 });
  back.give(plain, 9, { attempt: 1 });
  expect(back.found).toEqual(["Q2 1"]);
  const late = new Story().sent(plain);
  late.give(plain, 9, { attempt: 2 });
  late.give(plain, 7, { attempt: 2 });
  expect(late.found).toEqual(["Q2 1"]);
});

test("Q3: settled under a token that was not the newest", () => {
  const story = new Story().sent(plain);
  const old = story.give(plain, 7);
  story.give(plain, 9, { attempt: 2 });
  story.say(old, "nack");
  expect(story.found).toEqual(["Q3 1"]);
});

test("Q4: acknowledged, and given again, settled again, or a dead letter", () => {
  const again = new Story().sent(plain);
  again.say(again.give(plain, 7), "ack");
  again.give(plain, 9, { attempt: 2 });
  expect(again.found).toEqual(["Q4 1"]);
  const meanwhile = new Story().sent(plain);
  const saying = meanwhile.ledger.saying(meanwhile.give(plain, 7), "ack");
  meanwhile.give(plain, 9, { attempt: 2 });
  meanwhile.ledger.confirmed(saying);
  expect(meanwhile.found).toEqual(["Q4 1"]);
  const twice = new Story().sent(plain);
  const held = twice.give(plain, 7);
  twice.say(held, "ack").say(held, "ack");
  expect(twice.found).toEqual(["Q4 1"]);
  const dead = new Story().sent(plain);
  for (const attempt of [1, 2]) dead.give(plain, attempt, { attempt });
  dead.say(dead.give(plain, 7, { attempt: 3 }), "ack").bury(plain, "delivery-limit", 3);
  expect(dead.end()).toEqual(["Q4 1"]);
});

test("Q5: rejected and no dead letter, given again, beyond the limit, and dead for nothing", () => {
  const gone = new Story().sent(plain);
  gone.say(gone.give(plain, 7), "reject");
  expect(gone.end()).toEqual(["Q5 1"]);
  const again = new Story().sent(plain);
  again.say(again.give(plain, 7), "reject");
  again.give(plain, 9, { attempt: 2 });
  expect(again.found).toEqual(["Q5 1"]);
  const often = new Story().sent(plain);
  often.give(plain, 7, { attempt: LIMIT + 1 });
  expect(often.found).toEqual(["Q5 1"]);
  const early = new Story().sent(plain, other).bury(plain, "delivery-limit", 2).bury(other);
  expect(early.found).toEqual(["Q5 2"]);
});

test("Q8: before its time, as it was sent and as it was given back", () => {
  const sent = new Story().sent(delayed);
  sent.give(delayed, 7, { deadlineMs: STORED_MS + 499 + LEASE_MS });
  expect(sent.found).toEqual(["Q8 1"]);
  const back = new Story().sent(plain);
  back.say(back.give(plain, 7), "nack", 500);
  back.give(plain, 9, { attempt: 2, deadlineMs: STORED_MS + 2_499 + LEASE_MS });
  expect(back.found).toEqual(["Q8 1"]);
});

test("Q9: of one key and priority the later one first; of another priority it may be", () => {
  for (const tokens of [
    [22, 20],
    [20, 22],
  ] as const)
    for (const isSamePriority of [true, false])
      for (const isHeardFirst of [true, false]) {
        const second = sameKey(isSamePriority);
        const story = new Story().sent(first, second);
        const gives = [() => story.give(first, tokens[0]), () => story.give(second, tokens[1])];
        for (const give of isHeardFirst ? gives : gives.reverse()) give();
        expect(story.found).toEqual(isSamePriority && tokens[0] > tokens[1] ? ["Q9 1"] : []);
      }
  // One that was given before has had its turn.
  const story = new Story().sent(first, sameKey(true));
  story.give(sameKey(true), 20);
  story.give(first, 22, { attempt: 2 });
  expect(story.found).toEqual([]);
});

test("the books are bounded, and those of several queues add up", () => {
  const { ledger } = new Story();
  while (!ledger.isFull) ledger.sending();
  expect(ledger.sent).toBe(MESSAGES_MAX);
  const story = new Story().sent(plain, other);
  story.give(plain, 7);
  expect(sumOf([story.ledger.counts, new Story().sent(plain).ledger.counts])).toMatchObject({ queued: 3, delivered: 1, dead: 0 });
});
