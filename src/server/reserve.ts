// A file that holds space for the moment when the disk is full: without it, what frees space could not run either.

import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import { synced, written, type Disk } from "../log/disk.ts";

const FILE = "reserve";
/** So many times its size must be free before it is made. */
const ROOM = 4;
const POLL_MS = 500;
const CHUNK_BYTES = 1024 * 1024;

export type ReserveComponents = { readonly disk: Disk; readonly clock: Clock; readonly logger: Logger };

export class Reserve {
  private readonly path: string;
  private readonly bytes: number;
  private readonly components: ReserveComponents;
  /** It was seen to be there as a whole; nobody but this process takes it away. */
  private isThere = false;

  constructor(directory: string, bytes: number, components: ReserveComponents) {
    this.path = join(directory, FILE);
    this.bytes = bytes;
    this.components = components;
  }

  /** Makes it if it is not there and there is room for it. */
  async fill(freeBytes: number): Promise<void> {
    if (this.bytes === 0 || this.isThere || freeBytes < ROOM * this.bytes) return;
    this.isThere = (await this.size()) >= this.bytes;
    if (this.isThere) return;
    const file = await this.components.disk.open(this.path, { create: true });
    try {
      // Written, not only made long: a file of holes keeps nothing back.
      const chunk = new Uint8Array(Math.min(CHUNK_BYTES, this.bytes));
      for (let at = 0; at < this.bytes; at += chunk.length) await written(file, chunk.subarray(0, this.bytes - at), at);
      await synced(file);
      this.isThere = true;
    } finally {
      await file.close();
    }
  }

  /** The disk is full: gives the reserve up, or else waits until somebody made room. Rejects when `signal` ends the wait. */
  async makeRoom(freeBytes: () => Promise<number>, signal: AbortSignal): Promise<void> {
    if (await this.release()) return;
    const { clock, logger } = this.components;
    logger.error({}, "the disk is full: this node waits for space");
    while ((await freeBytes()) < Math.max(this.bytes, CHUNK_BYTES)) {
      await new Promise<void>((resolve) => clock.schedule(POLL_MS, resolve));
      signal.throwIfAborted();
    }
  }

  /** Gives its space back; false when there was nothing to give. */
  private async release(): Promise<boolean> {
    this.isThere = false;
    if ((await this.size()) < 0) return false;
    const { disk, logger } = this.components;
    logger.warn({ bytes: this.bytes }, "the disk is full: the reserve is given up");
    await disk.remove(this.path);
    return true;
  }

  /** -1 when it is not there. */
  private async size(): Promise<number> {
    try {
      const file = await this.components.disk.open(this.path, { create: false });
      try {
        return await file.size();
      } finally {
        await file.close();
      }
    } catch {
      return -1;
    }
  }
}
