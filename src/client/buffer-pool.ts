// Memory of batches, used again. What lies outside V8's heap counts towards its next full collection: a fast producer
// that took fresh memory for every batch would have V8 mark its whole heap dozens of times a second.

/** Smaller ones are not worth keeping. */
const KEEP_BYTES_MIN = 8 * 1024;
/** Sizes are rounded up to this, so that batches of about one size share their memory. */
const STEP_BYTES = 8 * 1024;

export class BufferPool {
  private readonly bytesMax: number;
  private readonly spare: Buffer[] = [];
  private bytes = 0;

  /** At most `bytesMax` bytes are kept. */
  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** At least `bytes`, with whatever was there before; a large one has its memory to itself. */
  take(bytes: number): Buffer {
    if (bytes < KEEP_BYTES_MIN) return Buffer.allocUnsafe(bytes);
    const spare = this.spare.pop();
    if (spare !== undefined) {
      this.bytes -= spare.length;
      // Another size is wanted by now: the others will not fit either, and go one by one.
      if (spare.length >= bytes && spare.length <= 4 * bytes) return spare;
    }
    return Buffer.allocUnsafeSlow(Math.ceil(bytes / STEP_BYTES) * STEP_BYTES);
  }

  /** `memory` must be a whole one of `take`, and nobody may use it any more. */
  give(memory: Buffer): void {
    if (memory.length < KEEP_BYTES_MIN || this.bytes + memory.length > this.bytesMax) return;
    this.bytes += memory.length;
    this.spare.push(memory);
  }
}
