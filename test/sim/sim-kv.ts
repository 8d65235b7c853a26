// The store beside the log as LevelDB behaves, damage included: a batch is all or nothing, a synced one makes all before it
// durable, a power cut loses the newest of the others, a flipped bit of its log drops batches without a word, one of a table is
// caught by the checksum of the value (StoreCorruptError) or by the check of the tables (StoreDamagedError).

import { crc32 } from "node:zlib";
import { StoreCorruptError, StoreDamagedError, type KvOperation } from "../../src/store/kv.ts";
import type { NodeStore } from "../../src/server/environment.ts";
import type { Random } from "../../src/base/prng.ts";
import type { SimDisk } from "./sim-disk.ts";
import type { World, Owner } from "./world.ts";

type Rows = Map<string, Uint8Array>;
type Batch = readonly (readonly [key: string, value: Uint8Array | null])[];

/** What is on the disk of one store. */
export class KvStorage {
  rows: Rows = new Map();
  private durable: Rows = new Map();
  private unsynced: Batch[] = [];
  /** Values that do not match their checksum any more. */
  readonly rotten = new Set<string>();
  /** What the check of the tables will find; "" = nothing. */
  damage = "";

  write(batch: Batch, sync: boolean): void {
    carryOut(this.rows, batch);
    for (const [key] of batch) this.rotten.delete(key);
    this.unsynced.push(batch);
    if (sync) this.settle();
  }

  kill(): void {
    this.settle();
  }

  cutPower(random: Random): void {
    const kept = random.below(this.unsynced.length + 1);
    for (const batch of this.unsynced.slice(0, kept)) carryOut(this.durable, batch);
    this.unsynced = [];
    this.rows = new Map(this.durable);
  }

  /** Rows go missing, without a word. Only while no process uses the store. */
  makeHole(random: Random): number {
    let lost = 0;
    for (const key of [...this.durable.keys()]) {
      if (random.below(3) !== 0) continue;
      this.durable.delete(key);
      lost += 1;
    }
    this.unsynced = [];
    this.rows = new Map(this.durable);
    return lost;
  }

  rot(random: Random): boolean {
    const keys = [...this.rows.keys()].sort();
    if (keys.length === 0) return false;
    this.rotten.add(keys[random.below(keys.length)]!);
    return true;
  }

  private settle(): void {
    for (const batch of this.unsynced) carryOut(this.durable, batch);
    this.unsynced = [];
  }
}

function carryOut(rows: Rows, batch: Batch): void {
  for (const [key, value] of batch) {
    if (value === null) rows.delete(key);
    else rows.set(key, value);
  }
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
    return new SimKv(storage, disk, world, owner);
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    await this.disk.done("get", 30);
    this.check();
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
      "put" in one ? ([textOf(one.put[0]), Uint8Array.from(one.put[1])] as const) : ([textOf(one.remove), null] as const),
    );
    await this.disk.done(sync ? "batch, synced" : "batch", sync ? 500 : 40);
    this.check();
    this.storage.write(batch, sync);
    let crc = 0;
    let bytes = 0;
    for (const [key, value] of batch) {
      crc = crc32(value ?? key, crc);
      bytes += value?.length ?? 0;
    }
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
    return value === undefined ? undefined : Uint8Array.from(value);
  }

  private keysOf(prefix: Uint8Array): string[] {
    const text = textOf(prefix);
    return [...this.storage.rows.keys()].filter((key) => key.startsWith(text)).sort();
  }
}

/** One character a byte, so that the order of texts is the order of bytes. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "latin1"));
}
