// The core's view of its log: the terms of all entries as runs, and the entries themselves only while they are not yet
// durable. What is durable is the host's to read.

import { assert } from "./assert.ts";
import { NOTHING, type Entry, type Index, type SnapshotMeta, type Term, type TermRun } from "./types.ts";

type PendingWrite = { readonly sequence: number; last: Index };

export class RaftLog {
  /** The entry before the first one held. */
  compactedIndex: Index;
  compactedTerm: Term;
  lastIndex: Index;
  /** Entries up to here are durable on this replica. Invariant: compactedIndex <= stableTo <= lastIndex. */
  stableTo: Index;
  private runTerms: Term[] = [];
  private runFirsts: Index[] = [];
  /** Entries after `stableTo` that are still in memory, contiguous up to lastIndex. */
  private unstable: Entry[] = NOTHING;
  /** Entries that no Ready has carried yet are the last `unsent` of `unstable`. */
  private unsent = 0;
  /** Writes under way, oldest first, each with the last index that it still vouches for (the ABA rule, point 15). */
  private writes: PendingWrite[] = NOTHING;

  constructor(compacted: { index: Index; term: Term }, runs: readonly TermRun[], lastIndex: Index) {
    this.compactedIndex = compacted.index;
    this.compactedTerm = compacted.term;
    this.lastIndex = lastIndex;
    this.stableTo = lastIndex;
    for (const { term, firstIndex } of runs) {
      this.runTerms.push(term);
      this.runFirsts.push(firstIndex);
    }
    assert(lastIndex >= compacted.index, "the log ends after it was cut");
    assert(lastIndex === compacted.index || this.runFirsts[0] === compacted.index + 1, "term runs start after the cut");
  }

  get firstIndex(): Index {
    return this.compactedIndex + 1;
  }

  get lastTerm(): Term {
    return this.lastIndex === this.compactedIndex ? this.compactedTerm : this.runTerms[this.runTerms.length - 1]!;
  }

  /** -1 when the entry was cut away or does not exist. */
  termAt(index: Index): Term | -1 {
    if (index === this.compactedIndex) return this.compactedTerm;
    if (index < this.compactedIndex || index > this.lastIndex) return -1;
    for (let at = this.runFirsts.length - 1; at >= 0; at--) if (this.runFirsts[at]! <= index) return this.runTerms[at]!;
    return -1;
  }

  /** Raft section 5.4.1: the log with the later last term, or of the same term the longer one, is more up to date. */
  isUpToDate(index: Index, term: Term): boolean {
    return term > this.lastTerm || (term === this.lastTerm && index >= this.lastIndex);
  }

  /** The largest index at or below `index` whose term is at most `term` (point 21); 0 when unknown. */
  lastIndexOfTerm(index: Index, term: Term): Index {
    let at = Math.min(index, this.lastIndex);
    while (at > this.compactedIndex) {
      const own = this.termAt(at);
      if (own <= term) return at;
      at = this.firstOfRun(at) - 1;
    }
    return at === this.compactedIndex && this.compactedTerm <= term ? at : 0;
  }

  /** Puts entries at the end; the first may replace a suffix. */
  append(entries: readonly Entry[]): void {
    const first = entries[0]!;
    assert(first.index > this.compactedIndex && first.index <= this.lastIndex + 1, "entries follow the log without a gap");
    if (first.index <= this.lastIndex) this.truncateFrom(first.index);
    if (this.unstable === NOTHING) this.unstable = [];
    for (const entry of entries) {
      assert(entry.index === this.lastIndex + 1, "entries are contiguous");
      assert(entry.term >= this.lastTerm, "terms never fall along the log");
      if (entry.term !== this.lastTerm || this.runFirsts.length === 0) {
        this.runTerms.push(entry.term);
        this.runFirsts.push(entry.index);
      }
      this.lastIndex = entry.index;
      this.unstable.push(entry);
    }
    this.unsent += entries.length;
  }

  get hasUnsent(): boolean {
    return this.unsent > 0;
  }

  /** Entries for the next Ready, which `sequence` will write. */
  takeUnsent(sequence: number): readonly Entry[] {
    if (this.unsent === 0) return NOTHING;
    const entries = this.unstable.slice(this.unstable.length - this.unsent);
    this.unsent = 0;
    if (this.writes === NOTHING) this.writes = [];
    this.writes.push({ sequence, last: this.lastIndex });
    return entries;
  }

  /** All writes up to `sequence` are durable. */
  persisted(sequence: number): void {
    let done = 0;
    while (done < this.writes.length && this.writes[done]!.sequence <= sequence) {
      const { last } = this.writes[done]!;
      if (last > this.stableTo) this.stableTo = last;
      done += 1;
    }
    if (done === 0) return;
    this.writes.splice(0, done);
    let drop = 0;
    while (drop < this.unstable.length && this.unstable[drop]!.index <= this.stableTo) drop += 1;
    if (drop > 0) this.unstable.splice(0, drop);
  }

  slimDown(): void {
    if (this.unstable.length === 0) this.unstable = NOTHING;
    if (this.writes.length === 0) this.writes = NOTHING;
    // A list that was pushed to keeps room for more; a copy has none.
    this.runTerms = this.runTerms.slice();
    this.runFirsts = this.runFirsts.slice();
  }

  /** Payload bytes of an entry that is not durable yet; -1 when it is no longer in memory. */
  unstableBytes(index: Index): number {
    const first = this.unstable[0]?.index;
    return first === undefined || index < first ? -1 : (this.unstable[index - first]?.payload.length ?? -1);
  }

  /** The host cut its log up to `index`. */
  compact(index: Index, term: Term): void {
    assert(index <= this.stableTo, "only durable entries are cut");
    if (index <= this.compactedIndex) return;
    assert(this.termAt(index) === term, "the cut is where the log says");
    while (this.runFirsts.length > 1 && this.runFirsts[1]! <= index + 1) {
      this.runTerms.shift();
      this.runFirsts.shift();
    }
    this.compactedIndex = index;
    this.compactedTerm = term;
    if (index === this.lastIndex) {
      this.runTerms = [];
      this.runFirsts = [];
    } else this.runFirsts[0] = Math.max(this.runFirsts[0]!, index + 1);
  }

  /** A snapshot replaces everything. It is durable already: the host staged it before the core was told. */
  restore(meta: SnapshotMeta): void {
    this.compactedIndex = meta.index;
    this.compactedTerm = meta.term;
    this.lastIndex = meta.index;
    this.stableTo = meta.index;
    this.runTerms = [];
    this.runFirsts = [];
    this.unstable = NOTHING;
    this.unsent = 0;
    this.writes = NOTHING;
  }

  private truncateFrom(index: Index): void {
    while (this.runFirsts.length > 0 && this.runFirsts[this.runFirsts.length - 1]! >= index) {
      this.runTerms.pop();
      this.runFirsts.pop();
    }
    const first = this.unstable[0]?.index ?? this.lastIndex + 1;
    const keep = Math.max(0, index - first);
    const removed = this.unstable.length - keep;
    if (removed > 0) {
      this.unstable.length = keep;
      this.unsent = Math.max(0, this.unsent - removed);
    }
    this.lastIndex = index - 1;
    this.stableTo = Math.min(this.stableTo, index - 1);
    for (const write of this.writes) write.last = Math.min(write.last, index - 1);
  }

  private firstOfRun(index: Index): Index {
    for (let at = this.runFirsts.length - 1; at >= 0; at--) if (this.runFirsts[at]! <= index) return this.runFirsts[at]!;
    return this.firstIndex;
  }
}
