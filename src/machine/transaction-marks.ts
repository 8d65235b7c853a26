// Which transactions are over in one place, by their number: what comes late, or again, is told by that. A transaction's number is the offset
// of its record in a queue of transactions, of which a vhost has one at a time. What is over for good everywhere need not be told apart from
// what never came here, so whoever knows which are not over yet (`settle`) makes one run of all others.

import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { RunMap } from "./work/run-map.ts";

export type Transaction = {
  /** Group of the queue of transactions: a later queue has a higher one. */
  readonly group: number;
  readonly offset: number;
};

export class TransactionMarks {
  /** Of the queue whose transactions are marked; 0 = none was yet. */
  group = 0;
  /** Most places see no transactions. */
  private offsets: RunMap | null = null;

  get runs(): number {
    return this.offsets?.runs ?? 0;
  }

  has({ group, offset }: Transaction): boolean {
    return group === this.group && this.offsets?.has(offset) === true;
  }

  /** It belongs to a queue of transactions that was deleted since: nothing of it may happen any more. */
  isPast({ group }: Transaction): boolean {
    return group < this.group;
  }

  add({ group, offset }: Transaction): void {
    if (group < this.group) return;
    if (group > this.group || this.offsets === null) this.offsets = new RunMap(0);
    this.group = group;
    this.offsets.assign(offset, offset + 1);
  }

  /** Of the transactions below this number only these, ascending, are not over everywhere. */
  settle(group: number, below: number, unfinished: readonly number[]): void {
    if (group !== this.group || this.offsets === null) return;
    let from = 0;
    for (const offset of unfinished) {
      if (this.offsets.has(offset)) continue;
      if (from < offset) this.offsets.assign(from, offset);
      from = offset + 1;
    }
    if (from < below) this.offsets.assign(from, below);
  }

  write(writer: ByteWriter): void {
    writer.varint(this.group);
    if (this.group > 0) this.offsets!.write(writer);
  }

  static read(reader: ByteReader): TransactionMarks {
    const marks = new TransactionMarks();
    marks.group = reader.varint();
    if (marks.group > 0) marks.offsets = RunMap.read(0, reader);
    return marks;
  }
}
