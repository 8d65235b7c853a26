// The protobuf wire format, as far as our hot messages need it (protobuf.dev, "Encoding"). Numbers are JS numbers checked
// to be below 2^53. Values at their default are not written, as proto3 wants it.

import { copyInto } from "./copy.ts";
import { DecodeError, utf8Decode, utf8Encode } from "./bytes.ts";

export const WIRE_VARINT = 0;
export const WIRE_FIXED64 = 1;
export const WIRE_BYTES = 2;
export const WIRE_FIXED32 = 5;
/** A length that is written before it is known: a varint padded to four bytes, which every parser takes. */
const LENGTH_BYTES = 4;

/** Reads one message. `next()` leads from field to field; unknown ones are skipped by `skip()`. */
export class ProtoReader {
  field = 0;
  wire = 0;
  private readonly bytes: Uint8Array;
  private at: number;
  private tagAt = 0;
  private readonly end: number;
  private fieldsLeft: number;

  /** `next` throws beyond `fieldsMax` fields of this message, those of nested ones not counted. */
  constructor(bytes: Uint8Array, start = 0, end = bytes.length, fieldsMax = Number.MAX_SAFE_INTEGER) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
    this.fieldsLeft = fieldsMax;
  }

  /** Where the field begins that `next` came to, and where what is next begins. */
  get tagPosition(): number {
    return this.tagAt;
  }

  get position(): number {
    return this.at;
  }

  /** False at the end of the message. */
  next(): boolean {
    if (this.at >= this.end) return false;
    if (--this.fieldsLeft < 0) throw new DecodeError("a message has too many fields");
    this.tagAt = this.at;
    const tag = this.rawVarint();
    this.field = Math.floor(tag / 8);
    this.wire = tag % 8;
    if (this.field === 0 || tag > 0xffff_ffff) throw new DecodeError("field number 0");
    return true;
  }

  /** An unsigned number below 2^53. A negative int64 or a larger uint64 is refused. */
  uint(): number {
    this.expect(WIRE_VARINT);
    return this.rawVarint();
  }

  bool(): boolean {
    return this.uint() !== 0;
  }

  /** Shares the input's memory. */
  block(): Uint8Array {
    this.expect(WIRE_BYTES);
    const length = this.rawVarint();
    if (length > this.end - this.at) throw new DecodeError("a field reaches past the end");
    const block = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return block;
  }

  string(): string {
    return utf8Decode(this.block());
  }

  /** A nested message; read it to its end before going on. */
  message(fieldsMax?: number): ProtoReader {
    this.expect(WIRE_BYTES);
    const length = this.rawVarint();
    if (length > this.end - this.at) throw new DecodeError("a field reaches past the end");
    const reader = new ProtoReader(this.bytes, this.at, this.at + length, fieldsMax);
    this.at += length;
    return reader;
  }

  skip(): void {
    switch (this.wire) {
      case WIRE_VARINT:
        while (this.byte() >= 0x80);
        return;
      case WIRE_FIXED64:
        this.at += 8;
        break;
      case WIRE_BYTES: {
        const length = this.rawVarint();
        this.at += length;
        break;
      }
      case WIRE_FIXED32:
        this.at += 4;
        break;
      default:
        throw new DecodeError(`wire type ${this.wire}`);
    }
    if (this.at > this.end) throw new DecodeError("a field reaches past the end");
  }

  private expect(wire: number): void {
    if (this.wire !== wire) throw new DecodeError(`field ${this.field} has wire type ${this.wire} instead of ${wire}`);
  }

  private byte(): number {
    if (this.at >= this.end) throw new DecodeError("the message ends too early");
    return this.bytes[this.at++]!;
  }

  private rawVarint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
      scale *= 0x80;
    }
    throw new DecodeError(`the number of field ${this.field} is negative or past 2^53`);
  }
}

/** Writes one message into a growing buffer. `finish()` hands the bytes out; the writer is then spent. */
export class ProtoWriter {
  private bytes: Uint8Array;
  private at = 0;

  /** Writes into `memory`, which belongs to the writer from then on, or into as many fresh bytes; more as it needs. */
  constructor(memory: Uint8Array | number = 256) {
    this.bytes = typeof memory === "number" ? new Uint8Array(memory) : memory;
  }

  get length(): number {
    return this.at;
  }

  uint(field: number, value: number): this {
    if (value !== 0) this.tag(field, WIRE_VARINT).varint(value);
    return this;
  }

  /** Written even when 0: for `optional` fields and members of a oneof. */
  uintAlways(field: number, value: number): this {
    return this.tag(field, WIRE_VARINT).varint(value);
  }

  bool(field: number, value: boolean): this {
    return this.uint(field, value ? 1 : 0);
  }

  string(field: number, value: string): this {
    return value === "" ? this : this.blockAlways(field, utf8Encode(value));
  }

  block(field: number, value: Uint8Array): this {
    return value.length === 0 ? this : this.blockAlways(field, value);
  }

  blockAlways(field: number, value: Uint8Array): this {
    return this.blockHead(field, value.length).raw(value);
  }

  /** What stands in front of a block of `length` bytes that the caller brings. */
  blockHead(field: number, length: number): this {
    return this.tag(field, WIRE_BYTES).varint(length);
  }

  /** Encoded bytes, as they are. */
  raw(value: Uint8Array): this {
    this.reserve(value.length);
    copyInto(this.bytes, this.at, value);
    this.at += value.length;
    return this;
  }

  /** Begins a nested message; give the returned mark to `close`. */
  open(field: number): number {
    this.tag(field, WIRE_BYTES).reserve(LENGTH_BYTES);
    this.at += LENGTH_BYTES;
    return this.at;
  }

  close(mark: number): this {
    const length = this.at - mark;
    this.bytes[mark - 4] = (length & 0x7f) | 0x80;
    this.bytes[mark - 3] = ((length >>> 7) & 0x7f) | 0x80;
    this.bytes[mark - 2] = ((length >>> 14) & 0x7f) | 0x80;
    this.bytes[mark - 1] = (length >>> 21) & 0x7f;
    return this;
  }

  finish(): Uint8Array {
    const bytes = this.bytes.subarray(0, this.at);
    this.bytes = new Uint8Array(0);
    return bytes;
  }

  private tag(field: number, wire: number): this {
    return this.varint(field * 8 + wire);
  }

  private varint(value: number): this {
    this.reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.at++] = (rest % 0x80) + 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.at++] = rest;
    return this;
  }

  private reserve(count: number): this {
    const needed = this.at + count;
    if (needed > this.bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
      grown.set(this.bytes.subarray(0, this.at));
      this.bytes = grown;
    }
    return this;
  }
}
