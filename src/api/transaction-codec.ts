// Hand-written codec of the request that carries a transaction: RecordBatch fields stay what they are on the wire.

import { DecodeError } from "../base/bytes.ts";
import { MESSAGE_FIELDS_MAX, TRANSACTION_PARTS_MAX } from "../base/limits.ts";
import { ProtoReader } from "../base/protobuf.ts";
import type { TransactCall, TransactionPublish, TransactionSettle } from "../broker/transactions/types.ts";
import type { Settlement } from "../broker/work/types.ts";
import { name, readProducer, uint32 } from "./raw-codec.ts";
import { decodeSettlement } from "./work-codec.ts";

const EMPTY = new Uint8Array(0);

/** `action` as it came. */
export type TransactFrame = Omit<TransactCall, "isPrepared"> & { readonly action: number };

export function decodeTransact(bytes: Uint8Array): TransactFrame {
  const reader = new ProtoReader(bytes, 0, bytes.length, TRANSACTION_PARTS_MAX + MESSAGE_FIELDS_MAX);
  const publishes: TransactionPublish[] = [];
  const settles: TransactionSettle[] = [];
  const call = { vhost: "", publishes, settles, action: 0, timeoutMs: 0, name: "", producerId: 0, producerEpoch: 0, sequence: 0 };
  let parts = 0;
  const counted = (more: number): void => {
    parts += more;
    if (parts > TRANSACTION_PARTS_MAX) throw new DecodeError(`a transaction may have ${TRANSACTION_PARTS_MAX} parts`);
  };
  while (reader.next()) {
    if (reader.field === 1) call.vhost = name(reader);
    else if (reader.field === 2) {
      counted(1);
      publishes.push(decodePublish(reader.message(MESSAGE_FIELDS_MAX)));
    } else if (reader.field === 3) {
      const settle = decodeSettle(reader.message(TRANSACTION_PARTS_MAX + MESSAGE_FIELDS_MAX));
      counted(Math.max(1, settle.settlements.length));
      settles.push(settle);
    } else if (reader.field === 4) call.action = reader.uint();
    else if (reader.field === 5) call.timeoutMs = uint32(reader);
    else if (reader.field === 6) call.name = name(reader);
    else if (reader.field === 7) {
      readProducer(reader.message(MESSAGE_FIELDS_MAX), call);
    } else reader.skip();
  }
  return call;
}

function decodePublish(reader: ProtoReader): TransactionPublish {
  const publish = {
    topic: "",
    partition: -1,
    partitionKey: null as Uint8Array | null,
    records: EMPTY as Uint8Array,
    count: 0,
    exchange: null as string | null,
    routingKey: "",
    mandatory: false,
  };
  while (reader.next()) {
    if (reader.field === 1) publish.topic = name(reader);
    else if (reader.field === 2) publish.partition = uint32(reader);
    else if (reader.field === 3) publish.records = reader.block();
    else if (reader.field === 4) publish.count = uint32(reader);
    else if (reader.field === 5) publish.partitionKey = reader.block();
    else if (reader.field === 6) publish.exchange = name(reader);
    else if (reader.field === 7) publish.routingKey = name(reader);
    else if (reader.field === 8) publish.mandatory = reader.bool();
    else reader.skip();
  }
  return publish;
}

function decodeSettle(reader: ProtoReader): TransactionSettle {
  const settle = { queue: "", subscription: "", settlements: [] as Settlement[] };
  while (reader.next()) {
    if (reader.field === 1) settle.queue = name(reader);
    else if (reader.field === 2) settle.subscription = name(reader);
    else if (reader.field === 3) settle.settlements.push(decodeSettlement(reader.message(MESSAGE_FIELDS_MAX)));
    else reader.skip();
  }
  return settle;
}
