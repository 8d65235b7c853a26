// What clients asked for and what they were told, and the one log per partition that follows from it. Every answer is held
// against it at once; what a client was not told (a timeout, a lost leader) may or may not have happened.

import { crc32 } from "node:zlib";
import { RECORDS_HEADER_BYTES } from "../../src/machine/stream/records-codec.ts";

/** A violated invariant, under the name that the research gave it. */
export class Violation extends Error {
  override readonly name = "Violation";
  readonly invariant: string;

  constructor(invariant: string, message: string) {
    super(`${invariant}: ${message}`);
    this.invariant = invariant;
  }
}

/** A batch that some producer sent, however often. */
export type SentBatch = {
  readonly producer: number;
  readonly topic: string;
  readonly partition: number;
  /** How many records its producer had sent before, in all of its epochs. */
  readonly sequence: number;
  readonly count: number;
  readonly bytes: number;
  /** Where it was stored, once an acknowledgement or a reader said so; -1 before. */
  offset: number;
  isAcked: boolean;
};

export type ReadBatch = { readonly baseOffset: number; readonly count: number; readonly records: Uint8Array };

class PartitionLog {
  /** Known batches by their base offsets. */
  readonly at = new Map<number, SentBatch>();
  /** By bytes; no two batches of a history have the same. */
  readonly sent = new Map<number, SentBatch>();
  /** Highest first offset that a node told: below it retention may have taken everything. */
  startOffset = 0;
  /** Highest end that a client was told. */
  endOffset = 0;
  readonly ackedOf = new Map<number, SentBatch>();
}

export class History {
  private readonly partitions = new Map<string, PartitionLog>();
  /** Committed offsets: what was confirmed, and the highest that was ever asked for. */
  private readonly commits = new Map<string, { confirmed: number; highest: number }>();
  readonly counts = { sent: 0, acked: 0, records: 0, duplicates: 0, fenced: 0, read: 0, unknown: 0, commits: 0 };

  /** A producer is about to send this for the first time. */
  sending(batch: Omit<SentBatch, "bytes" | "offset" | "isAcked">, records: Uint8Array): SentBatch {
    const log = this.log(batch.topic, batch.partition);
    const sent: SentBatch = { ...batch, bytes: records.length, offset: -1, isAcked: false };
    const identity = identityOf(records);
    if (log.sent.has(identity)) throw new Error("two batches of a history have the same bytes");
    log.sent.set(identity, sent);
    this.counts.sent += 1;
    return sent;
  }

  /** `offset` -1: a duplicate of something stored too long ago, which the newest batch of a producer is not. */
  acknowledged(batch: SentBatch, offset: number, isDuplicate: boolean): void {
    const log = this.log(batch.topic, batch.partition);
    if (offset < 0) throw new Violation("L2", `${nameOf(batch)} is its producer's newest, and a retry is not told where it is`);
    this.counts.acked += 1;
    this.counts.records += batch.count;
    if (isDuplicate) this.counts.duplicates += 1;
    batch.isAcked = true;
    const last = log.ackedOf.get(batch.producer);
    if (last !== undefined && last.offset >= 0 && offset < last.offset + last.count)
      throw new Violation("L3", `${nameOf(batch)} was stored at ${offset}, behind which is ${nameOf(last)} at ${last.offset}`);
    log.ackedOf.set(batch.producer, batch);
    this.place(log, batch, offset);
    log.endOffset = Math.max(log.endOffset, offset + batch.count);
  }

  /** A refusal that cannot be right: an earlier batch of the producer was acknowledged. */
  refused(batch: SentBatch, code: string): void {
    throw new Violation("L0", `${nameOf(batch)} was refused (${code}) though all before it was acknowledged`);
  }

  /** Batches as one fetch returned them, from `offset` on. */
  fetched(
    where: { readonly topic: string; readonly partition: number; readonly offset: number },
    answer: {
      readonly batches: readonly ReadBatch[];
      readonly startOffset: number;
      readonly endOffset: number;
      readonly nextOffset: number;
    },
  ): void {
    const { topic, partition, offset } = where;
    const log = this.log(topic, partition);
    log.startOffset = Math.max(log.startOffset, answer.startOffset);
    let next = offset;
    for (const { baseOffset, count, records } of answer.batches) {
      const isFirst = next === offset;
      if (isFirst ? baseOffset > offset || baseOffset + count <= offset : baseOffset !== next)
        throw new Violation("L5", `${topic}/${partition}: a reader at ${next} got a batch at ${baseOffset} of ${count}`);
      const batch = log.sent.get(identityOf(records));
      if (batch === undefined) throw new Violation("L1", `${topic}/${partition}: what is stored at ${baseOffset} was never sent`);
      if (batch.count !== count) throw new Violation("L1", `${nameOf(batch)} has ${batch.count} records and was read as ${count}`);
      this.place(log, batch, baseOffset);
      this.counts.read += 1;
      next = baseOffset + count;
    }
    if (answer.batches.length > 0 && answer.nextOffset !== next)
      throw new Violation("L5", `${topic}/${partition}: batches end at ${next}, the next fetch is to begin at ${answer.nextOffset}`);
    if (answer.endOffset < next)
      throw new Violation("L6", `${topic}/${partition}: records up to ${next} were read, the end is ${answer.endOffset}`);
  }

  /** What a linearizable read of the end gave; nothing acknowledged before the question may be missing. */
  endSeen(where: { readonly topic: string; readonly partition: number }, endOffset: number, atLeast: number): void {
    if (endOffset < atLeast)
      throw new Violation(
        "L6",
        `${where.topic}/${where.partition} ends at ${endOffset}, though ${atLeast} had been told before the question`,
      );
    const log = this.log(where.topic, where.partition);
    log.endOffset = Math.max(log.endOffset, endOffset);
  }

  endKnown(topic: string, partition: number): number {
    return this.log(topic, partition).endOffset;
  }

  committing(key: string, offset: number): void {
    const known = this.commits.get(key) ?? { confirmed: 0, highest: 0 };
    this.commits.set(key, { ...known, highest: Math.max(known.highest, offset) });
  }

  committed(key: string, offset: number): void {
    const known = this.commits.get(key)!;
    known.confirmed = Math.max(known.confirmed, offset);
    this.counts.commits += 1;
  }

  confirmedCommit(key: string): number {
    return this.commits.get(key)?.confirmed ?? 0;
  }

  /** `confirmed`: what had been confirmed before the question. */
  commitSeen(key: string, offset: number, confirmed: number): void {
    const known = this.commits.get(key);
    const seen = Math.max(0, offset);
    if (seen < confirmed) throw new Violation("L7", `the committed offset of ${key} is ${offset}, ${confirmed} was confirmed`);
    if (seen > (known?.highest ?? 0)) throw new Violation("L1", `the committed offset of ${key} is ${offset}, nobody committed so far`);
  }

  /** Every acknowledged batch was read, from the first offset held to the end; to be asked once all was read. */
  complete(topic: string, partition: number, endOffset: number): void {
    const log = this.log(topic, partition);
    for (const batch of log.sent.values()) {
      if (!batch.isAcked) continue;
      if (batch.offset >= 0 && log.at.get(batch.offset) !== batch)
        throw new Violation("L0", `${nameOf(batch)} is gone from ${batch.offset}`);
      if (batch.offset + batch.count > endOffset) throw new Violation("L0", `${nameOf(batch)} lies beyond the end ${endOffset}`);
    }
    const bySequence = new Map<number, number>();
    for (const [, batch] of [...log.at].sort(([a], [b]) => a - b)) {
      const last = bySequence.get(batch.producer) ?? -1;
      if (batch.sequence <= last) throw new Violation("L3", `${nameOf(batch)} lies behind sequence ${last} of its producer`);
      bySequence.set(batch.producer, batch.sequence);
    }
  }

  /** L0: what retention by size took leaves so much at least; without it nothing goes. To be asked once all was read. */
  retained(topic: string, partition: number, retentionBytes: number): void {
    const log = this.log(topic, partition);
    if (log.startOffset === 0) return;
    let bytes = 0;
    for (const [offset, batch] of log.at) if (offset + batch.count > log.startOffset) bytes += batch.bytes + RECORDS_HEADER_BYTES;
    if (retentionBytes === 0 || bytes < retentionBytes)
      throw new Violation(
        "L0",
        `${topic}/${partition} begins at ${log.startOffset} with ${bytes} bytes, to be kept are ${retentionBytes || "all"}`,
      );
  }

  /** Acknowledged batches that must be held still and that no reader from the start has met. */
  missing(topic: string, partition: number, seen: ReadonlySet<number>): SentBatch[] {
    const log = this.log(topic, partition);
    return [...log.sent.values()].filter(
      (batch) => batch.isAcked && batch.offset >= 0 && batch.offset >= log.startOffset && !seen.has(batch.offset),
    );
  }

  private place(log: PartitionLog, batch: SentBatch, offset: number): void {
    if (batch.offset >= 0 && batch.offset !== offset)
      throw new Violation("L2", `${nameOf(batch)} is stored at ${batch.offset} and again at ${offset}`);
    const other = log.at.get(offset);
    if (other !== undefined && other !== batch)
      throw new Violation("L4", `${batch.topic}/${batch.partition} offset ${offset} is ${nameOf(other)} and ${nameOf(batch)}`);
    batch.offset = offset;
    log.at.set(offset, batch);
  }

  private log(topic: string, partition: number): PartitionLog {
    const key = `${topic}/${partition}`;
    let log = this.partitions.get(key);
    if (log === undefined) this.partitions.set(key, (log = new PartitionLog()));
    return log;
  }
}

/** Bytes by their checksum and their number: of the checksums of ten thousand batches two are the same in one run of a hundred. */
function identityOf(records: Uint8Array): number {
  return records.length * 2 ** 32 + crc32(records);
}

function nameOf({ producer, topic, partition, sequence, count }: SentBatch): string {
  return `batch ${sequence}+${count} of producer ${producer} in ${topic}/${partition}`;
}
