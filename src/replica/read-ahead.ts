import { NOTHING } from "../base/nothing.ts";
import type { Entry } from "../raft/types.ts";

/**
 * Entries that were read from disk for the machine and wait to be applied: one read's worth. They lie in the memory of that
 * read, so nothing is kept of it once the last one is taken.
 */
export class ReadAhead {
  private entries: readonly Entry[] = NOTHING;
  private at = 0;

  put(entries: readonly Entry[]): void {
    this.entries = entries;
    this.at = 0;
  }

  /** The entry at `index` if it is the next one here; whatever does not fit is history (a snapshot overtook it) and goes. */
  take(index: number): Entry | undefined {
    const entry = this.entries[this.at];
    if (entry?.index === index) {
      this.at += 1;
      if (this.at === this.entries.length) this.put(NOTHING);
      return entry;
    }
    if (this.entries.length > 0) this.put(NOTHING);
    return undefined;
  }
}
