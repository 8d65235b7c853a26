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
  readonly durable: () => Uint8Array;
};

/** A file that must be there, as long as it was made; `used`: and that was written to. Salt 0: the row is damaged. */
export type SegmentRow = { readonly salt: number; readonly bytes: number; readonly used: boolean };
/** What a sealed file holds. */
export type StoredIndex = { readonly firstSequence: number; readonly lastSequence: number; readonly operations: Uint8Array };

export class SegmentRows {
  private readonly store: RowStore;
  private readonly keys: RowKeys;

  constructor(store: RowStore, keys: RowKeys) {
    this.store = store;
    this.keys = keys;
  }

  /** Of files that were set aside nothing is expected any more. */
  async forgetAll(): Promise<void> {
    const operations: { readonly remove: Uint8Array }[] = [{ remove: this.keys.durable() }];
    for (const key of await this.store.keys(this.keys.segments()))
      operations.push({ remove: key }, { remove: this.keys.index(this.keys.numberOf(key)) });
    await this.store.batch(operations, { sync: true });
  }

  /** A sequence that is known to have been durable; the newest one may be a second ahead of it. Undefined: the store does not tell. */
  async durableTo(): Promise<number | undefined> {
    const value = await this.value(this.keys.durable());
    return value?.length === 8 ? new ByteReader(value).u64() : undefined;
  }

  async durable(sequence: number): Promise<void> {
    await this.store.batch([{ put: [this.keys.durable(), new ByteWriter(8).u64(sequence).finish()] }], { sync: false });
  }

  /** The files that must be there. */
  async all(): Promise<Map<number, SegmentRow>> {
    const rows = new Map<number, SegmentRow>();
    for (const key of await this.store.keys(this.keys.segments())) {
      const value = await this.value(key);
      const reader = value?.length === 13 ? new ByteReader(value) : null;
      const row =
        reader === null ? { salt: 0, bytes: 0, used: true } : { salt: reader.u32(), bytes: reader.u64(), used: reader.u8() === 1 };
      rows.set(this.keys.numberOf(key), row);
    }
    return rows;
  }

  /** Durable before the first batch goes into the file: from then on it may neither go missing nor get shorter. */
  async put(number: number, { salt, bytes, used }: SegmentRow): Promise<void> {
    const writer = new ByteWriter(13)
      .u32(salt)
      .u64(bytes)
      .u8(used ? 1 : 0);
    await this.store.batch([{ put: [this.keys.segment(number), writer.finish()] }], { sync: true });
  }

  async sealed(number: number, salt: number, { firstSequence, lastSequence, operations }: StoredIndex): Promise<void> {
    const writer = new ByteWriter(operations.length + 40).u32(salt).u64(firstSequence).u64(lastSequence);
    const value = writer.u32(crc32(operations)).block(operations).finish();
    await this.store.batch([{ put: [this.keys.index(number), value] }], { sync: false });
  }

  /** Durable before the file is used for something else. */
  async freed(number: number): Promise<void> {
    await this.store.batch([{ remove: this.keys.segment(number) }, { remove: this.keys.index(number) }], { sync: true });
  }

  /** Undefined when it is missing or not of this life of the file: then the file itself is read. */
  async index(number: number, salt: number): Promise<StoredIndex | undefined> {
    const value = await this.value(this.keys.index(number));
    if (value === undefined) return undefined;
    try {
      const reader = new ByteReader(value);
      if (reader.u32() !== salt) return undefined;
      const firstSequence = reader.u64();
      const lastSequence = reader.u64();
      const crc = reader.u32();
      const operations = reader.block();
      return crc32(operations) === crc ? { firstSequence, lastSequence, operations } : undefined;
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
