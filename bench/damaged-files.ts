// The files of a node by kind, and what can happen to one of them.

import { cp, open, readdir, readFile, rm, truncate, type FileHandle } from "node:fs/promises";
import { join } from "node:path";

type Files = { readonly names: readonly string[]; readonly segments: (folder: string) => { used: string[]; spare: string[] } };

/** Where each kind of file is. */
export const KINDS: Readonly<Record<string, (files: Files) => string | undefined>> = {
  "sealed segment": ({ segments }) => segments("log").used.at(-2),
  "active segment": ({ segments }) => segments("log").used.at(-1),
  "spare segment": ({ segments }) => segments("log").spare.at(-1),
  "catalog segment": ({ segments }) => segments("catalog").used.at(-1),
  "durable note": ({ names }) => names.find((name) => name === "log/durable"),
  "store table": ({ names }) => names.find((name) => /^store\/\d+\.ldb$/.test(name)),
  "store log": ({ names }) => names.filter((name) => /^store\/\d+\.log$/.test(name)).at(-1),
  "store manifest": ({ names }) => names.find((name) => name.startsWith("store/MANIFEST")),
  "store CURRENT": ({ names }) => names.find((name) => name === "store/CURRENT"),
  "node.json": ({ names }) => names.find((name) => name === "node.json"),
};

/** `older`: another version of such a file. */
type Damage = (path: string, older: string) => Promise<void>;
export const DAMAGES: Readonly<Record<string, Damage>> = {
  "flip at the start": (path) => flip(path, () => [6]),
  "flip in the middle": (path) => flip(path, (length) => [length >> 1]),
  "flip at the end": (path) => flip(path, (length) => [length - 20]),
  "flip in 20 places": (path) => flip(path, (length) => Array.from({ length: 20 }, (_, at) => Math.floor((at * length) / 20) + 7)),
  cut: (path) => opened(path, async (file) => file.truncate(Math.floor((await used(file)) / 2))),
  empty: (path) => truncate(path, 0),
  delete: (path) => rm(path),
  "older copy": (path, older) => cp(older, path),
};

/** Changes one bit, so far into what is used of the file: `part` of 0 to 1 (less than 1), `bit` 0 to 7. */
export function flipOne(path: string, part: number, bit: number): Promise<void> {
  return flip(path, (length) => [Math.floor(length * part)], 1 << bit);
}

/** The path of such a file below the node's directory; null when it has none. */
export async function find(kind: string, directory: string): Promise<string | null> {
  const names = (await readdir(directory, { recursive: true })).sort();
  const headers = new Map<string, Buffer>();
  for (const name of names.filter((one) => one.endsWith(".seg"))) {
    // A running node may take a spare file into use meanwhile.
    const bytes = await readFile(join(directory, name)).catch(() => null);
    if (bytes !== null) headers.set(name, bytes.subarray(0, 32));
  }
  const segments = (folder: string): { used: string[]; spare: string[] } => {
    const files = [...headers.keys()].filter((name) => name.startsWith(`${folder}/`));
    // A file in use says its own number, and with which batch it begins; a free one says 0, what a former life left another number.
    const isUsed = (name: string): boolean => {
      const header = headers.get(name)!;
      if (header.toString("latin1", 0, 4) !== "FLSG" || header.readBigUInt64LE(16) === 0n) return false;
      return name.includes(`/${String(header.readUInt32LE(8)).padStart(10, "0")}.`);
    };
    return { used: files.filter(isUsed), spare: files.filter((name) => !isUsed(name)) };
  };
  return KINDS[kind]!({ names, segments }) ?? null;
}

/** Bytes up to the last one that is not zero. */
async function used(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const bytes = Buffer.alloc(size);
  let { bytesRead: length } = await file.read(bytes, 0, size, 0);
  while (length > 0 && bytes[length - 1] === 0) length -= 1;
  return length;
}

/** Works on the file that stands there now: once some of it is damaged, a running node may put it elsewhere. */
async function opened(path: string, work: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, "r+");
  try {
    await work(file);
  } finally {
    await file.close();
  }
}

/** Changes one bit at each place, under whoever has the file open. */
function flip(path: string, places: (length: number) => readonly number[], mask = 0x10): Promise<void> {
  return opened(path, async (file) => {
    const length = await used(file);
    if (length === 0) return;
    const byte = Buffer.alloc(1);
    for (const place of places(length)) {
      const at = Math.max(0, Math.min(length - 1, place));
      await file.read(byte, 0, 1, at);
      byte[0]! ^= mask;
      await file.write(byte, 0, 1, at);
    }
  });
}
