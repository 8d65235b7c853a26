// What is damaged on a disk of what still counts: entries of a log that is not held against anybody yet. A node's slow round has to
// find it, though nobody asks for those entries. Nothing of the product's reading is believed, only where it says that entries lie.

import { crc32 } from "node:zlib";
import type { GroupId } from "../../src/base/ids.ts";
import type { GroupTable } from "../../src/log/group-table.ts";
import { RECORD_HEADER_BYTES, readRecordHeader } from "../../src/log/segment-format.ts";
import type { Segment } from "../../src/log/segment.ts";
import type { Inode } from "./sim-inode.ts";
import type { SimMachine } from "./sim-node.ts";

/** What is behind the types of the product. */
type HostParts = { readonly components: { readonly catalogLog: LogParts; readonly dataLog: LogParts } };
type LogParts = { readonly table: GroupTable; readonly segments: readonly Segment[] };
type Place = { readonly index: number; readonly position: number; readonly length: number };

/** The first entry that is damaged, in words; "" when there is none. */
export function decayOn({ name, host, disk }: SimMachine): string {
  if (host === null) return `${name} is down`;
  const { catalogLog, dataLog } = (host as unknown as HostParts).components;
  for (const { table, segments } of [catalogLog, dataLog])
    for (const segment of segments) {
      const inode = disk.names.get(segment.path);
      for (const [group, state] of table.groups) {
        if (state.damage !== null || host.quarantine.of(group) !== undefined) continue;
        for (const place of state.placesIn(segment.number, Number.POSITIVE_INFINITY)) {
          const isThere = segment.isSealed || place.position < segment.position;
          if (isThere && !isIntact(inode, segment.salt, group, place))
            return `${name}: entry ${place.index} of group ${group} is damaged in ${segment.path} at byte ${place.position}`;
        }
      }
    }
  return "";
}

function isIntact(inode: Inode | undefined, salt: number, group: GroupId, { index, position, length }: Place): boolean {
  const end = position + RECORD_HEADER_BYTES + length;
  if (inode === undefined || end > inode.size || !inode.canRead(position, end - position)) return false;
  const bytes = inode.read(position, end - position);
  const header = readRecordHeader(bytes, 0, salt);
  if (header === undefined || header.group !== group || header.index !== index || header.length !== length) return false;
  return crc32(bytes.subarray(RECORD_HEADER_BYTES)) === header.payloadCrc;
}
