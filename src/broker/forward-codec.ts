// Bodies of forwarded requests and answers.

import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import { BrokerError, isErrorCode } from "../base/errors.ts";
import { toGroupId, type GroupId } from "../base/ids.ts";
import { REQUEST_PARTITIONS_MAX } from "../base/limits.ts";
import type { FetchedBatch } from "./types.ts";
import type { GroupFetch, GroupFetched, GroupOffsets } from "./local-groups.ts";

export function encodeError(error: BrokerError): Uint8Array {
  const writer = new ByteWriter().string(error.code).string(error.message);
  const details = Object.entries(error.details);
  writer.varint(details.length);
  for (const [name, value] of details) writer.string(name).string(value);
  return writer.finish();
}

export function decodeError(body: Uint8Array): BrokerError {
  const reader = new ByteReader(body);
  const code = reader.string();
  const message = reader.string();
  const details: Record<string, string> = {};
  for (let count = reader.varint(); count > 0; count--) details[reader.string()] = reader.string();
  return new BrokerError(isErrorCode(code) ? code : "INTERNAL", message, details);
}

function writeOptionalError(writer: ByteWriter, error: BrokerError | null): void {
  writer.block(error === null ? new Uint8Array(0) : encodeError(error));
}

function readOptionalError(reader: ByteReader): BrokerError | null {
  const body = reader.block();
  return body.length === 0 ? null : decodeError(body);
}

export type FetchBody = { readonly fetches: readonly GroupFetch[]; readonly maxBytes: number; readonly maxWaitMs: number };

export function encodeFetch(body: FetchBody): Uint8Array {
  const writer = new ByteWriter().u32(body.maxBytes).u32(body.maxWaitMs).varint(body.fetches.length);
  for (const { group, from, value } of body.fetches) writer.u32(group).u8(from).u64(value);
  return writer.finish();
}

export function decodeFetch(bytes: Uint8Array): FetchBody {
  const reader = new ByteReader(bytes);
  const maxBytes = reader.u32();
  const maxWaitMs = reader.u32();
  const fetches: GroupFetch[] = [];
  for (let count = bounded(reader.varint()); count > 0; count--) {
    fetches.push({ group: toGroupId(reader.u32()), from: (reader.u8() & 3) as 0 | 1 | 2 | 3, value: reader.u64() });
  }
  reader.done();
  return { fetches, maxBytes, maxWaitMs };
}

/** The batches travel as parts of their own: they are not copied. */
export function encodeFetched(fetched: readonly GroupFetched[]): Uint8Array[] {
  const writer = new ByteWriter(1024).varint(fetched.length);
  const parts: Uint8Array[] = [];
  for (const part of fetched) {
    writer.u64(part.startOffset).u64(part.endOffset).u64(part.nextOffset);
    writeOptionalError(writer, part.error);
    writer.varint(part.batches.length);
    for (const batch of part.batches) {
      writer.u64(batch.baseOffset).varint(batch.count).u64(batch.timeMs).varint(batch.records.length);
      parts.push(batch.records);
    }
  }
  const head = writer.finish();
  return [new ByteWriter(4).u32(head.length).finish(), head, ...parts];
}

export function decodeFetched(bytes: Uint8Array): GroupFetched[] {
  const lengths = new ByteReader(bytes);
  const reader = new ByteReader(lengths.raw(lengths.u32()));
  const fetched: GroupFetched[] = [];
  for (let count = bounded(reader.varint()); count > 0; count--) {
    const startOffset = reader.u64();
    const endOffset = reader.u64();
    const nextOffset = reader.u64();
    const error = readOptionalError(reader);
    const batches: FetchedBatch[] = [];
    for (let left = reader.varint(); left > 0; left--) {
      batches.push({ baseOffset: reader.u64(), count: reader.varint(), timeMs: reader.u64(), records: lengths.raw(reader.varint()) });
    }
    fetched.push({ startOffset, endOffset, nextOffset, batches, error });
  }
  return fetched;
}

export type OffsetsBody = {
  readonly groups: readonly GroupId[];
  readonly subscription: string;
  /** -1: not asked for. */ readonly timeMs: number;
  /** Of each group so many subscriptions, by name, after this one. */
  readonly cursorsAfter: string;
  readonly cursorsMax: number;
};

export function encodeOffsets(body: OffsetsBody): Uint8Array {
  const writer = new ByteWriter()
    .string(body.subscription)
    .u64(body.timeMs + 1)
    .string(body.cursorsAfter)
    .varint(body.cursorsMax)
    .varint(body.groups.length);
  for (const group of body.groups) writer.u32(group);
  return writer.finish();
}

export function decodeOffsets(bytes: Uint8Array): OffsetsBody {
  const reader = new ByteReader(bytes);
  const subscription = reader.string();
  const timeMs = reader.u64() - 1;
  const cursorsAfter = reader.string();
  const cursorsMax = reader.varint();
  const groups = Array.from({ length: bounded(reader.varint()) }, () => toGroupId(reader.u32()));
  reader.done();
  return { groups, subscription, timeMs, cursorsAfter, cursorsMax };
}

export function encodeOffsetsAnswer(answers: readonly GroupOffsets[]): Uint8Array {
  const writer = new ByteWriter().varint(answers.length);
  for (const answer of answers) {
    writer.u64(answer.startOffset).u64(answer.endOffset).u64(answer.bytes);
    writer
      .u64(answer.committedOffset + 1)
      .string(answer.metadata)
      .u64(answer.timeOffset + 1);
    writer.varint(answer.cursors.length);
    for (const { name, offset, committedMs } of answer.cursors) writer.string(name).u64(offset).u64(committedMs);
    writeOptionalError(writer, answer.error);
  }
  return writer.finish();
}

export function decodeOffsetsAnswer(bytes: Uint8Array): GroupOffsets[] {
  const reader = new ByteReader(bytes);
  const answers: GroupOffsets[] = [];
  for (let count = bounded(reader.varint()); count > 0; count--) {
    const startOffset = reader.u64();
    const endOffset = reader.u64();
    const held = reader.u64();
    const committedOffset = reader.u64() - 1;
    const metadata = reader.string();
    const timeOffset = reader.u64() - 1;
    const cursors = [];
    for (let left = reader.varint(); left > 0; left--)
      cursors.push({ name: reader.string(), offset: reader.u64(), committedMs: reader.u64() });
    answers.push({ startOffset, endOffset, bytes: held, committedOffset, metadata, timeOffset, cursors, error: readOptionalError(reader) });
  }
  reader.done();
  return answers;
}

/** The outcome of a proposal on the leader. */
export function encodeOutcome(code: number, value: number, detail: Uint8Array | null): Uint8Array {
  return new ByteWriter(32)
    .u8(code + 128)
    .u64(value + 1)
    .block(detail ?? new Uint8Array(0))
    .finish();
}

export function decodeOutcome(bytes: Uint8Array): { code: number; value: number; detail: Uint8Array } {
  const reader = new ByteReader(bytes);
  const outcome = { code: reader.u8() - 128, value: reader.u64() - 1, detail: reader.block() };
  reader.done();
  return outcome;
}

function bounded(count: number): number {
  if (count > REQUEST_PARTITIONS_MAX) throw new DecodeError(`${count} groups in one forwarded request`);
  return count;
}
