// Committed offsets of one subscription: what was asked for, what was confirmed, what is told.

import type { Verdict } from "./verdict.ts";

type Commit = { confirmed: number; highest: number };

export class CommitLedger {
  count = 0;
  private readonly verdict: Verdict;
  private readonly partitions: readonly Commit[];

  constructor(partitions: number, verdict: Verdict) {
    this.verdict = verdict;
    this.partitions = Array.from({ length: partitions }, () => ({ confirmed: 0, highest: 0 }));
  }

  /** Asked for; whether it is carried out is not known yet. */
  committing(partition: number, offset: number): void {
    const known = this.partitions[partition]!;
    known.highest = Math.max(known.highest, offset);
  }

  committed(partition: number, offset: number): void {
    const known = this.partitions[partition]!;
    known.confirmed = Math.max(known.confirmed, offset);
    this.count += 1;
  }

  confirmed(partition: number): number {
    return this.partitions[partition]!.confirmed;
  }

  /** `atLeast`: what `confirmed` said before the question; a negative offset is none. */
  seen(partition: number, offset: number, atLeast: number): void {
    const told = Math.max(0, offset);
    if (told < atLeast) this.verdict.report("L7", `partition ${partition}: offset ${told} is committed, ${atLeast} was confirmed before`);
    const { highest } = this.partitions[partition]!;
    if (told > highest)
      this.verdict.report("L7", `partition ${partition}: offset ${told} is committed, nobody asked for more than ${highest}`);
  }
}
