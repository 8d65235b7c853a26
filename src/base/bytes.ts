// Growing writer and bounds-checked reader over Uint8Array: little-endian u8/u16/u32/u64/f64, varints, strings. A u64 is
// two u32, so a JS number carries it exactly up to 2^53 and no bigint is made on a hot path.

import { copyInto } from "./copy.ts";
import { assert, isCount } from "./assert.ts";

const TWO_32 = 4_294_967_296;

/** The bytes end too early, or a number does not fit: data from outside that must be refused, not a bug of ours. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
}

// A byte order mark is text like any other: dropped, a string would not come back as the bytes it was written as.
const decoder = new (globalThis as unknown as { TextDecoder: TextDecoderConstructor }).TextDecoder("utf-8", {
  fatal: true,
  ignoreBOM: true,
});
const encoder = new (globalThis as unknown as { TextEncoder: TextEncoderConstructor }).TextEncoder();
type TextDecoderConstructor = new (label: string, options: { fatal: boolean; ignoreBOM: boolean }) => { decode(bytes: Uint8Array): string };
type TextEncoderConstructor = new () => { encode(text: string): Uint8Array };

export function utf8Encode(text: string): Uint8Array {
  return encoder.encode(text);
}

export function utf8Decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new DecodeError("invalid UTF-8");
  }
}

/** Appends to a buffer that grows by doubling. `finish()` hands the bytes out without a copy; the writer is then spent. */
export class ByteWriter {
  private bytes: Uint8Array;
  private view: DataView;
  private position = 0;

  constructor(capacity = 256) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  get length(): number {
    return this.position;
  }

  u8(value: number): this {
    this.reserve(1);
    this.bytes[this.position++] = value;
    return this;
  }

  u16(value: number): this {
    this.reserve(2);
    this.view.setUint16(this.position, value, true);
    this.position += 2;
    return this;
  }

  u32(value: number): this {
    this.reserve(4);
    this.view.setUint32(this.position, value, true);
    this.position += 4;
    return this;
  }

  /** A whole number of 0..2^53-1. */
  u64(value: number): this {
    assert(isCount(value), "u64 out of range");
    this.reserve(8);
    this.view.setUint32(this.position, value % TWO_32, true);
    this.view.setUint32(this.position + 4, Math.floor(value / TWO_32), true);
    this.position += 8;
    return this;
  }

  /** LEB128 of a whole number of 0..2^53-1: one byte up to 127. */
  varint(value: number): this {
    assert(isCount(value), "varint out of range");
    this.reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.position++] = (rest % 0x80) + 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.position++] = rest;
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.reserve(bytes.length);
    copyInto(this.bytes, this.position, bytes);
    this.position += bytes.length;
    return this;
  }

  /** A varint length, then the bytes. */
  block(bytes: Uint8Array): this {
    return this.varint(bytes.length).raw(bytes);
  }

  string(text: string): this {
    return this.block(encoder.encode(text));
  }

  finish(): Uint8Array {
    const bytes = this.bytes.subarray(0, this.position);
    this.bytes = new Uint8Array(0);
    return bytes;
  }

  private reserve(count: number): void {
    const needed = this.position + count;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2, 64));
    grown.set(this.bytes.subarray(0, this.position));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}

/** Reads what ByteWriter wrote. Every read past the end throws DecodeError; slices share the input's memory. */
export class ByteReader {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private position: number;
  private readonly end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.position = start;
    this.end = end;
  }

  get offset(): number {
    return this.position;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  u8(): number {
    this.need(1);
    return this.view.getUint8(this.position++);
  }

  u16(): number {
    this.need(2);
    const value = this.view.getUint16(this.position, true);
    this.position += 2;
    return value;
  }

  u32(): number {
    this.need(4);
    const value = this.view.getUint32(this.position, true);
    this.position += 4;
    return value;
  }

  u64(): number {
    this.need(8);
    const high = this.view.getUint32(this.position + 4, true);
    if (high > 0x1f_ffff) throw new DecodeError("number past 2^53");
    const low = this.view.getUint32(this.position, true);
    this.position += 8;
    // Small numbers must not come out of arithmetic with large ones: V8 would box them, in each field that ever gets one.
    return high === 0 ? low : high * TWO_32 + low;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 8; count++) {
      this.need(1);
      const byte = this.view.getUint8(this.position++);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
      scale *= 0x80;
    }
    throw new DecodeError("varint past 2^53");
  }

  raw(length: number): Uint8Array {
    this.need(length);
    const slice = this.bytes.subarray(this.position, this.position + length);
    this.position += length;
    return slice;
  }

  block(): Uint8Array {
    return this.raw(this.varint());
  }

  string(): string {
    return utf8Decode(this.block());
  }

  /** Every decoder of a whole message ends with this: trailing bytes mean that the two sides disagree. */
  done(): void {
    if (this.position !== this.end) throw new DecodeError(`${this.end - this.position} bytes too many`);
  }

  private need(count: number): void {
    if (this.position + count > this.end) throw new DecodeError("bytes end too early");
  }
}
