// Records entries that added nothing to the stream: retries, gaps, fenced producers. They stay in the log, so readers of
// the log must know them. Kept as runs of neighbouring indexes: a producer that is refused in a loop costs one run.

import { assert } from "../../base/assert.ts";
import { NOTHING } from "../../base/nothing.ts";
import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";

export class Voids {
  /** first, last, first, last ... Invariant: ascending, and neighbouring runs are merged, so equal sets have equal runs. */
  private runs: number[] = NOTHING;

  /** `index` lies above all that were added before. */
  add(index: number): void {
    const last = this.runs.length - 1;
    assert(last < 0 || index > this.runs[last]!, "void indexes ascend");
    if (last >= 0 && index === this.runs[last]! + 1) this.runs[last] = index;
    else if (last < 0) this.runs = [index, index];
    else this.runs.push(index, index);
  }

  has(index: number): boolean {
    const run = this.runsThrough(index) - 1;
    return run >= 0 && index <= this.runs[run * 2 + 1]!;
  }

  /** Forgets all below `index`. */
  trim(index: number): void {
    const run = this.runsThrough(index - 1) - 1;
    if (run < 0) return;
    const straddles = this.runs[run * 2 + 1]! >= index;
    this.runs.splice(0, (straddles ? run : run + 1) * 2);
    if (straddles) this.runs[0] = index;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.runs.length / 2);
    let previous = 0;
    for (const edge of this.runs) {
      writer.varint(edge - previous);
      previous = edge;
    }
  }

  static read(reader: ByteReader): Voids {
    const voids = new Voids();
    let edge = 0;
    let count = reader.varint();
    if (count > 0) voids.runs = [];
    for (; count > 0; count--) {
      const gap = reader.varint();
      if (gap < 2 && edge > 0) throw new DecodeError("void runs that touch");
      const first = edge + gap;
      edge = first + reader.varint();
      voids.runs.push(first, edge);
    }
    return voids;
  }

  /** How many runs begin at or below `index`. */
  private runsThrough(index: number): number {
    let low = 0;
    let high = this.runs.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.runs[middle * 2]! <= index) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
