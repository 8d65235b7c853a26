// Where offsets lie in the log, sparsely: a row for every `stride` bytes of records. At the bound every second row goes
// and the stride doubles, so that the index stays small however much a stream holds. Same log, same rows.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { OFFSET_INDEX_ROWS_MAX } from "../../base/limits.ts";

const STRIDE_BYTES = 64 * 1024;

/** The entry at `index` begins with `offset`; `bytes` of records came before it since the stream began. */
export type OffsetRow = { readonly offset: number; readonly index: number; readonly timeMs: number; readonly bytes: number };

export class OffsetIndex {
  private rows: OffsetRow[] = [];
  private stride = STRIDE_BYTES;

  /** A records entry was accepted. */
  note(row: OffsetRow): void {
    const last = this.rows[this.rows.length - 1];
    if (last !== undefined && row.bytes - last.bytes < this.stride) return;
    this.rows.push(row);
    if (this.rows.length <= OFFSET_INDEX_ROWS_MAX) return;
    this.rows = this.rows.filter((_, at) => at % 2 === 0);
    this.stride *= 2;
  }

  /** The last row at or before `offset`; undefined when there is none. */
  locate(offset: number): OffsetRow | undefined {
    return this.last((row) => row.offset <= offset);
  }

  /** The last row that is older than `timeMs`: the first record at or after that time does not lie before it. */
  locateTime(timeMs: number): OffsetRow | undefined {
    return this.last((row) => row.timeMs < timeMs);
  }

  /** The last row with at most `bytes` before it. */
  locateBytes(bytes: number): OffsetRow | undefined {
    return this.last((row) => row.bytes <= bytes);
  }

  get first(): OffsetRow | undefined {
    return this.rows[0];
  }

  /** Forgets rows before the one that serves `offset`. */
  trim(offset: number): void {
    let drop = 0;
    while (drop + 1 < this.rows.length && this.rows[drop + 1]!.offset <= offset) drop += 1;
    if (drop > 0) this.rows.splice(0, drop);
  }

  clear(): void {
    this.rows = [];
  }

  write(writer: ByteWriter): void {
    writer.varint(this.stride).varint(this.rows.length);
    for (const { offset, index, timeMs, bytes } of this.rows) writer.varint(offset).varint(index).varint(timeMs).varint(bytes);
  }

  static read(reader: ByteReader): OffsetIndex {
    const index = new OffsetIndex();
    index.stride = reader.varint();
    for (let count = reader.varint(); count > 0; count--) {
      index.rows.push({ offset: reader.varint(), index: reader.varint(), timeMs: reader.varint(), bytes: reader.varint() });
    }
    return index;
  }

  private last(holds: (row: OffsetRow) => boolean): OffsetRow | undefined {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(this.rows[middle]!)) low = middle + 1;
      else high = middle;
    }
    return this.rows[low - 1];
  }
}
