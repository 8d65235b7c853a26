// How far a log is durable, said in a small file beside its segments. The store has a note of its own (segment-rows.ts); where one
// of the two is lost the other still tells a tail that is gone from one that a crash tore, and so whether a vote may be forgotten.
//
//   file = 2 slots, 4096 bytes apart, written in turns: a torn or damaged one leaves the other
//   slot = magic "FLDN", u16 version, u16 0, u64 batch sequence, u32 0, u32 crc of the 20 bytes before; little-endian

import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { Logger } from "../base/logger.ts";
import { readIfReadable, synced, written, type Disk, type DiskFile } from "./disk.ts";
import { LogVersionError } from "./errors.ts";
import { readU64, writeU64 } from "./segment-format.ts";
import type { SegmentRows } from "./segment-rows.ts";

const NAME = "durable";
const VERSION = 1;
const MAGIC = 0x4e444c46;
const SLOT_BYTES = 24;
/** Slots lie in blocks of their own, so that one bad block takes one. */
const SLOT_POSITIONS = [0, 4096] as const;

export class DurableNote {
  /** What it said when it was opened; undefined when it is missing or damaged. */
  readonly found: number | undefined;
  private readonly directory: string;
  private readonly disk: Disk;
  private readonly file: DiskFile;
  private slot = 0;

  /** Rejects with LogVersionError when a newer release wrote it. */
  static async open(directory: string, disk: Disk): Promise<DurableNote> {
    const path = join(directory, NAME);
    const file = await disk.open(path, { create: true });
    try {
      return new DurableNote({ directory, disk, file, found: await read(path, file) });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private constructor(parts: { directory: string; disk: Disk; file: DiskFile; found: number | undefined }) {
    this.directory = parts.directory;
    this.disk = parts.disk;
    this.file = parts.file;
    this.found = parts.found;
  }

  /** All of it is good again, and durable when it resolves. */
  async renew(sequence: number): Promise<void> {
    for (let slots = 0; slots < SLOT_POSITIONS.length; slots++) await this.write(sequence);
    await synced(this.file);
    await this.disk.syncDirectory(this.directory);
  }

  /** The batch is durable. `sync`: and what says so is to be, or else it may be lost with the power. One call at a time. */
  async say(sequence: number, { sync }: { readonly sync: boolean }): Promise<void> {
    await this.write(sequence);
    if (sync) await synced(this.file);
  }

  /** Both slots are what was written to them. */
  async isWhole(): Promise<boolean> {
    for (const position of SLOT_POSITIONS) if ((await slotAt(this.file, position)) === undefined) return false;
    return true;
  }

  close(): Promise<void> {
    return this.file.close();
  }

  private write(sequence: number): Promise<void> {
    const position = SLOT_POSITIONS[this.slot]!;
    this.slot = (this.slot + 1) % SLOT_POSITIONS.length;
    const bytes = new Uint8Array(SLOT_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, MAGIC, true);
    view.setUint16(4, VERSION, true);
    writeU64(view, 8, sequence);
    view.setUint32(20, crc32(bytes.subarray(0, 20)), true);
    return written(this.file, bytes, position);
  }
}

/** Tells both, the store and the file, how far the log is durable by now; in the background. */
export class DurableNotes {
  /** The last batch that is on disk. */
  durableTo: number;
  private notedTo: number;
  private isNotingAtOnce = false;
  private readonly rows: SegmentRows;
  private readonly file: DurableNote;
  private readonly logger: Logger;
  /** Background work of the log, one step after the other. */
  private readonly later: (step: () => Promise<void>) => void;

  constructor(
    durableTo: number,
    parts: { rows: SegmentRows; note: DurableNote; logger: Logger; later: (step: () => Promise<void>) => void },
  ) {
    this.durableTo = durableTo;
    this.notedTo = durableTo;
    this.rows = parts.rows;
    this.file = parts.note;
    this.logger = parts.logger;
    this.later = parts.later;
  }

  /** At the start: both tell from now on, and what was damaged of the file is good again. */
  async begin(): Promise<void> {
    await this.rows.durable(this.durableTo);
    await this.file.renew(this.durableTo);
  }

  note(): void {
    if (this.durableTo === this.notedTo) return;
    this.notedTo = this.durableTo;
    this.later(async () => {
      await this.rows.durable(this.durableTo);
      await this.file.say(this.durableTo, { sync: true });
    });
  }

  /** In the file only, and without a sync: what a process that is killed leaves. One step waits at a time. */
  noteAtOnce(): void {
    if (this.isNotingAtOnce) return;
    this.isNotingAtOnce = true;
    this.later(() => {
      this.isNotingAtOnce = false;
      return this.file.say(this.durableTo, { sync: false });
    });
  }

  scrub(): void {
    this.later(async () => {
      if (await this.file.isWhole()) return;
      this.logger.warn({}, "the note of how far the log is durable is damaged: it is written again");
      await this.file.renew(this.durableTo);
    });
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

async function read(path: string, file: DiskFile): Promise<number | undefined> {
  let found: number | undefined;
  for (const position of SLOT_POSITIONS) {
    const slot = await slotAt(file, position);
    if (slot === undefined) continue;
    if (slot.version > VERSION) throw new LogVersionError(path, slot.version, VERSION);
    found = Math.max(found ?? 0, slot.sequence);
  }
  return found;
}

async function slotAt(file: DiskFile, position: number): Promise<{ version: number; sequence: number } | undefined> {
  const bytes = await readIfReadable(file, position, SLOT_BYTES);
  if (bytes === null || bytes.length < SLOT_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(20, true) !== crc32(bytes.subarray(0, 20))) return undefined;
  const sequence = readU64(view, 8);
  return sequence < 0 ? undefined : { version: view.getUint16(4, true), sequence };
}
