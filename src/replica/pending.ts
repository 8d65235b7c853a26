import { assert } from "../base/assert.ts";
import { NOTHING } from "../base/nothing.ts";
import type { ProposeDone } from "./types.ts";

/** Proposals of this leader that wait for their entry to be applied, in log order. */
export class PendingProposals {
  private indexes: number[] = NOTHING;
  /** Null once taken: a callback holds the records of its proposal. */
  private callbacks: (ProposeDone | null)[] = NOTHING;
  private head = 0;

  get size(): number {
    return this.indexes.length - this.head;
  }

  push(index: number, done: ProposeDone): void {
    assert(this.size === 0 || this.indexes[this.indexes.length - 1]! < index, "pending proposals are in log order");
    if (this.indexes === NOTHING) {
      this.indexes = [];
      this.callbacks = [];
    }
    this.indexes.push(index);
    this.callbacks.push(done);
  }

  /** The callback of the entry at `index`, which is then no longer pending; null when somebody else proposed it. */
  take(index: number): ProposeDone | null {
    if (this.head === this.indexes.length || this.indexes[this.head] !== index) return null;
    const done = this.callbacks[this.head]!;
    this.callbacks[this.head] = null;
    this.head += 1;
    if (this.head === this.indexes.length) {
      this.clear();
    } else if (this.head > 4096) {
      this.indexes = this.indexes.slice(this.head);
      this.callbacks = this.callbacks.slice(this.head);
      this.head = 0;
    }
    return done;
  }

  /** Leadership is lost, or the node stops: everyone who waits is told the same. */
  failAll(code: number): void {
    const callbacks = this.callbacks.slice(this.head);
    this.clear();
    for (const done of callbacks) done!(code, 0, null);
  }

  private clear(): void {
    this.indexes = NOTHING;
    this.callbacks = NOTHING;
    this.head = 0;
  }
}
