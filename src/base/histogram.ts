/** Samples counted by size, for a Prometheus histogram. Its numbers never fall. */
export class Histogram {
  /** Upper bounds, ascending. */
  readonly bounds: readonly number[];
  /** Of all samples. */
  sum = 0;
  /** Per bound, the last one for what is past all bounds. */
  private readonly counts: Float64Array;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  add(value: number): void {
    let bucket = 0;
    while (bucket < this.bounds.length && value > this.bounds[bucket]!) bucket += 1;
    this.counts[bucket]! += 1;
    this.sum += value;
  }

  /** Samples at or below each bound, and all of them last. */
  cumulative(): number[] {
    let count = 0;
    return Array.from(this.counts, (bucket) => (count += bucket));
  }
}
