// One line on a terminal that tells how far long work is: count, bytes, rate, and the time left where the end is known.

const EVERY_MS = 200;

export class Progress {
  private readonly what: string;
  private readonly totalBytes: number;
  private readonly startedMs = Date.now();
  private timer: NodeJS.Timeout | null = null;
  private shown = false;
  records = 0;
  bytes = 0;

  /** `totalBytes` 0: the end is not known. Draws only on a terminal, and not over the data that goes to the same one. */
  constructor(what: string, totalBytes: number, options: { quiet: boolean }) {
    this.what = what;
    this.totalBytes = totalBytes;
    if (!process.stderr.isTTY || options.quiet) return;
    this.timer = setInterval(() => this.draw(), EVERY_MS);
    this.timer.unref();
  }

  /** Ends the line; returns the summary. */
  end(): string {
    if (this.timer !== null) clearInterval(this.timer);
    if (this.shown) process.stderr.write("\r\x1b[K");
    const seconds = Math.max((Date.now() - this.startedMs) / 1000, 0.001);
    return `${this.records.toLocaleString("en")} records, ${megabytes(this.bytes)} MB in ${seconds.toFixed(1)} s: ${Math.round(this.records / seconds).toLocaleString("en")} records/s, ${megabytes(this.bytes / seconds)} MB/s`;
  }

  private draw(): void {
    this.shown = true;
    const seconds = (Date.now() - this.startedMs) / 1000;
    const left =
      this.totalBytes > 0 && this.bytes > 0
        ? `, ${Math.min(100, Math.floor((100 * this.bytes) / this.totalBytes))} %, ${Math.ceil((seconds * Math.max(0, this.totalBytes - this.bytes)) / this.bytes)} s left`
        : "";
    process.stderr.write(
      `\r\x1b[K${this.what} ${this.records.toLocaleString("en")} records, ${Math.round(this.records / seconds).toLocaleString("en")}/s, ${megabytes(this.bytes / seconds)} MB/s${left}`,
    );
  }
}

/** The same for work of a known number of steps that somebody else does: told now and then how far it is. */
export class StepProgress {
  private readonly what: string;
  private readonly steps: string;
  private readonly startedMs = Date.now();
  private shown = false;

  constructor(what: string, steps = "entries") {
    this.what = what;
    this.steps = steps;
  }

  update(done: number, total: number): void {
    if (!process.stderr.isTTY || total === 0) return;
    this.shown = true;
    const seconds = (Date.now() - this.startedMs) / 1000;
    const left = done > 0 ? `, ${Math.ceil((seconds * (total - done)) / done)} s left` : "";
    process.stderr.write(
      `\r\x1b[K${this.what} ${Math.floor((100 * done) / total)} %, ${done.toLocaleString("en")} of ${total.toLocaleString("en")} ${this.steps}${left}`,
    );
  }

  end(): void {
    if (this.shown) process.stderr.write("\r\x1b[K");
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
