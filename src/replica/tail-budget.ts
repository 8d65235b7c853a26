import type { Replica } from "./replica.ts";

type Batch = { readonly replica: Replica; readonly lastIndex: number; readonly bytes: number };

/** What a batch costs beside its payload; also bounds how many there are. */
const OVERHEAD_BYTES = 256;

/**
 * Keeps the tail caches of all groups within one bound: what was cached first goes first, whoever owns it. An entry that
 * is not yet durable and applied stays, because nothing else could serve it; those are bounded by UNCOMMITTED_BYTES_MAX.
 */
export class TailBudget {
  private readonly bytesMax: number;
  private batches: (Batch | undefined)[] = [];
  private head = 0;
  private bytes = 0;
  private maySweep = false;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** Batches that are accounted for. */
  get size(): number {
    return this.batches.length - this.head;
  }

  added(replica: Replica, lastIndex: number, payloadBytes: number): void {
    const bytes = payloadBytes + OVERHEAD_BYTES;
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

  /** A replica was closed, or came to rest without its cache: with the next sweep nothing here holds it any more. */
  released(): void {
    this.maySweep = true;
  }

  /** Forgets what belongs to closed replicas, and what its replica no longer has cached. */
  sweep(): void {
    if (!this.maySweep) return;
    this.maySweep = false;
    const held = this.batches.filter(
      (batch) => batch !== undefined && !batch.replica.closed && batch.replica.cache.lastIndex >= batch.lastIndex,
    );
    this.batches = held;
    this.head = 0;
    this.bytes = held.reduce((sum, batch) => sum + batch!.bytes, 0);
  }
}
