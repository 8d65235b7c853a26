// Reads records by offset from the log of a group: from the sparse offset index to the entry, then forward, counting; those of a queue
// that were stored anew from the entry that has them.

import { assert } from "../base/assert.ts";
import { BrokerError } from "../base/errors.ts";
import { FETCH_BATCHES_MAX, FETCH_BATCH_OVERHEAD_BYTES, LOG_READ_ENTRIES_MAX } from "../base/limits.ts";
import type { Pacer } from "../base/pacer.ts";
import { isDamage } from "../log/errors.ts";
import { COMMAND_RELOCATE, decodeStreamCommand } from "../machine/stream/commands.ts";
import { readRecordsCount, recordsBody } from "../machine/stream/records-codec.ts";
import type { OffsetRow } from "../machine/stream/offset-index.ts";
import type { StreamMachine } from "../machine/stream/stream.ts";
import { ENTRY_RECORDS, type Entry } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Replica } from "../replica/replica.ts";
import { sliceRecords } from "./record-scan.ts";
import type { FetchedBatch } from "./types.ts";

/** Where readers of one group stopped, so that the next fetch need not search: bounded, the oldest goes first. */
const PLACES_MAX = 256;
const READ_BYTES_MIN = 64 * 1024;
/** Bytes of one read of a search by time. */
const READ_BYTES_TIME = 1024 * 1024;

/** An entry of the log and the offset of its first record. */
type Place = { readonly index: number; readonly offset: number };

export class StreamReader {
  private readonly host: ReplicaHost;
  private readonly pacer: Pacer;
  private readonly places = new WeakMap<Replica, Map<number, number>>();

  constructor(host: ReplicaHost, pacer: Pacer) {
    this.host = host;
    this.pacer = pacer;
  }

  /**
   * Batches from the one that holds `offset` on, up to `endOffset` (committed), about `maxBytes` with what frames them, and
   * FETCH_BATCHES_MAX; at least one. None only if a trim passed `offset` meanwhile.
   */
  async read(replica: Replica, offset: number, endOffset: number, maxBytes: number): Promise<FetchedBatch[]> {
    const machine = replica.machine as StreamMachine;
    while (machine.relocatedTo(offset) >= 0) {
      const relocated = await this.relocated(replica, machine, offset);
      if (relocated !== null) return relocated;
    }
    let place = this.placeOf(replica, machine, offset);
    const batches: FetchedBatch[] = [];
    let bytes = 0;
    while (place.offset < endOffset) {
      const entries = await this.entries(replica, machine, place.index, Math.max(maxBytes - bytes, READ_BYTES_MIN));
      if (entries === null) {
        if (batches.length > 0 || offset < machine.startOffset) break;
        place = this.placeOf(replica, machine, offset);
        continue;
      }
      for (const entry of entries) {
        const count = countOf(machine, entry);
        if (count > 0 && place.offset + count > offset) {
          const records = recordsBody(entry.payload);
          const size = records.length + FETCH_BATCH_OVERHEAD_BYTES;
          if (batches.length > 0 && (bytes + size > maxBytes || batches.length === FETCH_BATCHES_MAX))
            return this.remember(replica, batches, place);
          batches.push({ baseOffset: place.offset, count, timeMs: entry.timestampMs, records });
          bytes += size;
        }
        place = { index: entry.index + 1, offset: place.offset + count };
        if (place.offset >= endOffset || bytes >= maxBytes) return this.remember(replica, batches, place);
      }
    }
    return this.remember(replica, batches, place);
  }

  /** What was stored anew of the record's run, from it on. Null when that lies elsewhere by now. */
  private async relocated(replica: Replica, machine: StreamMachine, offset: number): Promise<FetchedBatch[] | null> {
    const [entry] = (await this.entries(replica, machine, machine.relocatedTo(offset), 1)) ?? [];
    if (entry === undefined) return null;
    const command = decodeStreamCommand(entry.payload);
    assert(command?.kind === COMMAND_RELOCATE, "the entry stores records anew");
    let skip = 0;
    for (const { from, end, timeMs } of command.runs) {
      if (offset >= from && offset < end) {
        const records = sliceRecords(command.records, skip + offset - from, end - offset);
        return [{ baseOffset: offset, count: end - offset, timeMs, records }];
      }
      skip += end - from;
    }
    throw new Error(`entry ${entry.index} does not hold offset ${offset}`);
  }

  /**
   * The offset of the first record stored at or after `timeMs`; the end when all are older. Time is the log's own, which
   * never goes back: a record that a leader with a slow clock appended is as new as what stands before it.
   */
  async offsetOfTime(replica: Replica, timeMs: number): Promise<number> {
    const machine = replica.machine as StreamMachine;
    const end = machine.endOffset;
    let place: OffsetRow = machine.locateTime(timeMs);
    while (place.offset < end) {
      const entries = await this.entries(replica, machine, place.index, READ_BYTES_TIME);
      if (entries === null) {
        place = machine.locateTime(timeMs);
        continue;
      }
      let { offset, timeMs: logTimeMs } = place;
      for (const entry of entries) {
        logTimeMs = Math.max(logTimeMs, entry.timestampMs);
        const count = countOf(machine, entry);
        if (count > 0 && logTimeMs >= timeMs && offset >= machine.startOffset) return offset;
        offset += count;
      }
      place = { index: entries[entries.length - 1]!.index + 1, offset, timeMs: logTimeMs, bytes: 0 };
    }
    return Math.max(end, machine.startOffset);
  }

  private placeOf(replica: Replica, machine: StreamMachine, offset: number): Place {
    const known = this.places.get(replica)?.get(offset);
    return known !== undefined && known >= machine.firstIndex ? { index: known, offset } : machine.locate(offset);
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

  /** At least one applied entry from `index` on: from memory if it is there, else from disk. Null when a trim passed `index`. */
  private async entries(replica: Replica, machine: StreamMachine, index: number, bytesMax: number): Promise<readonly Entry[] | null> {
    const turn = this.pacer.turn();
    if (turn !== null) await turn;
    const entries: Entry[] = [];
    let bytes = 0;
    for (let at = index; at <= replica.applied && bytes < bytesMax && entries.length < LOG_READ_ENTRIES_MAX; at++) {
      const entry = replica.cache.get(at);
      if (entry === undefined) break;
      entries.push(entry);
      bytes += entry.payload.length;
    }
    const found = entries.length > 0 ? entries : await this.readLog(replica, machine, index, bytesMax);
    // Below its first index the machine no longer knows which entries are void: nobody can count on from there.
    return index < machine.firstIndex ? null : found;
  }

  private readLog(replica: Replica, machine: StreamMachine, first: number, bytesMax: number): Promise<readonly Entry[]> {
    return new Promise((resolve, reject) => {
      this.host.logFor(replica.group).read(replica.group, first, replica.applied, bytesMax, (error, entries) => {
        if (error === null || first < machine.firstIndex) resolve(entries);
        else {
          if (isDamage(error)) this.host.damaged(replica, error.message);
          reject(new BrokerError("DATA_DAMAGED", `entry ${first} cannot be read: ${error.message}`));
        }
      });
    });
  }
}

/** Records that an entry added to the stream: none for commands and for batches that were refused when applied. */
function countOf(machine: StreamMachine, entry: Entry): number {
  return entry.kind === ENTRY_RECORDS && !machine.isVoid(entry.index) ? readRecordsCount(entry.payload) : 0;
}
