// A queue's history must be wrong where it is: each check with a history that it has to refuse, beside one that is right.

import { expect, test } from "vitest";
import { HeldWatch } from "./held-watch.ts";
import { QueueHistory, type GivenMessage, type SentMessage } from "./queue-history.ts";

const STORED_MS = 1_000;

class Bench {
  readonly history: QueueHistory;

  constructor({ deliveryLimit = 0, clocksJump = false } = {}) {
    this.history = new QueueHistory("q", deliveryLimit, clocksJump);
  }

  send(id: string, offset: number, facts: Partial<SentMessage> = {}): void {
    const message = { id, key: "", priority: 0, delayMs: 0, ttlMs: 0, isAcked: false, offset: -1, ...facts };
    this.history.sending(message);
    if (offset >= 0) this.history.acknowledged(message, offset);
  }

  give(id: string, offset: number, token: number, facts: Partial<GivenMessage> = {}): void {
    this.history.given({ id, offset, token, attempt: 1, storedMs: STORED_MS, givenMs: 5_000, consumer: "one", ...facts });
  }
}

function bench(): Bench {
  const made = new Bench();
  made.send("a", 0);
  made.send("b", 1);
  return made;
}

test("queue history: a right one passes", () => {
  const other = new Bench({ deliveryLimit: 3 });
  other.send("a", 0, { key: "k", delayMs: 100, ttlMs: 10_000 });
  other.send("b", 1, { key: "k" });
  other.give("a", 0, 7);
  other.give("a", 0, 9, { attempt: 2, consumer: "two" });
  other.history.settled("a", 9, "ack", false);
  other.give("b", 1, 12);
  other.history.settled("b", 12, "reject", false);
  other.history.complete(new Map([["b", 1]]));
  expect(other.history.counts).toMatchObject({ queued: 2, given: 3, settled: 2, dead: 1 });
});

test("Q1: what was taken and is gone, settled by nobody", () => {
  const { history } = bench();
  expect(() => history.complete(new Map())).toThrow("Q1: q: a was taken at 0");
});

test("Q2: one token of two consumers, or twice of one, and a count of attempts that goes back", () => {
  const made = bench();
  made.give("a", 0, 7);
  expect(() => made.give("a", 0, 7, { consumer: "two" })).toThrow("Q2");
  expect(() => made.give("a", 0, 7)).toThrow("Q2");
  made.give("b", 1, 7, { attempt: 2 });
  expect(() => made.give("b", 1, 9, { attempt: 1 })).toThrow("Q2");
});

test("Q3: settled under a token that is not the newest", () => {
  const made = bench();
  made.give("a", 0, 7);
  made.give("a", 0, 9);
  expect(made.history.isSuperseded("a", 7)).toBe(true);
  expect(() => made.history.settled("a", 7, "ack", true)).toThrow("Q3");
});

test("Q4: settled, and given again or settled again", () => {
  const made = bench();
  made.give("a", 0, 7);
  made.history.settled("a", 7, "ack", false);
  expect(() => made.give("a", 0, 9)).toThrow("Q4");
  const other = bench();
  other.give("a", 0, 7);
  other.give("a", 0, 9);
  expect(() => other.history.settled("a", 7, "ack", false)).toThrow("Q4");
});

test("Q5: beyond the limit, or rejected and no dead letter", () => {
  const made = new Bench({ deliveryLimit: 2 });
  made.send("a", 0);
  expect(() => made.give("a", 0, 7, { attempt: 3 })).toThrow("Q5");
  const other = bench();
  other.give("a", 0, 7);
  other.history.settled("a", 7, "reject", false);
  expect(() => other.history.complete(new Map())).toThrow("Q5");
});

test("Q6: held under one lease for longer than that lasts; under a new one, or after a while without, it may be", () => {
  const lease = { firstOffset: 4, count: 2, deliveries: 1, untilMs: 900 };
  const watch = new HeldWatch("q", 700);
  watch.look([lease], 100);
  watch.look([lease], 800);
  watch.look([{ ...lease, deliveries: 2, untilMs: 1_700 }], 900);
  watch.look([], 1_000);
  watch.look([lease], 1_700);
  expect(() => watch.look([{ ...lease, firstOffset: 5, count: 1 }], 2_401)).toThrow("Q6: q: the message at 5 has been held for 701 ms");
});

test("Q7, Q8: after it has expired, and before it is due", () => {
  const made = new Bench();
  made.send("a", 0, { ttlMs: 500 });
  expect(() => made.give("a", 0, 7, { givenMs: STORED_MS + 500 })).toThrow("Q7");
  made.give("a", 0, 7, { givenMs: STORED_MS + 499 });
  made.send("b", 1, { delayMs: 500 });
  expect(() => made.give("b", 1, 8, { givenMs: STORED_MS + 499 })).toThrow("Q8: q: b at 1 was given 1 ms early");
});

test("Q9: of one key and priority the later one first; of another priority it may be", () => {
  const made = new Bench();
  made.send("a", 0, { key: "k" });
  made.send("b", 1, { key: "k" });
  made.send("c", 2, { key: "k", priority: 3 });
  made.give("c", 2, 6);
  made.give("b", 1, 7);
  expect(() => made.give("a", 0, 9)).toThrow("Q9");
});

test("L1, L2, L4: what nobody sent, one message at two places, and another one at its place", () => {
  const made = bench();
  expect(() => made.give("x", 5, 7)).toThrow("L1");
  expect(() => made.give("a", 1, 7)).toThrow("L4");
  const message = { id: "c", key: "", priority: 0, delayMs: 0, ttlMs: 0, isAcked: true, offset: 4 };
  expect(() => made.history.acknowledged(message, 5)).toThrow("L2");
});
