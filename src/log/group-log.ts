// What is known in memory of one group's part of the log: its hard state, its cut, and where each entry lies. Places are
// kept in chunks of entries of one term in one segment, in typed arrays: 8 bytes an entry. Most groups of many have an
// entry or two, so a chunk begins as a plain list, and lists are as long as what is in them.

import { NOTHING } from "../base/nothing.ts";
import type { ReplicaId } from "../base/ids.ts";
import type { HardState } from "../raft/types.ts";
import type { GroupLogState } from "./types.ts";

/** Tells the owner that entries of a segment became needed or dead. */
export type LiveCounter = (segment: number, entries: number, bytes: number) => void;

/** Beyond so many numbers a typed array, with some hundred bytes of its own, is the smaller one. */
const LIST_NUMBERS_MAX = 16;

class Chunk {
  readonly segment: number;
  readonly term: number;
  firstIndex: number;
  count = 0;
  /** The index whose place stands first in the arrays: entries before `firstIndex` went elsewhere. */
  private readonly base: number;
  /** Position and length of one entry after the other. */
  private places: readonly number[] | Uint32Array = NOTHING;

  constructor(segment: number, term: number, firstIndex: number) {
    this.segment = segment;
    this.term = term;
    this.firstIndex = firstIndex;
    this.base = firstIndex;
  }

  get lastIndex(): number {
    return this.firstIndex + this.count - 1;
  }

  add(position: number, length: number): void {
    const at = this.firstIndex - this.base + this.count;
    this.count += 1;
    if (Array.isArray(this.places) && at * 2 < LIST_NUMBERS_MAX) {
      this.places = this.places.slice(0, at * 2).concat(position, length);
      return;
    }
    const isRoom = this.places instanceof Uint32Array && at * 2 < this.places.length;
    const places = isRoom ? (this.places as Uint32Array) : grown(this.places);
    places[at * 2] = position;
    places[at * 2 + 1] = length;
    this.places = places;
  }

  position(index: number): number {
    return this.places[(index - this.base) * 2]!;
  }

  length(index: number): number {
    return this.places[(index - this.base) * 2 + 1]!;
  }

  /** The entries before `index` are dead, or went elsewhere. */
  dropBefore(index: number): void {
    this.count -= index - this.firstIndex;
    this.firstIndex = index;
  }

  /** The entries after `index`, as a chunk of their own; this one ends before `index`. */
  splitAround(index: number): Chunk {
    const tail = new Chunk(this.segment, this.term, index + 1);
    for (let at = index + 1; at <= this.lastIndex; at++) tail.add(this.position(at), this.length(at));
    this.count = index - this.firstIndex;
    return tail;
  }

  /** Bytes of entries first..last. */
  bytes(first: number, last: number): number {
    let bytes = 0;
    for (let index = first; index <= last; index++) bytes += this.length(index);
    return bytes;
  }
}

function grown(array: ArrayLike<number>): Uint32Array {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}

export type Place = { readonly segment: number; readonly position: number; readonly length: number };
/** An entry and where it lies. */
export type PlacedEntry = Place & { readonly index: number; readonly term: number };

export class GroupLog implements GroupLogState {
  replica = 0 as ReplicaId;
  /** Why what is here may not be relied on. */
  damage: string | null = null;
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  trimmed = { index: 0, term: 0 };
  lastIndex = 0;
  /** The segment that holds the newest STATE record; -1 = none was ever written. */
  stateSegment = -1;
  /** Ascending, without overlap; while files are read there may be gaps, which moved entries fill. */
  private chunks: Chunk[] = NOTHING;
  private readonly counter: LiveCounter;

  constructor(counter: LiveCounter) {
    this.counter = counter;
  }

  /** Runs of entries of one term. */
  get termRuns(): { term: number; firstIndex: number }[] {
    const runs: { term: number; firstIndex: number }[] = [];
    for (const { term, firstIndex } of this.chunks) if (runs[runs.length - 1]?.term !== term) runs.push({ term, firstIndex });
    return runs;
  }

  /** An entry was written. At or below the end it replaces what was there and everything after it. */
  add(index: number, term: number, segment: number, position: number, length: number): void {
    if (index <= this.lastIndex) this.truncateFrom(index);
    let chunk = this.chunks[this.chunks.length - 1];
    if (chunk === undefined || chunk.segment !== segment || chunk.term !== term || chunk.lastIndex + 1 !== index) {
      chunk = new Chunk(segment, term, index);
      this.chunks = this.chunks.concat(chunk);
    }
    chunk.add(position, length);
    this.lastIndex = index;
    this.counter(segment, 1, length);
  }

  /** An entry has another place now. */
  move(index: number, term: number, segment: number, position: number, length: number): void {
    if (index > this.lastIndex) {
      this.add(index, term, segment, position, length);
      return;
    }
    const at = this.chunkAt(index);
    const found = this.chunks[at];
    if (found !== undefined && found.firstIndex <= index) {
      // One of another term is a leftover of another life: what was moved was committed, and written later.
      this.counter(found.segment, -1, -found.length(index));
      if (found.count === 1) this.chunks.splice(at, 1);
      else if (found.lastIndex === index) found.count -= 1;
      else if (found.firstIndex === index) found.dropBefore(index + 1);
      else this.chunks.splice(at + 1, 0, found.splitAround(index));
    }
    this.insert(index, term, segment, position, length);
  }

  /** The log ended here: what lies beyond is a leftover, what is missing up to here is missing. */
  endAt(index: number): void {
    if (index < this.lastIndex) this.truncateFrom(index + 1);
    this.lastIndex = index;
  }

  /** Entries up to `index` are not needed. While files are read it may fall: then another life of the group began. */
  trim(index: number, term: number): void {
    this.trimmed = { index, term };
    if (index >= this.lastIndex) {
      this.dropAll();
      this.lastIndex = index;
      return;
    }
    let dead = 0;
    for (const chunk of this.chunks) {
      if (chunk.firstIndex > index) break;
      const last = Math.min(chunk.lastIndex, index);
      this.discount(chunk, chunk.firstIndex, last);
      if (chunk.lastIndex <= index) dead += 1;
      else chunk.dropBefore(index + 1);
    }
    if (dead > 0) this.chunks.splice(0, dead);
  }

  /** A snapshot replaced the log: it goes on after (index, term). */
  reset(index: number, term: number): void {
    this.dropAll();
    this.trimmed = { index, term };
    this.lastIndex = index;
  }

  dropAll(): void {
    for (const chunk of this.chunks) this.discount(chunk, chunk.firstIndex, chunk.lastIndex);
    this.chunks = NOTHING;
  }

  /** Files that hold a live entry or the newest hard state. */
  segments(): Set<number> {
    const segments = new Set(this.chunks.map(({ segment }) => segment));
    if (this.stateSegment >= 0) segments.add(this.stateSegment);
    return segments;
  }

  /** The live entries after `after` that a segment holds, ascending; at most `max`. */
  placesIn(segment: number, max: number, after = 0): PlacedEntry[] {
    const places: PlacedEntry[] = [];
    for (const chunk of this.chunks) {
      if (chunk.segment !== segment) continue;
      for (let index = Math.max(chunk.firstIndex, after + 1); index <= chunk.lastIndex && places.length < max; index++)
        places.push({ index, term: chunk.term, segment, position: chunk.position(index), length: chunk.length(index) });
    }
    return places;
  }

  /** Undefined when the entry is not held. */
  find(index: number): Place | undefined {
    if (index <= this.trimmed.index || index > this.lastIndex) return undefined;
    const chunk = this.chunkOf(index);
    return chunk === undefined ? undefined : { segment: chunk.segment, position: chunk.position(index), length: chunk.length(index) };
  }

  /** Payload bytes; 0 when the entry is not held. */
  lengthOf(index: number): number {
    return this.chunkOf(index)?.length(index) ?? 0;
  }

  /** The first index after the cut that has no place; 0 when every entry to the end has one. */
  get firstMissing(): number {
    let next = this.trimmed.index + 1;
    for (const chunk of this.chunks) {
      if (chunk.firstIndex > next) return next;
      next = chunk.lastIndex + 1;
    }
    return next > this.lastIndex ? 0 : next;
  }

  private discount(chunk: Chunk, first: number, last: number): void {
    if (last >= first) this.counter(chunk.segment, first - last - 1, -chunk.bytes(first, last));
  }

  private truncateFrom(index: number): void {
    while (this.chunks.length > 0) {
      const chunk = this.chunks[this.chunks.length - 1]!;
      if (chunk.lastIndex < index) break;
      this.discount(chunk, Math.max(index, chunk.firstIndex), chunk.lastIndex);
      if (chunk.firstIndex >= index) this.chunks.pop();
      else {
        chunk.count = index - chunk.firstIndex;
        break;
      }
    }
    this.lastIndex = index - 1;
  }

  /** Puts an entry where there is a gap. */
  private insert(index: number, term: number, segment: number, position: number, length: number): void {
    const at = this.chunkAt(index);
    const before = this.chunks[at - 1];
    if (before?.segment === segment && before.term === term && before.lastIndex + 1 === index) before.add(position, length);
    else {
      const chunk = new Chunk(segment, term, index);
      chunk.add(position, length);
      this.chunks = [...this.chunks.slice(0, at), chunk, ...this.chunks.slice(at)];
    }
    this.counter(segment, 1, length);
  }

  /** The first chunk that ends at or after `index`: the one that holds it, or before which it belongs. */
  private chunkAt(index: number): number {
    let low = 0;
    let high = this.chunks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.chunks[middle]!.lastIndex < index) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private chunkOf(index: number): Chunk | undefined {
    const chunk = this.chunks[this.chunkAt(index)];
    return chunk !== undefined && chunk.firstIndex <= index ? chunk : undefined;
  }
}
