// Committed offsets of cursor subscriptions. They never go back by accident (invariant L7).

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { CURSORS_PER_STREAM_MAX } from "../../base/limits.ts";
import { SortedKeys } from "../sorted-keys.ts";
import { STREAM_FENCED, STREAM_OFFSET_OUT_OF_RANGE, STREAM_OK, STREAM_TOO_MANY_CURSORS, STREAM_WOULD_GO_BACK } from "./codes.ts";

export type Cursor = {
  readonly offset: number;
  readonly metadata: string;
  readonly committedMs: number;
  /** Of the consumer group whose member committed last; 0 = of none. */ readonly generation: number;
};
export type CursorCommit = {
  readonly subscription: string;
  readonly offset: number;
  readonly metadata: string;
  readonly reset: boolean;
  /** Of the consumer group that the one who commits is a member of: an older one than was seen before is refused. 0 = it is in none. */
  readonly generation: number;
};

/** Shared by all streams without cursors; never written to. */
const NONE = new Map<string, Cursor>();

export class Cursors {
  /** Most streams have none. */
  private cursors: Map<string, Cursor> = NONE;
  private readonly names = new SortedKeys();

  get(subscription: string): Cursor | undefined {
    return this.cursors.get(subscription);
  }

  commit(commit: CursorCommit, endOffset: number, nowMs: number): number {
    const known = this.cursors.get(commit.subscription);
    if (known !== undefined && commit.generation > 0 && commit.generation < known.generation) return STREAM_FENCED;
    if (commit.offset > endOffset) return STREAM_OFFSET_OUT_OF_RANGE;
    if (known !== undefined && commit.offset < known.offset && !commit.reset) return STREAM_WOULD_GO_BACK;
    if (known === undefined && this.cursors.size >= CURSORS_PER_STREAM_MAX) return STREAM_TOO_MANY_CURSORS;
    if (this.cursors === NONE) this.cursors = new Map();
    if (known === undefined) this.names.add(commit.subscription);
    const generation = Math.max(commit.generation, known?.generation ?? 0);
    this.cursors.set(commit.subscription, { offset: commit.offset, metadata: commit.metadata, committedMs: nowMs, generation });
    return STREAM_OK;
  }

  delete(subscription: string): void {
    this.cursors.delete(subscription);
    this.names.delete(subscription);
  }

  get size(): number {
    return this.cursors.size;
  }

  /** By name, ascending by code unit, the same on every replica: at most `max`, from the first name after `after` on. */
  list(after: string | null = null, max = Number.POSITIVE_INFINITY): ({ readonly name: string } & Cursor)[] {
    const rows = [];
    for (let at = after === null ? 0 : this.names.placeAfter(after); at < this.names.size && rows.length < max; at++)
      rows.push({ name: this.names.at(at), ...this.cursors.get(this.names.at(at))! });
    return rows;
  }

  write(writer: ByteWriter): void {
    writer.varint(this.cursors.size);
    for (const { name, offset, metadata, committedMs, generation } of this.list())
      writer.string(name).varint(offset).string(metadata).varint(committedMs).varint(generation);
  }

  static read(reader: ByteReader): Cursors {
    const cursors = new Cursors();
    let count = reader.varint();
    if (count > 0) cursors.cursors = new Map();
    for (; count > 0; count--) {
      const name = reader.string();
      cursors.names.add(name);
      const [offset, metadata] = [reader.varint(), reader.string()];
      cursors.cursors.set(name, { offset, metadata, committedMs: reader.varint(), generation: reader.varint() });
    }
    return cursors;
  }
}
