// What is stored under one name, as the page cache shows it and as stable storage has it: what a power cut leaves of it, what a
// failed sync forgets, and damage that nobody asked for.

import type { Random } from "../../src/base/prng.ts";
import { chance } from "./world.ts";

export const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;
const EMPTY = new Uint8Array(0);

/** Pages that were given back. Each sync leaves some, and each write behind it wants one: made anew they cost more than the write. */
const SPARE: Uint8Array[] = [];
const SPARE_MAX = 1_024;

/** Pages by their numbers; null = was not there. */
type Pages = Map<number, Uint8Array | null>;

/** A file of pages; those that are not there are zero. */
export class Inode {
  pages = new Map<number, Uint8Array>();
  size = 0;
  /** Pages as they were when they were last synced, for those that were written since. */
  unsynced: Pages = new Map();
  /** The same for syncs that are under way, the oldest first. */
  syncing: Pages[] = [];
  durableSize = 0;
  /** Pages that a failed sync forgot, as stable storage has them: the cache takes them for clean, so no later sync writes them. */
  private lost: Pages = new Map();
  /** Pages that cannot be read until they are written again. */
  readonly unreadable = new Set<number>();

  write(position: number, bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const page = Math.floor((position + at) / PAGE_BYTES);
      const inPage = (position + at) % PAGE_BYTES;
      const take = Math.min(PAGE_BYTES - inPage, bytes.length - at);
      this.touch(page).set(bytes.subarray(at, at + take), inPage);
      at += take;
    }
    this.size = Math.max(this.size, position + bytes.length);
  }

  read(position: number, length: number): Uint8Array {
    const end = Math.min(position + length, this.size);
    if (end <= position) return EMPTY;
    const bytes = Buffer.allocUnsafe(end - position);
    for (let at = position; at < end;) {
      const inPage = at % PAGE_BYTES;
      const take = Math.min(PAGE_BYTES - inPage, end - at);
      const page = this.pages.get(Math.floor(at / PAGE_BYTES));
      if (page === undefined) bytes.fill(0, at - position, at - position + take);
      else bytes.set(take === PAGE_BYTES ? page : page.subarray(inPage, inPage + take), at - position);
      at += take;
    }
    return bytes;
  }

  canRead(position: number, length: number): boolean {
    for (const page of this.unreadable)
      if (page * PAGE_BYTES < position + length && (page + 1) * PAGE_BYTES > position && page * PAGE_BYTES < this.size) return false;
    return true;
  }

  truncate(size: number): void {
    if (size < this.size) {
      for (const page of this.pages.keys()) if (page * PAGE_BYTES >= size) this.drop(page);
      if (size % PAGE_BYTES !== 0 && this.pages.has(Math.floor(size / PAGE_BYTES)))
        this.touch(Math.floor(size / PAGE_BYTES)).fill(0, size % PAGE_BYTES);
    }
    this.size = size;
  }

  /** Page numbers, of those that exist. */
  get pageNumbers(): number[] {
    return [...this.pages.keys()].sort((a, b) => a - b);
  }

  /** The cache and stable storage agree, so that damage strikes both. */
  get isQuiet(): boolean {
    return this.unsynced.size === 0 && this.syncing.length === 0 && this.lost.size === 0;
  }

  /** A sync begins; what it covers is the argument of the call that ends it. */
  beginSync(): Pages {
    const covered = this.unsynced;
    this.unsynced = new Map();
    this.syncing.push(covered);
    return covered;
  }

  synced(covered: Pages, size: number): void {
    const at = this.syncing.indexOf(covered);
    // Nobody comes back to what these pages were before.
    if (at >= 0) for (const pages of this.syncing.splice(0, at + 1)) for (const page of pages.values()) givePage(page);
    this.durableSize = size;
  }

  /**
   * As ext4: what could not be written is forgotten, and the next sync knows nothing of it. Some of it the cache drops at once,
   * so that reads give what was there before; the rest stays until the power goes.
   */
  syncFailed(covered: Pages, random: Random): void {
    const at = this.syncing.indexOf(covered);
    if (at < 0) return;
    this.syncing.splice(at, 1);
    const later = [...this.syncing.slice(at), this.unsynced];
    for (const [page, old] of covered) {
      const next = later.find((pages) => pages.has(page));
      if (next !== undefined) next.set(page, old);
      else if (chance(random, 50)) this.revert(page, old);
      else this.lost.set(page, old);
    }
  }

  /** What a power cut leaves: of each page written since the last sync the old bytes, the new ones, or part of both. */
  cutPower(random: Random): void {
    for (const [page, old] of this.lost) this.revert(page, old);
    const versions = new Map<number, (Uint8Array | null)[]>();
    for (const old of [...this.syncing, this.unsynced])
      for (const [page, bytes] of old) versions.set(page, [...(versions.get(page) ?? []), bytes]);
    const mode = random.below(4);
    for (const page of [...versions.keys()].sort((a, b) => a - b)) {
      const candidates = [...versions.get(page)!, this.pages.get(page) ?? null];
      const first = mode === 0 ? 0 : mode === 1 ? candidates.length - 1 : random.below(candidates.length);
      let chosen = candidates[first]!;
      if (mode === 3 && chance(random, 30)) chosen = torn(random, candidates[0]!, candidates[candidates.length - 1]!);
      this.revert(page, chosen);
    }
    if (this.size !== this.durableSize && chance(random, 50)) this.size = this.durableSize;
    for (const page of this.pages.keys()) if (page * PAGE_BYTES >= this.size) this.pages.delete(page);
    this.settle();
  }

  /** All of it is on stable storage now. */
  settle(): void {
    this.unsynced = new Map();
    this.syncing = [];
    this.lost = new Map();
    this.durableSize = this.size;
  }

  /** Damage: another content, in the cache and on stable storage alike. */
  replace(page: number, bytes: Uint8Array | null): void {
    this.revert(page, bytes);
  }

  private revert(page: number, bytes: Uint8Array | null): void {
    if (bytes === null) this.pages.delete(page);
    else this.pages.set(page, new Uint8Array(bytes));
  }

  private touch(number: number): Uint8Array {
    const page = this.pages.get(number);
    this.unreadable.delete(number);
    if (!this.unsynced.has(number)) this.unsynced.set(number, this.durableOf(number, page));
    else if (page !== undefined) return page;
    const copy = takePage(page);
    this.pages.set(number, copy);
    return copy;
  }

  private drop(number: number): void {
    const page = this.pages.get(number);
    if (!this.unsynced.has(number)) this.unsynced.set(number, this.durableOf(number, page));
    this.pages.delete(number);
  }

  /** What stays of a clean page if what is written to it now is lost. It is dirty from now on, so the next sync writes all of it. */
  private durableOf(number: number, page: Uint8Array | undefined): Uint8Array | null {
    const lost = this.lost.get(number);
    if (lost === undefined) return page ?? null;
    this.lost.delete(number);
    return lost;
  }
}

/** A page of its own, as `page` is; without one all zero. */
function takePage(page: Uint8Array | undefined): Uint8Array {
  const spare = SPARE.pop();
  if (spare === undefined) return page?.slice() ?? new Uint8Array(PAGE_BYTES);
  if (page === undefined) spare.fill(0);
  else spare.set(page);
  return spare;
}

/** The page belongs to nobody any more. */
function givePage(page: Uint8Array | null): void {
  if (page !== null && SPARE.length < SPARE_MAX) SPARE.push(page);
}

/** Bytes in which a file's header ends. */
const HEAD_BYTES = 64;

/** A page of which a part was written: whole sectors, or up to any byte, often one of the first. */
function torn(random: Random, old: Uint8Array | null, now: Uint8Array | null): Uint8Array {
  const page = old?.slice() ?? new Uint8Array(PAGE_BYTES);
  const cut = chance(random, 50)
    ? random.below(PAGE_BYTES / SECTOR_BYTES) * SECTOR_BYTES
    : random.below(chance(random, 50) ? HEAD_BYTES : PAGE_BYTES);
  if (now !== null) page.set(now.subarray(0, cut));
  return page;
}
