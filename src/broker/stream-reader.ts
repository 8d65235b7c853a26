// Reads records by offset from the log of a group: from the sparse offset index to the entry, then forward, counting.

import { BrokerError } from "../base/errors.ts";
import type { GroupId } from "../base/ids.ts";
import { readRecordsCount, recordsBody } from "../machine/stream/records-codec.ts";
import type { StreamMachine } from "../machine/stream/stream.ts";
import { ENTRY_RECORDS, type Entry } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Replica } from "../replica/replica.ts";
import type { FetchedBatch } from "./types.ts";

/** Where readers of one group stopped, so that the next fetch need not search: bounded, the oldest goes first. */
const PLACES_MAX = 256;
const READ_BYTES_MIN = 64 * 1024;

/** An entry of the log and the offset of its first record. */
type Place = { readonly index: number; readonly offset: number };

export class StreamReader {
  private readonly host: ReplicaHost;
  private readonly places = new WeakMap<Replica, Map<number, number>>();

  constructor(host: ReplicaHost) {
    this.host = host;
  }

  /** Batches from the one that holds `offset` on, up to `endOffset` (committed) and about `maxBytes`; at least one. */
  async read(replica: Replica, offset: number, endOffset: number, maxBytes: number): Promise<FetchedBatch[]> {
    const machine = replica.machine as StreamMachine;
    let place = this.placeOf(replica, machine, offset);
    const batches: FetchedBatch[] = [];
    let bytes = 0;
    while (place.offset < endOffset) {
      const entries = await this.entries(replica, place.index, Math.max(maxBytes - bytes, READ_BYTES_MIN));
      for (const entry of entries) {
        const count = countOf(machine, entry);
        if (count > 0 && place.offset + count > offset) {
          const records = recordsBody(entry.payload);
          if (batches.length > 0 && bytes + records.length > maxBytes) return this.remember(replica, batches, place);
          batches.push({ baseOffset: place.offset, count, timeMs: entry.timestampMs, records });
          bytes += records.length;
        }
        place = { index: entry.index + 1, offset: place.offset + count };
        if (place.offset >= endOffset || bytes >= maxBytes) return this.remember(replica, batches, place);
      }
    }
    return this.remember(replica, batches, place);
  }

  /** The offset of the first record stored at or after `timeMs`; the end when all are older. */
  async offsetOfTime(replica: Replica, timeMs: number): Promise<number> {
    const machine = replica.machine as StreamMachine;
    const row = machine.locateTime(timeMs);
    let place: Place = { index: row.index, offset: row.offset };
    const end = machine.endOffset;
    while (place.offset < end) {
      const entries = await this.entries(replica, place.index, 1024 * 1024);
      for (const entry of entries) {
        const count = countOf(machine, entry);
        if (count > 0 && entry.timestampMs >= timeMs && place.offset >= machine.startOffset) return place.offset;
        place = { index: entry.index + 1, offset: place.offset + count };
      }
    }
    return Math.max(end, machine.startOffset);
  }

  private placeOf(replica: Replica, machine: StreamMachine, offset: number): Place {
    const known = this.places.get(replica)?.get(offset);
    if (known !== undefined) return { index: known, offset };
    const row = machine.locate(offset);
    return { index: row.index, offset: row.offset };
  }

  private remember(replica: Replica, batches: FetchedBatch[], next: Place): FetchedBatch[] {
    let places = this.places.get(replica);
    if (places === undefined) this.places.set(replica, (places = new Map()));
    places.delete(next.offset);
    places.set(next.offset, next.index);
    if (places.size > PLACES_MAX) {
      const oldest = places.keys().next();
      if (oldest.done !== true) places.delete(oldest.value);
    }
    return batches;
  }

  /** At least one applied entry from `index` on: from memory if it is there, else from disk. */
  private async entries(replica: Replica, index: number, bytesMax: number): Promise<readonly Entry[]> {
    const cached = replica.cache.get(index);
    if (cached !== undefined) {
      const entries: Entry[] = [];
      let bytes = 0;
      for (let at = index; at <= replica.applied && bytes < bytesMax; at++) {
        const entry = replica.cache.get(at);
        if (entry === undefined) break;
        entries.push(entry);
        bytes += entry.payload.length;
      }
      if (entries.length > 0) return entries;
    }
    return this.readLog(replica.group, index, replica.applied, bytesMax);
  }

  private readLog(group: GroupId, first: number, last: number, bytesMax: number): Promise<readonly Entry[]> {
    return new Promise((resolve, reject) => {
      this.host.logFor(group).read(group, first, last, bytesMax, (error, entries) => {
        if (error === null) resolve(entries);
        else reject(new BrokerError("DATA_DAMAGED", `entry ${first} cannot be read: ${error.message}`));
      });
    });
  }
}

/** Records that an entry added to the stream: none for commands and for batches that were refused when applied. */
function countOf(machine: StreamMachine, entry: Entry): number {
  return entry.kind === ENTRY_RECORDS && !machine.isVoid(entry.index) ? readRecordsCount(entry.payload) : 0;
}
