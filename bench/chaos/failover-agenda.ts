// How far a failover series is, and how long the rest of it will take.

export type AgendaPart = {
  readonly name: string;
  readonly faults: number;
  /** No fault of it begins later than so long after its first one. */
  readonly secondsMax?: number;
};

/** Seconds that one fault takes with all that belongs to it, until that is known. */
const EXPECTED_S: Readonly<Record<string, number>> = { flotilla: 4, many: 20, nats: 8, rabbitmq: 20 };
const EXPECTED_OTHERS_S = 15;

type Row = { left: number; done: number; seconds: number; readonly secondsMax: number };

export class Agenda {
  private readonly rows = new Map<string, Row>();
  private readonly nowMs: () => number;
  private sinceMs: number;
  private done = 0;

  constructor(parts: readonly AgendaPart[], nowMs: () => number = () => performance.now()) {
    this.nowMs = nowMs;
    this.sinceMs = nowMs();
    for (const { name, faults, secondsMax = Number.POSITIVE_INFINITY } of parts) {
      const row = this.rows.get(name);
      if (row === undefined) this.rows.set(name, { left: faults, done: 0, seconds: 0, secondsMax });
      else row.left += faults;
    }
  }

  /** A part begins: what was done since the last fault, as starting a cluster, is no fault's time. */
  begin(): void {
    this.sinceMs = this.nowMs();
  }

  /** One more fault of this part is over. Returns where the series stands, in words. */
  fault(name: string): string {
    const row = this.rows.get(name)!;
    const now = this.nowMs();
    row.seconds += (now - this.sinceMs) / 1_000;
    this.sinceMs = now;
    row.left = Math.max(0, row.left - 1);
    row.done += 1;
    this.done += 1;
    return this.text();
  }

  /** Nothing more comes of this part. */
  end(name: string): void {
    this.rows.get(name)!.left = 0;
  }

  private text(): string {
    let left = 0;
    let seconds = 0;
    for (const [name, row] of this.rows) {
      const each = row.done > 0 ? row.seconds / row.done : (EXPECTED_S[name] ?? EXPECTED_OTHERS_S);
      // What there is no time for is not made: it neither counts nor takes time.
      const isInTime = Math.max(0, Math.ceil((row.secondsMax - row.seconds) / each));
      const faults = Math.min(row.left, isInTime);
      left += faults;
      seconds += faults * each;
    }
    return `${this.done} of ${this.done + left} faults, about ${Math.ceil(seconds / 60)} min left`;
  }
}
