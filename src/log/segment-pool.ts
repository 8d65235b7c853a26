// The next segment file, made ready before it is needed, and the files that are free for it: a file that was written once
// takes synced writes at twice the rate of a new one.

import { join } from "node:path";
import type { Random } from "../base/prng.ts";
import type { Disk } from "./disk.ts";
import { Segment, segmentName } from "./segment.ts";
import type { SegmentRows } from "./segment-rows.ts";

/** Files kept for reuse; more are deleted. */
const FREE_MAX = 4;

export type SegmentPoolSettings = { readonly directory: string; readonly segmentBytes: number; readonly nextNumber: number };
export type SegmentPoolComponents = { readonly disk: Disk; readonly rows: SegmentRows; readonly random: Random; readonly free: Segment[] };

export class SegmentPool {
  private readonly settings: SegmentPoolSettings;
  private readonly disk: Disk;
  private readonly rows: SegmentRows;
  private readonly random: Random;
  private readonly free: Segment[];
  private nextNumber: number;
  private ready: Promise<Segment> | null = null;
  private isClosed = false;

  constructor(settings: SegmentPoolSettings, components: SegmentPoolComponents) {
    this.settings = settings;
    this.disk = components.disk;
    this.rows = components.rows;
    this.random = components.random;
    this.free = components.free;
    this.nextNumber = settings.nextNumber;
  }

  get freeCount(): number {
    return this.free.length + (this.ready === null ? 0 : 1);
  }

  /** Makes the next file ready. */
  async prepare(): Promise<void> {
    if (this.isClosed) return;
    this.ready ??= this.make();
    await this.ready;
  }

  /** The next file, empty and ready to be written to. */
  async take(): Promise<Segment> {
    const segment = await (this.ready ?? this.make());
    this.ready = null;
    return segment;
  }

  /** A segment that holds nothing any more: kept for reuse, or deleted. */
  async give(segment: Segment): Promise<void> {
    if (this.free.length < FREE_MAX && !this.isClosed) {
      this.free.push(segment);
      return;
    }
    await segment.file.close();
    await this.disk.remove(segment.path);
    await this.disk.syncDirectory(this.settings.directory);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    if (this.ready !== null) await (await this.ready).file.close();
    for (const segment of this.free) await segment.file.close();
  }

  private async make(): Promise<Segment> {
    const number = this.nextNumber++;
    const path = join(this.settings.directory, segmentName(number));
    const salt = this.random.below(0xffff_ffff) + 1;
    const old = this.free.shift();
    // Durable before the first write: a file that the row names and that is not there is damage.
    if (old === undefined) {
      const file = await this.disk.open(path, { create: true });
      await file.truncate(this.settings.segmentBytes);
      await this.disk.syncDirectory(this.settings.directory);
      await this.rows.prepared(number, salt);
      return new Segment(number, path, file, salt);
    }
    await this.rows.freed(old.number);
    await this.disk.rename(old.path, path);
    await this.disk.syncDirectory(this.settings.directory);
    await this.rows.prepared(number, salt);
    return new Segment(number, path, old.file, salt);
  }
}
