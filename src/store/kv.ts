/** One step of a batch. */
export type KvOperation = { readonly put: readonly [key: Uint8Array, value: Uint8Array] } | { readonly remove: Uint8Array };

/** A value's own checksum is wrong: the store lost or changed it without saying so. */
export class StoreCorruptError extends Error {
  override readonly name = "StoreCorruptError";

  constructor(key: Uint8Array) {
    super(`the stored value of key ${Buffer.from(key).toString("hex")} is damaged`);
  }
}

/** The store as a whole cannot be relied on any more: its files are damaged or missing. */
export class StoreDamagedError extends Error {
  override readonly name = "StoreDamagedError";
}

/** An ordered key-value store. LevelDB in the product; a simulator brings its own. */
export interface Kv {
  // Every call may reject with StoreDamagedError.
  /** Rejects with StoreCorruptError on a damaged value. */
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  /** All keys that begin with `prefix`, ascending, with their values. */
  entries(prefix: Uint8Array): Promise<readonly (readonly [key: Uint8Array, value: Uint8Array])[]>;
  keys(prefix: Uint8Array): Promise<readonly Uint8Array[]>;
  /** All or nothing. `sync`: on stable storage when it resolves. */
  batch(operations: readonly KvOperation[], options: { readonly sync: boolean }): Promise<void>;
  close(): Promise<void>;
}
