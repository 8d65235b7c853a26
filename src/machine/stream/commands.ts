// Commands of a stream as bytes: u8 format, u8 kind, then the fields.

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { COMMIT_METADATA_LENGTH_MAX, RELOCATED_RUNS_MAX, TRANSACTIONS_PER_VHOST_MAX, WORK_OPERATIONS_MAX } from "../../base/limits.ts";
import { isName } from "../names.ts";
import type { Run } from "../work/lanes.ts";
import { Lost } from "../work/lost.ts";
import { readOperation, writeOperation, type WorkOperation } from "../work/operations.ts";
import { readGroupOperation, writeGroupOperation, type GroupOperation } from "./group-operations.ts";
import type { CursorCommit } from "./cursors.ts";

const FORMAT = 1;
export const COMMAND_COMMIT = 1;
export const COMMAND_DELETE_CURSOR = 2;
export const COMMAND_TRIM = 3;
export const COMMAND_WORK = 4;
export const COMMAND_RELOCATE = 5;
export const COMMAND_GROUP = 6;
export const COMMAND_TRANSACTIONS = 7;
/** Results of operations are small numbers, and those below zero say what was wrong. */
const RESULT_BIAS = 16;

/** Records that are stored anew: neighbours, and when they were stored first. */
export type RelocatedRun = Run & { readonly timeMs: number };

/** Of the transactions below `below` of this queue of transactions only these are not over, ascending. */
export type UnfinishedTransactions = { readonly group: number; readonly below: number; readonly unfinished: readonly number[] };

export type StreamCommand =
  | ({ readonly kind: typeof COMMAND_COMMIT } & CursorCommit)
  | { readonly kind: typeof COMMAND_DELETE_CURSOR; readonly subscription: string }
  | { readonly kind: typeof COMMAND_TRIM; /** The new first offset. */ readonly offset: number }
  | { readonly kind: typeof COMMAND_WORK; readonly operations: readonly WorkOperation[] }
  | {
      readonly kind: typeof COMMAND_RELOCATE;
      readonly runs: readonly RelocatedRun[];
      /** A RecordBatch of the records of all runs; shares the command's memory. */
      readonly records: Uint8Array;
    }
  | { readonly kind: typeof COMMAND_GROUP; readonly operation: GroupOperation }
  | ({ readonly kind: typeof COMMAND_TRANSACTIONS } & UnfinishedTransactions);

function begin(kind: number): ByteWriter {
  return new ByteWriter(64).u8(FORMAT).u8(kind);
}

export function encodeCommitOffset(commit: CursorCommit): Uint8Array {
  return begin(COMMAND_COMMIT)
    .string(commit.subscription)
    .u64(commit.offset)
    .string(commit.metadata)
    .u8(commit.reset ? 1 : 0)
    .varint(commit.generation)
    .finish();
}

export function encodeDeleteCursor(subscription: string): Uint8Array {
  return begin(COMMAND_DELETE_CURSOR).string(subscription).finish();
}

export function encodeTrim(offset: number): Uint8Array {
  return begin(COMMAND_TRIM).u64(offset).finish();
}

export function encodeWork(operations: readonly WorkOperation[]): Uint8Array {
  const writer = new ByteWriter(16 + operations.length * 32).u8(FORMAT).u8(COMMAND_WORK).varint(operations.length);
  for (const operation of operations) writeOperation(writer, operation);
  return writer.finish();
}

export function encodeRelocate(runs: readonly RelocatedRun[], records: Uint8Array): Uint8Array {
  const writer = new ByteWriter(records.length + 64 + runs.length * 16).u8(FORMAT).u8(COMMAND_RELOCATE).varint(runs.length);
  for (const { from, end, timeMs } of runs)
    writer
      .varint(from)
      .varint(end - from)
      .varint(timeMs);
  return writer.block(records).finish();
}

export function encodeGroup(operation: GroupOperation): Uint8Array {
  const writer = begin(COMMAND_GROUP);
  writeGroupOperation(writer, operation);
  return writer.finish();
}

export function encodeTransactions({ group, below, unfinished }: UnfinishedTransactions): Uint8Array {
  const writer = begin(COMMAND_TRANSACTIONS).u32(group).varint(below).varint(unfinished.length);
  let before = 0;
  for (const offset of unfinished) {
    writer.varint(offset - before);
    before = offset;
  }
  return writer.finish();
}

/** The results of the operations of one entry, in their order, and what was lost of settlements of which not all was. */
export function encodeResults(results: readonly number[], lost: Lost): Uint8Array {
  const writer = new ByteWriter(results.length * 2 + 8).varint(results.length);
  for (const result of results) writer.varint(result + RESULT_BIAS);
  lost.write(writer);
  return writer.finish();
}

export function decodeResults(bytes: Uint8Array): { results: number[]; lost: Lost } {
  const reader = new ByteReader(bytes);
  const results = Array.from({ length: reader.varint() }, () => reader.varint() - RESULT_BIAS);
  const lost = Lost.read(reader);
  reader.done();
  return { results, lost };
}

/** Undefined for anything that is not a command of this format: the machine then replies BAD_COMMAND. */
export function decodeStreamCommand(bytes: Uint8Array): StreamCommand | undefined {
  try {
    const reader = new ByteReader(bytes);
    if (reader.u8() !== FORMAT) return undefined;
    const command = decodeFields(reader.u8(), reader);
    reader.done();
    return command;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

function decodeFields(kind: number, reader: ByteReader): StreamCommand | undefined {
  switch (kind) {
    case COMMAND_COMMIT:
      return {
        kind,
        subscription: name(reader),
        offset: reader.u64(),
        metadata: metadata(reader),
        reset: reader.u8() === 1,
        generation: reader.varint(),
      };
    case COMMAND_DELETE_CURSOR:
      return { kind, subscription: name(reader) };
    case COMMAND_TRIM:
      return { kind, offset: reader.u64() };
    case COMMAND_WORK:
      return { kind, operations: operations(reader) };
    case COMMAND_RELOCATE:
      return { kind, runs: relocatedRuns(reader), records: reader.block() };
    case COMMAND_GROUP:
      return { kind, operation: readGroupOperation(reader) };
    case COMMAND_TRANSACTIONS:
      return { kind, ...unfinishedTransactions(reader) };
    default:
      return undefined;
  }
}

function unfinishedTransactions(reader: ByteReader): UnfinishedTransactions {
  const [group, below, count] = [reader.u32(), reader.varint(), reader.varint()];
  if (count > TRANSACTIONS_PER_VHOST_MAX) throw new DecodeError(`${count} unfinished transactions`);
  let before = 0;
  const unfinished = Array.from({ length: count }, () => (before += reader.varint()));
  if (before >= below && count > 0) throw new DecodeError("a transaction that is not among these");
  return { group, below, unfinished };
}

function operations(reader: ByteReader): WorkOperation[] {
  const count = reader.varint();
  if (count > WORK_OPERATIONS_MAX) throw new DecodeError(`${count} operations of one entry`);
  return Array.from({ length: count }, () => readOperation(reader));
}

function relocatedRuns(reader: ByteReader): RelocatedRun[] {
  const count = reader.varint();
  if (count > RELOCATED_RUNS_MAX) throw new DecodeError(`${count} runs of one relocation`);
  return Array.from({ length: count }, () => {
    const [from, length, timeMs] = [reader.varint(), reader.varint(), reader.varint()];
    if (length === 0 || !Number.isSafeInteger(from + length)) throw new DecodeError("a run of no offsets");
    return { from, end: from + length, timeMs };
  });
}

function name(reader: ByteReader): string {
  const value = reader.string();
  if (!isName(value)) throw new DecodeError("not a subscription name");
  return value;
}

function metadata(reader: ByteReader): string {
  const value = reader.string();
  if (value.length > COMMIT_METADATA_LENGTH_MAX) throw new DecodeError("metadata too long");
  return value;
}
