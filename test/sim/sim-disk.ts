// A disk of bytes in memory that does what a real one may: it forgets what was not synced, tears it, undoes creations and
// renames whose folder was not synced, rots, fails, fills up, and is slow. What was under way when a process ended may have
// happened or not.
//
// Folders themselves, and renames of whole folders, are durable at once: nothing here relies on when they are.

import { crc32 } from "node:zlib";
import type { Disk, DiskCallback, DiskFile } from "../../src/log/disk.ts";
import type { Random } from "../../src/base/prng.ts";
import type { KvStorage } from "./sim-kv.ts";
import { Inode, PAGE_BYTES } from "./sim-inode.ts";
import type { DurableLog } from "./durable-log.ts";
import { between, chance, type Owner, type World } from "./world.ts";

export class SimIoError extends Error {
  override readonly name = "SimIoError";
  readonly code: string;

  constructor(code: "EIO" | "ENOSPC" | "ENOENT", what: string) {
    super(`${code}: ${what}`);
    this.code = code;
  }
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
  /** Calls that fail with EIO; null = none. */
  failing: Failing | null;
  capacityBytes: number;
};

/** `times`: so many of them from now on; infinity = until somebody sees to it. */
export type Failing = { readonly calls: "read" | "write" | "sync" | "any"; times: number };

export const GOOD_MOOD: Readonly<DiskMood> = { slowness: 1, stalledUntilUs: 0, failing: null, capacityBytes: Number.POSITIVE_INFINITY };

/** A change that a process asked for and that the kernel has yet to carry out. `part`: as much of it as was done when it ended. */
type UnderWay = { readonly whole: () => void; readonly part: ((random: Random) => void) | null };

/** When an effect is told of: before it happens, and after it, before whoever asked for it is told. */
export type Moment = "before" | "after";
export type EffectWatcher = (kind: string, moment: Moment) => void;

/** What is on the disk, whatever process uses it. */
export class DiskContents {
  names = new Map<string, Inode>();
  private durableNames = new Map<string, Inode>();
  private pending: NameChange[] = [];
  readonly folders = new Set<string>();
  /** Stores by their folders. */
  readonly stores = new Map<string, KvStorage>();
  readonly mood: DiskMood = { ...GOOD_MOOD };
  /** Hears of what becomes durable. */
  watcher: DurableLog | null = null;
  /** In the order in which they were asked for. */
  readonly underWay = new Set<UnderWay>();
  /** Told when a fault is felt: a call failed, or found no space. */
  felt: (what: string) => void = () => {};

  get usedBytes(): number {
    let bytes = 0;
    for (const inode of this.names.values()) bytes += inode.pages.size * PAGE_BYTES;
    for (const store of this.stores.values()) bytes += store.bytes;
    return bytes;
  }

  /** EIO, if such a call is to fail now. */
  failureOf(call: "read" | "write" | "sync"): SimIoError | null {
    const { failing } = this.mood;
    if (failing === null || (failing.calls !== call && failing.calls !== "any")) return null;
    failing.times -= 1;
    if (failing.times <= 0) this.mood.failing = null;
    this.felt("eio");
    return new SimIoError("EIO", call);
  }

  /** ENOSPC, if so many bytes more do not fit. */
  shortageOf(bytes: number): SimIoError | null {
    if (this.mood.capacityBytes === Number.POSITIVE_INFINITY || this.usedBytes + bytes <= this.mood.capacityBytes) return null;
    this.felt("enospc");
    return new SimIoError("ENOSPC", "No space left on device");
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

  /** A power cut leaves the file a name. */
  isNamed(inode: Inode): boolean {
    for (const one of this.durableNames.values()) if (one === inode) return true;
    return false;
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
    this.underWay.clear();
  }

  /** The process ends, the machine does not: what was written stays. */
  kill(random: Random): void {
    this.watcher?.died();
    this.abandon(random);
  }

  cutPower(random: Random): void {
    this.watcher?.died();
    this.abandon(random);
    // A journal keeps changes of names in their order.
    const kept = random.below(this.pending.length + 1);
    for (const change of this.pending.slice(0, kept)) carryOut(this.durableNames, change);
    this.pending = [];
    this.names = new Map(this.durableNames);
    for (const inode of new Set(this.names.values())) inode.cutPower(random);
    for (const store of this.stores.values()) store.cutPower(random);
  }

  /** Nobody waits any more for what is under way: the kernel may have come to it or not. */
  private abandon(random: Random): void {
    for (const { whole, part } of this.underWay) {
      const what = random.below(3);
      if (what === 0) whole();
      else if (what === 1) part?.(random);
    }
    this.underWay.clear();
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

/** The disk as one life of a process sees it. `effect` is told of each call twice; nothing happens once the owner is dead. */
export class SimDisk implements Disk {
  private readonly world: World;
  private readonly owner: Owner;
  private readonly random: Random;
  private readonly effect: EffectWatcher;
  readonly contents: DiskContents;

  constructor(contents: DiskContents, parts: { world: World; owner: Owner; random: Random; effect: EffectWatcher }) {
    this.contents = contents;
    this.world = parts.world;
    this.owner = parts.owner;
    this.random = parts.random;
    this.effect = parts.effect;
  }

  async open(path: string, { create }: { readonly create: boolean }): Promise<DiskFile> {
    const { contents } = this;
    let inode!: Inode;
    await this.change("open", () => {
      const known = contents.names.get(path);
      inode = known ?? new Inode();
      if (known === undefined && create) contents.change({ kind: "create", path, inode });
      return known === undefined && !create ? new SimIoError("ENOENT", path) : null;
    });
    return this.file(inode);
  }

  async list(directory: string): Promise<string[]> {
    await this.done("list");
    const names = new Set<string>();
    for (const path of [...this.contents.names.keys(), ...this.contents.folders, ...this.contents.stores.keys()])
      if (path.startsWith(`${directory}/`)) names.add(path.slice(directory.length + 1).split("/")[0]!);
    return [...names].sort();
  }

  makeDirectory(directory: string): Promise<void> {
    return this.change("make folder", () => void this.contents.folders.add(directory));
  }

  rename(from: string, to: string): Promise<void> {
    const { contents } = this;
    return this.change("rename", () => {
      if (contents.folders.has(from) || contents.stores.has(from)) contents.moveFolder(from, to);
      else if (contents.names.has(from)) contents.change({ kind: "rename", from, to });
      else return new SimIoError("ENOENT", from);
      return null;
    });
  }

  remove(path: string): Promise<void> {
    return this.change("remove", () => {
      if (this.contents.names.has(path)) this.contents.change({ kind: "remove", path });
    });
  }

  removeFolder(directory: string): Promise<void> {
    return this.change("remove folder", () => this.contents.removeFolder(directory));
  }

  async freeBytes(_directory: string): Promise<number> {
    await this.done("free bytes");
    const { mood, usedBytes } = this.contents;
    return Math.max(0, Math.min(mood.capacityBytes, 2 ** 40) - usedBytes);
  }

  syncDirectory(directory: string): Promise<void> {
    return this.change("sync folder", () => this.contents.syncFolder(directory), { call: "sync", meanUs: 300 });
  }

  /** Resolves after as long as such a call takes; never for a dead process. */
  done(kind: string, meanUs = 40): Promise<void> {
    return new Promise((resolve) => this.later(kind, meanUs, resolve));
  }

  /**
   * A change of the disk, carried out after as long as it takes, unless such calls fail; `carryOut` may have an error of its own.
   * If the process ends meanwhile it happens or not, or in part.
   */
  change(
    kind: string,
    carryOut: () => Error | null | void,
    options: { readonly call?: "write" | "sync"; readonly meanUs?: number; readonly part?: (random: Random) => void } = {},
  ): Promise<void> {
    const { call = "write", meanUs = 40, part = null } = options;
    return new Promise((resolve, reject) =>
      this.begin(kind, meanUs, { whole: () => void carryOut(), part }, () => {
        const error = this.contents.failureOf(call) ?? carryOut() ?? null;
        this.told(kind, () => (error === null ? resolve() : reject(error)));
      }),
    );
  }

  private begin(kind: string, meanUs: number, work: UnderWay, finish: () => void): void {
    const { underWay } = this.contents;
    this.later(kind, meanUs, () => {
      underWay.delete(work);
      finish();
    });
    if (!this.owner.isDead) underWay.add(work);
  }

  private later(kind: string, meanUs: number, callback: () => void): void {
    const { mood } = this.contents;
    this.effect(kind, "before");
    if (this.owner.isDead) return;
    const us = between(this.random, meanUs >> 1, meanUs * 2) * mood.slowness;
    const stallUs = Math.max(0, mood.stalledUntilUs - this.world.nowUs);
    this.world.after(us + stallUs, this.owner, kind, callback);
  }

  /** It is done; the process may end before it hears of it. */
  private told(kind: string, tell: () => void): void {
    this.effect(kind, "after");
    if (!this.owner.isDead) tell();
  }

  private write(inode: Inode, position: number, parts: readonly Uint8Array[], done: DiskCallback): void {
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    const put = (upTo: number): void => {
      let at = 0;
      for (const part of parts) {
        const take = Math.min(part.length, upTo - at);
        if (take > 0) inode.write(position + at, part.subarray(0, take));
        at += part.length;
      }
    };
    const work = { whole: () => put(bytes), part: (random: Random) => put(random.below(bytes + 1)) };
    this.begin("write", 30 + (bytes >> 10), work, () => {
      const error = this.contents.failureOf("write") ?? this.contents.shortageOf(bytes);
      if (error === null) {
        put(bytes);
        this.contents.watcher?.wrote(inode, parts);
        let crc = 0;
        for (const part of parts) crc = crc32(part, crc);
        this.world.trace.note(this.world.nowUs, this.owner.name, "written", crc, bytes);
      } else if (chance(this.random, 50)) put(this.random.below(bytes + 1));
      this.told("write", () => done(error));
    });
  }

  private read(inode: Inode, position: number, length: number): { error: Error | null; bytes: Uint8Array } {
    let error = this.contents.failureOf("read");
    if (error === null && !inode.canRead(position, length)) {
      this.contents.felt("badsector");
      error = new SimIoError("EIO", "read of a bad sector");
    }
    return { error, bytes: inode.read(position, error === null ? length : 0) };
  }

  private sync(inode: Inode, done: DiskCallback): void {
    const covered = inode.beginSync();
    const { size } = inode;
    const watched = this.contents.watcher?.syncing(inode);
    const work = { whole: () => inode.synced(covered, size), part: null };
    this.begin("sync", 400, work, () => {
      const error = this.contents.failureOf("sync");
      if (error === null) {
        inode.synced(covered, size);
        // After a power cut nobody finds what has no name.
        if (this.contents.isNamed(inode)) watched?.();
      } else inode.syncFailed(covered, this.random);
      this.told("sync", () => done(error));
    });
  }

  private file(inode: Inode): DiskFile {
    return {
      write: (buffer, start, end, position, done) => this.write(inode, position, [buffer.subarray(start, end)], done),
      writeParts: (parts, position, done) => this.write(inode, position, parts, done),
      read: (position, length, done) =>
        this.later("read", 25 + (length >> 12), () => {
          const { error, bytes } = this.read(inode, position, length);
          done(error, bytes);
        }),
      sync: (done) => this.sync(inode, done),
      truncate: (size) => this.change("truncate", () => inode.truncate(size)),
      size: async () => {
        await this.done("size", 10);
        return inode.size;
      },
      close: () => this.done("close", 5),
    };
  }
}
