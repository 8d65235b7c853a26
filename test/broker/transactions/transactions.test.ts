// What a node takes on, and what it says when it cannot know.

import { expect, test } from "vitest";
import { BrokerError } from "../../../src/base/errors.ts";
import { TRANSACTIONS_PER_NODE_BYTES_MAX, TRANSACTIONS_PER_NODE_MAX } from "../../../src/base/limits.ts";
import { Transactions, type TransactionsComponents } from "../../../src/broker/transactions/transactions.ts";
import { STATE_COMMITTED, STATE_ROLLED_BACK, type TransactCall } from "../../../src/broker/transactions/types.ts";
import { TestClock } from "../../support/test-clock.ts";

const NEVER = new AbortController().signal;
const TARGET = { group: 5, name: "a", partition: 0, count: 1, sidecar: new Uint8Array(0), records: Uint8Array.of(10, 0) };
const HELD = { group: 6, queue: "q", subscription: "", partition: 0, consumer: 1, token: 1, from: 0, end: 1, outcome: { kind: "ack" } };

function callOf(bytes: number): TransactCall {
  const how = { partition: -1, partitionKey: null, count: 0, exchange: null, routingKey: "", mandatory: false };
  const publishes = [{ topic: "a", records: new Uint8Array(bytes), ...how }];
  const none = { settles: [], isPrepared: false, timeoutMs: 0, name: "", producerId: 0, producerEpoch: 0, sequence: 0 };
  return { vhost: "", publishes, ...none };
}

function transactionsOf(components: object): Transactions {
  const base = { clock: new TestClock(), producerId: 1_025, checkVhost: () => Promise.resolve() };
  return new Transactions({ ...base, ...components } as unknown as TransactionsComponents);
}

test("transactions: a node takes on so many, and so many bytes of them, and refuses the next one at once", async () => {
  const stuck = transactionsOf({ planner: { plan: () => new Promise(() => {}) } });
  for (let at = 0; at < TRANSACTIONS_PER_NODE_MAX; at++) void stuck.transact(callOf(1), NEVER);
  await expect(stuck.transact(callOf(1), NEVER)).rejects.toMatchObject({ code: "OVERLOADED" });
  const large = transactionsOf({ planner: { plan: () => new Promise(() => {}) } });
  void large.transact(callOf(TRANSACTIONS_PER_NODE_BYTES_MAX - 10), NEVER);
  await expect(large.transact(callOf(11), NEVER)).rejects.toMatchObject({ code: "OVERLOADED" });
  const freed = transactionsOf({ planner: { plan: () => Promise.reject(new BrokerError("UNKNOWN_TOPIC", "none")) } });
  for (let at = 0; at < 3; at++)
    await expect(freed.transact(callOf(TRANSACTIONS_PER_NODE_BYTES_MAX), NEVER)).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
});

test("transactions: those of one node are told apart by numbers that stay in reach of each other", async () => {
  const origins: { producerId: number; sequence: number }[] = [];
  const book = {
    groupOf: () => Promise.resolve(9),
    write: (_group: number, _intent: object, { origin }: { origin: { producerId: number; sequence: number } }) => {
      origins.push(origin);
      return Promise.resolve({ offset: origins.length, isDuplicate: false });
    },
    withdraw: () => Promise.resolve(1),
  };
  const planner = { plan: () => Promise.resolve({ targets: [TARGET], held: [] }) };
  const transactions = transactionsOf({ book, planner, executor: { carryOut: () => Promise.resolve() } });
  for (let at = 0; at < 40; at++) await transactions.transact(callOf(1), NEVER);
  expect(new Set(origins.map(({ producerId, sequence }) => `${producerId}/${sequence}`)).size).toBe(40);
  expect(Math.max(...origins.map(({ sequence }) => sequence))).toBe(2);
});

test.each([
  { what: "the verdict was lost", decide: () => Promise.reject(new BrokerError("NO_LEADER", "none")), code: "TIMEOUT" },
  { what: "it is over meanwhile", decide: () => Promise.resolve(null), code: "TIMEOUT" },
  { what: "its time was up", decide: () => Promise.resolve(STATE_ROLLED_BACK), code: "TRANSACTION_ENDED" },
])("transactions: $what: that is what is said", async ({ decide, code }) => {
  const book = { groupOf: () => Promise.resolve(9), write: () => Promise.resolve({ offset: 1, isDuplicate: false }), decide };
  const planner = { plan: () => Promise.resolve({ targets: [TARGET], held: [HELD] }) };
  const transactions = transactionsOf({ book, planner, executor: { hold: () => Promise.resolve() } });
  await expect(transactions.transact(callOf(1), NEVER)).rejects.toMatchObject({ code });
});

test("transactions: what could not be held is refused once that is the verdict, and committed where somebody else was quicker", async () => {
  const lost = new BrokerError("LEASE_LOST", "gone");
  const done: number[] = [];
  const make = (decided: number): Transactions =>
    transactionsOf({
      book: {
        groupOf: () => Promise.resolve(9),
        write: () => Promise.resolve({ offset: 1, isDuplicate: false }),
        decide: () => Promise.resolve(decided),
        withdraw: () => Promise.resolve(1),
      },
      planner: { plan: () => Promise.resolve({ targets: [TARGET], held: [HELD] }) },
      executor: {
        hold: () => Promise.reject(lost),
        carryOut: (_transaction: object, _intent: object, verdict: number) => Promise.resolve(void done.push(verdict)),
      },
    });
  await expect(make(STATE_ROLLED_BACK).transact(callOf(1), NEVER)).rejects.toBe(lost);
  await expect(make(STATE_COMMITTED).transact(callOf(1), NEVER)).resolves.toMatchObject({ state: STATE_COMMITTED, isComplete: true });
  expect(done).toEqual([STATE_ROLLED_BACK, STATE_COMMITTED]);
});
