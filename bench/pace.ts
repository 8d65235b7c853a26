/** Says how far a long step is, every so often. */
export class Pace {
  private readonly what: string;
  private readonly total: number;
  private readonly say: (text: string) => void;
  private readonly startMs = performance.now();
  private saidMs = performance.now();

  constructor(what: string, total: number, say: (text: string) => void) {
    this.what = what;
    this.total = total;
    this.say = say;
  }

  /** `done` of the total, in bytes. */
  update(done: number): void {
    const now = performance.now();
    if (now - this.saidMs < 2_000) return;
    this.saidMs = now;
    const rate = done / ((now - this.startMs) / 1000);
    const left = rate > 0 ? ((this.total - done) / rate).toFixed(0) : "?";
    this.say(`${this.what}: ${((100 * done) / this.total).toFixed(0)} %, ${(rate / 1e6).toFixed(0)} MB/s, ${left} s left`);
  }
}
