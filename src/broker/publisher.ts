// Publish: find the group, stamp the batch with its producer's numbers and with what work subscriptions are to know of its records, propose
// it where the leader is.

import { BrokerError } from "../base/errors.ts";
import { BATCH_BYTES_MAX, BATCH_RECORDS_MAX, WAITING_BYTES_MAX, WAITING_MAX } from "../base/limits.ts";
import type { Clock } from "../base/clock.ts";
import type { PayloadMemory } from "../base/payload-memory.ts";
import type { TopicRow } from "../machine/catalog/catalog.ts";
import { BATCH_TOO_MANY, scanRecordBatch } from "../machine/stream/records-codec.ts";
import {
  STREAM_BUSY,
  STREAM_DUPLICATE,
  STREAM_FENCED,
  STREAM_FULL,
  STREAM_OK,
  STREAM_OUT_OF_SEQUENCE,
  STREAM_PRODUCER_UNKNOWN,
} from "../machine/stream/codes.ts";
import { encodeSidecar } from "../machine/work/sidecar.ts";
import { ENTRY_RECORDS } from "../raft/types.ts";
import { vhostOf } from "./admin.ts";
import type { ExchangePublisher } from "./exchange-publisher.ts";
import { factRuns, scanRecords } from "./record-scan.ts";
import { recordsPayload } from "./records-payload.ts";
import { isReserved, reservedName } from "./reserved.ts";
import type { Router } from "./router.ts";
import type { PublishCall, PublishDone } from "./types.ts";

export type PublisherComponents = {
  readonly router: Router;
  readonly memory: PayloadMemory;
  readonly clock: Clock;
  readonly topicOf: (vhost: string, name: string) => TopicRow | BrokerError;
  /** Resolves once what this node knows of topics is as new as the catalog was at the call; rejects with BrokerError. */
  readonly viewIsCurrent: () => Promise<void>;
  readonly exchanges: () => ExchangePublisher;
};
type Held = { readonly call: PublishCall; readonly done: PublishDone };

export class Publisher {
  private readonly components: PublisherComponents;
  private nextPartition = 0;
  /** By topic or exchange: what came for one, or for a partition, that is not known here, and whatever came after it. */
  private readonly held = new Map<string, Held[]>();
  private heldCount = 0;
  private heldBytes = 0;

  constructor(components: PublisherComponents) {
    this.components = components;
  }

  /** Of the call's bytes nothing is kept without a copy. */
  publish(call: PublishCall, done: PublishDone): void {
    const waits = this.held.size > 0 && this.held.has(targetKey(call));
    if (waits || this.tryPublish(call, done) !== null) this.hold(call, done);
  }

  /** Before it is said that there is no such topic, this node makes sure that it knows. The order of a topic's batches stays. */
  private hold(call: PublishCall, done: PublishDone): void {
    const { partitionKey, records } = call;
    const bytes = records.length + (partitionKey?.length ?? 0);
    if (this.heldCount >= WAITING_MAX || this.heldBytes + bytes > WAITING_BYTES_MAX) {
      fail(call, done, new BrokerError("OVERLOADED", "too many requests for topics that this node does not know wait already"));
      return;
    }
    this.heldCount += 1;
    this.heldBytes += bytes;
    const kept = { ...call, records: new Uint8Array(records), partitionKey: partitionKey && new Uint8Array(partitionKey) };
    const key = targetKey(call);
    const held = this.held.get(key);
    if (held !== undefined) {
      held.push({ call: kept, done });
      return;
    }
    this.held.set(key, [{ call: kept, done }]);
    this.components.viewIsCurrent().then(
      () => this.release(key, null),
      (error: unknown) => {
        if (!(error instanceof BrokerError)) throw error;
        this.release(key, error);
      },
    );
  }

  private release(key: string, error: BrokerError | null): void {
    const held = this.held.get(key)!;
    this.held.delete(key);
    for (const { call, done } of held) {
      this.heldCount -= 1;
      this.heldBytes -= call.records.length + (call.partitionKey?.length ?? 0);
      const failure = error ?? this.tryPublish(call, done);
      if (failure !== null) fail(call, done, failure);
    }
  }

  /** What is not known here, if anything is; else `done` is called. */
  private tryPublish(call: PublishCall, done: PublishDone): BrokerError | null {
    if (call.exchange !== null) {
      const count = checkBatch(call);
      if (count instanceof BrokerError) {
        done(count, 0, -1, 0, false);
        return null;
      }
      return this.components.exchanges().tryPublish(call, call.exchange, count, done);
    }
    if (isReserved(call.topic)) {
      fail(call, done, reservedName(call.topic));
      return null;
    }
    const topic = this.components.topicOf(call.vhost, call.topic);
    if (topic instanceof BrokerError) return topic;
    const partition = call.partition >= 0 ? call.partition : this.choosePartition(call.partitionKey, topic.partitions.length);
    if (topic.partitions[partition] === undefined)
      return new BrokerError("UNKNOWN_PARTITION", `topic ${topic.name} has partitions 0..${topic.partitions.length - 1}, not ${partition}`);
    const count = checkBatch(call);
    const failure = count instanceof BrokerError ? count : this.propose(topic, partition, call, count, done);
    if (failure !== null) done(failure, partition, -1, 0, false);
    return null;
  }

  private propose(topic: TopicRow, partition: number, call: PublishCall, count: number, done: PublishDone): BrokerError | null {
    const { memory, router, clock } = this.components;
    const sidecar = sidecarOf(topic, call.records, clock.wallMs());
    if (sidecar instanceof BrokerError) return sidecar;
    const { producerId, producerEpoch, sequence } = call;
    const payload = recordsPayload(memory, { count, producerId, producerEpoch, sequence }, "gapless", sidecar, [call.records]);
    router.propose(topic.partitions[partition]!.group, ENTRY_RECORDS, payload, call.direct, (error, code, value) => {
      if (error !== null) done(error, partition, -1, 0, false);
      else if (code === STREAM_OK || code === STREAM_DUPLICATE) done(null, partition, value, count, code === STREAM_DUPLICATE);
      else done(streamError(code, topic.name), partition, -1, 0, false);
    });
    return null;
  }

  private choosePartition(key: Uint8Array | null, partitions: number): number {
    if (key !== null) return hashKey(key) % partitions;
    this.nextPartition = (this.nextPartition + 1) % 0x4000_0000;
    return this.nextPartition % partitions;
  }
}

/** What work subscriptions are to know; null when this node knows of nobody who would. */
function sidecarOf(topic: TopicRow, records: Uint8Array, nowMs: number): Uint8Array | null | BrokerError {
  if (topic.queue === null && topic.works.length === 0) return null;
  const scanned = scanRecords(records, false, nowMs);
  return scanned instanceof BrokerError ? scanned : encodeSidecar(factRuns(scanned));
}

function targetKey({ vhost, topic, exchange }: PublishCall): string {
  return exchange === null ? `${vhostOf(vhost)}\n${topic}` : `${vhostOf(vhost)}\n\n${exchange}`;
}

function fail({ partition }: PublishCall, done: PublishDone, error: BrokerError): void {
  done(error, Math.max(partition, 0), -1, 0, false);
}

/** The number of records, or why the batch cannot be taken. */
export function checkBatch(call: Pick<PublishCall, "records" | "count">): number | BrokerError {
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

/** Why a stream refused records. */
export function streamError(code: number, name: string): BrokerError {
  switch (code) {
    case STREAM_OUT_OF_SEQUENCE:
      return new BrokerError("OUT_OF_SEQUENCE", "an earlier batch of this producer is missing in the partition");
    case STREAM_FENCED:
      return new BrokerError("FENCED_PRODUCER", "a producer of this id with a higher epoch is at work");
    case STREAM_PRODUCER_UNKNOWN:
      return new BrokerError(
        "PRODUCER_UNKNOWN",
        "the partition does not know this producer; start at sequence 0, with the next epoch if it had one",
      );
    case STREAM_FULL:
      return new BrokerError("QUEUE_FULL", `queue ${name} has as many messages or bytes as it may, and refuses more`, { queue: name });
    case STREAM_BUSY:
      return new BrokerError("OVERLOADED", "too much is to be known of transactions in this partition; it is asked which are over");
    default:
      return new BrokerError("INTERNAL", `unknown reply ${code} of the stream`);
  }
}

/** FNV-1a over the key's bytes, 32 bits: the same as the client library's default partitioner. */
export function hashKey(key: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key[i]!, 0x01000193);
  return hash >>> 0;
}
