// One message of a key in flight at a time, other keys in parallel: who comes too early is parked until the one before it is done.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import type { Run } from "./lanes.ts";
import { NOWHERE, RunMap } from "./run-map.ts";

export class KeyOrder {
  /** The hash of the key of each message that has one and is not done, 1..2^32-1. Keys of one hash count as one. */
  private keys = new RunMap(1);
  /** Whose turn it is, by hash: leased, or to be leased again before any other. */
  private readonly owners = new Map<number, number>();
  /** Those that wait for their turn, and the hash of each. */
  parked = new RunMap(1);
  private readonly waiting = new Map<number, number[]>();

  /** Messages that are parked. */
  get size(): number {
    return this.parked.size;
  }

  add(from: number, end: number, hash: number): void {
    this.keys.assign(from, end, hash);
  }

  /** True when the message may go to a consumer now, and owns its key from here on; otherwise it is parked. */
  claim(offset: number): boolean {
    const hash = this.keys.get(offset, 0, 0);
    if (hash === 0) return true;
    const owner = this.owners.get(hash);
    if (owner === undefined) this.owners.set(hash, offset);
    if (owner === undefined || owner === offset) return true;
    this.parked.assign(offset, offset + 1, hash);
    let waiting = this.waiting.get(hash);
    if (waiting === undefined) this.waiting.set(hash, (waiting = []));
    insert(waiting, offset);
    return false;
  }

  /** Takes out those of the offsets that are parked, key and all, and tells which they were. */
  takeOut(from: number, end: number): Run[] {
    const { parked } = this;
    const found: Run[] = [];
    const hashes = new Set<number>();
    for (let place = parked.next(from); place !== NOWHERE && parked.from(place) < end; place = parked.next(from)) {
      const run = { from: Math.max(from, parked.from(place)), end: Math.min(end, parked.end(place)) };
      hashes.add(parked.value(place, 0));
      found.push(run);
      parked.clear(run.from, run.end);
      this.keys.clear(run.from, run.end);
    }
    for (const hash of hashes) {
      const left = this.waiting.get(hash)!.filter((offset) => offset < from || offset >= end);
      if (left.length === 0) this.waiting.delete(hash);
      else this.waiting.set(hash, left);
    }
    return found;
  }

  /** Messages that have a key, from `from` to before `end`, one after the other. */
  *keyed(from: number, end: number): Generator<number> {
    for (let at = from; at < end; at++) {
      const place = this.keys.next(at);
      if (place === NOWHERE || this.keys.from(place) >= end) return;
      at = Math.max(at, this.keys.from(place));
      yield at;
    }
  }

  /** The message is done. Returns the one of its key that may wait in a lane again; -1 when there is none. */
  done(offset: number): number {
    const hash = this.keys.get(offset, 0, 0);
    if (hash === 0) return -1;
    this.keys.clear(offset, offset + 1);
    if (this.parked.clear(offset, offset + 1) > 0) this.unpark(hash, offset);
    if (this.owners.get(hash) !== offset) return -1;
    this.owners.delete(hash);
    const next = this.waiting.get(hash)?.[0];
    if (next === undefined) return -1;
    this.parked.clear(next, next + 1);
    this.unpark(hash, next);
    return next;
  }

  write(writer: ByteWriter): void {
    this.keys.write(writer);
    this.parked.write(writer);
    writer.varint(this.owners.size);
    for (const [hash, owner] of [...this.owners].sort(([a], [b]) => a - b)) writer.varint(hash).varint(owner);
  }

  static read(reader: ByteReader): KeyOrder {
    const order = new KeyOrder();
    order.keys = RunMap.read(1, reader);
    order.parked = RunMap.read(1, reader);
    for (let left = reader.varint(); left > 0; left--) order.owners.set(reader.varint(), reader.varint());
    const { parked, waiting } = order;
    for (let place = parked.next(0); place !== NOWHERE; place = parked.next(parked.end(place))) {
      const hash = parked.value(place, 0);
      if (!waiting.has(hash)) waiting.set(hash, []);
      for (let offset = parked.from(place); offset < parked.end(place); offset++) waiting.get(hash)!.push(offset);
    }
    return order;
  }

  private unpark(hash: number, offset: number): void {
    const waiting = this.waiting.get(hash)!;
    waiting.splice(waiting.indexOf(offset), 1);
    if (waiting.length === 0) this.waiting.delete(hash);
  }
}

/** Ascending; mostly at the end. */
function insert(offsets: number[], offset: number): void {
  let at = offsets.length;
  while (at > 0 && offsets[at - 1]! > offset) at -= 1;
  offsets.splice(at, 0, offset);
}
