// Reads one partition from its first record to its last and holds all of it against the ledger. One sweep per replica: in
// the end their digests must be the same.

import { crc32 } from "node:zlib";
import type { Ledger } from "./ledger.ts";
import type { Verdict } from "./verdict.ts";

export type SweptRecord = { readonly offset: number; readonly key: Uint8Array | null; readonly body: Uint8Array };

export class Sweep {
  /** Of all that was read so far, offsets and bodies. */
  digest = 0;
  /** The next offset. */
  next = 0;
  private readonly ledger: Ledger;
  private readonly verdict: Verdict;
  private readonly partition: number;
  /** Through whom it is read, for the findings. */
  private readonly who: string;
  /** By lane, one bit for each number that was met. */
  private readonly met = new Map<number, Uint8Array>();
  private readonly last = new Map<number, number>();
  private readonly offsetBytes = Buffer.alloc(8);

  constructor(ledger: Ledger, verdict: Verdict, partition: number, who: string) {
    this.ledger = ledger;
    this.verdict = verdict;
    this.partition = partition;
    this.who = who;
    for (const lane of ledger.lanesOf(partition)) this.met.set(lane, new Uint8Array((ledger.lanes[lane]!.sent >> 3) + 1));
  }

  /** In the order in which they are read. */
  record({ offset, key, body }: SweptRecord): void {
    if (offset !== this.next) this.verdict.report("L4", `${this.where}: offset ${offset} follows ${this.next - 1}`);
    this.next = offset + 1;
    this.offsetBytes.writeDoubleLE(offset);
    this.digest = crc32(body, crc32(this.offsetBytes, this.digest));
    const id = this.ledger.observed(this.partition, offset, key, body);
    if (id === null) return;
    const last = this.last.get(id.lane) ?? -1;
    const met = this.met.get(id.lane)!;
    const isMet = (met[id.number >> 3]! & (1 << (id.number & 7))) !== 0;
    // Twice is found by the ledger, which knows the other place.
    if (id.number <= last && !isMet) this.verdict.report("L3", `${this.where}: ${this.ledger.nameOf(id)} stands behind number ${last}`);
    this.last.set(id.lane, Math.max(last, id.number));
    met[id.number >> 3]! |= 1 << (id.number & 7);
  }

  /** All was read, up to `endOffset`. */
  finish(endOffset: number): void {
    if (this.next < endOffset) this.verdict.report("L4", `${this.where}: reading stopped at ${this.next}, the end is ${endOffset}`);
    for (const [lane, met] of this.met) {
      const { acked } = this.ledger.lanes[lane]!;
      for (let number = 0; number < acked; number++) {
        if ((met[number >> 3]! & (1 << (number & 7))) !== 0) continue;
        this.verdict.report("L0", `${this.where}: ${this.ledger.nameOf({ lane, number })} was acknowledged and is not there`);
      }
    }
  }

  private get where(): string {
    return `partition ${this.partition} through ${this.who}`;
  }
}

/** What each replica of a partition gave must be the same, to the last byte. */
export function compareReplicas(
  verdict: Verdict,
  partition: number,
  sweeps: readonly { readonly who: string; readonly sweep: Sweep }[],
): void {
  const first = sweeps[0];
  for (const { who, sweep } of sweeps.slice(1)) {
    if (sweep.next === first!.sweep.next && sweep.digest === first!.sweep.digest) continue;
    const text = (one: Sweep): string => `${one.next} records with digest ${one.digest.toString(16)}`;
    verdict.report("L4", `partition ${partition}: ${first!.who} has ${text(first!.sweep)}, ${who} has ${text(sweep)}`);
  }
}
