// A file system of a few hundred MiB for one node, so that its disk can be filled to the last byte and nobody else's.

import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { join } from "node:path";

const CHUNK_BYTES = 1024 * 1024;
const FILLER = "filler";

export class SmallDisk {
  /** Mounting takes root, and Linux. */
  static readonly isPossible = process.getuid?.() === 0 && process.platform === "linux";
  private readonly directory: string;
  private isMounted = true;

  /** Mounts it on `directory`, which is made. It goes with the process at the latest. */
  constructor(directory: string, bytes: number) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", directory]);
    process.once("exit", () => this.unmount());
  }

  /** Takes all that is free now. */
  fill(): void {
    const file = openSync(join(this.directory, FILLER), "a");
    const chunk = Buffer.alloc(CHUNK_BYTES);
    try {
      for (;;) {
        const { bavail, bsize } = statfsSync(this.directory);
        if (bavail === 0) return;
        writeSync(file, chunk, 0, Math.min(CHUNK_BYTES, bavail * bsize));
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      closeSync(file);
    }
  }

  /** Gives it back. */
  empty(): void {
    rmSync(join(this.directory, FILLER), { force: true });
  }

  /** Nobody may use it any more; if somebody does, it goes as soon as they end. */
  unmount(): void {
    if (!this.isMounted) return;
    this.isMounted = false;
    execFileSync("umount", ["-l", this.directory]);
  }
}
