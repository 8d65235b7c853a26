import { assert } from "../base/assert.ts";
import { NOTHING } from "../base/nothing.ts";
import { ENTRY_MEMORY_BYTES } from "../base/limits.ts";
import type { Entry } from "../raft/types.ts";

/** The newest entries of one group, contiguous, so that followers, the machine and consumers at the tail need no disk. */
export class TailCache {
  private entries: (Entry | undefined)[] = NOTHING;
  private head = 0;
  /** Memory held, as sizeOf counts it. */
  bytes = 0;

  /** Index of the first entry held; 0 when empty. */
  get firstIndex(): number {
    return this.head < this.entries.length ? this.entries[this.head]!.index : 0;
  }

  get lastIndex(): number {
    return this.head < this.entries.length ? this.entries[this.entries.length - 1]!.index : 0;
  }

  /** Something here has a payload: readers at the tail may want it. */
  get hasPayloads(): boolean {
    return this.bytes > (this.entries.length - this.head) * ENTRY_MEMORY_BYTES;
  }

  get(index: number): Entry | undefined {
    const first = this.firstIndex;
    if (first === 0 || index < first) return undefined;
    return this.entries[this.head + index - first];
  }

  /** Adds entries at the end; the first may overwrite a suffix, as in the log. */
  append(added: readonly Entry[]): void {
    const from = added[0]!.index;
    if (this.lastIndex !== 0) {
      if (from <= this.firstIndex || from > this.lastIndex + 1) this.clear();
      else while (this.lastIndex >= from) this.bytes -= sizeOf(this.entries.pop()!);
    }
    if (this.entries === NOTHING) this.entries = [];
    for (const entry of added) {
      this.entries.push(entry);
      this.bytes += sizeOf(entry);
    }
    assert(this.lastIndex === added[added.length - 1]!.index, "the tail cache is contiguous");
  }

  /** A contiguous copy of first..last, or null when not all of them are here. */
  range(first: number, last: number): Entry[] | null {
    const start = this.firstIndex;
    if (start === 0 || first < start || last > this.lastIndex) return null;
    return this.entries.slice(this.head + first - start, this.head + last - start + 1) as Entry[];
  }

  /** Drops entries up to `index`; returns the bytes that this freed. */
  evictTo(index: number): number {
    const before = this.bytes;
    while (this.head < this.entries.length && this.entries[this.head]!.index <= index) {
      this.bytes -= sizeOf(this.entries[this.head]!);
      this.entries[this.head] = undefined;
      this.head += 1;
    }
    if (this.head === this.entries.length) {
      this.entries = NOTHING;
      this.head = 0;
    } else if (this.head > 1024 && this.head > this.entries.length / 2) {
      this.entries = this.entries.slice(this.head);
      this.head = 0;
    }
    return before - this.bytes;
  }

  clear(): void {
    this.entries = NOTHING;
    this.head = 0;
    this.bytes = 0;
  }
}

/** An entry of two bytes costs a hundred times as much: what the objects around it take counts as well. */
function sizeOf(entry: Entry): number {
  return entry.payload.length + ENTRY_MEMORY_BYTES;
}
