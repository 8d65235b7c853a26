// Where offsets lie in the log, sparsely: a row for every `stride` bytes of records. At the bound every second row goes
// and the stride doubles, so that the index stays small however much a stream holds. Same log, same rows.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { OFFSET_INDEX_ROWS_MAX } from "../../base/limits.ts";

const STRIDE_BYTES = 64 * 1024;
/** Columns of a row, in this order. */
const OFFSET = 0;
const INDEX = 1;
const TIME_MS = 2;
const BYTES = 3;
const WIDTH = 4;
const EMPTY = new Float64Array(0);

/** The entry at `index` begins with `offset`; `bytes` of records came before it since the stream began. */
export type OffsetRow = { readonly offset: number; readonly index: number; readonly timeMs: number; readonly bytes: number };

export class OffsetIndex {
  /** Rows one after another; whole numbers below 2^53, which a float carries exactly. Invariant: every column ascends. */
  private cells = EMPTY;
  private size = 0;
  private stride = STRIDE_BYTES;

  /** A records entry was accepted: `bytes` is what lay before it. */
  note(offset: number, index: number, timeMs: number, bytes: number): void {
    if (this.size > 0 && bytes - this.cells[(this.size - 1) * WIDTH + BYTES]! < this.stride) return;
    this.push(offset, index, timeMs, bytes);
    if (this.size > OFFSET_INDEX_ROWS_MAX) this.thin();
  }

  /** The last row at or before `offset`; undefined when there is none. */
  locate(offset: number): OffsetRow | undefined {
    return this.row(this.rowsBelow(OFFSET, offset + 1) - 1);
  }

  /** The last row that is older than `timeMs`: the first record at or after that time does not lie before it. */
  locateTime(timeMs: number): OffsetRow | undefined {
    return this.row(this.rowsBelow(TIME_MS, timeMs) - 1);
  }

  /** The last row with at most `bytes` before it. */
  locateBytes(bytes: number): OffsetRow | undefined {
    return this.row(this.rowsBelow(BYTES, bytes + 1) - 1);
  }

  get first(): OffsetRow | undefined {
    return this.row(0);
  }

  /** Forgets rows before the one that serves `offset`. */
  trim(offset: number): void {
    const drop = this.rowsBelow(OFFSET, offset + 1) - 1;
    if (drop <= 0) return;
    this.cells = this.cells.slice(drop * WIDTH, this.size * WIDTH);
    this.size -= drop;
  }

  clear(): void {
    this.cells = EMPTY;
    this.size = 0;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.stride).varint(this.size);
    for (let at = 0; at < this.size * WIDTH; at++) writer.varint(this.cells[at]!);
  }

  static read(reader: ByteReader): OffsetIndex {
    const index = new OffsetIndex();
    index.stride = reader.varint();
    const rows = reader.varint();
    if (rows > OFFSET_INDEX_ROWS_MAX) throw new DecodeError(`${rows} rows of the offset index`);
    for (let left = rows; left > 0; left--) index.push(reader.varint(), reader.varint(), reader.varint(), reader.varint());
    return index;
  }

  private push(offset: number, index: number, timeMs: number, bytes: number): void {
    const at = this.size * WIDTH;
    if (at === this.cells.length) {
      const grown = new Float64Array(Math.max(at * 2, 2 * WIDTH));
      grown.set(this.cells);
      this.cells = grown;
    }
    this.cells[at + OFFSET] = offset;
    this.cells[at + INDEX] = index;
    this.cells[at + TIME_MS] = timeMs;
    this.cells[at + BYTES] = bytes;
    this.size += 1;
  }

  /** The first row stays: it is where the stream begins. */
  private thin(): void {
    const kept = Math.ceil(this.size / 2);
    for (let row = 1; row < kept; row++) this.cells.copyWithin(row * WIDTH, row * 2 * WIDTH, (row * 2 + 1) * WIDTH);
    this.size = kept;
    this.stride *= 2;
  }

  private row(row: number): OffsetRow | undefined {
    if (row < 0 || row >= this.size) return undefined;
    const at = row * WIDTH;
    return {
      offset: this.cells[at + OFFSET]!,
      index: this.cells[at + INDEX]!,
      timeMs: this.cells[at + TIME_MS]!,
      bytes: this.cells[at + BYTES]!,
    };
  }

  /** How many rows have less than `value` in `column`. */
  private rowsBelow(column: number, value: number): number {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.cells[middle * WIDTH + column]! < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
