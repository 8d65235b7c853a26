// Archive files as they lie in folders: found, put in order, and read in pieces.

import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { ArchiveParser, type ArchivedBatch, type ArchiveHeader, type ArchiveItem } from "../base/archive-format.ts";
import { DecodeError } from "../base/bytes.ts";
import { ARCHIVE_READ_BYTES } from "../base/limits.ts";

const SUFFIX = ".records";
/** Bytes that a header fits in. */
const HEADER_BYTES = 4_096;

export type FoundFile = {
  readonly path: string;
  readonly bytes: number;
  readonly header: ArchiveHeader;
  /** As its name says. */
  readonly endOffset: number;
};
export type Unreadable = { readonly path: string; readonly reason: string };

/** The archive files at and below the given places, in the order of partitions and offsets. */
export async function findArchives(places: readonly string[]): Promise<{ files: FoundFile[]; unreadable: Unreadable[] }> {
  const paths = (await Promise.all(places.map(pathsBelow))).flat();
  const files: FoundFile[] = [];
  const unreadable: Unreadable[] = [];
  // Of the same file named twice once.
  for (const path of new Set(paths)) {
    const found = await look(path);
    if ("header" in found) files.push(found);
    else unreadable.push(found);
  }
  return { files: files.sort(inOrder), unreadable };
}

/** The file's batches. What is wrong with it is a DecodeError, behind the batches that are right. */
export async function* batchesOf(path: string): AsyncGenerator<ArchivedBatch> {
  for await (const item of itemsOf(path, ARCHIVE_READ_BYTES)) if (item.kind === "batch") yield item.batch;
}

async function* itemsOf(path: string, pieceBytes: number): AsyncGenerator<ArchiveItem> {
  const parser = new ArchiveParser(crc32);
  const handle = await open(path);
  try {
    for (;;) {
      // Fresh memory each time: records share it.
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(pieceBytes), 0, pieceBytes);
      if (bytesRead === 0) break;
      yield* parser.push(buffer.subarray(0, bytesRead));
    }
    parser.done();
  } finally {
    await handle.close();
  }
}

async function pathsBelow(place: string): Promise<string[]> {
  if (!(await stat(place)).isDirectory()) return [place];
  // Of a node's data only what is archived: the rest changes while one looks.
  const isData = (await readdir(place)).includes("node.json");
  const entries = isData
    ? await readdir(join(place, "archive"), { recursive: true, withFileTypes: true }).catch(absent)
    : await readdir(place, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(SUFFIX))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** A node that has archived nothing. */
function absent(error: NodeJS.ErrnoException): [] {
  if (error.code === "ENOENT") return [];
  throw error;
}

async function look(path: string): Promise<FoundFile | Unreadable> {
  try {
    for await (const item of itemsOf(path, HEADER_BYTES)) {
      if (item.kind !== "header") break;
      const [, end] = /-(\d+)\.records$/.exec(path) ?? [];
      return { path, bytes: (await stat(path)).size, header: item.header, endOffset: end === undefined ? -1 : Number(end) };
    }
    return { path, reason: "the file does not begin with a header" };
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return { path, reason: error.message };
  }
}

function inOrder({ header: a }: FoundFile, { header: b }: FoundFile): number {
  const texts = compare(a.vhost, b.vhost) || compare(a.topic, b.topic);
  return texts || a.partition - b.partition || a.group - b.group || a.firstOffset - b.firstOffset || a.nodeId - b.nodeId;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
