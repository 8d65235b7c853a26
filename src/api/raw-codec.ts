// Hand-written codecs of the hot messages. RecordBatch fields stay what they are on the wire: slices of the request's
// buffer on the way in, copied once into the answer on the way out.

import { DecodeError, utf8Decode } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import {
  FETCH_BYTES_DEFAULT,
  FETCH_BYTES_MAX,
  FETCH_WAIT_MS_MAX,
  FRAME_BATCHES_MAX,
  MESSAGE_FIELDS_MAX,
  NAME_BYTES_MAX,
  REQUEST_PARTITIONS_MAX,
} from "../base/limits.ts";
import { ProtoReader, ProtoWriter } from "../base/protobuf.ts";
import {
  FROM_EARLIEST,
  FROM_LATEST,
  FROM_OFFSET,
  FROM_TIME,
  type FetchCall,
  type FetchPosition,
  type FetchedPartition,
  type PublishCall,
} from "../broker/types.ts";

const EMPTY = new Uint8Array(0);
const ROUTING_DIRECT = 2;

/** What a Producer says, into the call that it belongs to. */
export function readProducer(reader: ProtoReader, call: { producerId: number; producerEpoch: number; sequence: number }): void {
  while (reader.next()) {
    if (reader.field === 1) call.producerId = reader.uint();
    else if (reader.field === 2) call.producerEpoch = uint32(reader);
    else if (reader.field === 3) call.sequence = reader.uint();
    else reader.skip();
  }
}

export function decodePublish(bytes: Uint8Array): PublishCall & { readonly mandatory: boolean } {
  const reader = new ProtoReader(bytes, 0, bytes.length, MESSAGE_FIELDS_MAX);
  const call = {
    vhost: "",
    topic: "",
    partition: -1,
    partitionKey: null as Uint8Array | null,
    records: EMPTY as Uint8Array,
    count: 0,
    producerId: 0,
    producerEpoch: 0,
    sequence: 0,
    direct: false,
    exchange: null as string | null,
    routingKey: "",
    mandatory: false,
  };
  while (reader.next()) {
    if (reader.field === 1) call.vhost = name(reader);
    else if (reader.field === 2) call.topic = name(reader);
    else if (reader.field === 3) call.partition = reader.uint();
    else if (reader.field === 4) call.records = reader.block();
    else if (reader.field === 5) call.count = reader.uint();
    else if (reader.field === 6) {
      readProducer(reader.message(MESSAGE_FIELDS_MAX), call);
    } else if (reader.field === 7) call.partitionKey = reader.block();
    else if (reader.field === 8) call.direct = reader.uint() === ROUTING_DIRECT;
    else if (reader.field === 9) call.exchange = name(reader);
    else if (reader.field === 10) call.routingKey = name(reader);
    else if (reader.field === 11) call.mandatory = reader.bool();
    else reader.skip();
  }
  return call;
}

export type PublishedAnswer = {
  readonly partition: number;
  readonly baseOffset: number;
  readonly count: number;
  readonly duplicate: boolean;
  /** To an exchange: copies, and the places of records that went nowhere where these were asked for. */
  readonly routed: number;
  readonly unroutable: readonly number[];
};

export function encodePublished({ partition, baseOffset, count, duplicate, routed, unroutable }: PublishedAnswer): Buffer {
  const writer = new ProtoWriter(32).uint(1, partition).uint(2, Math.max(baseOffset, 0)).uint(3, count).bool(4, duplicate).uint(5, routed);
  for (const place of unroutable) writer.uintAlways(6, place);
  return buffer(writer);
}

export type PublishOpen = {
  readonly vhost: string;
  readonly topic: string;
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly direct: boolean;
  readonly exchange: string | null;
  readonly mandatory: boolean;
};
export type StreamBatch = {
  readonly routingKey: string;
  readonly id: number;
  readonly partition: number;
  readonly sequence: number;
  readonly count: number;
  readonly records: Uint8Array;
};
export type PublishFrame = { readonly open: PublishOpen | null; readonly batches: readonly StreamBatch[] };

export function decodePublishFrame(bytes: Uint8Array): PublishFrame {
  const reader = new ProtoReader(bytes, 0, bytes.length, FRAME_BATCHES_MAX + MESSAGE_FIELDS_MAX);
  let open: PublishOpen | null = null;
  const batches: StreamBatch[] = [];
  while (reader.next()) {
    if (reader.field === 1) open = decodeOpen(reader.message(MESSAGE_FIELDS_MAX));
    else if (reader.field === 2) {
      if (batches.length === FRAME_BATCHES_MAX) throw new DecodeError(`a frame may have ${FRAME_BATCHES_MAX} batches`);
      batches.push(decodeBatch(reader.message(MESSAGE_FIELDS_MAX)));
    } else reader.skip();
  }
  return { open, batches };
}

function decodeOpen(reader: ProtoReader): PublishOpen {
  const open = { vhost: "", topic: "", producerId: 0, producerEpoch: 0, direct: false, exchange: null as string | null, mandatory: false };
  while (reader.next()) {
    if (reader.field === 1) open.vhost = name(reader);
    else if (reader.field === 2) open.topic = name(reader);
    else if (reader.field === 3) open.producerId = reader.uint();
    else if (reader.field === 4) open.producerEpoch = uint32(reader);
    else if (reader.field === 5) open.direct = reader.uint() === ROUTING_DIRECT;
    else if (reader.field === 6) open.exchange = name(reader);
    else if (reader.field === 7) open.mandatory = reader.bool();
    else reader.skip();
  }
  return open;
}

function decodeBatch(reader: ProtoReader): StreamBatch {
  const batch = { id: 0, partition: 0, sequence: 0, count: 0, records: EMPTY as Uint8Array, routingKey: "" };
  while (reader.next()) {
    if (reader.field === 1) batch.id = reader.uint();
    else if (reader.field === 2) batch.partition = reader.uint();
    else if (reader.field === 3) batch.sequence = reader.uint();
    else if (reader.field === 4) batch.count = reader.uint();
    else if (reader.field === 5) batch.records = reader.block();
    else if (reader.field === 6) batch.routingKey = name(reader);
    else reader.skip();
  }
  return batch;
}

/** `batches` consecutive ids of one partition, stored back to back; or one failed batch. */
export type Ack = {
  readonly firstId: number;
  batches: number;
  readonly partition: number;
  readonly baseOffset: number;
  count: number;
  readonly duplicate: boolean;
  readonly error: BrokerError | null;
  /** As in PublishedAnswer. */
  routed: number;
  readonly unroutable: readonly number[];
};

export function encodeAcks(acks: readonly Ack[]): Buffer {
  const writer = new ProtoWriter(acks.length * 32 + 16);
  for (const ack of acks) {
    const mark = writer.open(1);
    writer
      .uint(1, ack.firstId)
      .uint(2, ack.batches)
      .uint(3, ack.partition)
      .uint(4, Math.max(ack.baseOffset, 0))
      .uint(5, ack.count)
      .bool(6, ack.duplicate);
    if (ack.error !== null) writePartError(writer, 7, ack.error);
    writer.uint(8, ack.routed);
    for (const place of ack.unroutable) writer.uintAlways(9, place);
    writer.close(mark);
  }
  return buffer(writer);
}

export function decodeFetch(bytes: Uint8Array): FetchCall {
  const reader = new ProtoReader(bytes, 0, bytes.length, REQUEST_PARTITIONS_MAX + MESSAGE_FIELDS_MAX);
  const positions: FetchPosition[] = [];
  const call = { vhost: "", topic: "", positions, maxBytes: 0, maxWaitMs: 0, direct: false };
  while (reader.next()) {
    if (reader.field === 1) call.vhost = name(reader);
    else if (reader.field === 2) call.topic = name(reader);
    else if (reader.field === 3) {
      if (positions.length === REQUEST_PARTITIONS_MAX) throw new DecodeError(`a fetch may name ${REQUEST_PARTITIONS_MAX} positions`);
      positions.push(decodePosition(reader.message(MESSAGE_FIELDS_MAX)));
    } else if (reader.field === 4) call.maxBytes = reader.uint();
    else if (reader.field === 5) call.maxWaitMs = reader.uint();
    else if (reader.field === 6) call.direct = reader.uint() === ROUTING_DIRECT;
    else reader.skip();
  }
  call.maxBytes = call.maxBytes === 0 ? FETCH_BYTES_DEFAULT : Math.min(call.maxBytes, FETCH_BYTES_MAX);
  call.maxWaitMs = Math.min(call.maxWaitMs, FETCH_WAIT_MS_MAX);
  return call;
}

function decodePosition(reader: ProtoReader): FetchPosition {
  let partition = 0;
  // Without a `from`, offset 0 as the default of its first member.
  let from: FetchPosition["from"] = FROM_OFFSET;
  let value = 0;
  while (reader.next()) {
    if (reader.field === 1) partition = reader.uint();
    else if (reader.field === 2 || reader.field === 3) {
      from = reader.field === 2 ? FROM_OFFSET : FROM_TIME;
      value = reader.uint();
    } else if (reader.field === 4 || reader.field === 5) {
      from = reader.field === 4 ? FROM_EARLIEST : FROM_LATEST;
      value = 0;
      reader.bool();
    } else reader.skip();
  }
  return { partition, from, value };
}

export function encodeFetched(partitions: readonly FetchedPartition[]): Buffer {
  let bytes = 64;
  for (const { batches } of partitions) {
    bytes += 128;
    for (const { records } of batches) bytes += records.length + 48;
  }
  const writer = new ProtoWriter(bytes);
  for (const part of partitions) {
    const mark = writer.open(1);
    writer.uint(1, part.partition);
    for (const batch of part.batches) {
      const inner = writer.open(2);
      writer.uint(1, batch.baseOffset).uint(2, batch.count).uint(3, batch.timeMs).blockAlways(4, batch.records).close(inner);
    }
    writer.uint(3, part.startOffset).uint(4, part.endOffset).uint(5, part.nextOffset);
    if (part.error !== null) writePartError(writer, 6, part.error);
    writer.close(mark);
  }
  return buffer(writer);
}

export function writePartError(writer: ProtoWriter, field: number, error: BrokerError): void {
  const mark = writer.open(field);
  writer.string(1, error.code).string(2, error.message).bool(3, error.retryable).bool(4, error.maybeApplied);
  for (const [name, value] of Object.entries(error.details)) {
    const entry = writer.open(5);
    writer.string(1, name).string(2, value).close(entry);
  }
  writer.close(mark);
}

/** One that cannot be a name is refused before it is made text of. */
export function name(reader: ProtoReader): string {
  const bytes = reader.block();
  if (bytes.length > NAME_BYTES_MAX)
    throw new BrokerError("INVALID_NAME", `a name of ${bytes.length} bytes is too long`, { field: String(reader.field) });
  return utf8Decode(bytes);
}

export function uint32(reader: ProtoReader): number {
  const value = reader.uint();
  if (value > 0xffff_ffff) throw new DecodeError(`field ${reader.field} is past 2^32`);
  return value;
}

export function buffer(writer: ProtoWriter): Buffer {
  const bytes = writer.finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
