// Which messages of a settlement were not the consumer's, where others of it were: who said it tells them apart.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { LOST_RUNS_MAX } from "../../base/limits.ts";
import { NOTHING } from "../../base/nothing.ts";
import type { Run } from "./lanes.ts";

/** Of the operations of one entry, by their place in it. */
export class Lost {
  private readonly byPlace = new Map<number, readonly Run[]>();
  private left = LOST_RUNS_MAX;

  /** Where there are too many, what lies between the last ones counts as lost as well. */
  note(place: number, runs: readonly Run[]): void {
    const kept = runs.slice(0, Math.max(1, this.left));
    const last = kept.length - 1;
    if (runs.length > kept.length) kept[last] = { from: kept[last]!.from, end: runs.at(-1)!.end };
    this.left -= kept.length;
    this.byPlace.set(place, kept);
  }

  of(place: number): readonly Run[] {
    return this.byPlace.get(place) ?? NOTHING;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.byPlace.size);
    for (const [place, runs] of this.byPlace) {
      writer.varint(place).varint(runs.length);
      let at = 0;
      for (const { from, end } of runs) {
        writer.varint(from - at).varint(end - from);
        at = end;
      }
    }
  }

  static read(reader: ByteReader): Lost {
    const lost = new Lost();
    for (let left = reader.varint(); left > 0; left--) {
      const [place, count] = [reader.varint(), reader.varint()];
      if (count === 0) throw new DecodeError("nothing was lost");
      let at = 0;
      const runs = Array.from({ length: count }, () => {
        const from = at + reader.varint();
        at = from + reader.varint();
        return { from, end: at };
      });
      lost.byPlace.set(place, runs);
    }
    return lost;
  }
}
