// Bugs of what a node keeps: files, the store beside them, saved states.

import { Segment } from "../../../src/log/segment.ts";
import { GroupTable } from "../../../src/log/group-table.ts";
import { LogCorruptError } from "../../../src/log/errors.ts";
import type { Place } from "../../../src/log/group-log.ts";
import { RECORD_HEADER_BYTES, readRecordHeader } from "../../../src/log/segment-format.ts";
import { Scrubber } from "../../../src/log/scrubber.ts";
import { SegmentLog } from "../../../src/log/segment-log.ts";
import { SegmentReader, type ReadDone } from "../../../src/log/segment-reader.ts";
import { Entry, type EntryKind } from "../../../src/raft/types.ts";
import { Checkpointer } from "../../../src/replica/checkpointer.ts";
import type { Replica } from "../../../src/replica/replica.ts";
import { Snapshots } from "../../../src/replica/snapshots.ts";
import { SimDisk } from "../sim-disk.ts";
import { both, swap, type Planted } from "./swap.ts";

type Done = (error: Error | null) => void;
type SyncFile = (this: SegmentLog, segment: Segment, done: Done) => void;
type Suspect = { readonly group: number; readonly index: number; readonly segment: number; readonly position: number };
type Suspects = { suspects: Suspect[] };
type ReaderParts = { segmentOf: (number: number) => Segment };

export const PLANTED_STORAGE: readonly Planted[] = [
  {
    name: "sync-tried-again",
    what: "a sync that failed is tried again, and what the second one says is believed",
    within: 60,
    plant: () =>
      swap<SyncFile>(
        SegmentLog,
        "syncFile",
        (original) =>
          function (this: SegmentLog, segment, done) {
            const { file } = segment;
            const sync = (told: Done): void => file.sync((error) => (error === null ? told(null) : file.sync(told)));
            original.call(this, Object.setPrototypeOf({ file: { ...file, sync } }, segment) as Segment, done);
          },
      ),
  },
  {
    name: "folders-not-synced",
    what: "files are made and renamed, and the folder is not synced",
    within: 40,
    plant: () => swap<SimDisk["syncDirectory"]>(SimDisk, "syncDirectory", () => () => Promise.resolve()),
  },
  {
    name: "damage-is-the-end",
    what: "an entry that is damaged in a file passes for the torn end of its group's log, committed or not",
    within: 80,
    run: { seconds: 40, groups: 1, faults: ["bitrot", "kill"] },
    plant: () =>
      swap<GroupTable["settle"]>(
        GroupTable,
        "settle",
        (original) =>
          function (this: GroupTable, gone) {
            const table = this as unknown as Suspects;
            for (const { group, index, segment, position } of table.suspects) {
              const log = this.groups.get(group as never);
              const place = log?.find(index);
              if (log === undefined || place?.segment !== segment || place.position !== position) continue;
              log.endAt(index - 1);
              // Or the start would miss what was committed.
              log.hardState = { ...log.hardState, commit: Math.min(log.hardState.commit, index - 1) };
            }
            table.suspects = [];
            original.call(this, gone);
          },
      ),
  },
  {
    name: "checksums-not-looked-at",
    what: "what is read of the log is served whatever its checksum says",
    within: 40,
    run: { faults: ["bitrot", "kill", "power", "transfer"] },
    plant: both(
      () => swap<GroupTable["suspectEntry"]>(GroupTable, "suspectEntry", () => () => {}),
      () =>
        swap<(this: ReaderParts, group: number, first: number, places: readonly Place[], done: ReadDone) => void>(
          SegmentReader as never,
          "readPlaces",
          () =>
            function (this: ReaderParts, group, first, places, done) {
              void group;
              const segment = this.segmentOf(places[0]!.segment);
              const base = places[0]!.position;
              const last = places[places.length - 1]!;
              segment.file.read(base, last.position + RECORD_HEADER_BYTES + last.length - base, (error, content) => {
                if (error !== null) {
                  done(error, []);
                  return;
                }
                const entries = places.map(({ position, length }, at) => {
                  const start = position - base + RECORD_HEADER_BYTES;
                  const header = readRecordHeader(content, position - base, segment.salt);
                  if (header === undefined) throw new LogCorruptError(segment.path, position, "no header");
                  const payload = content.subarray(start, start + length);
                  return new Entry(first + at, header.term, header.kind as EntryKind, header.stamp, payload, header.payloadCrc);
                });
                done(null, entries);
              });
            },
        ),
    ),
  },
  {
    name: "applied-twice",
    what: "a state is saved as that of one entry before: after a restart or a snapshot that entry is applied again",
    within: 40,
    plant: () =>
      swap<(this: Checkpointer, replica: Replica) => Promise<void>>(
        Checkpointer,
        "saveState",
        (original) =>
          function (this: Checkpointer, replica) {
            const newest = replica.checkpointIndexes[replica.checkpointIndexes.length - 1] ?? 0;
            if (replica.descriptor.kind === "catalog" || replica.applied <= newest + 1) return original.call(this, replica);
            // The state is taken before the first wait.
            replica.applied -= 1;
            const saved = original.call(this, replica);
            replica.applied += 1;
            return saved;
          },
      ),
  },
  {
    name: "scrubber-asleep",
    what: "what nobody reads is never looked at: damage there stays until it is needed",
    within: 40,
    run: { faults: ["bitrot", "badsector", "misdirect"] },
    plant: () => swap<Scrubber["pass"]>(Scrubber, "pass", () => () => Promise.resolve()),
  },
  {
    name: "members-not-taken",
    what: "a snapshot leaves the members as they were before it",
    within: 80,
    run: { nodes: 4, faults: ["move", "drain", "wipe"] },
    plant: () =>
      swap<Snapshots["install"]>(
        Snapshots,
        "install",
        (original) =>
          function (this: Snapshots, replica, snapshot) {
            const { configuration } = replica;
            original.call(this, replica, snapshot);
            replica.configuration = configuration;
          },
      ),
  },
];
