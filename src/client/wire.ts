// Hand-written codecs of the hot messages, the client's side (proto/flotilla/v1/messaging.proto).

import { ByteReader } from "../base/bytes.ts";
import { ProtoReader, ProtoWriter, WIRE_BYTES } from "../base/protobuf.ts";
import { FlotillaError, readEntry, type FlotillaErrorCode } from "./errors.ts";

export type PublishOpen = { readonly vhost: string; readonly topic: string; readonly producerId: number; readonly epoch: number };
export type BatchFields = { readonly partition: number; readonly sequence: number; readonly count: number; readonly records: Uint8Array };
export type OutgoingBatch = BatchFields & {
  /** Its memory begins HEAD_ROOM_BYTES earlier. */ readonly records: Buffer;
  /** Times that it was given to a stream. */ readonly sends: number;
};

export function encodeOpen(writer: ProtoWriter, open: PublishOpen): void {
  const mark = writer.open(1);
  writer.string(1, open.vhost).string(2, open.topic).uint(3, open.producerId).uint(4, open.epoch).close(mark);
}

export function encodeBatch(writer: ProtoWriter, id: number, batch: BatchFields): void {
  const mark = writer.open(2);
  writer.uint(1, id).uint(2, batch.partition).uint(3, batch.sequence).uint(4, batch.count).blockAlways(5, batch.records).close(mark);
}

/** A frame of one batch, built around the batch where it lies: nothing of it may be under way from an earlier send. */
export function frameInPlace(id: number, batch: BatchFields): Buffer {
  const { records } = batch;
  const fields = new ProtoWriter(48).uint(1, id).uint(2, batch.partition).uint(3, batch.sequence).uint(4, batch.count);
  const inner = fields.blockHead(5, records.length).finish();
  const head = new ProtoWriter(64)
    .blockHead(2, inner.length + records.length)
    .raw(inner)
    .finish();
  const frame = Buffer.from(records.buffer, records.byteOffset - head.length, head.length + records.length);
  frame.set(head);
  return frame;
}

export type Ack = {
  readonly firstId: number;
  readonly batches: number;
  readonly baseOffset: number;
  readonly duplicate: boolean;
  readonly error: FlotillaError | null;
  /** To an exchange: places in the batch of records that went nowhere. */
  readonly unroutable: readonly number[];
};

export function decodeAcks(bytes: Uint8Array): Ack[] {
  const reader = new ProtoReader(bytes);
  const acks: Ack[] = [];
  while (reader.next()) {
    if (reader.field !== 1) {
      reader.skip();
      continue;
    }
    const message = reader.message();
    const ack = {
      firstId: 0,
      batches: 0,
      baseOffset: 0,
      duplicate: false,
      error: null as FlotillaError | null,
      unroutable: [] as number[],
    };
    while (message.next()) {
      if (message.field === 1) ack.firstId = message.uint();
      else if (message.field === 2) ack.batches = message.uint();
      else if (message.field === 4) ack.baseOffset = message.uint();
      else if (message.field === 6) ack.duplicate = message.bool();
      else if (message.field === 7) ack.error = decodePartError(message.message());
      else if (message.field === 9) readPlaces(message, ack.unroutable);
      else message.skip();
    }
    acks.push(ack);
  }
  return acks;
}

/** Numbers of a repeated field, packed or one by one. */
function readPlaces(message: ProtoReader, places: number[]): void {
  if (message.wire !== WIRE_BYTES) {
    places.push(message.uint());
    return;
  }
  const packed = new ByteReader(message.block());
  while (packed.remaining > 0) places.push(packed.varint());
}

export type FetchFrom = { readonly offset: number } | { readonly timeMs: number } | "earliest" | "latest";
export type FetchPosition = { readonly partition: number; readonly from: FetchFrom };
export type FetchRequest = {
  readonly vhost: string;
  readonly topic: string;
  readonly positions: readonly FetchPosition[];
  readonly maxBytes: number;
  readonly maxWaitMs: number;
};

export function encodeFetch(request: FetchRequest): Buffer {
  const writer = new ProtoWriter(64 + request.positions.length * 20).string(1, request.vhost).string(2, request.topic);
  for (const { partition, from } of request.positions) {
    const mark = writer.open(3);
    writer.uint(1, partition);
    if (from === "earliest") writer.bool(4, true);
    else if (from === "latest") writer.bool(5, true);
    else if ("offset" in from) writer.uintAlways(2, from.offset);
    else writer.uintAlways(3, from.timeMs);
    writer.close(mark);
  }
  return toBuffer(writer.uint(4, request.maxBytes).uint(5, request.maxWaitMs));
}

export type FetchedBatch = {
  readonly partition: number;
  readonly baseOffset: number;
  readonly count: number;
  readonly storedMs: number;
  /** Encoded RecordBatch. */ readonly bytes: Uint8Array;
};
export type FetchedPartition = {
  readonly partition: number;
  readonly batches: readonly FetchedBatch[];
  readonly startOffset: number;
  readonly endOffset: number;
  readonly nextOffset: number;
  readonly error: FlotillaError | null;
};

export function decodeFetched(bytes: Uint8Array): FetchedPartition[] {
  const reader = new ProtoReader(bytes);
  const partitions: FetchedPartition[] = [];
  while (reader.next()) {
    if (reader.field === 1) partitions.push(decodePartition(reader.message()));
    else reader.skip();
  }
  return partitions;
}

function decodePartition(reader: ProtoReader): FetchedPartition {
  const raw: Uint8Array[] = [];
  const part = { partition: 0, startOffset: 0, endOffset: 0, nextOffset: 0, error: null as FlotillaError | null };
  while (reader.next()) {
    if (reader.field === 1) part.partition = reader.uint();
    else if (reader.field === 2) raw.push(reader.block());
    else if (reader.field === 3) part.startOffset = reader.uint();
    else if (reader.field === 4) part.endOffset = reader.uint();
    else if (reader.field === 5) part.nextOffset = reader.uint();
    else if (reader.field === 6) part.error = decodePartError(reader.message());
    else reader.skip();
  }
  return { ...part, batches: raw.map((bytes) => decodeFetchedBatch(bytes, part.partition)) };
}

function decodeFetchedBatch(bytes: Uint8Array, partition: number): FetchedBatch {
  const reader = new ProtoReader(bytes);
  const batch = { partition, baseOffset: 0, count: 0, storedMs: 0, bytes: new Uint8Array(0) as Uint8Array };
  while (reader.next()) {
    if (reader.field === 1) batch.baseOffset = reader.uint();
    else if (reader.field === 2) batch.count = reader.uint();
    else if (reader.field === 3) batch.storedMs = reader.uint();
    else if (reader.field === 4) batch.bytes = reader.block();
    else reader.skip();
  }
  return batch;
}

export function decodePartError(reader: ProtoReader): FlotillaError {
  let reason = "INTERNAL";
  let message = "";
  let retryable = false;
  let maybeApplied = false;
  const details: Record<string, string> = {};
  while (reader.next()) {
    if (reader.field === 1) reason = reader.string();
    else if (reader.field === 2) message = reader.string();
    else if (reader.field === 3) retryable = reader.bool();
    else if (reader.field === 4) maybeApplied = reader.bool();
    else if (reader.field === 5) readEntry(reader.message(), details);
    else reader.skip();
  }
  return new FlotillaError(reason as FlotillaErrorCode, message, { details, retryable, maybeApplied });
}

export function toBuffer(writer: ProtoWriter): Buffer {
  const bytes = writer.finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
