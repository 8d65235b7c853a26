// One reader of one partition: batch joins batch, and nothing that it was told goes back.

import type { Ledger } from "./ledger.ts";
import type { SweptRecord } from "./sweep.ts";
import type { Verdict } from "./verdict.ts";

export type Fetched = {
  readonly batches: readonly { readonly baseOffset: number; readonly records: readonly SweptRecord[] }[];
  readonly endOffset: number;
  readonly nextOffset: number;
};

export class ReadSession {
  position = 0;
  /** Records met. */
  read = 0;
  private readonly ledger: Ledger;
  private readonly verdict: Verdict;
  private readonly partition: number;
  private readonly who: string;

  constructor(ledger: Ledger, verdict: Verdict, partition: number, who: string) {
    this.ledger = ledger;
    this.verdict = verdict;
    this.partition = partition;
    this.who = who;
  }

  /**
   * An answer to a fetch from `position` on. The end that it tells is as of the leader that answered, and may lag behind what
   * others were told: only what this reader has read itself must lie below it. Where the end is, GetOffsets says.
   */
  fetched({ batches, endOffset, nextOffset }: Fetched): void {
    let next = this.position;
    for (const { baseOffset, records } of batches) {
      // The first batch may begin before the wanted offset, in which case its records are passed over.
      const isFirst = next === this.position && baseOffset < next && baseOffset + records.length > next;
      if (baseOffset !== next && !isFirst)
        this.verdict.report(
          "L5",
          `${this.who}, partition ${this.partition}: at offset ${next} came a batch at ${baseOffset} of ${records.length}`,
        );
      for (const { offset, key, body } of records) this.ledger.observed(this.partition, offset, key, body);
      this.read += records.length;
      next = baseOffset + records.length;
    }
    if (batches.length > 0 && nextOffset !== next)
      this.verdict.report(
        "L5",
        `${this.who}, partition ${this.partition}: batches end at ${next}, the next fetch is to begin at ${nextOffset}`,
      );
    if (endOffset < next)
      this.verdict.report("L6", `${this.who}, partition ${this.partition}: records up to ${next} were read, the end is ${endOffset}`);
    this.position = next;
  }

  /** The node says that this offset is beyond the end, or below the first one: neither can be for one that was told. */
  denied(text: string): void {
    this.verdict.report("L5", `${this.who}, partition ${this.partition}: offset ${this.position} is denied: ${text}`);
  }
}
