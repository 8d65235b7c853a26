// Reads everything that still counts, slowly, so that damage is found while the other nodes can make up for it.

import type { GroupId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import { readIfReadable, synced, written } from "./disk.ts";
import { isDamage } from "./errors.ts";
import type { GroupTable } from "./group-table.ts";
import type { Segment } from "./segment.ts";
import type { GroupPlace, SegmentReader } from "./segment-reader.ts";
import {
  BATCH_HEADER_BYTES,
  FILE_HEADER_BYTES,
  FORMAT_VERSION,
  RECORD_ENTRY,
  RECORD_MOVED,
  decodeFileHeader,
  decodeFooter,
  encodeFileHeader,
  findFooter,
  readBatchHeader,
} from "./segment-format.ts";
import type { SegmentRows } from "./segment-rows.ts";
import { readRecords } from "./segment-scan.ts";

const READ_BYTES = 1024 * 1024;
/** Of batches that may be tiny: so many are checked in a few milliseconds, in which nothing else runs. */
const BATCHES_BYTES = 256 * 1024;
const PLACES_MAX = 1_024;
/** Entries of a group in a file up to which they are read with those of other groups. */
const FEW_PLACES = 16;

export type ScrubberComponents = {
  readonly table: GroupTable;
  readonly segments: readonly Segment[];
  readonly reader: SegmentReader;
  readonly rows: SegmentRows;
  readonly logger: Logger;
  /** Live entries of the group are damaged. */
  readonly damaged: (group: GroupId, reason: string) => void;
  /** What lies between the entries of the newest file is damaged: begin another file, whose index is made from memory. */
  readonly roll: () => void;
};

export class Scrubber {
  private readonly components: ScrubberComponents;

  constructor(components: ScrubberComponents) {
    this.components = components;
  }

  /** One pass over all files. `pace` is told of the bytes read, and resolves when more may be. */
  async pass(pace: (bytes: number) => Promise<void>): Promise<void> {
    const { segments } = this.components;
    for (const segment of [...segments]) {
      if (!segments.includes(segment)) continue;
      // A reader keeps the file from being used for something else.
      segment.readers += 1;
      try {
        await this.header(segment);
        await this.entries(segment, pace);
        if (segment.isSealed) await this.index(segment, pace);
        else await this.batches(segment, pace);
      } finally {
        segment.readers -= 1;
      }
    }
  }

  private async header({ number, salt, firstSequence, file, path }: Segment): Promise<void> {
    if (firstSequence === 0) return;
    const head = await readIfReadable(file, 0, FILE_HEADER_BYTES);
    const header = head === null ? undefined : decodeFileHeader(head);
    if (header?.number === number && header.salt === salt && header.firstSequence === firstSequence) return;
    this.components.logger.warn({ file: path }, "a damaged file header is written again");
    await written(file, encodeFileHeader({ version: FORMAT_VERSION, number, salt, firstSequence }), 0);
    await synced(file);
  }

  /** Every live entry that lies in the file. Of thousands of groups with an entry or two many are read together. */
  private async entries(segment: Segment, pace: (bytes: number) => Promise<void>): Promise<void> {
    const { table } = this.components;
    let few: GroupPlace[] = [];
    for (const group of [...table.groups.keys()]) {
      const state = table.groups.get(group);
      if (state === undefined || state.damage !== null) continue;
      const places = state.placesIn(segment.number, FEW_PLACES + 1);
      if (places.length > FEW_PLACES) await this.alone(segment, group, pace);
      else for (const place of places) few.push({ ...place, group });
      if (few.length < PLACES_MAX) continue;
      await this.together(segment, few, pace);
      few = [];
    }
    await this.together(segment, few, pace);
  }

  private async alone(segment: Segment, group: GroupId, pace: (bytes: number) => Promise<void>): Promise<void> {
    const { table, reader } = this.components;
    for (let after = 0; ;) {
      const state = table.groups.get(group);
      if (state === undefined || state.damage !== null) return;
      const places = state.placesIn(segment.number, PLACES_MAX, after);
      if (places.length === 0) return;
      const entries = await reader.readSome(group, places, READ_BYTES).catch((error: Error) => {
        if (!isDamage(error)) throw error;
        // A trim, or another place, may have overtaken the read.
        if (table.groups.get(group)?.find(places[0]!.index)?.segment === segment.number) this.components.damaged(group, error.message);
        return [];
      });
      // The rest is on its way to the disk.
      if (entries.length === 0) return;
      after = entries[entries.length - 1]!.index;
      await pace(entries.reduce((bytes, { payload }) => bytes + payload.length, 0));
    }
  }

  private async together(segment: Segment, records: readonly GroupPlace[], pace: (bytes: number) => Promise<void>): Promise<void> {
    const { table, reader } = this.components;
    const writtenTo = reader.writtenTo(segment.number);
    const there = records.filter(({ position }) => position < writtenTo).sort((a, b) => a.position - b.position);
    if (there.length === 0) return;
    await reader.check(there, READ_BYTES, async (bytes, damaged) => {
      for (const { group, index, position } of damaged) {
        const place = table.groups.get(group)?.find(index);
        // A trim, or another place, may have overtaken the read.
        if (place?.segment === segment.number && place.position === position)
          this.components.damaged(group, `entry ${index} of group ${group} is damaged in ${segment.path} at byte ${position}`);
      }
      await pace(bytes);
    });
  }

  /** What a restart would read of a sealed file: the store's index, or else the footer. */
  private async index(segment: Segment, pace: (bytes: number) => Promise<void>): Promise<void> {
    const { rows, logger } = this.components;
    const { number, salt, file, firstSequence, lastSequence, path } = segment;
    if (segment.isSealing || (await rows.index(number, salt)) !== undefined) return;
    const bytes = await readIfReadable(file, 0, await file.size());
    const at = bytes === null ? -1 : findFooter(bytes, salt);
    await pace(bytes?.length ?? 0);
    if (bytes === null || at < 0) {
      // Its entries move elsewhere one day; until then they are in memory's index only.
      logger.error({ file: path }, "the index of a file is damaged in the store and in the file: it is rewritten");
      segment.mustEmpty = true;
      return;
    }
    logger.warn({ file: path }, "the store lost the index of a file: it is taken from the footer");
    await rows.sealed(number, salt, { firstSequence, lastSequence, operations: decodeFooter(bytes, at, salt)!.operations });
  }

  /** The batches of the newest file, as a restart would read them: many at a time, for most may be tiny. */
  private async batches(segment: Segment, pace: (bytes: number) => Promise<void>): Promise<void> {
    const { file, salt, position: end } = segment;
    for (let at = FILE_HEADER_BYTES; at < end && !segment.isSealed;) {
      let bytes = await readIfReadable(file, at, Math.min(BATCHES_BYTES, end - at));
      const batch = bytes === null ? undefined : readBatchHeader(bytes, 0, salt);
      const whole = batch === undefined ? 0 : BATCH_HEADER_BYTES + batch.bytes;
      if (bytes !== null && whole > bytes.length) bytes = await readIfReadable(file, at, whole);
      const intact = bytes === null ? 0 : wholeBatches(bytes, salt);
      if (intact === 0) {
        this.components.logger.warn(
          { file: segment.path, position: at },
          "damage between the entries of the newest file: another file is begun",
        );
        this.components.roll();
        return;
      }
      at += intact;
      await pace(bytes!.length);
    }
  }
}

/** Up to where there are batches of which everything but the payload of entries, which `entries` looks after, is intact. */
function wholeBatches(bytes: Uint8Array, salt: number): number {
  for (let at = 0; ;) {
    const batch = readBatchHeader(bytes, at, salt);
    if (batch === undefined) return at;
    const end = at + BATCH_HEADER_BYTES + batch.bytes;
    const records = readRecords(bytes, at + BATCH_HEADER_BYTES, end, salt);
    const isLost = records?.some(({ header, isIntact }) => !isIntact && header.type !== RECORD_ENTRY && header.type !== RECORD_MOVED);
    if (isLost ?? true) return at;
    at = end;
  }
}
