// A map from offsets to a few numbers that says the same of neighbours once: what is alike from one offset to another is one run.
// Ten million messages in a row cost one run; the worst case, no two neighbours alike, costs two numbers and the values for each.

import { assert } from "../../base/assert.ts";
import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";

/** Runs of one block: so few that making room in it is cheap, and so many that there are few blocks. */
const BLOCK_RUNS = 256;
const FIRST_RUNS = 4;
const FROM = 0;
const END = 1;
const VALUES = 2;

type Block = { cells: Float64Array; size: number };

/** A place is good until the next change. */
export type Place = number;
export const NOWHERE = -1;

export class RunMap {
  private readonly width: number;
  /** No block is empty. Invariant: runs ascend, do not overlap, and neighbours that touch differ in a value. */
  private readonly blocks: Block[] = [];
  private offsetCount = 0;
  private runCount = 0;

  /** `values`: how many numbers each offset has, 0..6; 0 makes it a set. */
  constructor(values: number) {
    this.width = VALUES + values;
  }

  /** Offsets in it. */
  get size(): number {
    return this.offsetCount;
  }

  /** Runs that they take. */
  get runs(): number {
    return this.runCount;
  }

  /** The lowest offset; -1 when there is none. */
  get first(): number {
    return this.blocks.length === 0 ? -1 : this.blocks[0]!.cells[FROM]!;
  }

  /** The run that holds `offset`, or else the next one after it; NOWHERE when there is none. */
  next(offset: number): Place {
    const block = this.blockOf(offset);
    if (block === this.blocks.length) return NOWHERE;
    const { cells, size } = this.blocks[block]!;
    let low = 0;
    let high = size;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cells[middle * this.width + END]! <= offset) low = middle + 1;
      else high = middle;
    }
    return block * BLOCK_RUNS + low;
  }

  /** The run that holds `offset`, or NOWHERE. */
  find(offset: number): Place {
    const place = this.next(offset);
    return place !== NOWHERE && this.from(place) <= offset ? place : NOWHERE;
  }

  has(offset: number): boolean {
    return this.find(offset) !== NOWHERE;
  }

  from(place: Place): number {
    return this.cell(place, FROM);
  }

  end(place: Place): number {
    return this.cell(place, END);
  }

  value(place: Place, column: number): number {
    return this.cell(place, VALUES + column);
  }

  /** The value of an offset, or `otherwise` when it is not in the map. */
  get(offset: number, column: number, otherwise: number): number {
    const place = this.find(offset);
    return place === NOWHERE ? otherwise : this.value(place, column);
  }

  /** From here to before `end` the offsets have these values, whatever they had. */
  assign(from: number, end: number, ...values: readonly number[]): void {
    assert(from < end && values.length === this.width - VALUES, "a run holds something, and has all values");
    this.clear(from, end);
    this.offsetCount += end - from;
    const before = from === 0 ? NOWHERE : this.find(from - 1);
    const after = this.find(end);
    const joinsBefore = before !== NOWHERE && this.isAlike(before, values);
    const joinsAfter = after !== NOWHERE && this.isAlike(after, values);
    if (joinsBefore && joinsAfter) {
      this.setCell(before, END, this.end(after));
      this.remove(after);
    } else if (joinsBefore) this.setCell(before, END, end);
    else if (joinsAfter) this.setCell(after, FROM, from);
    else this.insert(from, end, values);
  }

  /** The offsets are in it no more. Returns how many were. */
  clear(from: number, end: number): number {
    const sizeBefore = this.offsetCount;
    for (let place = this.next(from); place !== NOWHERE && this.from(place) < end; place = this.next(from)) {
      const [first, last] = [this.from(place), this.end(place)];
      this.offsetCount -= Math.min(last, end) - Math.max(first, from);
      if (first < from && last > end) {
        const values = this.valuesAt(place);
        this.setCell(place, END, from);
        this.insert(end, last, values);
      } else if (first < from) this.setCell(place, END, from);
      else if (last > end) this.setCell(place, FROM, end);
      else this.remove(place);
    }
    return sizeBefore - this.offsetCount;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.runCount);
    let previous = 0;
    for (const { cells, size } of this.blocks)
      for (let at = 0; at < size * this.width; at += this.width) {
        writer.varint(cells[at + FROM]! - previous).varint(cells[at + END]! - cells[at + FROM]!);
        for (let column = VALUES; column < this.width; column++) writer.varint(cells[at + column]!);
        previous = cells[at + END]!;
      }
  }

  static read(values: number, reader: ByteReader): RunMap {
    const map = new RunMap(values);
    let end = 0;
    for (let left = reader.varint(); left > 0; left--) {
      const from = end + reader.varint();
      const length = reader.varint();
      if (length === 0) throw new DecodeError("a run of no offsets");
      end = from + length;
      map.assign(from, end, ...Array.from({ length: values }, () => reader.varint()));
    }
    return map;
  }

  /** The first block whose last run ends after `offset`. */
  private blockOf(offset: number): number {
    let low = 0;
    let high = this.blocks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { cells, size } = this.blocks[middle]!;
      if (cells[(size - 1) * this.width + END]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private cell(place: Place, column: number): number {
    return this.blocks[Math.floor(place / BLOCK_RUNS)]!.cells[(place % BLOCK_RUNS) * this.width + column]!;
  }

  private setCell(place: Place, column: number, value: number): void {
    this.blocks[Math.floor(place / BLOCK_RUNS)]!.cells[(place % BLOCK_RUNS) * this.width + column] = value;
  }

  private valuesAt(place: Place): number[] {
    return Array.from({ length: this.width - VALUES }, (_, column) => this.value(place, column));
  }

  private isAlike(place: Place, values: readonly number[]): boolean {
    for (let column = 0; column < values.length; column++) if (this.value(place, column) !== values[column]) return false;
    return true;
  }

  private insert(from: number, end: number, values: readonly number[]): void {
    let at = this.blockOf(from);
    // Behind all there is: the last block takes it.
    if (at === this.blocks.length && at > 0) at -= 1;
    if (this.blocks.length === 0) this.blocks.push({ cells: new Float64Array(FIRST_RUNS * this.width), size: 0 });
    let block = this.blocks[at]!;
    if (block.size === BLOCK_RUNS) {
      this.split(at);
      if (this.blocks[at]!.cells[(this.blocks[at]!.size - 1) * this.width + END]! <= from) at += 1;
      block = this.blocks[at]!;
    }
    const { width } = this;
    if (block.size * width === block.cells.length) {
      const grown = new Float64Array(Math.min(block.size * 2, BLOCK_RUNS) * width);
      grown.set(block.cells);
      block.cells = grown;
    }
    let row = block.size;
    while (row > 0 && block.cells[(row - 1) * width + FROM]! > from) row -= 1;
    block.cells.copyWithin((row + 1) * width, row * width, block.size * width);
    block.cells[row * width + FROM] = from;
    block.cells[row * width + END] = end;
    for (let column = 0; column < values.length; column++) block.cells[row * width + VALUES + column] = values[column]!;
    block.size += 1;
    this.runCount += 1;
  }

  /** Runs mostly come in order: the full block keeps most of what it has. */
  private split(at: number): void {
    const block = this.blocks[at]!;
    const kept = at === this.blocks.length - 1 ? BLOCK_RUNS - 1 : BLOCK_RUNS / 2;
    const cells = new Float64Array(BLOCK_RUNS * this.width);
    cells.set(block.cells.subarray(kept * this.width, block.size * this.width));
    this.blocks.splice(at + 1, 0, { cells, size: block.size - kept });
    block.size = kept;
  }

  private remove(place: Place): void {
    const at = Math.floor(place / BLOCK_RUNS);
    const block = this.blocks[at]!;
    const row = place % BLOCK_RUNS;
    block.cells.copyWithin(row * this.width, (row + 1) * this.width, block.size * this.width);
    block.size -= 1;
    this.runCount -= 1;
    if (block.size === 0) this.blocks.splice(at, 1);
  }
}
