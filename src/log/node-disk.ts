import { constants, fdatasync, read, write, writev } from "node:fs";
import { mkdir, open, readdir, rename, rm, statfs, type FileHandle } from "node:fs/promises";
import { alignedMemory, DirectWriter } from "./direct-writer.ts";
import type { Disk, DiskCallback, DiskFile } from "./disk.ts";

const EMPTY = new Uint8Array(0);

/** Memories for direct writes that are kept: one for each log of a node. */
const MEMORIES_MAX = 2;

/** Lends aligned memory to one write at a time. */
class Memories {
  private readonly spare: Uint8Array[] = [];

  take(): Uint8Array {
    return this.spare.pop() ?? alignedMemory();
  }

  give(memory: Uint8Array): void {
    if (this.spare.length < MEMORIES_MAX) this.spare.push(memory);
  }
}

/** The machine's own file system. */
export class NodeDisk implements Disk {
  private readonly memories = new Memories();

  async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    return new NodeFile(await open(path, constants.O_RDWR | (options.create ? constants.O_CREAT : 0), 0o640), this.memories);
  }

  async list(directory: string): Promise<string[]> {
    try {
      return (await readdir(directory)).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }

  async makeDirectory(directory: string): Promise<void> {
    await mkdir(directory, { recursive: true, mode: 0o750 });
  }

  async rename(from: string, to: string): Promise<void> {
    await rename(from, to);
  }

  async remove(path: string): Promise<void> {
    await rm(path, { force: true });
  }

  async removeFolder(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true });
  }

  async freeBytes(directory: string): Promise<number> {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  }

  async syncDirectory(directory: string): Promise<void> {
    const handle = await open(directory, constants.O_RDONLY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

class NodeFile implements DiskFile {
  private readonly handle: FileHandle;
  private readonly memories: Memories;
  /** Another handle, for direct writes, once one was asked for; null where the file system has none. */
  private directHandle: FileHandle | null = null;
  private direct: DirectWriter | null | undefined;

  constructor(handle: FileHandle, memories: Memories) {
    this.handle = handle;
    this.memories = memories;
  }

  write(buffer: Uint8Array, start: number, end: number, position: number, done: DiskCallback): void {
    write(this.handle.fd, buffer, start, end - start, position, (error, written) => {
      if (error !== null) done(error);
      else if (written === 0) done(new Error("the file system wrote nothing"));
      else if (start + written < end) this.write(buffer, start + written, end, position + written, done);
      else done(null);
    });
  }

  writeParts(parts: readonly Uint8Array[], position: number, done: DiskCallback): void {
    const { direct, memories } = this;
    if (direct === null) this.writeBuffered(parts, position, done);
    else if (direct === undefined || !direct.knows(position))
      this.prepare(position).then(
        () => this.writeParts(parts, position, done),
        (error: unknown) => done(error as Error),
      );
    else {
      const memory = memories.take();
      direct.write(parts, position, memory, (error) => {
        memories.give(memory);
        done(error);
      });
    }
  }

  /** Opens the way past the page cache, and reads what stands in front of `position` in its block. */
  private async prepare(position: number): Promise<void> {
    if (this.direct === undefined) {
      this.directHandle = await openDirect(this.handle.fd);
      this.direct = this.directHandle === null ? null : new DirectWriter(this.directHandle.fd);
    }
    if (this.direct === null) return;
    const at = this.direct.blockOf(position);
    const bytes = Buffer.alloc(position - at);
    await this.handle.read(bytes, 0, bytes.length, at);
    this.direct.prime(at, bytes);
  }

  private writeBuffered(parts: readonly Uint8Array[], position: number, done: DiskCallback): void {
    writev(this.handle.fd, parts, position, (error, written) => {
      if (error !== null) done(error);
      else if (written === 0) done(new Error("the file system wrote nothing"));
      else {
        const rest = after(parts, written);
        if (rest.length === 0) done(null);
        else this.writeBuffered(rest, position + written, done);
      }
    });
  }

  read(position: number, length: number, done: (error: Error | null, bytes: Uint8Array) => void): void {
    const buffer = Buffer.allocUnsafeSlow(length);
    const more = (filled: number): void => {
      read(this.handle.fd, buffer, filled, length - filled, position + filled, (error, count) => {
        if (error !== null) done(error, EMPTY);
        else if (count === 0 || filled + count === length) done(null, buffer.subarray(0, filled + count));
        else more(filled + count);
      });
    };
    more(0);
  }

  sync(done: DiskCallback): void {
    fdatasync(this.handle.fd, done);
  }

  async truncate(size: number): Promise<void> {
    await this.handle.truncate(size);
  }

  async size(): Promise<number> {
    return (await this.handle.stat()).size;
  }

  async close(): Promise<void> {
    await this.directHandle?.close();
    await this.handle.close();
  }
}

/** Null where files cannot be written past the page cache: in memory, on a network, on another system. */
async function openDirect(fd: number): Promise<FileHandle | null> {
  if (constants.O_DIRECT === undefined) return null;
  try {
    // By its number: a file that is used again has another name by then.
    return await open(`/proc/self/fd/${fd}`, constants.O_RDWR | constants.O_DIRECT);
  } catch {
    return null;
  }
}

/** What is left of the parts behind their first `count` bytes. */
function after(parts: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = count;
  for (const part of parts) {
    if (skip < part.length) rest.push(skip === 0 ? part : part.subarray(skip));
    skip = Math.max(0, skip - part.length);
  }
  return rest;
}
