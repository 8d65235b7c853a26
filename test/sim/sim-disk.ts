// A disk of bytes in memory that does what a real one may: it forgets what was not synced, tears it, undoes creations and
// renames whose folder was not synced, rots, fails, fills up, and is slow.
//
// Folders themselves, and renames of whole folders, are durable at once: nothing here relies on when they are.

import { crc32 } from "node:zlib";
import type { Disk, DiskCallback, DiskFile } from "../../src/log/disk.ts";
import type { Random } from "../../src/base/prng.ts";
import { between, chance, type Owner, type World } from "./world.ts";
import type { KvStorage } from "./sim-kv.ts";

const PAGE_BYTES = 4096;
const EMPTY = new Uint8Array(0);

export class SimIoError extends Error {
  override readonly name = "SimIoError";
  readonly code: string;

  constructor(code: "EIO" | "ENOSPC" | "ENOENT", what: string) {
    super(`${code}: ${what}`);
    this.code = code;
  }
}

/** What is stored under one name: pages that are not there are zero. */
class Inode {
  pages = new Map<number, Uint8Array>();
  size = 0;
  /** Pages as they were when they were last synced, for those that were written since; null = were not there. */
  unsynced = new Map<number, Uint8Array | null>();
  /** The same for a sync that is under way. */
  syncing: Map<number, Uint8Array | null>[] = [];
  durableSize = 0;

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
    const bytes = new Uint8Array(end - position);
    for (let at = position; at < end;) {
      const inPage = at % PAGE_BYTES;
      const take = Math.min(PAGE_BYTES - inPage, end - at);
      const page = this.pages.get(Math.floor(at / PAGE_BYTES));
      if (page !== undefined) bytes.set(page.subarray(inPage, inPage + take), at - position);
      at += take;
    }
    return bytes;
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

  /** What a power cut leaves: of each page written since the last sync the old bytes, the new ones, or part of both. */
  cutPower(random: Random): void {
    const versions = new Map<number, (Uint8Array | null)[]>();
    for (const old of [...this.syncing, this.unsynced])
      for (const [page, bytes] of old) versions.set(page, [...(versions.get(page) ?? []), bytes]);
    const mode = random.below(4);
    for (const page of [...versions.keys()].sort((a, b) => a - b)) {
      const candidates = [...versions.get(page)!, this.pages.get(page) ?? null];
      const first = mode === 0 ? 0 : mode === 1 ? candidates.length - 1 : random.below(candidates.length);
      let chosen = candidates[first]!;
      if (mode === 3 && chance(random, 30)) chosen = torn(random, candidates[0]!, candidates[candidates.length - 1]!);
      if (chosen === null) this.pages.delete(page);
      else this.pages.set(page, Uint8Array.from(chosen));
    }
    if (this.size !== this.durableSize && chance(random, 50)) this.size = this.durableSize;
    for (const page of this.pages.keys()) if (page * PAGE_BYTES >= this.size) this.pages.delete(page);
    this.settle();
  }

  /** All of it is on stable storage now. */
  settle(): void {
    this.unsynced = new Map();
    this.syncing = [];
    this.durableSize = this.size;
  }

  private touch(number: number): Uint8Array {
    const page = this.pages.get(number);
    if (!this.unsynced.has(number)) this.unsynced.set(number, page ?? null);
    else if (page !== undefined) return page;
    const copy = page === undefined ? new Uint8Array(PAGE_BYTES) : Uint8Array.from(page);
    this.pages.set(number, copy);
    return copy;
  }

  private drop(number: number): void {
    if (!this.unsynced.has(number)) this.unsynced.set(number, this.pages.get(number) ?? null);
    this.pages.delete(number);
  }
}

/** A page of which a part was written: whole sectors, or up to any byte. */
function torn(random: Random, old: Uint8Array | null, now: Uint8Array | null): Uint8Array {
  const page = Uint8Array.from(old ?? new Uint8Array(PAGE_BYTES));
  const cut = chance(random, 50) ? random.below(8) * 512 : random.below(PAGE_BYTES);
  if (now !== null) page.set(now.subarray(0, cut));
  return page;
}

type NameChange =
  | { readonly kind: "create"; readonly path: string; readonly inode: Inode }
  | { readonly kind: "rename"; readonly from: string; readonly to: string }
  | { readonly kind: "remove"; readonly path: string };

/** How the disk behaves for now. */
export type DiskMood = {
  /** Times as slow as usual. */
  slowness: number;
  /** Nothing finishes before this time. */
  stalledUntilUs: number;
  /** The next write or sync fails. */
  failsNext: boolean;
  capacityBytes: number;
};

/** What is on the disk, whatever process uses it. */
export class DiskContents {
  names = new Map<string, Inode>();
  private durableNames = new Map<string, Inode>();
  private pending: NameChange[] = [];
  readonly folders = new Set<string>();
  /** Stores by their folders. */
  readonly stores = new Map<string, KvStorage>();
  readonly mood: DiskMood = { slowness: 1, stalledUntilUs: 0, failsNext: false, capacityBytes: Number.POSITIVE_INFINITY };

  get usedBytes(): number {
    let pages = 0;
    for (const inode of this.names.values()) pages += inode.pages.size;
    return pages * PAGE_BYTES;
  }

  change(change: NameChange): void {
    this.pending.push(change);
    carryOut(this.names, change);
  }

  syncFolder(folder: string): void {
    const later: NameChange[] = [];
    for (const change of this.pending) {
      if (parentOf("to" in change ? change.to : change.path) === folder) carryOut(this.durableNames, change);
      else later.push(change);
    }
    this.pending = later;
  }

  /** A folder and all in it under another name, at once and durably. */
  moveFolder(from: string, to: string): void {
    this.settleBelow(from);
    for (const map of [this.names, this.durableNames]) moveKeys(map, from, to);
    for (const path of [...this.folders]) {
      if (path !== from && !path.startsWith(`${from}/`)) continue;
      this.folders.delete(path);
      this.folders.add(to + path.slice(from.length));
    }
    const store = this.stores.get(from);
    if (store === undefined) return;
    this.stores.delete(from);
    this.stores.set(to, store);
  }

  removeFolder(folder: string): void {
    this.settleBelow(folder);
    for (const map of [this.names, this.durableNames])
      for (const path of [...map.keys()]) if (path.startsWith(`${folder}/`)) map.delete(path);
    for (const path of [...this.folders]) if (path === folder || path.startsWith(`${folder}/`)) this.folders.delete(path);
    this.stores.delete(folder);
  }

  /** Another, empty disk. */
  wipe(): void {
    this.names = new Map();
    this.durableNames = new Map();
    this.pending = [];
    this.folders.clear();
    this.stores.clear();
  }

  /** The process ends, the machine does not: what was written stays. */
  kill(): void {
    for (const store of this.stores.values()) store.kill();
  }

  cutPower(random: Random): void {
    // A journal keeps changes of names in their order.
    const kept = random.below(this.pending.length + 1);
    for (const change of this.pending.slice(0, kept)) carryOut(this.durableNames, change);
    this.pending = [];
    this.names = new Map(this.durableNames);
    for (const inode of new Set(this.names.values())) inode.cutPower(random);
    for (const store of this.stores.values()) store.cutPower(random);
  }

  private settleBelow(folder: string): void {
    for (const change of this.pending) {
      const path = "to" in change ? change.to : change.path;
      if (path.startsWith(`${folder}/`)) carryOut(this.durableNames, change);
    }
    this.pending = this.pending.filter((change) => !("to" in change ? change.to : change.path).startsWith(`${folder}/`));
  }
}

function carryOut(names: Map<string, Inode>, change: NameChange): void {
  if (change.kind === "create") names.set(change.path, change.inode);
  else if (change.kind === "remove") names.delete(change.path);
  else {
    const inode = names.get(change.from);
    names.delete(change.from);
    if (inode !== undefined) names.set(change.to, inode);
  }
}

function moveKeys(map: Map<string, Inode>, from: string, to: string): void {
  for (const [path, inode] of [...map]) {
    if (!path.startsWith(`${from}/`)) continue;
    map.delete(path);
    map.set(to + path.slice(from.length), inode);
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

/** The disk as one life of a process sees it. `effect` is called before each change; nothing happens once the owner is dead. */
export class SimDisk implements Disk {
  private readonly world: World;
  private readonly owner: Owner;
  private readonly random: Random;
  private readonly effect: () => void;
  readonly contents: DiskContents;

  constructor(contents: DiskContents, parts: { world: World; owner: Owner; random: Random; effect: () => void }) {
    this.contents = contents;
    this.world = parts.world;
    this.owner = parts.owner;
    this.random = parts.random;
    this.effect = parts.effect;
  }

  async open(path: string, { create }: { readonly create: boolean }): Promise<DiskFile> {
    await this.done("open");
    let inode = this.contents.names.get(path);
    if (inode === undefined) {
      if (!create) throw new SimIoError("ENOENT", path);
      inode = new Inode();
      this.contents.change({ kind: "create", path, inode });
    }
    return this.file(inode);
  }

  async list(directory: string): Promise<string[]> {
    await this.done("list");
    const names = new Set<string>();
    for (const path of [...this.contents.names.keys(), ...this.contents.folders, ...this.contents.stores.keys()])
      if (path.startsWith(`${directory}/`)) names.add(path.slice(directory.length + 1).split("/")[0]!);
    return [...names].sort();
  }

  async makeDirectory(directory: string): Promise<void> {
    await this.done("make folder");
    this.contents.folders.add(directory);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.done("rename");
    if (this.contents.folders.has(from) || this.contents.stores.has(from)) this.contents.moveFolder(from, to);
    else if (this.contents.names.has(from)) this.contents.change({ kind: "rename", from, to });
    else throw new SimIoError("ENOENT", from);
  }

  async remove(path: string): Promise<void> {
    await this.done("remove");
    if (this.contents.names.has(path)) this.contents.change({ kind: "remove", path });
  }

  async removeFolder(directory: string): Promise<void> {
    await this.done("remove folder");
    this.contents.removeFolder(directory);
  }

  async freeBytes(_directory: string): Promise<number> {
    await this.done("free bytes");
    const { mood, usedBytes } = this.contents;
    return Math.max(0, Math.min(mood.capacityBytes, 2 ** 40) - usedBytes);
  }

  async syncDirectory(directory: string): Promise<void> {
    await this.done("sync folder", 300);
    this.contents.syncFolder(directory);
  }

  /** Resolves after as long as such a call takes; never for a dead process. */
  done(kind: string, meanUs = 40): Promise<void> {
    return new Promise((resolve) => this.later(kind, meanUs, resolve));
  }

  private later(kind: string, meanUs: number, callback: () => void): void {
    const { mood } = this.contents;
    this.effect();
    if (this.owner.isDead) return;
    const us = between(this.random, meanUs >> 1, meanUs * 2) * mood.slowness;
    const stallUs = Math.max(0, mood.stalledUntilUs - this.world.nowUs);
    this.world.after(us + stallUs, this.owner, kind, callback);
  }

  private write(inode: Inode, position: number, parts: readonly Uint8Array[], done: DiskCallback): void {
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    this.later("write", 30 + (bytes >> 10), () => {
      const { mood } = this.contents;
      if (mood.failsNext) {
        mood.failsNext = false;
        done(new SimIoError("EIO", "write"));
        return;
      }
      if (this.contents.usedBytes + bytes > mood.capacityBytes) {
        done(new SimIoError("ENOSPC", "no space left on device"));
        return;
      }
      let at = position;
      let crc = 0;
      for (const part of parts) {
        inode.write(at, part);
        at += part.length;
        crc = crc32(part, crc);
      }
      this.world.trace.note(this.world.nowUs, this.owner.name, "written", crc, bytes);
      done(null);
    });
  }

  private file(inode: Inode): DiskFile {
    return {
      write: (buffer, start, end, position, done) => this.write(inode, position, [buffer.subarray(start, end)], done),
      writeParts: (parts, position, done) => this.write(inode, position, parts, done),
      read: (position, length, done) => this.later("read", 25 + (length >> 12), () => done(null, inode.read(position, length))),
      sync: (done) => {
        const covered = inode.unsynced;
        const size = inode.size;
        inode.unsynced = new Map();
        inode.syncing.push(covered);
        this.later("sync", 400, () => {
          if (this.contents.mood.failsNext) {
            // As ext4: what could not be written is forgotten, and the next sync knows nothing of it.
            this.contents.mood.failsNext = false;
            done(new SimIoError("EIO", "sync"));
            return;
          }
          const at = inode.syncing.indexOf(covered);
          if (at >= 0) inode.syncing.splice(0, at + 1);
          inode.durableSize = size;
          done(null);
        });
      },
      truncate: async (size) => {
        await this.done("truncate");
        inode.truncate(size);
      },
      size: async () => {
        await this.done("size", 10);
        return inode.size;
      },
      close: () => this.done("close", 5),
    };
  }
}
