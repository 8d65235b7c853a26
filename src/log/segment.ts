import { written, type DiskFile } from "./disk.ts";
import { encodeFileHeader, FORMAT_VERSION } from "./segment-format.ts";
import { SegmentIndexWriter } from "./segment-index.ts";

/** One segment file and its place in the log. */
export class Segment {
  readonly number: number;
  readonly path: string;
  readonly file: DiskFile;
  /** Mixed into every checksum of this life of the file. */
  readonly salt: number;
  /** 0 until the first batch is written. */
  firstSequence = 0;
  lastSequence = 0;
  /** Where the next batch goes. */
  position = 0;
  /** Batches were written to it since it was last synced. */
  isUnsynced = false;
  isSealed = false;
  /** The footer and the store's index are on their way. */
  isSealing = false;
  /** Everything that is live in it is to be written elsewhere, however much it is. */
  mustEmpty = false;
  /** Live bytes when they were last looked at, and seconds since they changed. */
  calmBytes = 0;
  calmSeconds = 0;
  /** Reads under way: the file is not reused before they end. */
  readers = 0;
  index = new SegmentIndexWriter();

  constructor(number: number, path: string, file: DiskFile, salt: number) {
    this.number = number;
    this.path = path;
    this.file = file;
    this.salt = salt;
  }
}

/**
 * Its header says that it is free: a file without one has lost it, unless it is brand-new. `salt`: of the life that it is made ready
 * for, so that batches behind a header that was never written are found; 0 for none yet.
 */
export function markFree({ number, file }: Segment, salt: number): Promise<void> {
  return written(file, encodeFileHeader({ version: FORMAT_VERSION, number, salt, firstSequence: 0 }), 0);
}

export function segmentName(number: number): string {
  return `${String(number).padStart(10, "0")}.seg`;
}

/** The number of a segment file; -1 for another name. */
export function segmentNumber(name: string): number {
  const match = /^(\d{10})\.seg$/.exec(name);
  return match === null ? -1 : Number(match[1]);
}
