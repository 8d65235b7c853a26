// LevelDB's tables are held against their checksums before LevelDB reads them: it would not notice, or end the process.

import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { crc32c } from "../../src/store/crc32c.ts";
import { StoreDamagedError } from "../../src/store/kv.ts";
import { LevelKv } from "../../src/store/level-kv.ts";
import { damageOfTable } from "../../src/store/table-check.ts";

const ROWS = 400;
const FOOTER_BYTES = 48;
const MAGIC_BYTES = 8;
const keyOf = (at: number): Uint8Array => Buffer.from(`key ${String(at).padStart(4, "0")}`);

/** A directory with one table of many blocks; `use` gets the path of the table. */
async function withTable(use: (directory: string, path: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-tables-"));
  try {
    const kv = await LevelKv.open(directory);
    const puts = Array.from({ length: ROWS }, (_, at) => ({ put: [keyOf(at), Buffer.alloc(100, at)] as const }));
    await kv.batch(puts, { sync: true });
    await kv.close();
    // What stands in its own log becomes a table when it opens.
    await (await LevelKv.open(directory)).close();
    const [name] = (await readdir(directory)).filter((one) => one.endsWith(".ldb"));
    await use(directory, join(directory, name!));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("table check: the checksum is Castagnoli's", () => {
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe306_9283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a91_36aa);
});

test("table check: a whole table passes, one with any bit flipped does not", async () => {
  await withTable(async (_, path) => {
    const table = await readFile(path);
    expect(damageOfTable(table)).toBeNull();
    // The footer's end is padding and the magic number, which LevelDB looks at.
    const end = table.length - FOOTER_BYTES;
    const unnoticed: number[] = [];
    for (let at = 0; at < end; at += at > end - 600 ? 1 : 7) {
      table[at]! ^= 1 << (at % 8);
      if (damageOfTable(table) === null) unnoticed.push(at);
      table[at]! ^= 1 << (at % 8);
    }
    expect(unnoticed).toEqual([]);
    for (let bit = 0; bit < 8; bit++) {
      table[end]! ^= 1 << bit;
      expect(damageOfTable(table), `bit ${bit} of the footer`).not.toBeNull();
      table[end]! ^= 1 << bit;
    }
  });
});

test("table check: what has no end is LevelDB's to judge", async () => {
  await withTable(async (_, path) => {
    const table = await readFile(path);
    for (const length of [0, 20, FOOTER_BYTES, table.length - MAGIC_BYTES, table.length - 1])
      expect(damageOfTable(table.subarray(0, length)), String(length)).toBeNull();
  });
});

test("table check: a store with a damaged table does not open, and is found by the scrubber when it is open", async () => {
  await withTable(async (directory, path) => {
    const table = await readFile(path);
    const kv = await LevelKv.open(directory);
    const read: number[] = [];
    const pace = async (bytes: number): Promise<void> => void read.push(bytes);
    await kv.scrub(pace);
    expect(read).toEqual([table.length]);
    table[table.length >> 1]! ^= 0x10;
    await writeFile(path, table);
    await expect(kv.scrub(pace)).rejects.toThrow(StoreDamagedError);
    await kv.close();
    await expect(LevelKv.open(directory)).rejects.toThrow(/^the store is damaged: .*\.ldb: the block at \d+ is damaged$/);
    // Nothing of it is open: another one may take its place at once.
    await rename(directory, `${directory}-aside`);
    await (await LevelKv.open(directory)).close();
    await rm(`${directory}-aside`, { recursive: true });
  });
});
