// Where a node keeps its data: a file system of its own in an image of bounded size, whose power can be cut and whose space can
// be taken; or, where that is not possible, an ordinary folder.

import { execFile, execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync, truncateSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";

// Whatever happens during a run must not hold up the load and the links, which live in this process.
const run = promisify(execFile);

const CHUNK_BYTES = 1024 * 1024;
const FILLER = "filler";
const UNMOUNT_TRIES_MAX = 200;
const UNMOUNT_PAUSE_MS = 50;
/** EXT4_IOC_SHUTDOWN with NOLOGFLUSH. */
const SHUTDOWN = `import fcntl,os,struct,sys
for file in [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]: fcntl.ioctl(file, 0x8004587d, struct.pack("I", 2))`;

/** From now on nothing reaches these disks, and what had not been synced never will. Their processes are to be killed at once. */
export async function cutPower(volumes: readonly Volume[]): Promise<void> {
  await run("python3", ["-c", SHUTDOWN, ...volumes.map(({ root }) => root)]);
}

export class Volume {
  /** The node's own folder. */
  readonly dataDir: string;
  /** Where its file system is mounted. */
  readonly root: string;
  /** "" = an ordinary folder. */
  private readonly image: string;
  private isMounted = false;

  /** `bytes` 0: an ordinary folder. */
  constructor(directory: string, name: string, bytes: number) {
    this.root = join(directory, name);
    this.dataDir = join(this.root, "data");
    this.image = bytes === 0 ? "" : join(directory, `${name}.ext4`);
    mkdirSync(this.root, { recursive: true });
    if (this.image !== "") {
      closeSync(openSync(this.image, "w"));
      truncateSync(this.image, bytes);
      execFileSync("mkfs.ext4", ["-q", "-F", "-m", "0", this.image], { stdio: ["ignore", "ignore", "pipe"] });
      execFileSync("mount", this.mountArguments, { stdio: ["ignore", "ignore", "pipe"] });
      this.isMounted = true;
      // Before the folder is removed.
      process.prependOnceListener("exit", () => this.unmountAtExit());
    }
    mkdirSync(this.dataDir, { recursive: true });
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.root);
    return bavail * bsize;
  }

  /** All that is stored, gone. */
  wipe(): void {
    for (const name of readdirSync(this.dataDir)) rmSync(join(this.dataDir, name), { recursive: true, force: true });
  }

  /** True when a write fails as it must after a power cut. */
  isDead(): boolean {
    try {
      closeSync(openSync(join(this.root, "probe"), "w"));
      return false;
    } catch {
      return true;
    }
  }

  /** The power is back: the file system is mounted anew, from what is in the image. No process may use it. */
  async powerOn(): Promise<void> {
    await this.close();
    await run("mount", this.mountArguments);
    this.isMounted = true;
  }

  /** Takes all that is free now; returns how much. */
  async fill(): Promise<number> {
    const file = await open(join(this.root, FILLER), "a");
    const chunk = Buffer.alloc(CHUNK_BYTES);
    let taken = 0;
    try {
      for (let free = this.freeBytes; free > 0; free = this.freeBytes)
        taken += (await file.write(chunk, 0, Math.min(CHUNK_BYTES, free))).bytesWritten;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      await file.close();
    }
    return taken;
  }

  /** Gives it back. */
  empty(): void {
    rmSync(join(this.root, FILLER), { force: true });
  }

  private get mountArguments(): string[] {
    return ["-o", "loop", this.image, this.root];
  }

  /** Unmounts it. No process may use it; the last one may have ended this very moment. */
  async close(): Promise<void> {
    for (let tries = 1; this.isMounted; tries++) {
      try {
        await run("umount", [this.root]);
        this.isMounted = false;
      } catch (error) {
        if (tries === UNMOUNT_TRIES_MAX) throw error;
        await delay(UNMOUNT_PAUSE_MS);
      }
    }
  }

  private unmountAtExit(): void {
    if (!this.isMounted) return;
    try {
      // Lazily: whoever still has files open is being killed.
      execFileSync("umount", ["-l", this.root], { stdio: "ignore" });
    } catch {
      // Whoever ends the process ends the namespace, too, and with it the mount.
    }
  }
}
