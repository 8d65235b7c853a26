// What is durable of every replica, seen from below: the records that went to the segment files and were covered by a sync
// that succeeded, and the rows of the stores. Nothing of the product's own bookkeeping is believed, only its formats. R2: wherever an
// entry of one index and term is written, it is the same one.

import { CATALOG_GROUP, type GroupId } from "../../src/base/ids.ts";
import {
  BATCH_HEADER_BYTES,
  FILE_HEADER_BYTES,
  RECORD_DESTROY,
  RECORD_ENTRY,
  RECORD_HEADER_BYTES,
  RECORD_RESET,
  RECORD_STATE,
} from "../../src/log/segment-format.ts";
import { checkpointKey, checkpointsOf } from "../../src/store/keys.ts";
import { Violation } from "./history.ts";
import type { KvStorage } from "./sim-kv.ts";

/** "FLSG", "FLBA": how a file and a batch begin. */
const MAGIC_FILE = 0x47534c46;
const MAGIC_BATCH = 0x41424c46;
const TWO_32 = 4_294_967_296;
/** The state after the founding of a group can be made again: nobody needs it saved. */
const FOUNDING_INDEX = 1;

/** One replica. What it promised is in `promised…`: never more than what is durable. */
export type View = {
  readonly replica: number;
  /** Something of it has been on disk. */
  isBegun: boolean;
  term: number;
  vote: number;
  commit: number;
  /** The log begins after it. */
  trim: number;
  lastIndex: number;
  readonly terms: Map<number, number>;
  promisedTerm: number;
  promisedVote: number;
  acked: number;
};

type Change = {
  readonly type: number;
  readonly group: number;
  readonly index: number;
  readonly term: number;
  readonly stamp: number;
  readonly replica: number;
  readonly trim: number;
  readonly lastIndex: number;
  /** Of an entry: the checksum of its payload. */
  readonly crc: number;
};

export function emptyView(replica: number): View {
  return {
    replica,
    isBegun: false,
    term: 0,
    vote: 0,
    commit: 0,
    trim: 0,
    lastIndex: 0,
    terms: new Map(),
    promisedTerm: 0,
    promisedVote: 0,
    acked: 0,
  };
}

/** True when the entry is on the disk of this replica, or was and is cut. */
export function holds(view: View | undefined, index: number, term: number): boolean {
  return view !== undefined && (index <= view.trim || view.terms.get(index) === term);
}

/** All replicas of a cluster. A replica whose disk was lost stays known: what it promised was durable then. */
export class DurableReplicas {
  private readonly views = new Map<number, Map<number, View>>();
  /** By group and index: term and checksum of the entry of the newest term that was written there, in one number. */
  private readonly entries = new Map<number, Map<number, number>>();

  of(group: number, replica: number): View | undefined {
    return this.views.get(group)?.get(replica);
  }

  put(group: number, view: View): void {
    let views = this.views.get(group);
    if (views === undefined) this.views.set(group, (views = new Map()));
    views.set(view.replica, view);
  }

  /** False when another entry of the same index and term was written somewhere. */
  agrees(group: number, index: number, term: number, crc: number): boolean {
    let entries = this.entries.get(group);
    if (entries === undefined) this.entries.set(group, (entries = new Map()));
    const entry = term * TWO_32 + crc;
    const known = entries.get(index) ?? -1;
    if (known === entry) return true;
    if (Math.floor(known / TWO_32) === term) return false;
    if (known < entry) entries.set(index, entry);
    return true;
  }
}

/** How far a log is durable is noted once a second, after what a slow disk still has to do: only what is older is known to be missing. */
const NOTED_MS = 5_000;

type NewEntry = { timeMs: number; readonly group: number; readonly index: number };

/** The disk of one machine. */
export class DurableLog {
  private readonly replicas: DurableReplicas;
  private readonly name: string;
  private readonly nowMs: () => number;
  private readonly failed: (error: Error) => void;
  /** The store beside the log; null in tests of the log alone. */
  private readonly store: (() => KvStorage | undefined) | null;
  /** Written to a file and not covered by a sync yet. */
  private written = new WeakMap<object, Change[]>();
  /** Which replica of each group the newest records are of. */
  private readonly current = new Map<number, View>();
  /** First entries of groups in the newest writes to each log: the only ones whose damage may pass for a torn end. */
  private readonly newest: [catalog: NewEntry[], data: NewEntry[]] = [[], []];
  /** Since when nothing is noted, as no process runs; -1 while one does. */
  private diedMs = -1;

  constructor(
    name: string,
    parts: { replicas: DurableReplicas; nowMs: () => number; failed: (error: Error) => void; store: (() => KvStorage | undefined) | null },
  ) {
    this.name = name;
    this.replicas = parts.replicas;
    this.nowMs = parts.nowMs;
    this.failed = parts.failed;
    this.store = parts.store;
  }

  /** The replica was opened: all that was found is durable by now. */
  opened(group: number, view: View): void {
    this.current.set(group, view);
    this.replicas.put(group, view);
  }

  /** The process ends: until its successor writes, time does not count. */
  died(): void {
    if (this.diedMs < 0) this.diedMs = this.nowMs();
  }

  /** The process ended: what its successor finds of this is durable by then, and nothing else counts. */
  ended(): void {
    this.written = new WeakMap();
    this.current.clear();
  }

  /** The first entry of the group whose damage may pass for a write that a crash tore; infinity: none. */
  mayBeTornFrom(group: number): number {
    let first = Number.POSITIVE_INFINITY;
    for (const entry of this.newest[group === CATALOG_GROUP ? 0 : 1]) if (entry.group === group) first = Math.min(first, entry.index);
    return first;
  }

  wrote(file: object, parts: readonly Uint8Array[]): void {
    const [first] = parts;
    const isOne = parts.length === 1 && first !== undefined;
    const changes = changesIn(isOne ? Buffer.from(first.buffer, first.byteOffset, first.length) : Buffer.concat(parts));
    if (changes.length === 0) return;
    const known = this.written.get(file);
    if (known === undefined) this.written.set(file, changes);
    else known.push(...changes);
    const newest = this.newest[changes[0]!.group === CATALOG_GROUP ? 0 : 1];
    const timeMs = this.nowMs();
    if (this.diedMs >= 0) for (const entry of this.newest.flat()) entry.timeMs += timeMs - this.diedMs;
    this.diedMs = -1;
    const old = newest.findIndex((entry) => entry.timeMs > timeMs - NOTED_MS);
    newest.splice(0, old === -1 ? newest.length : old);
    for (const { type, group, index, term, crc } of changes) {
      if (type === RECORD_ENTRY) {
        if (newest[newest.length - 1]?.group !== group || newest[newest.length - 1]?.timeMs !== timeMs)
          newest.push({ timeMs, group, index });
        if (!this.replicas.agrees(group, index, term, crc))
          this.failed(
            new Violation("R2", `group ${group} on ${this.name}: entry ${index} of term ${term} is written, elsewhere it is another one`),
          );
      }
      const view = this.current.get(group);
      // Another leader's entries take their place: what was promised of them is void.
      if (view !== undefined && type === RECORD_ENTRY && index <= view.acked) view.acked = index - 1;
    }
  }

  /** A sync begins; to be called when it has succeeded, if the file can be found again after a power cut. */
  syncing(file: object): () => void {
    const covered = this.written.get(file) ?? [];
    this.written.delete(file);
    return () => {
      for (const change of covered) this.apply(change);
    };
  }

  /** R8: the state at which a log begins is not given up before the log begins later. Deleting all states of a group is no cut. */
  stored(keys: readonly string[], store: KvStorage): void {
    if (keys.length === 0) return;
    for (const [group, { trim }] of this.current) {
      if (trim <= FOUNDING_INDEX || !keys.includes(textOf(checkpointKey(group as GroupId, trim)))) continue;
      const prefix = textOf(checkpointsOf(group as GroupId));
      for (const key of store.rows.keys())
        if (key.startsWith(prefix)) {
          this.failed(new Violation("R8", `group ${group} on ${this.name}: the state at ${trim} is deleted, and its log begins there`));
          return;
        }
    }
  }

  /** R8: a log that begins later than its group needs the state from which it goes on, and that one is on disk before the cut is. */
  private cut(group: number, trim: number): void {
    if (trim <= FOUNDING_INDEX || this.store === null) return;
    if (!this.store()?.isDurable(textOf(checkpointKey(group as GroupId, trim))))
      this.failed(
        new Violation("R8", `group ${group} on ${this.name}: its log begins after ${trim} for good, and the state there is not durable`),
      );
  }

  private apply({ type, group, index, term, stamp, replica, trim, lastIndex }: Change): void {
    const view = this.current.get(group);
    switch (type) {
      case RECORD_ENTRY:
        if (view === undefined) return;
        for (let at = index + 1; at <= view.lastIndex; at++) view.terms.delete(at);
        view.terms.set(index, term);
        view.lastIndex = index;
        return;
      case RECORD_STATE:
      case RECORD_RESET: {
        const same = view?.replica === replica ? view : (this.replicas.of(group, replica) ?? emptyView(replica));
        if (same !== view) this.opened(group, same);
        same.isBegun = true;
        same.term = term;
        same.vote = stamp;
        same.commit = index;
        if (type === RECORD_RESET) {
          same.terms.clear();
          same.lastIndex = trim;
          same.acked = Math.min(same.acked, trim);
        } else same.lastIndex = Math.min(same.lastIndex, lastIndex);
        if (trim <= same.trim) return;
        for (let at = same.trim + 1; at <= trim; at++) same.terms.delete(at);
        same.trim = trim;
        this.cut(group, trim);
        return;
      }
      case RECORD_DESTROY:
        this.current.delete(group);
        return;
      default:
    }
  }
}

/** The records of what was written to a file at one time; none when it is no batch of the log. */
export function changesIn(bytes: Buffer): Change[] {
  let at = bytes.length >= FILE_HEADER_BYTES && bytes.readUInt32LE(0) === MAGIC_FILE ? FILE_HEADER_BYTES : 0;
  if (bytes.length < at + BATCH_HEADER_BYTES || bytes.readUInt32LE(at) !== MAGIC_BATCH) return [];
  const count = bytes.readUInt32LE(at + 4);
  at += BATCH_HEADER_BYTES;
  const changes: Change[] = [];
  for (let left = count; left > 0 && at + RECORD_HEADER_BYTES <= bytes.length; left--) {
    const type = bytes[at]!;
    const length = bytes.readUInt32LE(at + 32);
    const isState = type === RECORD_STATE || type === RECORD_RESET;
    const payload = at + RECORD_HEADER_BYTES;
    if (isState || type === RECORD_ENTRY || type === RECORD_DESTROY)
      changes.push({
        type,
        group: bytes.readUInt32LE(at + 4),
        index: u64(bytes, at + 8),
        term: u64(bytes, at + 16),
        stamp: u64(bytes, at + 24),
        replica: isState ? bytes.readUInt32LE(payload + 16) : 0,
        trim: isState ? u64(bytes, payload) : 0,
        lastIndex: isState ? u64(bytes, payload + 20) : 0,
        crc: bytes.readUInt32LE(at + 36),
      });
    at = payload + length;
  }
  return changes;
}

function u64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * TWO_32 + bytes.readUInt32LE(at);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}
