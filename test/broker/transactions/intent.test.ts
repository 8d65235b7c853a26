// A transaction as a record, and back; and which state its message says it is in.

import { expect, test } from "vitest";
import { DecodeError } from "../../../src/base/bytes.ts";
import type { GroupId } from "../../../src/base/ids.ts";
import { stateFor } from "../../../src/broker/transactions/book.ts";
import { decodeBookPage, decodeBookQuestion, encodeBookPage, encodeBookQuestion } from "../../../src/broker/transactions/codec.ts";
import { decodeIntent, encodeIntent } from "../../../src/broker/transactions/intent.ts";
import { STATE_COMMITTED, STATE_PREPARED, STATE_ROLLED_BACK, type Intent } from "../../../src/broker/transactions/types.ts";

const INTENT: Intent = {
  name: "pay-7",
  isPrepared: true,
  createdMs: 1_800_000_000_000,
  targets: [
    { group: 5 as GroupId, name: "a", partition: 0, count: 2, sidecar: Uint8Array.of(1, 2), records: Uint8Array.of(10, 1, 9, 10, 0) },
    { group: 6 as GroupId, name: "b", partition: 3, count: 1, sidecar: new Uint8Array(0), records: Uint8Array.of(10, 0) },
  ],
  held: (["ack", "release", "reject"] as const)
    .map((kind): Intent["held"][number] => ({
      group: 7 as GroupId,
      queue: "q",
      subscription: "s",
      partition: 1,
      consumer: 2 ** 40,
      token: 9,
      from: 3,
      end: 5,
      outcome: { kind },
    }))
    .concat(
      [-1, 0, 500].map((delayMs) => ({
        group: 8 as GroupId,
        queue: "q",
        subscription: "",
        partition: 0,
        consumer: 1,
        token: 1,
        from: 0,
        end: 1,
        outcome: { kind: "return", delayMs },
      })),
    ),
};

test("intent: what is written down comes back", () => {
  expect(decodeIntent(encodeIntent(INTENT))).toEqual(INTENT);
});

test("intent: what is cut short or of a later release is refused as such", () => {
  const bytes = encodeIntent(INTENT);
  for (let length = 0; length < bytes.length - 40; length += 7) expect(() => decodeIntent(bytes.subarray(0, length))).toThrow(DecodeError);
  expect(() => decodeIntent(Uint8Array.of(10, 3, 18, 1, 9))).toThrow("format 9");
});

test("book: questions and pages come back, and the message's state says the transaction's", () => {
  const question = { group: 5 as GroupId, from: 7, max: 100, nameHash: 0xffff_ffff };
  expect(decodeBookQuestion(encodeBookQuestion(question))).toEqual(question);
  for (const next of [-1, 0, 9]) {
    const page = { rows: [{ offset: 7, state: STATE_COMMITTED, untilMs: 5 } as const], below: 10, next };
    expect(decodeBookPage(encodeBookPage(page))).toEqual(page);
  }
  expect([stateFor(0, true), stateFor(0, false), stateFor(1, true), stateFor(1, false), stateFor(2, true), stateFor(2, false)]).toEqual([
    STATE_PREPARED,
    STATE_ROLLED_BACK,
    STATE_ROLLED_BACK,
    STATE_ROLLED_BACK,
    STATE_COMMITTED,
    STATE_COMMITTED,
  ]);
});
