// Reads entries by their places, checksums verified.

import { crc32 } from "node:zlib";
import type { GroupId } from "../base/ids.ts";
import { LOG_READ_ENTRIES_MAX } from "../base/limits.ts";
import { Entry, type EntryKind } from "../raft/types.ts";
import { readIfReadable } from "./disk.ts";
import { LogReadError } from "./errors.ts";
import type { Place, PlacedEntry } from "./group-log.ts";
import type { GroupTable } from "./group-table.ts";
import type { Segment } from "./segment.ts";
import { RECORD_HEADER_BYTES, readRecordHeader } from "./segment-format.ts";

/** Bytes of other groups that one read may carry along, beyond as many of its own. */
const READ_WASTE_BYTES = 256 * 1024;
/** Places of the files that one read goes to. */
const READ_RUNS_MAX = 16;

/** A record: the place of an entry of some group. */
export type GroupPlace = PlacedEntry & { readonly group: GroupId };
export type ReadDone = (error: Error | null, entries: readonly Entry[]) => void;

export class SegmentReader {
  private readonly table: GroupTable;
  private readonly segments: readonly Segment[];

  /** `segments` is the log's own list: it changes under the reader. */
  constructor(table: GroupTable, segments: readonly Segment[]) {
    this.table = table;
    this.segments = segments;
  }

  /** At least one entry from `first` on, and at most about `bytesMax` and LOG_READ_ENTRIES_MAX: a read is decoded in one go. */
  read(group: GroupId, first: number, last: number, bytesMax: number, done: ReadDone): void {
    const state = this.table.groups.get(group);
    const start = state?.find(first);
    if (state === undefined || start === undefined) {
      const code = state !== undefined && first <= state.trimmed.index ? "TRIMMED" : "CORRUPT";
      const held = `${(state?.trimmed.index ?? 0) + 1}..${state?.lastIndex ?? 0}`;
      done(new LogReadError(code, `entry ${first} of group ${group} is not held: the log has ${held}`), []);
      return;
    }
    if (start.position >= this.writtenTo(start.segment)) {
      done(new LogReadError("UNWRITTEN", `entry ${first} of group ${group} is still being written`), []);
      return;
    }
    let span = new Span(start, bytesMax);
    const spans = [span];
    let bytes = start.length;
    let { segment } = start;
    let writtenTo = this.writtenTo(segment);
    const limit = Math.min(last, state.lastIndex, first + LOG_READ_ENTRIES_MAX - 1);
    for (let index = first + 1; index <= limit; index++) {
      const place = state.find(index);
      if (place === undefined || bytes + place.length > bytesMax) break;
      if (place.segment !== segment) {
        ({ segment } = place);
        writtenTo = this.writtenTo(segment);
      }
      if (place.position >= writtenTo) break;
      bytes += place.length;
      if (span.add(place)) continue;
      if (spans.length === READ_RUNS_MAX) break;
      spans.push((span = new Span(place, bytesMax)));
    }
    if (spans.length === 1) this.readPlaces(group, first, span.places, done);
    else this.readRuns(group, first, spans, done);
  }

  /** As many of these entries of one file as one read takes, at least the first; none when that is still being written. */
  readSome(group: GroupId, wanted: readonly (Place & { readonly index: number })[], bytesMax: number): Promise<readonly Entry[]> {
    const writtenTo = this.writtenTo(wanted[0]!.segment);
    if (wanted[0]!.position >= writtenTo) return Promise.resolve([]);
    const span = new Span(wanted[0]!, bytesMax);
    for (let at = 1; at < wanted.length; at++) {
      const place = wanted[at]!;
      if (place.index !== wanted[0]!.index + at || place.position >= writtenTo || !span.add(place)) break;
    }
    return new Promise((resolve, reject) =>
      this.readPlaces(group, wanted[0]!.index, span.places, (error, entries) => (error === null ? resolve(entries) : reject(error))),
    );
  }

  /**
   * Reads these records of one file, of whatever groups, ascending by position: those that lie near each other at once.
   * Tells of each read how long it was, and which of its records are damaged.
   */
  async check(
    records: readonly GroupPlace[],
    bytesMax: number,
    read: (bytes: number, damaged: readonly GroupPlace[]) => Promise<void>,
  ): Promise<void> {
    const segment = this.segmentOf(records[0]!.segment);
    for (let at = 0; at < records.length;) {
      const span = new Span(records[at]!, bytesMax);
      let next = at + 1;
      while (next < records.length && span.add(records[next]!)) next += 1;
      const start = records[at]!.position;
      const last = records[next - 1]!;
      const length = last.position + RECORD_HEADER_BYTES + last.length - start;
      const content = await readIfReadable(segment.file, start, length);
      const some = records.slice(at, next);
      const damaged =
        content === null
          ? await this.unreadable(segment, some)
          : some.filter((place) => entryAt(content, place.position - start, segment.salt, place) === null);
      await read(length, damaged);
      at = next;
    }
  }

  /** Of records that cannot be read together, those that cannot be read alone, or are damaged. */
  private async unreadable({ file, salt }: Segment, records: readonly GroupPlace[]): Promise<GroupPlace[]> {
    const damaged: GroupPlace[] = [];
    for (const place of records) {
      const content = await readIfReadable(file, place.position, RECORD_HEADER_BYTES + place.length);
      if (content === null || entryAt(content, 0, salt, place) === null) damaged.push(place);
    }
    return damaged;
  }

  private segmentOf(number: number): Segment {
    return this.segments.find((segment) => segment.number === number)!;
  }

  /** The index knows of entries as soon as they are on their way; what lies at or beyond this place has yet to arrive. */
  writtenTo(number: number): number {
    const { isSealed, position } = this.segmentOf(number);
    return isSealed ? Number.POSITIVE_INFINITY : position;
  }

  /** Consecutive entries from `first` on that lie apart, because those of other groups are in between: all read at once. */
  private readRuns(group: GroupId, first: number, runs: readonly Span[], done: ReadDone): void {
    const parts: (readonly Entry[])[] = [];
    let open = runs.length;
    let failure: Error | null = null;
    let index = first;
    for (const [at, { places }] of runs.entries()) {
      this.readPlaces(group, index, places, (error, entries) => {
        failure ??= error;
        parts[at] = entries;
        open -= 1;
        if (open === 0) done(failure, failure === null ? parts.flat() : []);
      });
      index += places.length;
    }
  }

  /** Consecutive entries from `first` on, in one file. */
  private readPlaces(group: GroupId, first: number, places: readonly Place[], done: ReadDone): void {
    const start = places[0]!;
    const end = places[places.length - 1]!;
    const segment = this.segmentOf(start.segment);
    segment.readers += 1;
    segment.file.read(start.position, end.position + RECORD_HEADER_BYTES + end.length - start.position, (error, content) => {
      segment.readers -= 1;
      if (error !== null) done(error, []);
      else decode(group, first, places, segment, content, done);
    });
  }
}

/** The index leads to the records; how many of them one read takes depends on how they lie. */
class Span {
  readonly places: Place[];
  private readonly bytesMax: number;
  private bytes: number;

  constructor(first: Place, bytesMax: number) {
    this.places = [first];
    this.bytes = first.length;
    this.bytesMax = bytesMax;
  }

  /** False when the read ends before `next`. */
  add(next: Place): boolean {
    const { places } = this;
    const start = places[0]!;
    const bytes = this.bytes + next.length;
    const length = next.position + next.length - start.position;
    if (next.segment !== start.segment || next.position <= places[places.length - 1]!.position) return false;
    if (bytes > this.bytesMax || length > 2 * bytes + READ_WASTE_BYTES || places.length === LOG_READ_ENTRIES_MAX) return false;
    places.push(next);
    this.bytes = bytes;
    return true;
  }
}

function decode(
  group: GroupId,
  first: number,
  places: readonly Place[],
  { salt, path }: Segment,
  content: Uint8Array,
  done: ReadDone,
): void {
  const entries: Entry[] = [];
  const base = places[0]!.position;
  for (const [at, { position, length }] of places.entries()) {
    const index = first + at;
    const entry = entryAt(content, position - base, salt, { group, index, length });
    if (entry === null) {
      // What is whole before it is of use to nobody: the replica is damaged.
      done(new LogReadError("CORRUPT", `entry ${index} of group ${group} is damaged in ${path} at byte ${position}`), []);
      return;
    }
    entries.push(entry);
  }
  done(null, entries);
}

/** The entry whose record begins at `start`; null when it is damaged, or another one. */
function entryAt(
  content: Uint8Array,
  start: number,
  salt: number,
  { group, index, length }: { readonly group: GroupId; readonly index: number; readonly length: number },
): Entry | null {
  const header = readRecordHeader(content, start, salt);
  const payload = content.subarray(start + RECORD_HEADER_BYTES, start + RECORD_HEADER_BYTES + length);
  const isIntact =
    header !== undefined &&
    header.group === group &&
    header.index === index &&
    header.length === length &&
    payload.length === length &&
    crc32(payload) === header.payloadCrc;
  return isIntact ? new Entry(index, header.term, header.kind as EntryKind, header.stamp, payload, header.payloadCrc) : null;
}
