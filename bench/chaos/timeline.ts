// What clients got, second by second, and when which partition was without service.

export type Second = {
  /** Since the start of the run. */
  readonly at: number;
  readonly offered: number;
  readonly acked: number;
  /** Milliseconds from when a record was due until its acknowledgement; null when none came. */
  readonly p50: number | null;
  readonly p99: number | null;
  readonly max: number | null;
};
/** In ms since the start of the run. */
export type Gap = { readonly partition: number; readonly fromMs: number; readonly toMs: number };

/** A partition without an acknowledgement for so long is without service. */
export const GAP_MS = 250;
/** Latencies kept of one second; of more than that every other one counts, and so on. */
const LATENCIES_MAX = 8_192;
export const SECONDS_MAX = 7 * 86_400;
const GAPS_MAX = 20_000;

export class Timeline {
  readonly seconds: Second[] = [];
  readonly gaps: Gap[] = [];
  gapsLeftOut = 0;
  private readonly now: () => number;
  private readonly latencies = new Float64Array(LATENCIES_MAX);
  private kept = 0;
  private stride = 1;
  private seen = 0;
  private offered = 0;
  private acked = 0;
  private max = 0;
  private current = 0;
  /** By partition; negative: nothing is expected of it. */
  private readonly lastAckMs: number[] = [];
  private readonly longestMs: number[] = [];
  private takenMs = 0;

  /** `now`: ms since the start of the run. */
  constructor(now: () => number) {
    this.now = now;
  }

  /** From now on every partition is expected to acknowledge all the time. */
  expect(partitions: number): void {
    const now = this.now();
    for (let partition = 0; partition < partitions; partition++) this.lastAckMs[partition] = now;
  }

  /** The load pauses: silence is no fault. */
  rest(): void {
    for (let partition = 0; partition < this.lastAckMs.length; partition++) {
      this.gapEnds(partition, this.now());
      this.lastAckMs[partition] = -1;
    }
  }

  offer(): void {
    this.turn();
    this.offered += 1;
  }

  ack(partition: number, latencyMs: number): void {
    this.turn();
    const now = this.now();
    this.acked += 1;
    this.max = Math.max(this.max, latencyMs);
    this.keep(latencyMs);
    this.gapEnds(partition, now);
    if (this.lastAckMs[partition]! >= 0) this.lastAckMs[partition] = now;
  }

  /** Longest time of each partition without an acknowledgement from the last call until now. */
  takeLongest(): number[] {
    const now = this.now();
    const longest = this.lastAckMs.map((last, partition) =>
      Math.max(this.longestMs[partition] ?? 0, last < 0 ? 0 : now - Math.max(last, this.takenMs)),
    );
    this.longestMs.fill(0);
    this.takenMs = now;
    return longest;
  }

  /** Every partition of which one is expected has acknowledged something since then. */
  isServedSince(ms: number): boolean {
    return this.lastAckMs.every((last) => last < 0 || last >= ms);
  }

  /** Sum over all gaps, by partition, in ms. */
  downMs(): number[] {
    const sums: number[] = [];
    for (const { partition, fromMs, toMs } of this.gaps) sums[partition] = (sums[partition] ?? 0) + toMs - fromMs;
    return Array.from(sums, (sum) => sum ?? 0);
  }

  /** Closes the second that is under way. */
  finish(): void {
    this.rest();
    this.close();
  }

  private gapEnds(partition: number, now: number): void {
    const last = this.lastAckMs[partition] ?? -1;
    if (last < 0) return;
    this.longestMs[partition] = Math.max(this.longestMs[partition] ?? 0, now - Math.max(last, this.takenMs));
    if (now - last < GAP_MS) return;
    if (this.gaps.length < GAPS_MAX) this.gaps.push({ partition, fromMs: last, toMs: now });
    else this.gapsLeftOut += 1;
  }

  private keep(latencyMs: number): void {
    if (this.seen++ % this.stride !== 0) return;
    if (this.kept === LATENCIES_MAX) {
      for (let at = 0; at * 2 < this.kept; at++) this.latencies[at] = this.latencies[at * 2]!;
      this.kept >>= 1;
      this.stride *= 2;
    }
    this.latencies[this.kept++] = latencyMs;
  }

  /** Seconds that passed without anything are seconds as well. */
  private turn(): void {
    const second = Math.floor(this.now() / 1_000);
    while (this.current < second) this.close();
  }

  private close(): void {
    const sorted = this.latencies.subarray(0, this.kept).sort();
    const at = (part: number): number | null =>
      sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
    if (this.seconds.length < SECONDS_MAX)
      this.seconds.push({
        at: this.current,
        offered: this.offered,
        acked: this.acked,
        p50: at(0.5),
        p99: at(0.99),
        max: sorted.length === 0 ? null : this.max,
      });
    this.current += 1;
    this.kept = 0;
    this.stride = 1;
    this.seen = 0;
    this.offered = 0;
    this.acked = 0;
    this.max = 0;
  }
}
