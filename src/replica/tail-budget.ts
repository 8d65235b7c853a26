import type { Replica } from "./replica.ts";

type Batch = { readonly replica: Replica; readonly lastIndex: number; readonly bytes: number };

/**
 * Keeps the tail caches of all groups within one bound: what was cached first goes first, whoever owns it. An entry that
 * is not yet durable and applied stays, because nothing else could serve it; those are bounded by UNCOMMITTED_BYTES_MAX.
 */
export class TailBudget {
  private readonly bytesMax: number;
  private batches: (Batch | undefined)[] = [];
  private head = 0;
  private bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  added(replica: Replica, lastIndex: number, bytes: number): void {
    this.batches.push({ replica, lastIndex, bytes });
    this.bytes += bytes;
    while (this.bytes > this.bytesMax && this.head < this.batches.length) {
      const oldest = this.batches[this.head]!;
      if (!oldest.replica.evictTail(oldest.lastIndex)) break;
      this.bytes -= oldest.bytes;
      this.batches[this.head] = undefined;
      this.head += 1;
    }
    if (this.head > 1024 && this.head > this.batches.length / 2) {
      this.batches = this.batches.slice(this.head);
      this.head = 0;
    }
  }
}
