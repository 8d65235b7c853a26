// A file that holds space for the moment when the disk is full: without it, what frees space could not run either.

import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../base/logger.ts";

const FILE = "reserve";
/** So many times its size must be free before it is made. */
const ROOM = 4;
const POLL_MS = 500;
const CHUNK_BYTES = 1024 * 1024;

export class Reserve {
  private readonly path: string;
  private readonly bytes: number;
  private readonly logger: Logger;

  constructor(directory: string, bytes: number, logger: Logger) {
    this.path = join(directory, FILE);
    this.bytes = bytes;
    this.logger = logger;
  }

  /** Makes it if it is not there and there is room for it. */
  async fill(freeBytes: number): Promise<void> {
    const size = await stat(this.path).then(
      (found) => found.size,
      () => -1,
    );
    if (this.bytes === 0 || size >= this.bytes || freeBytes < ROOM * this.bytes) return;
    const file = await open(this.path, "w", 0o640);
    try {
      // Written, not only made long: a file of holes keeps nothing back.
      const chunk = Buffer.alloc(CHUNK_BYTES);
      for (let at = 0; at < this.bytes; at += CHUNK_BYTES) await file.write(chunk, 0, Math.min(CHUNK_BYTES, this.bytes - at), at);
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  /** The disk is full: gives the reserve up, or else waits until somebody made room. Rejects when `signal` ends the wait. */
  async makeRoom(freeBytes: () => Promise<number>, signal: AbortSignal): Promise<void> {
    if (await this.release()) return;
    this.logger.error({}, "the disk is full: this node waits for space");
    while ((await freeBytes()) < Math.max(this.bytes, CHUNK_BYTES)) await delay(POLL_MS, undefined, { signal });
  }

  /** Gives its space back; false when there was nothing to give. */
  private async release(): Promise<boolean> {
    const isThere = await stat(this.path).then(
      () => true,
      () => false,
    );
    if (!isThere) return false;
    this.logger.warn({ bytes: this.bytes }, "the disk is full: the reserve is given up");
    await rm(this.path);
    return true;
  }
}
