// One process per data directory. The lock names its process; that of a dead one is taken over.

import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

const FILE = "LOCK";

export class DirectoryInUseError extends Error {
  override readonly name = "DirectoryInUseError";

  constructor(directory: string, owner: string) {
    super(`the data directory ${directory} is in use by process ${owner}; give this node another one with --data-dir`);
  }
}

type Owner = {
  readonly pid: number;
  /** When the process started, as its kernel tells; "" where it does not. */ readonly startedAt: string;
};

export class DirectoryLock {
  private readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Rejects with DirectoryInUseError while another live process holds the lock. */
  static async acquire(directory: string): Promise<DirectoryLock> {
    const path = join(directory, FILE);
    const own: Owner = { pid: process.pid, startedAt: await startOf(process.pid) };
    for (let tries = 0; tries < 3; tries++) {
      try {
        await writeFile(path, JSON.stringify(own), { flag: "wx", mode: 0o640 });
        return new DirectoryLock(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const owner = await readOwner(path);
      if (owner !== undefined && (await isAlive(owner))) throw new DirectoryInUseError(directory, String(owner.pid));
      await rm(path, { force: true });
    }
    throw new DirectoryInUseError(directory, "another one that is starting");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { force: true });
  }
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Owner;
  } catch {
    return undefined;
  }
}

async function isAlive(owner: Owner): Promise<boolean> {
  if (owner.pid === process.pid) return owner.startedAt === (await startOf(process.pid));
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  // The number may have been given to another process since.
  const startedAt = await startOf(owner.pid);
  return owner.startedAt === "" || startedAt === "" || startedAt === owner.startedAt;
}

/** Field 22 of /proc/PID/stat, counted after the name in brackets. */
async function startOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}
