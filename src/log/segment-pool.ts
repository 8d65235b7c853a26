// The next segment file, made ready before it is needed, and the files that are free for it: a file that was written once
// takes synced writes at twice the rate of a new one.

import { join } from "node:path";
import type { Random } from "../base/prng.ts";
import { synced, type Disk } from "./disk.ts";
import { markFree, Segment, segmentName } from "./segment.ts";
import type { SegmentRows } from "./segment-rows.ts";

/** Files kept for reuse; more are deleted. */
const FREE_MAX = 4;
/** Seconds without a new file after which those go as well, one a second: they are worth their space only under load. */
const QUIET_SECONDS = 5;

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
  /** Since a file was begun. */
  private quietSeconds = 0;

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
    // Nobody else's from now on: while this waits, another one may be made ready.
    const next = this.ready ?? this.make();
    this.ready = null;
    this.quietSeconds = 0;
    const segment = await next;
    try {
      await this.rows.put(segment.number, { salt: segment.salt, bytes: this.settings.segmentBytes, used: true });
    } catch (error) {
      await segment.file.close();
      throw error;
    }
    return segment;
  }

  /**
   * A segment that holds nothing any more: kept for reuse, or deleted; for good when it resolves. Files go in order, or the one that says
   * that a group was deleted may be gone while an older one with its entries is back.
   */
  async give(segment: Segment): Promise<void> {
    if (this.free.length < FREE_MAX && !this.isClosed) {
      await markFree(segment, 0);
      await synced(segment.file);
      // Before that a torn header is made up for by what the store knows of the file.
      await this.rows.freed(segment.number);
      this.free.push(segment);
      return;
    }
    await this.rows.freed(segment.number);
    await this.remove(segment);
  }

  /** The next file is made, or being made. */
  get isReady(): boolean {
    return this.ready !== null;
  }

  /**
   * A second went by. True when the load is over and a spare file may go: see `shed`. `isNeeded`: the one made ready ahead,
   * because the file in use is filling up, or there is no other file.
   */
  secondPassed(isNeeded: boolean): boolean {
    this.quietSeconds += 1;
    return this.quietSeconds >= QUIET_SECONDS && (this.free.length > 0 || (this.isReady && !isNeeded));
  }

  /** Gives the disk one spare file back, the one made ready ahead last, and only while it is not needed. */
  async shed(isNeeded: boolean): Promise<void> {
    if (this.isClosed) return;
    const { ready } = this;
    let segment = this.free.pop();
    if (segment === undefined && ready !== null && !isNeeded) {
      this.ready = null;
      segment = await ready;
      // Until now the store made up for a header that a crash tears.
      await synced(segment.file);
    }
    if (segment === undefined) return;
    // A file that the store knows must be there.
    await this.rows.freed(segment.number);
    await this.remove(segment);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    // A file that could not be made ready is closed already.
    const ready = await this.ready?.catch(() => undefined);
    await ready?.file.close();
    for (const segment of this.free) await segment.file.close();
  }

  private async remove(segment: Segment): Promise<void> {
    await segment.file.close();
    await this.disk.remove(segment.path);
    await this.disk.syncDirectory(this.settings.directory);
  }

  private async make(): Promise<Segment> {
    const number = this.nextNumber++;
    const path = join(this.settings.directory, segmentName(number));
    const salt = this.random.below(0xffff_ffff) + 1;
    const old = this.free.shift();
    const row = { salt, bytes: this.settings.segmentBytes, used: false };
    let file = old?.file;
    try {
      // With its name and salt known nothing that a crash makes of the header is taken for more than it is.
      await this.rows.put(number, row);
      if (old !== undefined) {
        await this.rows.freed(old.number);
        await this.disk.rename(old.path, path);
      }
      file ??= await this.disk.open(path, { create: true });
      await this.disk.syncDirectory(this.settings.directory);
      const segment = new Segment(number, path, file, salt);
      await markFree(segment, salt);
      // It is new, or a footer made it longer.
      if ((await file.size()) !== row.bytes) {
        await file.truncate(row.bytes);
        await synced(file);
      }
      return segment;
    } catch (error) {
      await file?.close();
      throw error;
    }
  }
}
