// The store beside the log as LevelDB behaves, damage included: a batch is all or nothing, a synced one makes all before it
// durable, a power cut loses the newest of the others. A damaged piece of its log drops batches from the middle without a word,
// so that what they had overwritten or removed is back; a flipped bit of a table is caught by the checksum of the value
// (StoreCorruptError) or by the check of the tables (StoreDamagedError). A write that fails leaves rubbish in its log, behind
// which nothing is found again until it was opened anew.

import { crc32 } from "node:zlib";
import { StoreCorruptError, StoreDamagedError, type KvOperation } from "../../src/store/kv.ts";
import type { NodeStore } from "../../src/server/environment.ts";
import type { Random } from "../../src/base/prng.ts";
import type { SimDisk } from "./sim-disk.ts";
import type { World, Owner } from "./world.ts";

type Rows = Map<string, Uint8Array>;
type Batch = readonly (readonly [key: string, value: Uint8Array | null])[];

/** Batches that LevelDB keeps in its log before it makes a table of them: 4 MiB, here so many. */
const LOGGED_MAX = 400;
/** What one damaged place drops: the rest of a block of 32 KiB. */
const BLOCK_BYTES = 32 * 1024;

/** What is on the disk of one store. */
export class KvStorage {
  rows: Rows = new Map();
  /** What the tables hold, and the batches behind them that are durable. */
  private tables: Rows = new Map();
  private logged: Batch[] = [];
  private unsynced: Batch[] = [];
  /** Values that do not match their checksum any more. */
  readonly rotten = new Set<string>();
  /** What the check of the tables will find; "" = nothing. */
  damage = "";
  /** Bytes of keys and values. */
  bytes = 0;
  /** A write failed: what is written behind it cannot be found again. */
  private isTorn = false;

  write(batch: Batch, sync: boolean): void {
    for (const [key, value] of batch) {
      const old = this.rows.get(key);
      if (old !== undefined) this.bytes -= key.length + old.length;
      if (value !== null) this.bytes += key.length + value.length;
      this.rotten.delete(key);
    }
    carryOut(this.rows, batch);
    if (this.isTorn) return;
    this.unsynced.push(batch);
    if (sync) this.settle();
  }

  /** The row would be there after a power cut. */
  isDurable(key: string): boolean {
    if (!this.rows.has(key)) return false;
    return !this.unsynced.some((batch) => batch.some(([name]) => name === key));
  }

  writeFailed(): void {
    this.isTorn = true;
  }

  cutPower(random: Random): void {
    this.unsynced.length = random.below(this.unsynced.length + 1);
    this.recover();
  }

  /** It is opened: its log is read and becomes a table, which is synced. Whatever lay behind rubbish is gone. */
  recover(): void {
    this.isTorn = false;
    this.settle();
    this.rows = new Map(this.tables);
    for (const batch of this.logged) carryOut(this.rows, batch);
    this.bytes = sizeOf(this.rows);
  }

  /** A place of its log is damaged: the batches of its block go, or all from there on. Only while no process uses the store. */
  makeHole(random: Random): number {
    this.settle();
    if (this.logged.length === 0) return 0;
    const first = random.below(this.logged.length);
    let count = 0;
    for (let bytes = 0; first + count < this.logged.length && bytes < BLOCK_BYTES; count++)
      for (const [key, value] of this.logged[first + count]!) bytes += key.length + (value?.length ?? 0);
    if (random.below(4) === 0) count = this.logged.length - first;
    this.logged.splice(first, count);
    this.recover();
    return count;
  }

  rot(random: Random): boolean {
    const keys = [...this.rows.keys()].sort();
    if (keys.length === 0) return false;
    this.rotten.add(keys[random.below(keys.length)]!);
    return true;
  }

  private settle(): void {
    for (const batch of this.unsynced) this.logged.push(batch);
    this.unsynced = [];
    if (this.logged.length <= LOGGED_MAX) return;
    for (const batch of this.logged) carryOut(this.tables, batch);
    this.logged = [];
  }
}

function carryOut(rows: Rows, batch: Batch): void {
  for (const [key, value] of batch) {
    if (value === null) rows.delete(key);
    else rows.set(key, value);
  }
}

function sizeOf(rows: Rows): number {
  let bytes = 0;
  for (const [key, value] of rows) bytes += key.length + value.length;
  return bytes;
}

/** A store as one life of a process sees it. */
export class SimKv implements NodeStore {
  private readonly storage: KvStorage;
  private readonly disk: SimDisk;
  private readonly trace: (crc: number, bytes: number) => void;
  private isOpen = true;

  constructor(storage: KvStorage, disk: SimDisk, world: World, owner: Owner) {
    this.storage = storage;
    this.disk = disk;
    this.trace = (crc, bytes) => world.trace.note(world.nowUs, owner.name, "stored", crc, bytes);
  }

  static async open(directory: string, disk: SimDisk, world: World, owner: Owner): Promise<SimKv> {
    await disk.done("open store", 500);
    let storage = disk.contents.stores.get(directory);
    if (storage === undefined) {
      storage = new KvStorage();
      disk.contents.stores.set(directory, storage);
    }
    if (storage.damage !== "") throw new StoreDamagedError(storage.damage);
    storage.recover();
    return new SimKv(storage, disk, world, owner);
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    await this.disk.done("get", 30);
    this.check();
    const failure = this.disk.contents.failureOf("read");
    if (failure !== null) throw told(failure);
    return this.read(textOf(key));
  }

  async entries(prefix: Uint8Array): Promise<readonly (readonly [Uint8Array, Uint8Array])[]> {
    await this.disk.done("entries", 60);
    this.check();
    return this.keysOf(prefix).map((key) => [bytesOf(key), this.read(key)!] as const);
  }

  async keys(prefix: Uint8Array): Promise<readonly Uint8Array[]> {
    await this.disk.done("keys", 50);
    this.check();
    return this.keysOf(prefix).map(bytesOf);
  }

  async batch(operations: readonly KvOperation[], { sync }: { readonly sync: boolean }): Promise<void> {
    // What a caller changes after the call is not what it asked for.
    const batch = operations.map((one) =>
      "put" in one ? ([textOf(one.put[0]), new Uint8Array(one.put[1])] as const) : ([textOf(one.remove), null] as const),
    );
    let crc = 0;
    let bytes = 0;
    for (const [key, value] of batch) {
      crc = crc32(value ?? key, crc);
      bytes += value?.length ?? 0;
    }
    const write = (): Error | null => {
      const failure = this.disk.contents.shortageOf(bytes);
      if (failure === null) {
        this.storage.write(batch, sync);
        this.disk.contents.watcher?.stored(
          batch.flatMap(([key, value]) => (value === null ? [key] : [])),
          this.storage,
        );
      } else this.storage.writeFailed();
      return failure;
    };
    try {
      await this.disk.change(sync ? "batch, synced" : "batch", write, { call: sync ? "sync" : "write", meanUs: sync ? 500 : 40 });
    } catch (error) {
      // As the product takes LevelDB's words: what was there before is not damaged by a write that failed.
      this.storage.writeFailed();
      throw error;
    }
    this.check();
    this.trace(crc, bytes);
  }

  async scrub(pace: (bytes: number) => Promise<void>): Promise<void> {
    await pace(64 * 1024);
    if (this.storage.damage !== "") throw new StoreDamagedError(this.storage.damage);
  }

  async close(): Promise<void> {
    await this.disk.done("close store");
    this.isOpen = false;
  }

  private check(): void {
    if (!this.isOpen) throw new Error("the store is closed");
  }

  private read(key: string): Uint8Array | undefined {
    if (this.storage.rotten.has(key)) throw new StoreCorruptError(bytesOf(key));
    const value = this.storage.rows.get(key);
    return value === undefined ? undefined : new Uint8Array(value);
  }

  private keysOf(prefix: Uint8Array): string[] {
    const text = textOf(prefix);
    return [...this.storage.rows.keys()].filter((key) => key.startsWith(text)).sort();
  }
}

/** As the product takes LevelDB's words: what cannot be read is damaged. */
function told(error: Error): Error {
  return "code" in error && error.code === "EIO"
    ? new StoreDamagedError(`the store is damaged: ${error.message}`, { cause: error })
    : error;
}

/** One character a byte, so that the order of texts is the order of bytes. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

function bytesOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}
