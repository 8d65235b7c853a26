import { crc32 } from "node:zlib";
import { Level } from "level";
import { StoreCorruptError, StoreDamagedError, type Kv, type KvOperation } from "./kv.ts";
import { damageOfTables } from "./table-check.ts";

const CRC_BYTES = 4;
const PAGE_ROWS = 4;
/** Rows are read at the start and by the scrubber, each once: a larger cache would only be held. */
const CACHE_BYTES = 1024 * 1024;

/** LevelDB with a checksum in front of each value: LevelDB's own are not checked when it reads. */
export class LevelKv implements Kv {
  private readonly directory: string;
  private readonly level: Level<Uint8Array, Uint8Array>;
  /**
   * The first write that failed. It may have left half a record in LevelDB's log, behind which nothing would be found again at the
   * next start, however well it was written: so nothing more is written until then.
   */
  private failure: Error | null = null;

  private constructor(directory: string, level: Level<Uint8Array, Uint8Array>) {
    this.directory = directory;
    this.level = level;
  }

  /** Rejects with StoreDamagedError when the files are damaged; a lock or a full disk is another matter. */
  static async open(directory: string): Promise<LevelKv> {
    await refuseDamage(directory, () => Promise.resolve());
    const options = { keyEncoding: "view", valueEncoding: "view", compression: false, cacheSize: CACHE_BYTES } as const;
    // It opens by itself from here on.
    const level = new Level<Uint8Array, Uint8Array>(directory, options);
    await told(level.open());
    return new LevelKv(directory, level);
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    const stored = await told(this.level.get(key));
    return stored === undefined ? undefined : checked(key, stored);
  }

  async entries(prefix: Uint8Array): Promise<readonly (readonly [key: Uint8Array, value: Uint8Array])[]> {
    const rows = await told(pages(this.level.iterator(range(prefix))));
    return rows.map(([key, stored]) => [key, checked(key, stored)] as const);
  }

  async keys(prefix: Uint8Array): Promise<readonly Uint8Array[]> {
    return told(pages(this.level.keys(range(prefix))));
  }

  async batch(operations: readonly KvOperation[], options: { readonly sync: boolean }): Promise<void> {
    const batch = this.level.batch();
    for (const operation of operations) {
      if ("put" in operation) batch.put(operation.put[0], sealed(operation.put[1]));
      else batch.del(operation.remove);
    }
    if (this.failure !== null) throw this.failure;
    try {
      await told(batch.write(options as object), isCorruption);
    } catch (error) {
      this.failure ??= error as Error;
      throw error;
    }
  }

  /** Reads the files that LevelDB does not check; rejects with StoreDamagedError when one is damaged. */
  async scrub(pace: (bytes: number) => Promise<void>): Promise<void> {
    await refuseDamage(this.directory, pace);
  }

  async close(): Promise<void> {
    await this.level.close();
  }
}

/**
 * Everything that an iterator has. It keeps memory for as many rows as it is asked for at one time until it is collected,
 * and there are thousands of them when many groups are opened or deleted: so a few at a time.
 */
async function pages<T>(iterator: { nextv(size: number): Promise<T[]>; close(): Promise<void> }): Promise<T[]> {
  const rows: T[] = [];
  try {
    for (;;) {
      const page = await iterator.nextv(PAGE_ROWS);
      if (page.length === 0) return rows;
      rows.push(...page);
    }
  } finally {
    await iterator.close();
  }
}

async function refuseDamage(directory: string, pace: (bytes: number) => Promise<void>): Promise<void> {
  const reason = await damageOfTables(directory, pace);
  if (reason !== null) throw new StoreDamagedError(`the store is damaged: ${reason}`);
}

/** LevelDB's words for damage, as ours. */
async function told<T>(work: Promise<T>, isDamage = isCorruptionOrUnreadable): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const reason = rootOf(error as Error);
    if (!isDamage(reason)) throw error;
    throw new StoreDamagedError(`the store is damaged: ${reason.message}`, { cause: error });
  }
}

/** Of a write: one that failed has damaged nothing that was there before. */
function isCorruption({ code }: LevelError): boolean {
  return code === "LEVEL_CORRUPTION";
}

function isCorruptionOrUnreadable(error: LevelError): boolean {
  return isCorruption(error) || (error.code === "LEVEL_IO_ERROR" && !/No space|Permission|Too many open/.test(error.message));
}

type LevelError = Error & { code?: string };

function rootOf(error: LevelError): LevelError {
  return error.code === "LEVEL_DATABASE_NOT_OPEN" && error.cause instanceof Error ? error.cause : error;
}

function sealed(value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(CRC_BYTES + value.length);
  new DataView(bytes.buffer).setUint32(0, crc32(value), true);
  bytes.set(value, CRC_BYTES);
  return bytes;
}

function checked(key: Uint8Array, stored: Uint8Array): Uint8Array {
  const value = stored.subarray(CRC_BYTES);
  if (stored.length < CRC_BYTES || new DataView(stored.buffer, stored.byteOffset, stored.byteLength).getUint32(0, true) !== crc32(value))
    throw new StoreCorruptError(key);
  return value;
}

/** From the prefix to just below its successor. */
function range(prefix: Uint8Array): { gte: Uint8Array; lt: Uint8Array } {
  const end = Uint8Array.from(prefix);
  let at = end.length - 1;
  while (at > 0 && end[at] === 0xff) at -= 1;
  end[at]! += 1;
  return { gte: prefix, lt: end.subarray(0, at + 1) };
}
