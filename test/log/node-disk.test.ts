// Appends through the real file system: past the page cache where it can be done, through it where not.

import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import { readAt, synced, written, type DiskFile } from "../../src/log/disk.ts";
import { NodeDisk } from "../../src/log/node-disk.ts";

const SIZES = [1, 3, 44, 511, 4_095, 4_096, 4_097, 70_000, 1_048_576, 2_500_000];

function append(file: DiskFile, parts: readonly Uint8Array[], position: number): Promise<void> {
  return new Promise((resolve, reject) => file.writeParts(parts, position, (error) => (error === null ? resolve() : reject(error))));
}

/** A file in memory knows no direct writes. */
const folders = [
  { name: "on disk", folder: tmpdir() },
  { name: "in memory", folder: "/dev/shm" },
];
for (const { name, folder } of folders) {
  const isThere = await stat(folder).then(
    () => true,
    () => false,
  );
  test.skipIf(!isThere)(`node disk, ${name}: appends of any size, over any number of starts, leave what was written`, async () => {
    const directory = await mkdtemp(join(folder, "flotilla-disk-"));
    try {
      const random = new Prng(11);
      const path = join(directory, "file");
      const disk = new NodeDisk();
      let file = await disk.open(path, { create: true });
      await file.truncate(16 * 1024 * 1024);
      const expected = Buffer.alloc(16 * 1024 * 1024);
      let position = 0;
      for (let round = 0; round < 60; round++) {
        const parts = Array.from({ length: 1 + random.below(4) }, () => {
          const bytes = Buffer.alloc(SIZES[random.below(round < 40 ? 8 : SIZES.length)]!);
          for (let at = 0; at < bytes.length; at += 97) bytes[at] = random.below(256);
          return bytes;
        });
        const length = parts.reduce((sum, part) => sum + part.length, 0);
        if (position + length > expected.length - 4_096) break;
        await append(file, parts, position);
        await synced(file);
        Buffer.concat(parts).copy(expected, position);
        position += length;
        // A footer, say: written in the usual way, and in part where the last block lies.
        if (round % 7 === 3) {
          const footer = Buffer.alloc(100, round);
          await written(file, footer, position);
          await synced(file);
          footer.copy(expected, position);
          position += footer.length;
        }
        if (round % 5 === 4) {
          await file.close();
          file = await disk.open(path, { create: false });
        }
      }
      const found = await readAt(file, 0, position);
      expect(Buffer.compare(found, expected.subarray(0, position))).toBe(0);
      // What lies behind the end of the last block is as it was made.
      const rest = await readAt(file, position, 100_000);
      expect(rest.every((byte) => byte === 0)).toBe(true);
      await file.close();
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
}

test("node disk: two files take appends at one time", async () => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-disk-"));
  try {
    const disk = new NodeDisk();
    const files = await Promise.all([0, 1, 2].map((at) => disk.open(join(directory, String(at)), { create: true })));
    for (let round = 0; round < 20; round++)
      await Promise.all(
        files.map((file, at) => append(file, [Buffer.alloc(1_000 + at, at + 1), Buffer.alloc(9_000, at + 11)], round * (10_000 + at))),
      );
    for (const [at, file] of files.entries()) {
      const bytes = Buffer.from(await readAt(file, 0, 20 * (10_000 + at)));
      for (let round = 0; round < 20; round++) {
        const start = round * (10_000 + at);
        expect(bytes.subarray(start, start + 1_000 + at).every((byte) => byte === at + 1)).toBe(true);
        expect(bytes.subarray(start + 1_000 + at, start + 10_000 + at).every((byte) => byte === at + 11)).toBe(true);
      }
      await file.close();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
