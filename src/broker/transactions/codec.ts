// Bodies of what nodes ask the leader of a queue of transactions.

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { toGroupId, type GroupId } from "../../base/ids.ts";
import { TRANSACTIONS_PER_VHOST_MAX } from "../../base/limits.ts";
import { STATE_COMMITTED, STATE_PREPARED, STATE_ROLLED_BACK, type TransactionState } from "./types.ts";

/** Of those that are not over: the rows of `max` from this number on; with a hash only those whose name has it. */
export type BookQuestion = { readonly group: GroupId; readonly from: number; readonly max: number; readonly nameHash: number };
export type BookRow = {
  readonly offset: number;
  readonly state: TransactionState;
  /** When it is looked at by itself; 0 = now. */
  readonly untilMs: number;
};
/** All numbers below `below` were given out by the time of the answer. `next`: -1 at the end. */
export type BookPage = { readonly rows: readonly BookRow[]; readonly below: number; readonly next: number };

export function encodeBookQuestion({ group, from, max, nameHash }: BookQuestion): Uint8Array {
  return new ByteWriter(32).u32(group).varint(from).varint(max).varint(nameHash).finish();
}

export function decodeBookQuestion(body: Uint8Array): BookQuestion {
  const reader = new ByteReader(body);
  const question = { group: toGroupId(reader.u32()), from: reader.varint(), max: reader.varint(), nameHash: reader.varint() };
  reader.done();
  if (question.max > TRANSACTIONS_PER_VHOST_MAX) throw new DecodeError(`${question.max} transactions in one answer`);
  return question;
}

export function encodeBookPage({ rows, below, next }: BookPage): Uint8Array {
  const writer = new ByteWriter(32 + rows.length * 16)
    .varint(below)
    .varint(next + 1)
    .varint(rows.length);
  for (const { offset, state, untilMs } of rows) writer.varint(offset).u8(state).varint(untilMs);
  return writer.finish();
}

export function decodeBookPage(body: Uint8Array): BookPage {
  const reader = new ByteReader(body);
  const [below, next] = [reader.varint(), reader.varint() - 1];
  const rows = Array.from({ length: reader.varint() }, () => ({
    offset: reader.varint(),
    state: stateOf(reader.u8()),
    untilMs: reader.varint(),
  }));
  reader.done();
  return { rows, below, next };
}

function stateOf(value: number): TransactionState {
  if (value !== STATE_PREPARED && value !== STATE_COMMITTED && value !== STATE_ROLLED_BACK)
    throw new DecodeError(`state ${value} of a transaction`);
  return value;
}
