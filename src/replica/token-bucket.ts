/** Bytes per second, and a burst of at most `burstBytes`. What is taken may be more than there is: the debt is waited off. */
export class TokenBucket {
  private readonly bytesPerSecond: number;
  private readonly burstBytes: number;
  private tokens: number;
  private filledMs: number;

  /** `bytesPerSecond` 0: nothing ever waits. */
  constructor(bytesPerSecond: number, burstBytes: number, nowMs: number) {
    this.bytesPerSecond = bytesPerSecond;
    this.burstBytes = burstBytes;
    this.tokens = burstBytes;
    this.filledMs = nowMs;
  }

  /** Milliseconds until something may be taken; 0 = now. */
  waitMs(nowMs: number): number {
    if (this.bytesPerSecond === 0) return 0;
    this.add(((nowMs - this.filledMs) / 1000) * this.bytesPerSecond);
    this.filledMs = nowMs;
    return this.tokens > 0 ? 0 : Math.ceil(((1 - this.tokens) / this.bytesPerSecond) * 1000);
  }

  /** A negative number gives back. */
  take(bytes: number): void {
    this.tokens -= bytes;
  }

  /** Beyond what time brings. */
  add(bytes: number): void {
    this.tokens = Math.min(this.burstBytes, this.tokens + bytes);
  }
}
