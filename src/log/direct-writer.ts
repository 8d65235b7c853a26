// Writes past the page cache (O_DIRECT): what goes into the log is read back rarely, and taking fresh cache pages for it costs
// more than all the rest of a write on a machine whose memory is not warm. Blocks must be written whole and from aligned
// memory, so the last, partly filled block is kept here and written again with what follows it; a buffered write would
// have the file system do the same.

import { write } from "node:fs";
import { copyInto } from "../base/copy.ts";
import type { DiskCallback } from "./disk.ts";

/** Every file system's direct writes are whole blocks of at most this size. */
const BLOCK_BYTES = 4096;
/** Bytes of one call: each has to wait for its turn of the event loop, so a large write under load should not take many. */
const CHUNK_BYTES = 4 * 1024 * 1024;
const WASM_PAGE_BYTES = 65_536;

/** Part of every Node, though not of its types. */
declare const WebAssembly: { readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer } };

/** Aligned memory: of all that JavaScript can have, WebAssembly's begins at a page. */
export function alignedMemory(): Uint8Array {
  const memory = new WebAssembly.Memory({ initial: (CHUNK_BYTES + BLOCK_BYTES) / WASM_PAGE_BYTES + 1 });
  return new Uint8Array(memory.buffer);
}

export class DirectWriter {
  private readonly fd: number;
  /** What stands in the block that the last write ended in, from its start. */
  private readonly tail = new Uint8Array(BLOCK_BYTES);
  private tailAt = -1;
  private tailBytes = 0;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** False when it does not know what stands in front of `position` in its block: see `prime`. */
  knows(position: number): boolean {
    return position % BLOCK_BYTES === 0 || this.tailAt + this.tailBytes === position;
  }

  /** Where the block of `position` begins. */
  blockOf(position: number): number {
    return position - (position % BLOCK_BYTES);
  }

  /** `bytes` stand from the block's start at `at` on. */
  prime(at: number, bytes: Uint8Array): void {
    this.tail.set(bytes);
    this.tailAt = at;
    this.tailBytes = bytes.length;
  }

  /** Writes all parts from `position` on, with zeros up to the end of the last block. `memory` is used until `done`. */
  write(parts: readonly Uint8Array[], position: number, memory: Uint8Array, done: DiskCallback): void {
    const at = this.blockOf(position);
    const head = position - at;
    memory.set(this.tail.subarray(0, head));
    this.next({ parts, part: 0, offset: 0, at, filled: head, memory, done });
  }

  private next(job: Job): void {
    const { parts, memory } = job;
    while (job.part < parts.length && job.filled < CHUNK_BYTES) {
      const part = parts[job.part]!;
      const take = Math.min(part.length - job.offset, CHUNK_BYTES - job.filled);
      copyInto(memory, job.filled, take === part.length ? part : part.subarray(job.offset, job.offset + take));
      job.filled += take;
      job.offset += take;
      if (job.offset === part.length) {
        job.part += 1;
        job.offset = 0;
      }
    }
    const last = job.filled % BLOCK_BYTES;
    const length = last === 0 ? job.filled : job.filled + BLOCK_BYTES - last;
    memory.fill(0, job.filled, length);
    this.writeBlocks(memory, 0, length, job.at, (error) => {
      if (error !== null) {
        job.done(error);
        return;
      }
      this.prime(job.at + job.filled - last, memory.subarray(job.filled - last, job.filled));
      job.at += job.filled;
      job.filled = 0;
      if (job.part < parts.length) this.next(job);
      else job.done(null);
    });
  }

  private writeBlocks(memory: Uint8Array, start: number, end: number, at: number, done: DiskCallback): void {
    write(this.fd, memory, start, end - start, at, (error, written) => {
      const blocks = written - (written % BLOCK_BYTES);
      if (error !== null) done(error);
      else if (blocks === 0) done(new Error("the file system wrote nothing"));
      else if (start + blocks < end) this.writeBlocks(memory, start + blocks, end, at + blocks, done);
      else done(null);
    });
  }
}

type Job = {
  readonly parts: readonly Uint8Array[];
  /** The next byte to take. */
  part: number;
  offset: number;
  /** Where the memory's first byte goes; how much of it is filled. */
  at: number;
  filled: number;
  readonly memory: Uint8Array;
  readonly done: DiskCallback;
};
