// Hand-written codecs of what consumers of queues send and receive, the client's side (proto/flotilla/v1/messaging.proto).

import { ProtoReader, ProtoWriter } from "../base/protobuf.ts";
import { FlotillaError } from "./errors.ts";
import { decodePartError, toBuffer } from "./wire.ts";

export type Outcome = "ack" | "nack" | "release" | "reject" | "extend";
const OUTCOMES: readonly Outcome[] = ["ack", "nack", "release", "reject", "extend"];

export type Delivery = {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
  readonly timeMs: number;
  /** Encoded RecordBatch. */
  readonly records: Uint8Array;
  readonly token: number;
  readonly deadlineMs: number;
  readonly attempt: number;
  readonly consumer: number;
};
export type Settlement = {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
  readonly token: number;
  readonly outcome: Outcome;
  /** Of a nack; undefined: by the back-off of the queue. */
  readonly delayMs?: number | undefined;
  readonly leaseMs?: number | undefined;
  readonly consumer?: number | undefined;
};
export type SettleAck = {
  readonly firstId: number;
  readonly settlements: number;
  readonly error: FlotillaError | null;
  readonly messages: number;
  /** Where some were the caller's: the others. */
  readonly lost: readonly { readonly firstOffset: number; readonly count: number }[];
};
export type WorkTarget = { readonly vhost: string; readonly queue: string; readonly subscription: string };
export type ConsumeOpen = WorkTarget & { readonly autoAck: boolean; readonly leaseMs: number; readonly priority: number };

export function encodeConsume(frame: {
  readonly open?: ConsumeOpen;
  readonly messages?: number;
  readonly bytes?: number;
  readonly settlements?: readonly Settlement[];
  readonly drain?: boolean;
}): Buffer {
  const { open, messages = 0, bytes = 0, settlements = [], drain = false } = frame;
  const writer = new ProtoWriter(256 + settlements.length * 32);
  if (open !== undefined) {
    const mark = writer.open(1);
    writer.string(1, open.vhost).string(2, open.queue).string(3, open.subscription);
    writer.bool(4, open.autoAck).uint(5, open.leaseMs).uint(6, zigzag(open.priority)).close(mark);
  }
  if (messages > 0 || bytes > 0) {
    const mark = writer.open(2);
    writer.uint(1, messages).uint(2, bytes).close(mark);
  }
  writeSettlements(writer, 3, settlements);
  return toBuffer(writer.bool(4, drain));
}

export function encodeSettle(target: WorkTarget, settlements: readonly Settlement[]): Buffer {
  const writer = new ProtoWriter(256 + settlements.length * 40);
  writer.string(1, target.vhost).string(2, target.queue).string(3, target.subscription);
  writeSettlements(writer, 4, settlements);
  return toBuffer(writer);
}

export function writeSettlements(writer: ProtoWriter, field: number, settlements: readonly Settlement[]): void {
  for (const { partition, firstOffset, count, token, outcome, delayMs, leaseMs = 0, consumer = 0 } of settlements) {
    const mark = writer.open(field);
    writer
      .uint(1, partition)
      .uint(2, firstOffset)
      .uint(3, count)
      .uint(4, token)
      .uint(5, OUTCOMES.indexOf(outcome) + 1);
    if (delayMs !== undefined) writer.uintAlways(6, delayMs);
    writer.uint(7, leaseMs).uint(8, consumer).close(mark);
  }
}

export type ConsumeAnswer = {
  readonly deliveries: readonly Delivery[];
  readonly settled: readonly SettleAck[];
  readonly isOpened: boolean;
  readonly revoked: readonly { readonly partition: number; readonly firstOffset: number; readonly count: number }[];
  /** -1: nothing was drained. */
  readonly drained: number;
};

export function decodeConsume(bytes: Uint8Array): ConsumeAnswer {
  const reader = new ProtoReader(bytes);
  const deliveries: Delivery[] = [];
  const settled: SettleAck[] = [];
  const revoked: { partition: number; firstOffset: number; count: number }[] = [];
  let isOpened = false;
  let drained = -1;
  while (reader.next()) {
    if (reader.field === 1) deliveries.push(decodeDelivery(reader.message()));
    else if (reader.field === 2) settled.push(decodeSettleAck(reader.message()));
    else if (reader.field === 3) isOpened = reader.bool();
    else if (reader.field === 4) {
      const { partition, firstOffset, count } = decodeDelivery(reader.message());
      revoked.push({ partition, firstOffset, count });
    } else if (reader.field === 5) drained = reader.uint();
    else reader.skip();
  }
  return { deliveries, settled, isOpened, revoked, drained };
}

export function decodeReceived(bytes: Uint8Array): Delivery[] {
  return [...decodeConsume(bytes).deliveries];
}

/** The outcome of each settlement, in order. */
export function decodeSettled(bytes: Uint8Array): SettleAck[] {
  const reader = new ProtoReader(bytes);
  const settled: SettleAck[] = [];
  while (reader.next())
    if (reader.field === 1) settled.push(decodeSettleAck(reader.message()));
    else reader.skip();
  return settled;
}

export type Browsed = {
  readonly firstOffset: number;
  readonly count: number;
  readonly timeMs: number;
  readonly records: Uint8Array;
  readonly state: MessageState;
  readonly attempts: number;
  readonly priority: number;
  readonly untilMs: number;
  readonly expiresMs: number;
  readonly reason: string;
};
export type MessageState = "unknown" | "ready" | "leased" | "delayed" | "waiting for key" | "dead";
const STATES: readonly MessageState[] = ["unknown", "ready", "leased", "delayed", "waiting for key", "dead"];

/** `next`: where to go on; undefined at the end. */
export function decodeBrowsed(bytes: Uint8Array): { messages: Browsed[]; next: number | undefined } {
  const reader = new ProtoReader(bytes);
  const messages: Browsed[] = [];
  let next: number | undefined;
  while (reader.next()) {
    if (reader.field === 1) messages.push(decodeBrowsedMessage(reader.message()));
    else if (reader.field === 2) next = reader.uint();
    else reader.skip();
  }
  return { messages, next };
}

function decodeBrowsedMessage(reader: ProtoReader): Browsed {
  const found = {
    firstOffset: 0,
    count: 0,
    timeMs: 0,
    records: new Uint8Array(0) as Uint8Array,
    attempts: 0,
    priority: 0,
    untilMs: 0,
    expiresMs: 0,
    reason: "",
  };
  let state: MessageState = "unknown";
  while (reader.next()) {
    if (reader.field === 1) found.firstOffset = reader.uint();
    else if (reader.field === 2) found.count = reader.uint();
    else if (reader.field === 3) found.timeMs = reader.uint();
    else if (reader.field === 4) found.records = reader.block();
    else if (reader.field === 5) state = STATES[reader.uint()] ?? "unknown";
    else if (reader.field === 6) found.attempts = reader.uint();
    else if (reader.field === 7) found.priority = reader.uint();
    else if (reader.field === 8) found.untilMs = reader.uint();
    else if (reader.field === 9) found.expiresMs = reader.uint();
    else if (reader.field === 10) found.reason = reader.string();
    else reader.skip();
  }
  return { ...found, state };
}

function decodeDelivery(reader: ProtoReader): Delivery {
  const delivery = {
    partition: 0,
    firstOffset: 0,
    count: 0,
    timeMs: 0,
    records: new Uint8Array(0) as Uint8Array,
    token: 0,
    deadlineMs: 0,
    attempt: 0,
    consumer: 0,
  };
  while (reader.next()) {
    if (reader.field === 1) delivery.partition = reader.uint();
    else if (reader.field === 2) delivery.firstOffset = reader.uint();
    else if (reader.field === 3) delivery.count = reader.uint();
    else if (reader.field === 4) delivery.timeMs = reader.uint();
    else if (reader.field === 5) delivery.records = reader.block();
    else if (reader.field === 6) delivery.token = reader.uint();
    else if (reader.field === 7) delivery.deadlineMs = reader.uint();
    else if (reader.field === 8) delivery.attempt = reader.uint();
    else if (reader.field === 9) delivery.consumer = reader.uint();
    else reader.skip();
  }
  return delivery;
}

function decodeSettleAck(reader: ProtoReader): SettleAck {
  const lost: { firstOffset: number; count: number }[] = [];
  const ack = { firstId: 0, settlements: 0, error: null as FlotillaError | null, messages: 0, lost };
  while (reader.next()) {
    if (reader.field === 1) ack.firstId = reader.uint();
    else if (reader.field === 2) ack.settlements = reader.uint();
    else if (reader.field === 3) ack.error = decodePartError(reader.message());
    else if (reader.field === 4) ack.messages = reader.uint();
    else if (reader.field === 5) lost.push(decodeRange(reader.message()));
    else reader.skip();
  }
  return ack;
}

function decodeRange(reader: ProtoReader): { firstOffset: number; count: number } {
  const range = { firstOffset: 0, count: 0 };
  while (reader.next()) {
    if (reader.field === 1) range.firstOffset = reader.uint();
    else if (reader.field === 2) range.count = reader.uint();
    else reader.skip();
  }
  return range;
}

function zigzag(value: number): number {
  return value < 0 ? -value * 2 - 1 : value * 2;
}
