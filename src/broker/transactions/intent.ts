// A transaction as the body of a record: u8 format, u8 flags, name, varint created, then targets and what is held, each counted.

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { toGroupId, type GroupId } from "../../base/ids.ts";
import { TRANSACTION_PARTS_MAX, TRANSACTION_TARGETS_MAX } from "../../base/limits.ts";
import { ProtoReader, ProtoWriter } from "../../base/protobuf.ts";
import type { Outcome } from "../../machine/work/work.ts";
import type { HeldPart, Intent, TargetPart } from "./types.ts";

const FORMAT = 1;
const PREPARED = 1;
const OUTCOMES = ["ack", "return", "release", "reject"] as const;
/** Field of a batch that is a record, and of a record that is its body. */
const RECORDS = 1;
const BODY = 2;
const CONTENT_TYPE = 5;

/** An encoded RecordBatch of one record. */
export function encodeIntent(intent: Intent): Uint8Array {
  const body = bodyOf(intent);
  const writer = new ProtoWriter(body.length + 64);
  const mark = writer.open(RECORDS);
  writer.block(BODY, body).string(CONTENT_TYPE, "application/vnd.flotilla.transaction").close(mark);
  return writer.finish();
}

/** Of a batch of one record. Throws DecodeError on what this release does not know. Shares the memory. */
export function decodeIntent(batch: Uint8Array): Intent {
  const reader = new ProtoReader(batch);
  while (reader.next()) {
    if (reader.field !== RECORDS) {
      reader.skip();
      continue;
    }
    const record = reader.message();
    while (record.next())
      if (record.field === BODY) return intentOf(new ByteReader(record.block()));
      else record.skip();
  }
  throw new DecodeError("a record of no transaction");
}

function bodyOf({ name, isPrepared, createdMs, targets, held }: Intent): Uint8Array {
  const bytes = targets.reduce((sum, { records, sidecar }) => sum + records.length + sidecar.length + 256, 256 + held.length * 128);
  const writer = new ByteWriter(bytes)
    .u8(FORMAT)
    .u8(isPrepared ? PREPARED : 0)
    .string(name)
    .varint(createdMs);
  writer.varint(targets.length);
  for (const target of targets)
    writer.u32(target.group).string(target.name).varint(target.partition).varint(target.count).block(target.sidecar).block(target.records);
  writer.varint(held.length);
  for (const { group, queue, subscription, partition, consumer, token, from, end, outcome } of held) {
    writer.u32(group).string(queue).string(subscription).varint(partition).varint(consumer).varint(token);
    writer
      .varint(from)
      .varint(end - from)
      .u8(OUTCOMES.indexOf(outcome.kind));
    writer.varint(outcome.kind === "return" ? outcome.delayMs + 1 : 0);
  }
  return writer.finish();
}

function intentOf(reader: ByteReader): Intent {
  const format = reader.u8();
  if (format !== FORMAT) throw new DecodeError(`a transaction of format ${format}, this release knows ${FORMAT}`);
  const isPrepared = reader.u8() === PREPARED;
  const [name, createdMs] = [reader.string(), reader.varint()];
  const targets = Array.from({ length: atMost(TRANSACTION_TARGETS_MAX, reader) }, () => targetOf(reader));
  const held = Array.from({ length: atMost(TRANSACTION_PARTS_MAX, reader) }, () => heldOf(reader));
  reader.done();
  return { name, isPrepared, createdMs, targets, held };
}

function targetOf(reader: ByteReader): TargetPart {
  const [group, name, partition, count] = [groupOf(reader), reader.string(), reader.varint(), reader.varint()];
  return { group, name, partition, count, sidecar: reader.block(), records: reader.block() };
}

function heldOf(reader: ByteReader): HeldPart {
  const [group, queue, subscription, partition] = [groupOf(reader), reader.string(), reader.string(), reader.varint()];
  const [consumer, token, from, length] = [reader.varint(), reader.varint(), reader.varint(), reader.varint()];
  const kind = OUTCOMES[reader.u8()];
  const delay = reader.varint();
  if (kind === undefined) throw new DecodeError("an outcome that is none");
  const outcome: Outcome = kind === "return" ? { kind, delayMs: delay - 1 } : { kind };
  return { group, queue, subscription, partition, consumer, token, from, end: from + length, outcome };
}

function groupOf(reader: ByteReader): GroupId {
  return toGroupId(reader.u32());
}

function atMost(max: number, reader: ByteReader): number {
  const value = reader.varint();
  if (value > max) throw new DecodeError(`${value} parts of one transaction`);
  return value;
}
