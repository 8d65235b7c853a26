// Drives a machine as its host would: entries in order, each with an index, effects written down.

import { COMMAND, RECORDS, type TestEntry } from "./entries.ts";
import type { ApplyMeta, Delivery, Effects, Machine, Revocation } from "../../src/machine/machine.ts";

export type Reply = { readonly code: number; readonly value: number; readonly detail: string };

export class MachineRun<M extends Machine = Machine> implements Effects {
  readonly machine: M;
  readonly replies: Reply[] = [];
  /** The details of all replies, as they are. */
  readonly details: Uint8Array[] = [];
  /** The last one of each; -1 before the first. */
  advancedTo = -1;
  releasedTo = -1;
  changes = 0;
  dueMs = -1;
  readonly deliveries: (Delivery & { readonly subscription: string })[] = [];
  readonly revokes: (Revocation & { readonly subscription: string })[] = [];
  index: number;

  /** `index` is that of the last entry which the machine has applied already. */
  constructor(machine: M, index = 0) {
    this.machine = machine;
    this.index = index;
  }

  /** Applies one entry and gives the reply: there must be exactly one. */
  apply(entry: TestEntry): Reply {
    const before = this.replies.length;
    this.index += 1;
    // The host reuses the buffer after the call: what a machine keeps must be a copy.
    const payload = entry.payload.slice();
    const meta: ApplyMeta = { index: this.index, term: 1, timeMs: entry.timeMs };
    this.machine.apply(meta, entry.kind, payload, this);
    payload.fill(0xff);
    meta.index = meta.timeMs = -1;
    if (this.replies.length !== before + 1) throw new Error(`${this.replies.length - before} replies to one entry`);
    return this.replies[before]!;
  }

  applyAll(entries: readonly TestEntry[]): this {
    for (const entry of entries) this.apply(entry);
    return this;
  }

  command(payload: Uint8Array, timeMs = 0): Reply {
    return this.apply({ kind: COMMAND, timeMs, payload });
  }

  records(payload: Uint8Array, timeMs = 0): Reply {
    return this.apply({ kind: RECORDS, timeMs, payload });
  }

  reply(code: number, value: number, detail: Uint8Array | null): void {
    this.details.push(detail === null ? new Uint8Array(0) : detail.slice());
    this.replies.push({ code, value, detail: detail === null ? "" : new TextDecoder().decode(detail) });
  }

  advanced(endOffset: number): void {
    if (endOffset <= this.advancedTo) throw new Error("the end fell");
    this.advancedTo = endOffset;
  }

  releaseTo(index: number): void {
    if (index < this.releasedTo) throw new Error("the release fell");
    this.releasedTo = index;
  }

  changed(): void {
    this.changes += 1;
  }

  delivered(subscription: string, delivery: Delivery): void {
    this.deliveries.push({ subscription, ...delivery });
  }

  revoked(subscription: string, revocation: Revocation): void {
    this.revokes.push({ subscription, ...revocation });
  }

  due(atMs: number): void {
    this.dueMs = atMs;
  }
}
