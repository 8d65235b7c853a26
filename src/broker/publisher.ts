// Publish: find the group, stamp the batch with its producer's numbers, propose it where the leader is.

import { copyInto } from "../base/copy.ts";
import { BrokerError } from "../base/errors.ts";
import { BATCH_BYTES_MAX, BATCH_RECORDS_MAX } from "../base/limits.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { TopicRow } from "../machine/catalog/catalog.ts";
import { BATCH_TOO_MANY, RECORDS_HEADER_BYTES, scanRecordBatch, writeRecordsHeader } from "../machine/stream/records-codec.ts";
import { STREAM_DUPLICATE, STREAM_FENCED, STREAM_OK, STREAM_OUT_OF_SEQUENCE, STREAM_PRODUCER_UNKNOWN } from "../machine/stream/codes.ts";
import { ENTRY_RECORDS } from "../raft/types.ts";
import type { Router } from "./router.ts";
import type { PublishCall, PublishDone } from "./types.ts";

export class Publisher {
  private readonly router: Router;
  private readonly memory: PayloadMemory;
  private readonly topicOf: (vhost: string, name: string) => TopicRow | BrokerError;
  private nextPartition = 0;

  constructor(router: Router, memory: PayloadMemory, topicOf: (vhost: string, name: string) => TopicRow | BrokerError) {
    this.router = router;
    this.memory = memory;
    this.topicOf = topicOf;
  }

  publish(call: PublishCall, done: PublishDone): void {
    const topic = this.topicOf(call.vhost, call.topic);
    if (topic instanceof BrokerError) {
      done(topic, Math.max(call.partition, 0), -1, 0, false);
      return;
    }
    const partition = call.partition >= 0 ? call.partition : this.choosePartition(call.partitionKey, topic.partitions.length);
    const row = topic.partitions[partition];
    if (row === undefined) {
      done(
        new BrokerError("UNKNOWN_PARTITION", `topic ${topic.name} has partitions 0..${topic.partitions.length - 1}, not ${partition}`),
        partition,
        -1,
        0,
        false,
      );
      return;
    }
    const count = checkBatch(call);
    if (count instanceof BrokerError) {
      done(count, partition, -1, 0, false);
      return;
    }
    const payload = this.memory.take(RECORDS_HEADER_BYTES + call.records.length);
    writeRecordsHeader(payload, 0, { count, producerId: call.producerId, producerEpoch: call.producerEpoch, sequence: call.sequence });
    copyInto(payload, RECORDS_HEADER_BYTES, call.records);
    this.router.propose(row.group, ENTRY_RECORDS, payload, call.direct, (error, code, value) => {
      if (error !== null) done(error, partition, -1, 0, false);
      else finish(code, value, partition, count, done);
    });
  }

  private choosePartition(key: Uint8Array | null, partitions: number): number {
    if (key !== null) return hashKey(key) % partitions;
    this.nextPartition = (this.nextPartition + 1) % 0x4000_0000;
    return this.nextPartition % partitions;
  }
}

/** The number of records, or why the batch cannot be taken. */
function checkBatch(call: PublishCall): number | BrokerError {
  if (call.records.length > BATCH_BYTES_MAX) {
    return new BrokerError(
      "BATCH_TOO_LARGE",
      `the batch has ${call.records.length} bytes, ${BATCH_BYTES_MAX} are allowed; send smaller batches`,
    );
  }
  const count = scanRecordBatch(call.records, 0, call.records.length);
  if (count === BATCH_TOO_MANY)
    return new BrokerError("BATCH_TOO_LARGE", `the batch has more than ${BATCH_RECORDS_MAX} records, or fields that are none`);
  if (count < 0) return new BrokerError("MALFORMED_BATCH", "the record batch is not a RecordBatch message");
  if (count === 0) return new BrokerError("MALFORMED_BATCH", "the record batch has no records");
  if (call.count !== 0 && call.count !== count)
    return new BrokerError("COUNT_MISMATCH", `the batch holds ${count} records, the request says ${call.count}`);
  return count;
}

function finish(code: number, value: number, partition: number, count: number, done: PublishDone): void {
  switch (code) {
    case STREAM_OK:
      done(null, partition, value, count, false);
      return;
    case STREAM_DUPLICATE:
      done(null, partition, value, count, true);
      return;
    case STREAM_OUT_OF_SEQUENCE:
      done(new BrokerError("OUT_OF_SEQUENCE", "an earlier batch of this producer is missing in the partition"), partition, -1, 0, false);
      return;
    case STREAM_FENCED:
      done(new BrokerError("FENCED_PRODUCER", "a producer of this id with a higher epoch is at work"), partition, -1, 0, false);
      return;
    case STREAM_PRODUCER_UNKNOWN:
      done(
        new BrokerError(
          "PRODUCER_UNKNOWN",
          "the partition does not know this producer; start at sequence 0, with the next epoch if it had one",
        ),
        partition,
        -1,
        0,
        false,
      );
      return;
    default:
      done(new BrokerError("INTERNAL", `unknown reply ${code} of the stream`), partition, -1, 0, false);
  }
}

/** FNV-1a over the key's bytes, 32 bits: the same as the client library's default partitioner. */
export function hashKey(key: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key[i]!, 0x01000193);
  return hash >>> 0;
}
