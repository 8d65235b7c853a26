// Two releases that differ in the rules of their machines: the next one counts what it applied by the new rules, in its state.
// Replicas that went over to them at different entries would differ in their digests.

import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { CatalogMachine } from "../../src/machine/catalog/catalog.ts";
import type { ApplyMeta, Effects, Machine } from "../../src/machine/machine.ts";
import type { MachineKind } from "../../src/machine/registry.ts";
import { StreamMachine } from "../../src/machine/stream/stream.ts";
import { RULES_VERSION } from "../../src/machine/versions.ts";
import { THIS_RELEASE, type Release } from "../../src/server/environment.ts";

export type ReleaseName = "old" | "next";
export const NEXT_VERSION = RULES_VERSION + 1;
const COUNT_BYTES = 4;

class NextStream extends StreamMachine {
  override readonly newestVersion: number = NEXT_VERSION;
  private appliedByNew = 0;

  override apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    super.apply(meta, kind, payload, effects);
    if (this.version === NEXT_VERSION) this.appliedByNew += 1;
  }

  override snapshot(): Uint8Array {
    return this.version === NEXT_VERSION ? withCount(super.snapshot(), this.appliedByNew) : super.snapshot();
  }

  override restore(snapshot: Uint8Array): void {
    super.restore(this.version === NEXT_VERSION ? withoutCount(snapshot) : snapshot);
    this.appliedByNew = this.version === NEXT_VERSION ? countOf(snapshot) : 0;
  }
}

class NextCatalog extends CatalogMachine {
  override readonly newestVersion: number = NEXT_VERSION;
  private appliedByNew = 0;

  override apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    super.apply(meta, kind, payload, effects);
    if (this.version === NEXT_VERSION) this.appliedByNew += 1;
  }

  override snapshot(): Uint8Array {
    return this.version === NEXT_VERSION ? withCount(super.snapshot(), this.appliedByNew) : super.snapshot();
  }

  override restore(snapshot: Uint8Array): void {
    super.restore(this.version === NEXT_VERSION ? withoutCount(snapshot) : snapshot);
    this.appliedByNew = this.version === NEXT_VERSION ? countOf(snapshot) : 0;
  }
}

function withCount(snapshot: Uint8Array, count: number): Uint8Array {
  return new ByteWriter(snapshot.length + COUNT_BYTES).u32(count).raw(snapshot).finish();
}

function countOf(snapshot: Uint8Array): number {
  return new ByteReader(snapshot).u32();
}

function withoutCount(snapshot: Uint8Array): Uint8Array {
  return snapshot.subarray(COUNT_BYTES);
}

export const OLD_RELEASE: Release = THIS_RELEASE;
export const NEXT_RELEASE: Release = {
  rulesVersion: NEXT_VERSION,
  machineOf: (kind: MachineKind): Machine => (kind === "catalog" ? new NextCatalog() : new NextStream({ isQueue: kind === "queue" })),
};
