// Archive files of a node: records that retention is about to trim. A file has its name only once it is whole and durable, and so has
// everything above it.

import { join } from "node:path";
import {
  encodeArchivedBatch,
  encodeArchiveEnd,
  encodeArchiveHeader,
  type ArchivedBatch,
  type ArchivePlace,
  type Crc32,
} from "../base/archive-format.ts";
import { assert } from "../base/assert.ts";
import { utf8Encode } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { ARCHIVE_FILE_BYTES_MAX } from "../base/limits.ts";
import { synced, written, type Disk, type DiskFile } from "./disk.ts";

/** Nothing is archived below so many times the watermark: archives alone never make a node refuse records. */
const ROOM_FACTOR = 1.5;
/** There is one file under way at a time: what a crash leaves of one is overwritten by the next. */
const UNDER_WAY = "under-way.tmp";

export type ArchiveSettings = {
  /** Below the node's data. */
  readonly directory: string;
  /** Free bytes of the disk below which the node takes in no more records; 0 = never. */
  readonly watermarkBytes: number;
  readonly clusterId: string;
  readonly nodeId: number;
};
export type ArchiveComponents = { readonly disk: Disk; readonly clock: Clock; readonly crc32: Crc32 };

export interface Archive {
  /** A file for the partition's records from `firstOffset` on. One at a time. Null: the disk has no room for it. */
  begin(place: ArchivePlace, firstOffset: number): Promise<ArchiveFile | null>;
}

export interface ArchiveFile {
  readonly bytes: number;
  add(batches: readonly ArchivedBatch[]): Promise<void>;
  /** All is durable under its name when it resolves. */
  finish(endOffset: number): Promise<void>;
  /** Leaves nothing behind. */
  abandon(): Promise<void>;
}

export class ArchiveFiles implements Archive {
  private readonly settings: ArchiveSettings;
  private readonly components: ArchiveComponents;
  private underWay: DiskFile | null = null;

  constructor(settings: ArchiveSettings, components: ArchiveComponents) {
    this.settings = settings;
    this.components = components;
  }

  async begin(place: ArchivePlace, firstOffset: number): Promise<ArchiveFile | null> {
    assert(this.underWay === null, "one archive file is written at a time");
    const { disk, clock, crc32 } = this.components;
    const { directory, watermarkBytes, clusterId, nodeId } = this.settings;
    await disk.makeDirectory(directory);
    if ((await disk.freeBytes(directory)) - ARCHIVE_FILE_BYTES_MAX < watermarkBytes * ROOM_FACTOR) return null;
    const file = await disk.open(join(directory, UNDER_WAY), { create: true });
    this.underWay = file;
    try {
      await file.truncate(0);
      const header = encodeArchiveHeader({ ...place, clusterId, nodeId, createdMs: clock.wallMs(), firstOffset });
      await written(file, header, 0);
      return new FileUnderWay(file, header, crc32, {
        name: (endOffset) => this.name(place, firstOffset, endOffset),
        close: () => this.close(),
      });
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** The file is durable: it gets its name, and every folder on the way to it is made durable. */
  private async name({ vhost, topic, partition, group }: ArchivePlace, firstOffset: number, endOffset: number): Promise<void> {
    const { disk } = this.components;
    const { directory } = this.settings;
    const folders = [join(directory, ".."), directory];
    for (const part of [archiveName(vhost), archiveName(topic), `${partition}-g${group}`]) folders.push(join(folders.at(-1)!, part));
    const folder = folders.at(-1)!;
    await disk.makeDirectory(folder);
    // What is renamed from here to another folder is there for good only if it was here for good.
    await disk.syncDirectory(directory);
    await disk.rename(join(directory, UNDER_WAY), join(folder, `${padded(firstOffset)}-${padded(endOffset)}.records`));
    for (const made of folders.reverse()) await disk.syncDirectory(made);
  }

  private async close(): Promise<void> {
    const file = this.underWay;
    this.underWay = null;
    await file?.close();
    await this.components.disk.remove(join(this.settings.directory, UNDER_WAY));
  }
}

type Ends = { readonly name: (endOffset: number) => Promise<void>; readonly close: () => Promise<void> };

class FileUnderWay implements ArchiveFile {
  bytes: number;
  private readonly file: DiskFile;
  private readonly crc32: Crc32;
  private readonly ends: Ends;
  private crc: number;
  private records = 0;

  constructor(file: DiskFile, header: Uint8Array, crc32: Crc32, ends: Ends) {
    this.file = file;
    this.bytes = header.length;
    this.crc32 = crc32;
    this.crc = crc32(header);
    this.ends = ends;
  }

  async add(batches: readonly ArchivedBatch[]): Promise<void> {
    for (const batch of batches) this.records += batch.count;
    await this.write(Buffer.concat(batches.map((batch) => encodeArchivedBatch(batch, this.crc32))));
  }

  async finish(endOffset: number): Promise<void> {
    await this.write(encodeArchiveEnd({ endOffset, records: this.records }, this.crc, this.crc32));
    await synced(this.file);
    await this.ends.name(endOffset);
    await this.ends.close();
  }

  abandon(): Promise<void> {
    return this.ends.close();
  }

  private async write(bytes: Uint8Array): Promise<void> {
    await written(this.file, bytes, this.bytes);
    this.bytes += bytes.length;
    this.crc = this.crc32(bytes, this.crc);
  }
}

/** A name from outside as one of a file: none that leads elsewhere, and never two names as one. */
export function archiveName(name: string): string {
  const escape = (character: string): string =>
    [...utf8Encode(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
  return name.replaceAll(/^\.|[^A-Za-z0-9._-]/gu, escape);
}

/** So that names are in the order of offsets. */
function padded(offset: number): string {
  return String(offset).padStart(16, "0");
}
