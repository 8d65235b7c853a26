// Opens the segment files of a log. Sealed ones give their index from the store or from their footer; only a file without
// one is read. Damage whose reach is known is held against the groups that it touches, and they alone need healing; where
// nobody can tell what was lost the whole log is refused.

import { join } from "node:path";
import type { Logger } from "../base/logger.ts";
import { readIfReadable, synced, written, type Disk, type DiskFile } from "./disk.ts";
import { LogCorruptError, LogVersionError } from "./errors.ts";
import type { GroupTable } from "./group-table.ts";
import { markFree, Segment, segmentName, segmentNumber } from "./segment.ts";
import {
  BATCH_HEADER_BYTES,
  FILE_HEADER_BYTES,
  FORMAT_VERSION,
  decodeFileHeader,
  decodeFooter,
  encodeFileHeader,
  findBatch,
  findFooter,
  readBatchHeader,
} from "./segment-format.ts";
import { replayIndex } from "./segment-index.ts";
import type { SegmentRow, SegmentRows, StoredIndex } from "./segment-rows.ts";
import { scanSegment } from "./segment-scan.ts";

export type Recovered = {
  readonly segments: Segment[];
  /** Those that the store does not know, or not what they hold. */
  readonly unlisted: ReadonlySet<Segment>;
  readonly free: Segment[];
  readonly nextNumber: number;
  readonly nextSequence: number;
};

export type RecoverySettings = {
  readonly directory: string;
  /**
   * Nobody else has what this log holds: where nothing tells how far it went, its end is taken as it is. Otherwise such a log is
   * refused, as a vote may be missing from it, and the others have what it held.
   */
  readonly isOnlyCopy?: boolean;
  /** The node has begun its work with this log: it has said how far it went, even if there is nothing in it any more. */
  readonly isBegun?: boolean;
};
export type RecoveryComponents = {
  readonly disk: Disk;
  readonly rows: SegmentRows;
  /** Up to where the file beside the log says that it is durable; undefined: it does not tell. */
  readonly noted: number | undefined;
  readonly logger: Logger;
};

export async function recover(settings: RecoverySettings, table: GroupTable, components: RecoveryComponents): Promise<Recovered> {
  const recovery = new Recovery(settings, table, components);
  try {
    return await recovery.run();
  } catch (error) {
    await recovery.close();
    throw error;
  }
}

class Recovery {
  private readonly directory: string;
  private readonly isOnlyCopy: boolean;
  private readonly isBegun: boolean;
  private readonly table: GroupTable;
  private readonly components: RecoveryComponents;
  private readonly files: DiskFile[] = [];
  /** Files whose content is gone, and why: only the store's index tells what was in them. */
  private readonly gone = new Map<number, string>();
  private readonly indexes = new Map<number, StoredIndex>();
  /** Files without a header that hold nothing, as far as anybody knows. */
  private readonly unmarked: Segment[] = [];

  constructor(settings: RecoverySettings, table: GroupTable, components: RecoveryComponents) {
    this.directory = settings.directory;
    this.isOnlyCopy = settings.isOnlyCopy ?? false;
    this.isBegun = settings.isBegun ?? false;
    this.table = table;
    this.components = components;
  }

  async close(): Promise<void> {
    for (const file of this.files) await file.close();
  }

  async run(): Promise<Recovered> {
    const { disk, rows, logger } = this.components;
    const known = await rows.all();
    const names = await disk.list(this.directory);
    const numbers = [...new Set([...names.map(segmentNumber).filter((number) => number >= 0), ...known.keys()])].sort((a, b) => a - b);
    const used: Segment[] = [];
    const free: Segment[] = [];
    for (const number of numbers) {
      const segment = await this.identify(number, names.includes(segmentName(number)), known.get(number));
      if (segment !== null) (segment.firstSequence === 0 ? free : used).push(segment);
    }
    const last = used[used.length - 1];
    // One at a time is made ready, the others have a header, or did have one.
    const newest = Math.max(0, ...[...used, ...free].filter(({ salt }) => salt !== 0).map(({ number }) => number));
    const damaged = this.unmarked.find(({ number, salt }) => salt === 0 && number < newest);
    if (damaged !== undefined) throw new LogCorruptError(damaged.path, 0, "the file's header is gone, and files after it have theirs");
    const durableTo = await this.durableTo(used.length > 0 || this.isBegun);
    for (const [at, segment] of used.entries()) {
      await this.load(segment, used[at + 1], durableTo);
      const { firstSequence, lastSequence, isSealed } = segment;
      logger.debug({ segment: segment.number, sequences: [firstSequence, lastSequence], sealed: isSealed }, "segment opened");
    }
    if ((last?.lastSequence ?? 0) < durableTo)
      throw new LogCorruptError(this.directory, 0, `the log ends with batch ${last?.lastSequence ?? 0}, and had reached ${durableTo}`);
    this.table.settle(this.gone);
    // The store forgets a free file when it is used for something else: from then on only its header says what it is. That of a former
    // life may be in the cache alone, or nowhere, for its sync may have failed.
    for (const segment of free) {
      await markFree(segment, segment.salt);
      await synced(segment.file);
    }
    const unlisted = new Set(used.filter(({ number, isSealed }) => !known.has(number) || (isSealed && !this.indexes.has(number))));
    return {
      segments: used,
      unlisted,
      free,
      nextNumber: (numbers[numbers.length - 1] ?? 0) + 1,
      nextSequence: (last?.lastSequence ?? 0) + 1,
    };
  }

  /** A batch that is known to have been durable, whoever tells. */
  private async durableTo(isInUse: boolean): Promise<number> {
    const { rows, noted } = this.components;
    const stored = await rows.durableTo();
    if (isInUse && stored === undefined && noted === undefined && !this.isOnlyCopy)
      throw new LogCorruptError(this.directory, 0, "neither the store nor the file beside the log tells how far it had gone");
    return Math.max(stored ?? 0, noted ?? 0);
  }

  /** Tells a file in use from one that is prepared for use, whose header is empty, of a former life, or says so. */
  private async identify(number: number, exists: boolean, row: SegmentRow | undefined): Promise<Segment | null> {
    const path = join(this.directory, segmentName(number));
    const { disk, rows } = this.components;
    const index = row === undefined ? undefined : await rows.index(number, row.salt);
    if (index !== undefined) this.indexes.set(number, index);
    if (!exists && row?.used === false) {
      await rows.freed(number);
      return null;
    }
    if (!exists && index === undefined) throw new LogCorruptError(path, 0, "the file is missing");
    const file = await disk.open(path, { create: !exists });
    this.files.push(file);
    const size = await file.size();
    const head = await readIfReadable(file, 0, FILE_HEADER_BYTES);
    if (head === null) return this.unreadable(number, path, file, row, index);
    const header = decodeFileHeader(head);
    if (header !== undefined && header.version > FORMAT_VERSION) throw new LogVersionError(path, header.version, FORMAT_VERSION);
    if (row?.used === true && size < row.bytes) return this.cutOff(number, path, file, row, index, size);
    const isOwn = header?.number === number && (row === undefined || row.salt === 0 || row.salt === header.salt);
    if (isOwn && header.firstSequence > 0) {
      const segment = new Segment(number, path, file, header.salt);
      segment.firstSequence = header.firstSequence;
      return segment;
    }
    // What stands there is not the header of a file in use.
    const salt = row !== undefined && row.salt !== 0 ? row.salt : isOwn ? header.salt : 0;
    if (salt === 0 && header === undefined && head.some((byte) => byte !== 0))
      throw new LogCorruptError(path, 0, "the file's header is damaged");
    if (salt !== 0) {
      const content = await readIfReadable(file, 0, size);
      if (content === null) return this.unreadable(number, path, file, row, index);
      if (index !== undefined || findBatch(content, 0, salt) >= 0) return this.withoutHeader(number, path, file, salt, index, content);
      // No two files of a log have one number: that store is of another time than the log, and what else it forgot nobody knows.
      if (header?.number === number && header.firstSequence > 0)
        throw new LogCorruptError(path, 0, "the file is in use, and the store takes it for another one");
    }
    const segment = new Segment(number, path, file, salt);
    if (header === undefined) this.unmarked.push(segment);
    return segment;
  }

  /** The file is shorter than it was made: what it held beyond is gone. */
  private cutOff(number: number, path: string, file: DiskFile, row: SegmentRow, index: StoredIndex | undefined, size: number): Segment {
    if (index === undefined) throw new LogCorruptError(path, size, `the file has ${size} bytes, and was made with ${row.bytes}`);
    const segment = new Segment(number, path, file, row.salt);
    segment.firstSequence = index.firstSequence;
    this.gone.set(number, `${path} was cut off at byte ${size}`);
    return segment;
  }

  /** The disk does not give the file's content back; what was in it, only the store's index tells. */
  private unreadable(number: number, path: string, file: DiskFile, row: SegmentRow | undefined, index: StoredIndex | undefined): Segment {
    // Made ready and never written to.
    if (row?.used === false) return new Segment(number, path, file, row.salt);
    if (row === undefined || index === undefined) throw new LogCorruptError(path, 0, "the file cannot be read");
    const segment = new Segment(number, path, file, row.salt);
    segment.firstSequence = index.firstSequence;
    this.gone.set(number, `${path} cannot be read`);
    return segment;
  }

  /** The header is damaged, or all of the file is of another time: its batches tell. */
  private async withoutHeader(
    number: number,
    path: string,
    file: DiskFile,
    salt: number,
    index: StoredIndex | undefined,
    content: Uint8Array,
  ): Promise<Segment> {
    const segment = new Segment(number, path, file, salt);
    const first = readBatchHeader(content, FILE_HEADER_BYTES, salt);
    if (first === undefined) {
      if (index === undefined) throw new LogCorruptError(path, 0, "the file's header and its first batch are damaged");
      this.gone.set(number, `${path} does not hold what was written to it`);
      segment.firstSequence = index.firstSequence;
      return segment;
    }
    segment.firstSequence = first.sequence;
    const header = encodeFileHeader({ version: FORMAT_VERSION, number, salt, firstSequence: first.sequence });
    this.components.logger.warn({ file: path }, "a damaged file header is written again");
    await written(file, header, 0);
    await synced(file);
    return segment;
  }

  private async load(segment: Segment, next: Segment | undefined, durableTo: number): Promise<void> {
    const { table } = this;
    table.useOf(segment.number);
    const stored = this.indexes.get(segment.number);
    if (stored !== undefined) {
      replayIndex(stored.operations, table.sink(segment.number));
      segment.lastSequence = stored.lastSequence;
      segment.isSealed = true;
    } else {
      await this.read(segment, next?.firstSequence ?? 0, durableTo);
    }
    if (next !== undefined && segment.lastSequence + 1 > next.firstSequence) {
      throw new LogCorruptError(
        next.path,
        0,
        `the file begins with batch ${next.firstSequence}, the one before it ends with ${segment.lastSequence}`,
      );
    }
  }

  /**
   * The footer tells what a sealed file holds; without one every batch is read. A process that died may have left what only the page
   * cache holds, and from here on all of it counts as durable. A sync alone does not make it so: of pages whose sync has failed the
   * kernel takes note as clean, and never writes them (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). So
   * what nobody knows to be durable is written once more, the same bytes to the same place, and then synced.
   */
  private async read(segment: Segment, nextFirst: number, durableTo: number): Promise<void> {
    const bytes = await readIfReadable(segment.file, 0, await segment.file.size());
    if (bytes === null) throw new LogCorruptError(segment.path, 0, "the file cannot be read");
    const footerAt = nextFirst > 0 ? findFooter(bytes, segment.salt) : -1;
    if (footerAt < FILE_HEADER_BYTES + BATCH_HEADER_BYTES) {
      const durableBytes = scanSegment(segment, bytes, { table: this.table, nextFirst, durableTo });
      await rewritten(segment, bytes.subarray(0, segment.isSealed ? bytes.length : segment.position), durableBytes);
      return;
    }
    const footer = decodeFooter(bytes, footerAt, segment.salt)!;
    replayIndex(footer.operations, this.table.sink(segment.number));
    replayIndex(footer.operations, segment.index);
    segment.lastSequence = footer.lastSequence;
    segment.position = footerAt;
    segment.isSealed = true;
    await rewritten(segment, bytes, segment.lastSequence <= durableTo ? bytes.length : 0);
  }
}

/** What the file holds from a byte on is dirty again, and then durable. */
async function rewritten({ file }: Segment, content: Uint8Array, from: number): Promise<void> {
  if (from < content.length) await written(file, content.subarray(from), from);
  await synced(file);
}
