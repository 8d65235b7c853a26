// Records of a queue that were stored anew at the end of the log, so that what lies between can go: one message that stays unsettled for
// weeks does not hold what was settled behind it. Their offsets stay what they were.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { RELOCATED_RUNS_MAX } from "../../base/limits.ts";
import { NOTHING } from "../../base/nothing.ts";
import { NOWHERE, RunMap } from "../work/run-map.ts";
import type { Run } from "../work/lanes.ts";

/** Records in one entry. `bytesBefore`: what lay before it of the stream's records. `checked`: its runs before this one are settled. */
type Entry = { readonly index: number; readonly bytesBefore: number; readonly runs: readonly Run[]; checked: number };

/** Shared by all streams of which nothing was stored anew; never written to. */
const NOWHERE_ELSE = new RunMap(1);

export class Relocations {
  /** Where an offset lies now. */
  private places = NOWHERE_ELSE;
  /** Entries with records that are not settled, oldest first. */
  private entries: Entry[] = NOTHING;

  get size(): number {
    return this.entries.length;
  }

  /** The first log index that is needed; -1 = none is. */
  get firstIndex(): number {
    return this.entries[0]?.index ?? -1;
  }

  /** What lay before the oldest entry; -1 = there is none. */
  get oldestBytesBefore(): number {
    return this.entries[0]?.bytesBefore ?? -1;
  }

  /** The index of the entry that holds the record; -1 = it lies where it was stored first. */
  indexOf(offset: number): number {
    return this.places.get(offset, 0, -1);
  }

  /** The end of the run of neighbours, this offset included, that lie in one entry; the offset itself when it lies in none. */
  endOf(offset: number): number {
    const place = this.places.find(offset);
    return place === NOWHERE ? offset : this.places.end(place);
  }

  add(index: number, bytesBefore: number, runs: readonly Run[]): void {
    if (this.places === NOWHERE_ELSE) this.places = new RunMap(1);
    if (this.entries === NOTHING) this.entries = [];
    for (const { from, end } of runs) this.places.assign(from, end, index);
    this.entries.push({ index, bytesBefore, runs, checked: 0 });
  }

  /** Forgets the oldest entries of which nothing is needed any more. `unsettledFrom` finds the next one that is; -1 = none. */
  prune(unsettledFrom: (offset: number) => number): void {
    while (this.entries.length > 0 && !this.isNeeded(this.entries[0]!, unsettledFrom)) {
      const { index, runs } = this.entries.shift()!;
      for (const run of runs) this.clear(run, index);
    }
  }

  /** What of the oldest entry is still needed. */
  oldestRuns(unsettledFrom: (offset: number) => number): Run[] {
    const found: Run[] = [];
    const oldest = this.entries[0];
    for (const { from, end } of oldest?.runs ?? [])
      for (let at = from; at < end;) {
        const next = unsettledFrom(at);
        if (next < 0 || next >= end) break;
        if (this.indexOf(next) === oldest!.index) found.push({ from: next, end: next + 1 });
        at = next + 1;
      }
    return found;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.entries.length);
    for (const { index, bytesBefore, runs } of this.entries) {
      writer.varint(index).varint(bytesBefore).varint(runs.length);
      for (const { from, end } of runs) writer.varint(from).varint(end - from);
    }
  }

  static read(reader: ByteReader): Relocations {
    const relocations = new Relocations();
    for (let left = reader.varint(); left > 0; left--) {
      const [index, bytesBefore, count] = [reader.varint(), reader.varint(), reader.varint()];
      if (count > RELOCATED_RUNS_MAX) throw new DecodeError(`${count} runs of one relocation`);
      const runs = Array.from({ length: count }, () => {
        const from = reader.varint();
        return { from, end: from + reader.varint() };
      });
      if (runs.some(({ from, end }) => from >= end)) throw new DecodeError("a run of no offsets");
      relocations.add(index, bytesBefore, runs);
    }
    return relocations;
  }

  private isNeeded(entry: Entry, unsettledFrom: (offset: number) => number): boolean {
    for (; entry.checked < entry.runs.length; entry.checked++) {
      const { from, end } = entry.runs[entry.checked]!;
      for (let at = unsettledFrom(from); at >= 0 && at < end; at = unsettledFrom(at + 1)) if (this.indexOf(at) === entry.index) return true;
    }
    return false;
  }

  /** Those of the run that were not stored anew once more. */
  private clear({ from, end }: Run, index: number): void {
    for (let at = from; at < end;) {
      const place = this.places.next(at);
      if (place === NOWHERE || this.places.from(place) >= end) return;
      const [first, last] = [Math.max(at, this.places.from(place)), Math.min(end, this.places.end(place))];
      if (this.places.value(place, 0) === index) this.places.clear(first, last);
      at = last;
    }
  }
}
