import type { Entry } from "../raft/types.ts";

/** Entries that were read from disk for the machine and wait to be applied: one read's worth. */
export class ReadAhead {
  private entries: readonly Entry[] = [];
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
      return entry;
    }
    if (this.entries.length > 0) this.put([]);
    return undefined;
  }
}
