// What the store keeps of segments: which ones there are, and the index of each sealed one. The list tells a file that
// went missing from one that was freed; the index can always be made again from the file.

import { crc32 } from "node:zlib";
import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";

/** The part of the store that the log needs. `get` rejects with an error named StoreCorruptError on a damaged value. */
export interface RowStore {
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  keys(prefix: Uint8Array): Promise<readonly Uint8Array[]>;
  batch(
    operations: readonly ({ readonly put: readonly [Uint8Array, Uint8Array] } | { readonly remove: Uint8Array })[],
    options: { readonly sync: boolean },
  ): Promise<void>;
}

/** Key makers of one log; the store's key space is laid out elsewhere. */
export type RowKeys = {
  readonly segment: (number: number) => Uint8Array;
  readonly segments: () => Uint8Array;
  readonly index: (number: number) => Uint8Array;
  readonly numberOf: (segmentKey: Uint8Array) => number;
};

export type SegmentRow = { readonly salt: number };

export class SegmentRows {
  private readonly store: RowStore;
  private readonly keys: RowKeys;

  constructor(store: RowStore, keys: RowKeys) {
    this.store = store;
    this.keys = keys;
  }

  /** Of files that were set aside nothing is expected any more. */
  async forgetAll(): Promise<void> {
    const operations = [];
    for (const key of await this.store.keys(this.keys.segments()))
      operations.push({ remove: key }, { remove: this.keys.index(this.keys.numberOf(key)) });
    if (operations.length > 0) await this.store.batch(operations, { sync: true });
  }

  /** The files that must be there. The salt is 0 where the row itself is damaged. */
  async all(): Promise<Map<number, SegmentRow>> {
    const rows = new Map<number, SegmentRow>();
    for (const key of await this.store.keys(this.keys.segments())) {
      const value = await this.value(key);
      rows.set(this.keys.numberOf(key), { salt: value?.length === 4 ? new ByteReader(value).u32() : 0 });
    }
    return rows;
  }

  /** Durable before the file is written to: from then on the file may not go missing. */
  async prepared(number: number, salt: number): Promise<void> {
    await this.store.batch([{ put: [this.keys.segment(number), new ByteWriter(4).u32(salt).finish()] }], { sync: true });
  }

  async sealed(number: number, salt: number, lastSequence: number, operations: Uint8Array): Promise<void> {
    const value = new ByteWriter(operations.length + 32).u32(salt).u64(lastSequence).u32(crc32(operations)).block(operations).finish();
    await this.store.batch([{ put: [this.keys.index(number), value] }], { sync: false });
  }

  /** Durable before the file is used for something else. */
  async freed(number: number): Promise<void> {
    await this.store.batch([{ remove: this.keys.segment(number) }, { remove: this.keys.index(number) }], { sync: true });
  }

  /** Undefined when it is missing or not of this life of the file: then the file itself is read. */
  async index(number: number, salt: number): Promise<{ lastSequence: number; operations: Uint8Array } | undefined> {
    const value = await this.value(this.keys.index(number));
    if (value === undefined) return undefined;
    try {
      const reader = new ByteReader(value);
      if (reader.u32() !== salt) return undefined;
      const lastSequence = reader.u64();
      const crc = reader.u32();
      const operations = reader.block();
      return crc32(operations) === crc ? { lastSequence, operations } : undefined;
    } catch (error) {
      if (error instanceof DecodeError) return undefined;
      throw error;
    }
  }

  /** Undefined when it is missing or damaged. */
  private async value(key: Uint8Array): Promise<Uint8Array | undefined> {
    try {
      return await this.store.get(key);
    } catch (error) {
      if (error instanceof Error && error.name === "StoreCorruptError") return undefined;
      throw error;
    }
  }
}
