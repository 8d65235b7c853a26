// Hand-written codecs of what queues and work subscriptions send and receive. RecordBatch fields stay what they are on the wire.

import { DecodeError } from "../base/bytes.ts";
import { CONSUME_FRAME_SETTLEMENTS_MAX, MESSAGE_FIELDS_MAX } from "../base/limits.ts";
import { ProtoReader, ProtoWriter } from "../base/protobuf.ts";
import type { BrowsePage, ConsumeCall, Delivered, Settled, SettleOutcome, Settlement, WorkTarget } from "../broker/work/types.ts";
import { buffer, name, uint32, writePartError } from "./raw-codec.ts";

const ROUTING_DIRECT = 2;
const SINT_SIGN = 1;

export type Credit = { readonly messages: number; readonly bytes: number };
export type ConsumeFrame = {
  readonly open: ConsumeCall | null;
  readonly credit: Credit | null;
  readonly settlements: readonly Settlement[];
  readonly drain: boolean;
};

export function decodeConsumeFrame(bytes: Uint8Array): ConsumeFrame {
  const reader = new ProtoReader(bytes, 0, bytes.length, CONSUME_FRAME_SETTLEMENTS_MAX + MESSAGE_FIELDS_MAX);
  let open: ConsumeCall | null = null;
  let credit: Credit | null = null;
  let drain = false;
  const settlements: Settlement[] = [];
  while (reader.next()) {
    if (reader.field === 1) open = decodeOpen(reader.message(MESSAGE_FIELDS_MAX));
    else if (reader.field === 2) credit = decodeCredit(reader.message(MESSAGE_FIELDS_MAX));
    else if (reader.field === 3) {
      if (settlements.length === CONSUME_FRAME_SETTLEMENTS_MAX)
        throw new DecodeError(`a frame may have ${CONSUME_FRAME_SETTLEMENTS_MAX} settlements`);
      settlements.push(decodeSettlement(reader.message(MESSAGE_FIELDS_MAX)));
    } else if (reader.field === 4) drain = reader.bool();
    else reader.skip();
  }
  return { open, credit, settlements, drain };
}

export type SettleCall = WorkTarget & { readonly settlements: readonly Settlement[] };

export function decodeSettle(bytes: Uint8Array): SettleCall {
  const reader = new ProtoReader(bytes, 0, bytes.length, CONSUME_FRAME_SETTLEMENTS_MAX + MESSAGE_FIELDS_MAX);
  const call = { vhost: "", queue: "", subscription: "", settlements: [] as Settlement[] };
  while (reader.next()) {
    if (reader.field === 1) call.vhost = name(reader);
    else if (reader.field === 2) call.queue = name(reader);
    else if (reader.field === 3) call.subscription = name(reader);
    else if (reader.field === 4) {
      if (call.settlements.length === CONSUME_FRAME_SETTLEMENTS_MAX)
        throw new DecodeError(`a request may have ${CONSUME_FRAME_SETTLEMENTS_MAX} settlements`);
      call.settlements.push(decodeSettlement(reader.message(MESSAGE_FIELDS_MAX)));
    } else reader.skip();
  }
  return call;
}

function decodeOpen(reader: ProtoReader): ConsumeCall {
  const open = { vhost: "", queue: "", subscription: "", autoAck: false, leaseMs: 0, priority: 0, direct: false };
  while (reader.next()) {
    if (reader.field === 1) open.vhost = name(reader);
    else if (reader.field === 2) open.queue = name(reader);
    else if (reader.field === 3) open.subscription = name(reader);
    else if (reader.field === 4) open.autoAck = reader.bool();
    else if (reader.field === 5) open.leaseMs = uint32(reader);
    else if (reader.field === 6) open.priority = signed(reader.uint());
    else if (reader.field === 7) open.direct = reader.uint() === ROUTING_DIRECT;
    else reader.skip();
  }
  return open;
}

function decodeCredit(reader: ProtoReader): Credit {
  const credit = { messages: 0, bytes: 0 };
  while (reader.next()) {
    if (reader.field === 1) credit.messages = uint32(reader);
    else if (reader.field === 2) credit.bytes = reader.uint();
    else reader.skip();
  }
  return credit;
}

export function decodeSettlement(reader: ProtoReader): Settlement {
  const settlement = {
    partition: 0,
    firstOffset: 0,
    count: 1,
    token: 0,
    outcome: 0 as SettleOutcome,
    delayMs: -1,
    leaseMs: 0,
    consumer: 0,
  };
  while (reader.next()) {
    if (reader.field === 1) settlement.partition = reader.uint();
    else if (reader.field === 2) settlement.firstOffset = reader.uint();
    else if (reader.field === 3) settlement.count = Math.max(1, uint32(reader));
    else if (reader.field === 4) settlement.token = reader.uint();
    else if (reader.field === 5) settlement.outcome = reader.uint() as SettleOutcome;
    else if (reader.field === 6) settlement.delayMs = reader.uint();
    else if (reader.field === 7) settlement.leaseMs = uint32(reader);
    else if (reader.field === 8) settlement.consumer = reader.uint();
    else reader.skip();
  }
  return settlement;
}

/** The outcome of consecutive settlements; `messages` of them were the caller's still. */
export type SettleAck = Omit<Settled, "messages"> & { readonly firstId: number; settlements: number; messages: number };
export type RevokedMessages = { readonly partition: number; readonly firstOffset: number; readonly count: number };
export type ConsumeAnswer = {
  readonly deliveries: readonly Delivered[];
  readonly settled: readonly SettleAck[];
  readonly opened: boolean;
  readonly revoked: readonly RevokedMessages[];
  /** -1: nothing was drained. */
  readonly drained: number;
};

export function encodeConsumeAnswer({ deliveries, settled, opened, revoked, drained }: ConsumeAnswer): Buffer {
  const writer = new ProtoWriter(bytesOf(deliveries) + bytesOfSettled(settled) + revoked.length * 24 + 32);
  writeDeliveries(writer, deliveries);
  writeSettled(writer, 2, settled);
  writer.bool(3, opened);
  for (const { partition, firstOffset, count } of revoked) {
    const mark = writer.open(4);
    writer.uint(1, partition).uint(2, firstOffset).uint(3, count).close(mark);
  }
  if (drained >= 0) writer.uintAlways(5, drained);
  return buffer(writer);
}

export function encodeReceived(deliveries: readonly Delivered[]): Buffer {
  const writer = new ProtoWriter(bytesOf(deliveries) + 32);
  writeDeliveries(writer, deliveries);
  return buffer(writer);
}

export function encodeSettled(settled: readonly SettleAck[]): Buffer {
  const writer = new ProtoWriter(bytesOfSettled(settled) + 16);
  writeSettled(writer, 1, settled);
  return buffer(writer);
}

export function encodeBrowsed({ messages, next }: BrowsePage): Buffer {
  const writer = new ProtoWriter(messages.reduce((sum, { records }) => sum + records.length + 96, 32));
  for (const { firstOffset, count, timeMs, records, state, deliveries, priority, untilMs, expiryMs, reason } of messages) {
    const mark = writer.open(1);
    writer.uint(1, firstOffset).uint(2, count).uint(3, timeMs).blockAlways(4, records);
    writer.uint(5, state).uint(6, deliveries).uint(7, priority).uint(8, untilMs).uint(9, expiryMs).string(10, reason).close(mark);
  }
  if (next >= 0) writer.uintAlways(2, next);
  return buffer(writer);
}

function bytesOf(deliveries: readonly Delivered[]): number {
  return deliveries.reduce((sum, { records }) => sum + records.length + 64, 0);
}

function writeDeliveries(writer: ProtoWriter, deliveries: readonly Delivered[]): void {
  for (const { partition, firstOffset, count, timeMs, records, token, deadlineMs, deliveries: attempt, consumer } of deliveries) {
    const mark = writer.open(1);
    writer.uint(1, partition).uint(2, firstOffset).uint(3, count).uint(4, timeMs).blockAlways(5, records);
    writer.uint(6, token).uint(7, deadlineMs).uint(8, attempt).uint(9, consumer).close(mark);
  }
}

function bytesOfSettled(settled: readonly SettleAck[]): number {
  return settled.reduce((sum, { lost }) => sum + 32 + lost.length * 24, 0);
}

function writeSettled(writer: ProtoWriter, field: number, settled: readonly SettleAck[]): void {
  for (const { firstId, settlements, error, messages, lost } of settled) {
    const mark = writer.open(field);
    writer.uint(1, firstId).uint(2, settlements);
    if (error !== null) writePartError(writer, 3, error);
    writer.uint(4, messages);
    for (const { from, end } of lost) {
      const range = writer.open(5);
      writer
        .uint(1, from)
        .uint(2, end - from)
        .close(range);
    }
    writer.close(mark);
  }
}

/** A zigzag number (protobuf.dev, "Encoding", signed integers). */
function signed(value: number): number {
  return value % 2 === SINT_SIGN ? -(value + 1) / 2 : value / 2;
}
