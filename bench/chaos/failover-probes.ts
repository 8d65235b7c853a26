// The load of the failover series: one probe per partition every so often, whether or not earlier ones were answered, and
// the times of their acknowledgements on this process's monotonic clock.

/** `error`: its code; null = acknowledged. */
export type Outcome = (error: string | null) => void;
export type SendProbe = (partition: number, done: Outcome) => void;

export const PROBE_MS = 10;
/** Between two calls of a client that never tries again, over all partitions. */
const SINGLE_MS = 25;

export type ErrorCounts = Readonly<Record<string, number>>;

export class Probes {
  private readonly send: SendProbe;
  private readonly sendOnce: SendProbe | null;
  private readonly acksMs: number[][];
  private errors: Record<string, number> = {};
  private singleErrors: Record<string, number> = {};
  private singles = 0;
  private timers: NodeJS.Timeout[] = [];

  /** `sendOnce`: without a second try, on a connection of its own; null = not offered. */
  constructor(partitions: number, send: SendProbe, sendOnce: SendProbe | null) {
    this.send = send;
    this.sendOnce = sendOnce;
    this.acksMs = Array.from({ length: partitions }, () => []);
  }

  start(): void {
    this.acksMs.forEach((_, partition) => {
      const done = (error: string | null): void => this.answered(partition, error);
      this.timers.push(setInterval(() => this.send(partition, done), PROBE_MS));
    });
    if (this.sendOnce === null) return;
    let next = 0;
    const once = (error: string | null): void => {
      if (error !== null) this.singleErrors[error] = (this.singleErrors[error] ?? 0) + 1;
    };
    const { sendOnce } = this;
    this.timers.push(
      setInterval(() => {
        this.singles += 1;
        sendOnce(next++ % this.acksMs.length, once);
      }, SINGLE_MS),
    );
  }

  stop(): void {
    for (const timer of this.timers) clearInterval(timer);
    this.timers = [];
  }

  /** Forgets everything but the last acknowledgement of each partition: a new watch begins. */
  mark(): void {
    for (const acks of this.acksMs) acks.splice(0, acks.length - 1);
    this.errors = {};
    this.singleErrors = {};
    this.singles = 0;
  }

  /** Since the last mark, the one before it included; ascending. */
  acksOf(partition: number): readonly number[] {
    return this.acksMs[partition]!;
  }

  /** Every partition was served in the last moments, and since then. */
  isServed(sinceMs: number, withinMs: number): boolean {
    const fromMs = Math.max(sinceMs, performance.now() - withinMs);
    return this.acksMs.every((acks) => acks.length > 0 && acks[acks.length - 1]! > fromMs);
  }

  /** Failures that the client reported although it tries again. */
  get errorsSeen(): ErrorCounts {
    return this.errors;
  }

  /** Those of the client that does not, and its calls. */
  get withoutRetry(): { readonly calls: number; readonly errors: ErrorCounts } {
    return { calls: this.singles, errors: this.singleErrors };
  }

  private answered(partition: number, error: string | null): void {
    if (error === null) this.acksMs[partition]!.push(performance.now());
    else this.errors[error] = (this.errors[error] ?? 0) + 1;
  }
}
