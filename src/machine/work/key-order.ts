// One message of a key in flight at a time, other keys in parallel: who comes too early is parked until the one before it is done. Then
// it is the turn of the highest priority, and within one of the lowest offset.

import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import type { Run } from "./lanes.ts";
import { NOWHERE, RunMap } from "./run-map.ts";

type Parked = { readonly offset: number; readonly priority: number };

export class KeyOrder {
  /** The hash of the key of each message that has one and is not done, 1..2^32-1. Keys of one hash count as one. */
  private keys = new RunMap(1);
  /** Whose turn it is, by hash: leased, or to be leased again before any other. */
  private readonly owners = new Map<number, number>();
  /** Those that wait for their turn: the hash of each, and its priority. */
  parked = new RunMap(2);
  /** By hash, whose turn is next first. */
  private readonly waiting = new Map<number, Parked[]>();

  /** Messages that are parked. */
  get size(): number {
    return this.parked.size;
  }

  add(from: number, end: number, hash: number): void {
    this.keys.assign(from, end, hash);
  }

  /** Of the key of a message that is not done; 0 = it has none. */
  hashOf(offset: number): number {
    return this.keys.get(offset, 0, 0);
  }

  /** True when the message may go to a consumer now, and owns its key from here on; otherwise it is parked. */
  claim(offset: number, priority: number): boolean {
    const hash = this.keys.get(offset, 0, 0);
    if (hash === 0) return true;
    const owner = this.owners.get(hash);
    if (owner === undefined) this.owners.set(hash, offset);
    if (owner === undefined || owner === offset) return true;
    this.parked.assign(offset, offset + 1, hash, priority);
    this.wait(hash, { offset, priority });
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
      const left = this.waiting.get(hash)!.filter(({ offset }) => offset < from || offset >= end);
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
    // Without an owner it was this one's turn, or that of another one that waits in a lane: more than one may, as only one will own the key.
    if (this.owners.has(hash) && this.owners.get(hash) !== offset) return -1;
    this.owners.delete(hash);
    const next = this.waiting.get(hash)?.[0]?.offset;
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
    order.parked = RunMap.read(2, reader);
    for (let left = reader.varint(); left > 0; left--) order.owners.set(reader.varint(), reader.varint());
    const { parked } = order;
    for (let place = parked.next(0); place !== NOWHERE; place = parked.next(parked.end(place)))
      for (let offset = parked.from(place); offset < parked.end(place); offset++)
        order.wait(parked.value(place, 0), { offset, priority: parked.value(place, 1) });
    return order;
  }

  /** Mostly at the end. */
  private wait(hash: number, message: Parked): void {
    let waiting = this.waiting.get(hash);
    if (waiting === undefined) this.waiting.set(hash, (waiting = []));
    let at = waiting.length;
    while (at > 0 && isBefore(message, waiting[at - 1]!)) at -= 1;
    waiting.splice(at, 0, message);
  }

  private unpark(hash: number, offset: number): void {
    const waiting = this.waiting.get(hash)!;
    waiting.splice(
      waiting.findIndex((message) => message.offset === offset),
      1,
    );
    if (waiting.length === 0) this.waiting.delete(hash);
  }
}

function isBefore(one: Parked, other: Parked): boolean {
  return one.priority === other.priority ? one.offset < other.offset : one.priority > other.priority;
}
