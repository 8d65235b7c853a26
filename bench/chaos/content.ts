// What stands in a record is a function of its lane and number, so that any record can be checked without being remembered.
//
//   body = u32 run, u32 lane, u32 number, bytes drawn from these three; little-endian
//
// A lane is what one producer sends to one partition, numbered from 0: the order of a lane is the order of the producer, and
// as a key belongs to one partition it is the order of the key.

import { hashKey } from "../../src/client/index.ts";

const HEAD_BYTES = 12;

export type RecordId = { readonly lane: number; readonly number: number };
export type ContentSizes = { readonly bytesMin: number; readonly bytesMax: number };

export class Content {
  private readonly run: number;
  private readonly sizes: ContentSizes;
  private readonly keys: readonly (readonly string[])[];
  private readonly scratch: Buffer;

  /** `run`: 32 bits that no other load has. Sizes are of bodies; the smallest has room for the numbers. */
  constructor(run: number, partitions: number, keysPerPartition: number, sizes: ContentSizes) {
    this.run = run >>> 0;
    this.sizes = { bytesMin: Math.max(HEAD_BYTES, sizes.bytesMin), bytesMax: Math.max(HEAD_BYTES, sizes.bytesMax) };
    this.keys = keysOf(partitions, keysPerPartition);
    this.scratch = Buffer.alloc(this.sizes.bytesMax + 4);
  }

  key(partition: number, { lane, number }: RecordId): string {
    const keys = this.keys[partition]!;
    return keys[mix(this.run ^ lane, number) % keys.length]!;
  }

  /** The memory is used again by the next call. */
  body({ lane, number }: RecordId): Buffer {
    const { scratch, run } = this;
    const { bytesMin, bytesMax } = this.sizes;
    let state = mix(mix(run, lane), number);
    const length = bytesMin + (state % (bytesMax - bytesMin + 1));
    scratch.writeUInt32LE(run, 0);
    scratch.writeUInt32LE(lane, 4);
    scratch.writeUInt32LE(number, 8);
    for (let at = HEAD_BYTES; at < length; at += 4) {
      state = xorshift(state);
      scratch.writeUInt32LE(state, at);
    }
    return scratch.subarray(0, length);
  }

  /** Whose record this says that it is; null when it is none of this load's. */
  idOf(body: Uint8Array): RecordId | null {
    if (body.length < HEAD_BYTES) return null;
    const view = new DataView(body.buffer, body.byteOffset, HEAD_BYTES);
    if (view.getUint32(0, true) !== this.run) return null;
    return { lane: view.getUint32(4, true), number: view.getUint32(8, true) };
  }

  /** Body and key are those of this record, to the last byte. */
  isExact(id: RecordId, partition: number, key: Uint8Array | null, body: Uint8Array): boolean {
    if (this.body(id).compare(body) !== 0) return false;
    return key !== null && Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString() === this.key(partition, id);
  }
}

/** Keys by the partition to which the client's hash leads them. */
function keysOf(partitions: number, each: number): string[][] {
  const keys = Array.from({ length: partitions }, (): string[] => []);
  for (let at = 0; keys.some((list) => list.length < each); at++) {
    const key = `key-${at}`;
    const list = keys[hashKey(Buffer.from(key)) % partitions]!;
    if (list.length < each) list.push(key);
  }
  return keys;
}

/** 32 bits that depend on both; never 0, where a shift register would stay. */
export function mix(a: number, b: number): number {
  let z = (Math.imul(a ^ (a >>> 16), 0x85ebca6b) + Math.imul(b, 0x9e3779b1)) >>> 0;
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0 || 1;
}

function xorshift(state: number): number {
  let next = state;
  next ^= next << 13;
  next ^= next >>> 17;
  next ^= next << 5;
  return next >>> 0;
}
