// LevelDB does not check the checksums of its tables: a wrong key order makes a compaction end the process, at every start
// again, and a wrong index or filter hides rows. So the tables are read before it opens, and again in the slow round.
//
//   table = block... | metaindex block | index block | footer: handle of metaindex, handle of index, padding, magic
//   block = entries, restart points u32..., their number u32 | type u8 | masked crc32c of all before it
//   entry = bytes shared with the key before, further bytes of the key, bytes of the value (varints), key, value
//   handle = offset, size (varints)

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ByteReader, DecodeError } from "../base/bytes.ts";
import { maskedCrc32c } from "./crc32c.ts";

const FOOTER_BYTES = 48;
const MAGIC_LOW = 0x8b80_fb57;
const MAGIC_HIGH = 0xdb47_7524;
/** Behind a block: its type and its checksum. */
const TRAILER_BYTES = 5;

type Handle = { readonly offset: number; readonly bytes: number };

/** Why the first damaged table is not as it was written, or cannot be read; null when none is. `pace` is told of the bytes read. */
export async function damageOfTables(directory: string, pace: (bytes: number) => Promise<void>): Promise<string | null> {
  const names = await readdir(directory).catch(() => []);
  for (const name of names.filter((one) => one.endsWith(".ldb"))) {
    const bytes = await readFile(join(directory, name)).catch((error: NodeJS.ErrnoException) => error);
    // LevelDB removes what it needs no more at any time.
    if (bytes instanceof Error) {
      if (bytes.code === "ENOENT") continue;
      return `${join(directory, name)}: ${bytes.message}`;
    }
    const reason = damageOfTable(bytes);
    if (reason !== null) return `${join(directory, name)}: ${reason}`;
    await pace(bytes.length);
  }
  return null;
}

/** Null as well for a table without its end: a crash left it, and nothing refers to it, or LevelDB itself will say so. */
export function damageOfTable(table: Uint8Array): string | null {
  if (table.length < FOOTER_BYTES) return null;
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  if (view.getUint32(table.length - 8, true) !== MAGIC_LOW || view.getUint32(table.length - 4, true) !== MAGIC_HIGH) return null;
  try {
    const footer = new ByteReader(table.subarray(table.length - FOOTER_BYTES));
    for (const list of [handle(footer), handle(footer)])
      for (const { offset, bytes } of handlesOf(block(table, view, list))) block(table, view, { offset, bytes });
    return null;
  } catch (error) {
    if (error instanceof DecodeError) return error.message;
    throw error;
  }
}

function handle(reader: ByteReader): Handle {
  return { offset: reader.varint(), bytes: reader.varint() };
}

/** Its entries and restart points. Throws DecodeError when they are not what was written. */
function block(table: Uint8Array, view: DataView, { offset, bytes }: Handle): Uint8Array {
  const end = offset + bytes + TRAILER_BYTES;
  if (end > table.length - FOOTER_BYTES) throw new DecodeError(`the block at ${offset} would end at ${end}`);
  const checksum = view.getUint32(end - 4, true);
  if (maskedCrc32c(table.subarray(offset, end - 4)) !== checksum) throw new DecodeError(`the block at ${offset} is damaged`);
  return table.subarray(offset, offset + bytes);
}

/** Those that the entries of an index hold as values. */
function handlesOf(index: Uint8Array): Handle[] {
  const handles: Handle[] = [];
  const restarts = new DataView(index.buffer, index.byteOffset, index.byteLength).getUint32(index.length - 4, true);
  const reader = new ByteReader(index.subarray(0, index.length - 4 * (restarts + 1)));
  while (reader.remaining > 0) {
    reader.varint();
    const keyBytes = reader.varint();
    const valueBytes = reader.varint();
    reader.raw(keyBytes);
    handles.push(handle(new ByteReader(reader.raw(valueBytes))));
  }
  return handles;
}
