// What the disk could do at most: 1 MiB writes into a preallocated file, each synced, three times for the three copies.

import { closeSync, fdatasyncSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { payload } from "./system.ts";

const WRITE_BYTES = 1024 * 1024;
const FILE_BYTES = 64 * 1024 * 1024;

/** Bytes per second of one file; a cluster of three on one disk writes everything three times. */
export function diskCeiling(directory: string, seconds: number): number {
  const path = join(directory, "ceiling");
  const file = openSync(path, "w");
  const buffer = payload(WRITE_BYTES);
  ftruncateSync(file, FILE_BYTES);
  const start = performance.now();
  let bytes = 0;
  while (performance.now() - start < seconds * 1000) {
    writeSync(file, buffer, 0, WRITE_BYTES, bytes % FILE_BYTES);
    fdatasyncSync(file);
    bytes += WRITE_BYTES;
  }
  const rate = bytes / ((performance.now() - start) / 1000);
  closeSync(file);
  rmSync(path);
  return rate;
}
