// The door to files, for everything below `broker/`: callbacks with errors as values, so that a simulator can own it.

export type DiskCallback = (error: Error | null) => void;

export interface DiskFile {
  /** Writes all of buffer[start, end) at `position`; the bytes must not change until the callback. */
  write(buffer: Uint8Array, start: number, end: number, position: number, done: DiskCallback): void;
  /** Writes all parts, one after the other, from `position` on. */
  writeParts(parts: readonly Uint8Array[], position: number, done: DiskCallback): void;
  /** Reads up to `length` bytes at `position` into a fresh buffer; fewer only at the end of the file. */
  read(position: number, length: number, done: (error: Error | null, bytes: Uint8Array) => void): void;
  /** Data, and the file's size, are on stable storage when this calls back without an error. */
  sync(done: DiskCallback): void;
  truncate(size: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

export interface Disk {
  open(path: string, options: { readonly create: boolean }): Promise<DiskFile>;
  /** Names in a folder; empty when it does not exist. */
  list(directory: string): Promise<string[]>;
  makeDirectory(directory: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** A folder and all that is in it; nothing when it does not exist. */
  removeFolder(directory: string): Promise<void>;
  /** Bytes that this process may still write to the disk that holds `directory`. */
  freeBytes(directory: string): Promise<number>;
  /** Makes creations, renames and removals in the folder durable. */
  syncDirectory(directory: string): Promise<void>;
}

/** The calls of a file as promises, for work that is not in a hurry. */
export function written(file: DiskFile, bytes: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => file.write(bytes, 0, bytes.length, position, settle(resolve, reject)));
}

export function synced(file: DiskFile): Promise<void> {
  return new Promise((resolve, reject) => file.sync(settle(resolve, reject)));
}

/** Fewer bytes only at the end of the file. */
export function readAt(file: DiskFile, position: number, length: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => file.read(position, length, (error, bytes) => (error === null ? resolve(bytes) : reject(error))));
}

/** Tries after which what the disk does not give back counts as damaged: once may be chance. */
const READS_MAX = 3;

/** The disk does not give the bytes back (EIO): they are as good as damaged. */
export function isUnreadable(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === "EIO";
}

/** Like `readAt`; null when the bytes cannot be read, however often one tries. */
export async function readIfReadable(file: DiskFile, position: number, length: number): Promise<Uint8Array | null> {
  for (let reads = 1; ; reads++) {
    try {
      return await readAt(file, position, length);
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      if (reads >= READS_MAX) return null;
    }
  }
}

/** The disk is full: nothing was damaged, and the same write may go through once there is space. */
export function isNoSpace(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause)
    if ((at as NodeJS.ErrnoException).code === "ENOSPC" || at.message.includes("No space left on device")) return true;
  return false;
}

function settle(resolve: () => void, reject: (error: Error) => void): DiskCallback {
  return (error) => (error === null ? resolve() : reject(error));
}
