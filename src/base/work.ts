/**
 * Told of every piece of work that may hold the event loop: what it was and when it began, in ms of the monotonic clock. It
 * has just ended. `what` is one of few fixed texts: no text is made for it.
 */
export type Worked = (what: string, sinceMs: number) => void;

/** Remembers the longest piece of work since it was last asked, so that a stall of the loop has a name. */
export class LongestWork {
  private readonly nowMs: () => number;
  private what = "";
  private ms = 0;

  constructor(nowMs: () => number) {
    this.nowMs = nowMs;
  }

  readonly worked: Worked = (what, sinceMs) => {
    const ms = this.nowMs() - sinceMs;
    if (ms <= this.ms) return;
    this.what = what;
    this.ms = ms;
  };

  take(): { readonly what: string; readonly ms: number } {
    const longest = { what: this.what, ms: this.ms };
    this.what = "";
    this.ms = 0;
    return longest;
  }
}
