// Recurring messages: whoever leads the catalog publishes what is due. The time at which a message was due is its sequence number, so a
// leader that does not know whether the one before it has published does so again, and each target takes it once.

import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import { hexDecode } from "../base/hex.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { ScheduleRow } from "../machine/catalog/declaration-rows.ts";
import type { Publisher } from "./publisher.ts";
import { lastRun, nextRun, safely } from "./schedule-times.ts";

/** A change of leaders may cost so much time: what was due in it is published late, and nothing that is older. */
const LATE_MS_MAX = 60_000;
const LOOK_MS_MAX = 1_000;
const RETRY_MS = 500;

export type SchedulerComponents = {
  readonly catalog: CatalogMachine;
  readonly publisher: Publisher;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly leadsCatalog: () => boolean;
};

export class Scheduler {
  private readonly components: SchedulerComponents;
  /** By schedule: the last time for which a message was published from here. */
  private readonly published = new Map<number, number>();
  private readonly underWay = new Set<number>();
  private timer: Timer | null = null;
  private stopped = false;

  constructor(components: SchedulerComponents) {
    this.components = components;
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  /** Schedules, or who leads the catalog, may have changed. */
  look(): void {
    this.timer?.cancel();
    this.timer = null;
    const { catalog, clock, leadsCatalog } = this.components;
    if (this.stopped || catalog.declarations.schedules.size === 0) {
      this.published.clear();
      return;
    }
    if (!leadsCatalog()) {
      this.published.clear();
      this.timer = clock.schedule(LOOK_MS_MAX, () => this.look());
      return;
    }
    const nowMs = clock.wallMs();
    let nextMs = nowMs + LOOK_MS_MAX;
    const present = new Set<number>();
    for (const row of catalog.declarations.schedules.after("")) {
      present.add(row.id);
      if (row.isPaused) continue;
      const dueMs = this.dueOf(row, nowMs);
      if (dueMs > 0) this.publish(row, dueMs);
      const laterMs = safely(() => nextRun(row, nowMs));
      if (laterMs > 0 && laterMs < nextMs) nextMs = laterMs;
    }
    for (const id of this.published.keys()) if (!present.has(id)) this.published.delete(id);
    this.timer = clock.schedule(Math.max(0, nextMs - clock.wallMs()), () => this.look());
  }

  /** The time that a message is due for and that none was published for yet; 0 = nothing is due. */
  private dueOf(row: ScheduleRow, nowMs: number): number {
    const doneMs = Math.max(this.published.get(row.id) ?? 0, row.id, nowMs - LATE_MS_MAX);
    return safely(() => lastRun(row, doneMs, nowMs));
  }

  private publish(row: ScheduleRow, dueMs: number): void {
    if (this.underWay.has(row.id)) return;
    this.underWay.add(row.id);
    const { publisher, clock, logger } = this.components;
    const { vhost, name, exchange, routingKey, records, id } = row;
    const call = {
      vhost,
      topic: "",
      partition: -1,
      partitionKey: null,
      records: hexDecode(records),
      count: 1,
      direct: false,
      exchange,
      routingKey,
    };
    publisher.publish(
      { ...call, producerId: id, producerEpoch: 0, sequence: dueMs },
      (error, _partition, _offset, _count, _duplicate, routed) => {
        this.underWay.delete(id);
        if (error === null || !error.retryable) this.published.set(id, dueMs);
        if (routed?.copies === 0)
          logger.warn({ schedule: name, exchange, routingKey }, "a recurring message went nowhere: nothing is bound for it");
        if (error === null) return;
        logger.warn({ schedule: name, error: error.message }, "a recurring message could not be published");
        if (error.retryable) clock.schedule(RETRY_MS, () => this.look());
      },
    );
  }
}
