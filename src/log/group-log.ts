// What is known in memory of one group's part of the log: its hard state, its cut, the terms of its entries, and where
// each entry lies. Places are kept per segment in typed arrays: 8 bytes an entry.

import type { ReplicaId } from "../base/ids.ts";
import type { HardState } from "../raft/types.ts";
import type { GroupLogState } from "./types.ts";

/** Tells the owner that entries of a segment became needed or dead. */
export type LiveCounter = (segment: number, entries: number, bytes: number) => void;

class Chunk {
  readonly segment: number;
  readonly firstIndex: number;
  count = 0;
  private positions = new Uint32Array(8);
  private lengths = new Uint32Array(8);

  constructor(segment: number, firstIndex: number) {
    this.segment = segment;
    this.firstIndex = firstIndex;
  }

  get lastIndex(): number {
    return this.firstIndex + this.count - 1;
  }

  add(position: number, length: number): void {
    if (this.count === this.positions.length) {
      this.positions = grown(this.positions);
      this.lengths = grown(this.lengths);
    }
    this.positions[this.count] = position;
    this.lengths[this.count] = length;
    this.count += 1;
  }

  position(index: number): number {
    return this.positions[index - this.firstIndex]!;
  }

  length(index: number): number {
    return this.lengths[index - this.firstIndex]!;
  }
}

function grown(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}

export type Place = { readonly segment: number; readonly position: number; readonly length: number };

export class GroupLog implements GroupLogState {
  replica = 0 as ReplicaId;
  /** Why what is here may not be relied on. */
  damage: string | null = null;
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  trimmed = { index: 0, term: 0 };
  termRuns: { term: number; firstIndex: number }[] = [];
  lastIndex = 0;
  /** The segment that holds the newest STATE record; -1 = none was ever written. */
  stateSegment = -1;
  private chunks: Chunk[] = [];
  private readonly counter: LiveCounter;

  constructor(counter: LiveCounter) {
    this.counter = counter;
  }

  /** An entry was written. At or below the end it replaces what was there and everything after it. */
  add(index: number, term: number, segment: number, position: number, length: number): void {
    if (index <= this.lastIndex) this.truncateFrom(index);
    // Of a group whose older entries were trimmed with their segments, what is left may begin anywhere.
    if (index !== this.lastIndex + 1) this.restartAt(index);
    const run = this.termRuns[this.termRuns.length - 1];
    if (run === undefined || run.term !== term) this.termRuns.push({ term, firstIndex: index });
    let chunk = this.chunks[this.chunks.length - 1];
    if (chunk === undefined || chunk.segment !== segment) {
      chunk = new Chunk(segment, index);
      this.chunks.push(chunk);
    }
    chunk.add(position, length);
    this.lastIndex = index;
    this.counter(segment, 1, length);
  }

  /** Entries up to `index` are no longer needed. */
  trim(index: number, term: number): void {
    if (index <= this.trimmed.index) return;
    this.trimmed = { index, term };
    if (index >= this.lastIndex) {
      this.dropAll();
      this.termRuns = [];
      this.lastIndex = index;
      return;
    }
    while (this.termRuns.length > 1 && this.termRuns[1]!.firstIndex <= index + 1) this.termRuns.shift();
    const first = this.termRuns[0];
    if (first !== undefined && first.firstIndex <= index) this.termRuns[0] = { term: first.term, firstIndex: index + 1 };
    this.release(index);
  }

  /** A snapshot replaced the log: it goes on after (index, term). */
  reset(index: number, term: number): void {
    this.dropAll();
    this.termRuns = [];
    this.trimmed = { index, term };
    this.lastIndex = index;
  }

  dropAll(): void {
    for (const chunk of this.chunks)
      for (let index = this.liveFrom(chunk); index <= chunk.lastIndex; index++) this.counter(chunk.segment, -1, -chunk.length(index));
    this.chunks = [];
    this.released = 0;
  }

  /** Files that hold a live entry or the newest hard state. */
  segments(): Set<number> {
    const segments = new Set(this.chunks.map(({ segment }) => segment));
    if (this.stateSegment >= 0) segments.add(this.stateSegment);
    return segments;
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

  /** The first index for which the log has a place, if what follows the cut is all there; else where the hole ends. */
  get firstHeld(): number {
    return this.chunks[0]?.firstIndex ?? this.lastIndex + 1;
  }

  /** True when every entry from the cut to the end has a place. */
  get isWhole(): boolean {
    let next = this.trimmed.index + 1;
    for (const chunk of this.chunks) {
      if (chunk.firstIndex > next) return false;
      next = chunk.lastIndex + 1;
    }
    return next > this.lastIndex;
  }

  /** Entries up to here were counted as dead already. */
  private released = 0;

  private liveFrom(chunk: Chunk): number {
    return Math.max(chunk.firstIndex, this.released + 1);
  }

  private release(index: number): void {
    for (const chunk of this.chunks) {
      if (chunk.firstIndex > index) break;
      for (let at = this.liveFrom(chunk); at <= Math.min(chunk.lastIndex, index); at++) this.counter(chunk.segment, -1, -chunk.length(at));
    }
    this.released = Math.max(this.released, index);
    let dead = 0;
    while (dead < this.chunks.length && this.chunks[dead]!.lastIndex <= index) dead += 1;
    if (dead > 0) this.chunks.splice(0, dead);
  }

  private truncateFrom(index: number): void {
    while (this.termRuns.length > 0 && this.termRuns[this.termRuns.length - 1]!.firstIndex >= index) this.termRuns.pop();
    while (this.chunks.length > 0) {
      const chunk = this.chunks[this.chunks.length - 1]!;
      if (chunk.lastIndex < index) break;
      for (let at = Math.max(index, this.liveFrom(chunk)); at <= chunk.lastIndex; at++) this.counter(chunk.segment, -1, -chunk.length(at));
      if (chunk.firstIndex >= index) this.chunks.pop();
      else {
        chunk.count = index - chunk.firstIndex;
        break;
      }
    }
    this.lastIndex = index - 1;
  }

  private restartAt(index: number): void {
    this.dropAll();
    this.termRuns = [];
    this.lastIndex = index - 1;
  }

  private chunkOf(index: number): Chunk | undefined {
    let low = 0;
    let high = this.chunks.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const chunk = this.chunks[middle]!;
      if (index < chunk.firstIndex) high = middle - 1;
      else if (index > chunk.lastIndex) low = middle + 1;
      else return chunk;
    }
    return undefined;
  }
}
