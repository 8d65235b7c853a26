// Messages that transactions hold: leased by whoever received them, then handed over until it is decided what becomes of them. A holder is
// connected to no node and takes nothing; what it has it keeps whatever becomes of the consumer.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { holderOf } from "../../base/ids.ts";
import { DELAY_MS_MAX, HOLDERS_PER_SUBSCRIPTION_MAX, TRANSACTION_MARKS_MAX } from "../../base/limits.ts";
import { TransactionMarks, type Transaction } from "../transaction-marks.ts";
import { Consumer } from "./consumers.ts";
import { RunMap } from "./run-map.ts";

/** Until it is decided: longer than any transaction may take. */
export const HOLD_MS = DELAY_MS_MAX;
const HOLDER_TERMS = { priority: 0, leaseMs: HOLD_MS, gateway: 0, staysMs: 0 };

export class Holds {
  private readonly holders = new Map<number, Consumer>();
  /** Transactions that were rolled back here: what they ask to hold now comes too late. */
  readonly marks: TransactionMarks;

  constructor(marks = new TransactionMarks()) {
    this.marks = marks;
  }

  get size(): number {
    return this.holders.size;
  }

  /** By the id that stands in its leases. */
  get(id: number): Consumer | undefined {
    return this.holders.get(id);
  }

  of({ offset }: Transaction): Consumer | undefined {
    return this.holders.get(holderOf(offset));
  }

  /** Null when there is no room for one more. */
  open(transaction: Transaction): Consumer | null {
    const id = holderOf(transaction.offset);
    const known = this.holders.get(id);
    if (known !== undefined) return known;
    if (this.holders.size >= HOLDERS_PER_SUBSCRIPTION_MAX || this.marks.runs >= TRANSACTION_MARKS_MAX) return null;
    const holder = new Consumer(id, HOLDER_TERMS, 0);
    this.holders.set(id, holder);
    return holder;
  }

  isOver(transaction: Transaction): boolean {
    return this.marks.isPast(transaction) || this.marks.has(transaction);
  }

  /** Who has nothing left is gone. */
  close(holder: Consumer): void {
    if (holder.held.size === 0) this.holders.delete(holder.id);
  }

  write(writer: ByteWriter): void {
    writer.varint(this.holders.size);
    // In the order of their ids: in which they came is nothing to anybody.
    for (const id of [...this.holders.keys()].sort((a, b) => a - b)) {
      writer.varint(id);
      this.holders.get(id)!.held.write(writer);
    }
    this.marks.write(writer);
  }

  static read(reader: ByteReader): Holds {
    const holders: Consumer[] = [];
    for (let left = reader.varint(); left > 0; left--) {
      const holder = new Consumer(reader.varint(), HOLDER_TERMS, 0);
      holder.held = RunMap.read(0, reader);
      holders.push(holder);
    }
    const holds = new Holds(TransactionMarks.read(reader));
    for (const holder of holders) holds.holders.set(holder.id, holder);
    return holds;
  }
}
