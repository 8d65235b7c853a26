// Durability `interval`: entries that were written without a sync become durable within the shortest interval that any
// group asks for.

import type { Lane } from "./lane.ts";
import type { Replica } from "./replica.ts";

export class RelaxedSync {
  private readonly tickMs: number;
  private readonly lanes: readonly Lane[];
  private lastLookMs = 0;
  private lastSyncMs = 0;

  constructor(tickMs: number, lanes: readonly Lane[]) {
    this.tickMs = tickMs;
    this.lanes = lanes;
  }

  /** Call it every tick. */
  tick(nowMs: number, replicas: () => IterableIterator<Replica>): void {
    if (nowMs - this.lastLookMs < this.tickMs) return;
    this.lastLookMs = nowMs;
    for (const lane of this.lanes) if (lane.unsyncedEntries > 0 && this.isDue(nowMs, replicas())) lane.requestSync();
  }

  private isDue(nowMs: number, replicas: IterableIterator<Replica>): boolean {
    let interval = Number.POSITIVE_INFINITY;
    for (const { durability } of replicas) {
      const { sync, flushIntervalMs } = durability;
      if (!sync && flushIntervalMs > 0 && flushIntervalMs < interval) interval = flushIntervalMs;
    }
    if (nowMs - this.lastSyncMs + this.tickMs < interval) return false;
    this.lastSyncMs = nowMs;
    return true;
  }
}
