// Memory for what is kept for a while: entries in the tail caches, frames of other nodes. V8 counts memory outside its
// heap towards its next full collection, and starts one after each 64 MB of it: a node that takes in 200 MB/s would mark
// its whole heap several times a second, a quarter of its CPU. Shared memory is not counted. So it is counted here: up to
// a bound slabs of shared memory are handed out, beyond it ordinary memory, which makes V8 collect and frees the slabs.

import { assert } from "./assert.ts";

export class PayloadMemory {
  private readonly slabBytes: number;
  private readonly bytesMax: number;
  private slab: SharedArrayBuffer | null = null;
  private filled = 0;
  private bytes = 0;
  private readonly collected: FinalizationRegistry<number>;

  /** Slabs of `slabBytes`; at most `bytesMax` bytes of slabs that are not yet collected. */
  constructor(slabBytes: number, bytesMax: number) {
    assert(slabBytes > 0 && bytesMax >= slabBytes, "at least one slab fits");
    this.slabBytes = slabBytes;
    this.bytesMax = bytesMax;
    this.collected = new FinalizationRegistry((bytes) => {
      this.bytes -= bytes;
    });
  }

  /** Bytes of slabs handed out and not yet collected. */
  get slabBytesAlive(): number {
    return this.bytes;
  }

  /** `bytes` of memory, all zero, that nobody else is given while they are referenced. Copy into it with `copyInto`. */
  take(bytes: number): Uint8Array {
    if (this.slab === null || this.filled + bytes > this.slabBytes) {
      const size = Math.max(this.slabBytes, bytes);
      if (this.bytes + size > this.bytesMax) return new Uint8Array(bytes);
      const slab = new SharedArrayBuffer(size);
      this.bytes += size;
      this.collected.register(slab, size);
      // What is larger than a slab, or than what is left of it by much, does not end the one in use.
      if (bytes > this.slabBytes / 2) return new Uint8Array(slab, 0, bytes);
      this.slab = slab;
      this.filled = 0;
    }
    const memory = new Uint8Array(this.slab, this.filled, bytes);
    this.filled = (this.filled + bytes + 7) & ~7;
    return memory;
  }
}
