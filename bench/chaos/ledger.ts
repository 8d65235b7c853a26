// The load's own books: what was sent, what of it was acknowledged, and where each record was seen, by acknowledgements and
// by readers. Twelve bytes a record and a constant time per observation; a round ends before RECORDS_MAX. What a client was
// not told (its producer ended) may or may not stand somewhere.

import type { Content, RecordId } from "./content.ts";
import type { Verdict } from "./verdict.ts";

/** Records of one round, sent by all producers together. */
export const RECORDS_MAX = 8_000_000;

const NOWHERE = -1;

/** Numbers that only grow in count; `NOWHERE` where none was set. */
class Numbers {
  private values = new Int32Array(1024).fill(NOWHERE);

  get(at: number): number {
    return this.values[at] ?? NOWHERE;
  }

  set(at: number, value: number): void {
    if (at >= this.values.length) {
      const grown = new Int32Array(Math.max(at + 1, this.values.length * 2)).fill(NOWHERE);
      grown.set(this.values);
      this.values = grown;
    }
    this.values[at] = value;
  }
}

type Lane = {
  readonly producer: number;
  readonly partition: number;
  sent: number;
  /** Outcomes come in the order of the partition, so what is acknowledged is a beginning of the lane. */
  acked: number;
  /** The offset at which each record was seen first. */
  readonly places: Numbers;
  lastOffset: number;
};

type Partition = { readonly laneAt: Numbers; readonly numberAt: Numbers; endKnown: number };

export class Ledger {
  readonly lanes: Lane[] = [];
  sent = 0;
  acked = 0;
  private readonly partitions: readonly Partition[];
  private readonly content: Content;
  private readonly verdict: Verdict;

  constructor(partitions: number, content: Content, verdict: Verdict) {
    this.partitions = Array.from({ length: partitions }, () => ({ laneAt: new Numbers(), numberAt: new Numbers(), endKnown: 0 }));
    this.content = content;
    this.verdict = verdict;
  }

  get isFull(): boolean {
    return this.sent >= RECORDS_MAX;
  }

  /** What a producer that begins will send to the partition. */
  openLane(producer: number, partition: number): number {
    this.lanes.push({ producer, partition, sent: 0, acked: 0, places: new Numbers(), lastOffset: NOWHERE });
    return this.lanes.length - 1;
  }

  /** The number of the lane's next record, which is sent now. */
  sending(lane: number): number {
    this.sent += 1;
    return this.lanes[lane]!.sent++;
  }

  /** `offset` -1: stored, at a place that is not known. */
  acknowledged(id: RecordId, partition: number, offset: number): void {
    const lane = this.lanes[id.lane]!;
    this.acked += 1;
    if (partition !== lane.partition)
      this.verdict.report("L4", `${this.nameOf(id)} was acknowledged by partition ${partition}, to which its key does not belong`);
    if (id.number !== lane.acked) this.verdict.report("L3", `${this.nameOf(id)} was acknowledged when number ${lane.acked} was due`);
    lane.acked = Math.max(lane.acked, id.number + 1);
    if (offset < 0) return;
    if (offset <= lane.lastOffset)
      this.verdict.report("L3", `${this.nameOf(id)} was acknowledged at offset ${offset}, the one before it at ${lane.lastOffset}`);
    lane.lastOffset = offset;
    this.place(id, lane, offset);
    const known = this.partitions[lane.partition]!;
    known.endKnown = Math.max(known.endKnown, offset + 1);
  }

  /** Somebody read this. Returns whose record it is, or null when it is none. */
  observed(partition: number, offset: number, key: Uint8Array | null, body: Uint8Array): RecordId | null {
    const id = this.content.idOf(body);
    const lane = id === null ? undefined : this.lanes[id.lane];
    if (id === null || lane === undefined || id.number >= lane.sent) {
      this.verdict.report("L1", `partition ${partition} offset ${offset}: ${body.length} bytes that nobody sent`);
      return null;
    }
    if (lane.partition !== partition || !this.content.isExact(id, partition, key, body)) {
      this.verdict.report("L1", `partition ${partition} offset ${offset}: ${this.nameOf(id)} is not as it was sent`);
      return null;
    }
    this.place(id, lane, offset);
    return id;
  }

  /** No reader may be told of an end below it. */
  endKnown(partition: number): number {
    return this.partitions[partition]!.endKnown;
  }

  /** What a read of the end gave; `atLeast`: what `endKnown` said before the question. */
  endSeen(partition: number, endOffset: number, atLeast: number): void {
    if (endOffset < atLeast)
      this.verdict.report("L6", `partition ${partition} ends at ${endOffset}, and ${atLeast} had been told before the question`);
    const known = this.partitions[partition]!;
    known.endKnown = Math.max(known.endKnown, endOffset);
  }

  lanesOf(partition: number): number[] {
    return this.lanes.flatMap((lane, at) => (lane.partition === partition ? [at] : []));
  }

  nameOf({ lane, number }: RecordId): string {
    const { producer, partition } = this.lanes[lane]!;
    return `record ${number} of producer ${producer} in partition ${partition}`;
  }

  private place(id: RecordId, lane: Lane, offset: number): void {
    const before = lane.places.get(id.number);
    if (before === NOWHERE) lane.places.set(id.number, offset);
    else if (before !== offset) this.verdict.report("L2", `${this.nameOf(id)} stands at offset ${before} and again at ${offset}`);
    const { laneAt, numberAt } = this.partitions[lane.partition]!;
    const other = { lane: laneAt.get(offset), number: numberAt.get(offset) };
    if (other.lane === NOWHERE) {
      laneAt.set(offset, id.lane);
      numberAt.set(offset, id.number);
    } else if (other.lane !== id.lane || other.number !== id.number)
      this.verdict.report("L4", `partition ${lane.partition} offset ${offset} is ${this.nameOf(other)} and ${this.nameOf(id)}`);
  }
}
