import fc from "fast-check";
import { expect, test } from "vitest";
import { BATCH_RECORDS_MAX } from "../../src/base/limits.ts";
import { ProtoWriter } from "../../src/base/protobuf.ts";
import {
  BATCH_MALFORMED,
  BATCH_TOO_MANY,
  readRecordsCount,
  readRecordsHeader,
  recordsBody,
  RECORDS_HEADER_BYTES,
  scanRecordBatch,
  writeRecordsHeader,
} from "../../src/machine/stream/records-codec.ts";
import { records } from "./entries.ts";

const whole = fc.nat({ max: Number.MAX_SAFE_INTEGER - BATCH_RECORDS_MAX });
const headers = fc.record({
  count: fc.integer({ min: 1, max: BATCH_RECORDS_MAX }),
  producerId: whole,
  producerEpoch: fc.nat({ max: 0xffff_ffff }),
  sequence: whole,
});

test("records: a header comes back as it was written, wherever the payload lies in its buffer", () => {
  fc.assert(
    fc.property(headers, fc.nat({ max: 40 }), fc.uint8Array({ maxLength: 50 }), (header, at, body) => {
      const buffer = new Uint8Array(at + RECORDS_HEADER_BYTES + body.length).fill(0xee);
      writeRecordsHeader(buffer, at, header);
      buffer.set(body, at + RECORDS_HEADER_BYTES);
      const payload = buffer.subarray(at);
      expect(readRecordsHeader(payload)).toEqual({ ...header, isSparse: false, isTransaction: false, isScanned: false, sidecarBytes: 0 });
      expect(readRecordsCount(payload)).toBe(header.count);
      expect(recordsBody(payload)).toEqual(body);
      expect(recordsBody(payload).buffer).toBe(buffer.buffer);
    }),
  );
});

const damage: readonly { name: string; change: (payload: Uint8Array, view: DataView) => Uint8Array | void }[] = [
  { name: "shorter than a header", change: (payload) => payload.subarray(0, RECORDS_HEADER_BYTES - 1) },
  { name: "of no bytes", change: (payload) => payload.subarray(0, 0) },
  { name: "of another format", change: (_, view) => view.setUint8(0, 2) },
  { name: "with a flag that is not known", change: (_, view) => view.setUint8(1, 16) },
  { name: "with a sidecar of no facts", change: (payload) => withSidecarOfNoFacts(payload) },
  { name: "of a transaction of no group", change: (_, view) => (view.setUint8(1, 8), view.setUint32(8, 0, true)) },
  { name: "of a transaction with gaps", change: (_, view) => view.setUint8(1, 10) },
  { name: "with a sidecar that it does not have", change: (_, view) => view.setUint8(1, 1) },
  { name: "with something in its reserve", change: (_, view) => view.setUint16(2, 256, true) },
  { name: "without records", change: (_, view) => view.setUint32(4, 0, true) },
  { name: "with a record too many", change: (_, view) => view.setUint32(4, BATCH_RECORDS_MAX + 1, true) },
  { name: "with a producer id of 2^53", change: (_, view) => view.setUint32(12, 0x20_0000, true) },
  { name: "with a sequence of 2^53", change: (_, view) => view.setUint32(20, 0x20_0000, true) },
  {
    name: "whose last sequence passes 2^53",
    change: (_, view) => {
      view.setUint32(16, 0xffff_ffff, true);
      view.setUint32(20, 0x1f_ffff, true);
    },
  },
];

function withSidecarOfNoFacts(payload: Uint8Array): Uint8Array {
  const both = records(1, { id: 7, sequence: 3, facts: [{ priority: 1 }] });
  both[1]! |= payload[1]!;
  return both;
}

for (const { name, change } of damage) {
  test(`records: a payload ${name} is refused`, () => {
    const payload = records(1, { id: 7, sequence: 3 });
    expect(readRecordsHeader(payload)).toBeDefined();
    const changed = change(payload, new DataView(payload.buffer));
    expect(readRecordsHeader(changed ?? payload)).toBeUndefined();
  });
}

const scans: readonly { name: string; bytes: number[]; expected: number }[] = [
  { name: "nothing", bytes: [], expected: 0 },
  { name: "one empty record", bytes: [0x0a, 0], expected: 1 },
  { name: "records with bodies", bytes: [0x0a, 2, 9, 9, 0x0a, 1, 9, 0x0a, 0], expected: 3 },
  { name: "a record that contains what looks like records", bytes: [0x0a, 4, 0x0a, 0, 0x0a, 0], expected: 1 },
  { name: "a padded length", bytes: [0x0a, 0x81, 0x80, 0x80, 0x00, 7], expected: 1 },
  { name: "unknown fields between", bytes: [0x10, 0xff, 0x01, 0x0a, 0, 0x1a, 1, 5, 0x0a, 0], expected: 2 },
  { name: "an unknown fixed64 and fixed32", bytes: [0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0, 0x15, 1, 2, 3, 4], expected: 1 },
  { name: "an unknown field of a large number", bytes: [0xfa, 0xff, 0xff, 0xff, 0x0f, 1, 0, 0x0a, 0], expected: 1 },
  { name: "a tag alone", bytes: [0x0a], expected: BATCH_MALFORMED },
  { name: "a length that ends early", bytes: [0x0a, 0x80], expected: BATCH_MALFORMED },
  { name: "a length past the end", bytes: [0x0a, 2, 1], expected: BATCH_MALFORMED },
  { name: "a length of more than 32 bits", bytes: [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], expected: BATCH_MALFORMED },
  { name: "field 1 as a varint", bytes: [0x08, 1], expected: BATCH_MALFORMED },
  { name: "field 1 as fixed64", bytes: [0x09, 1, 2, 3, 4, 5, 6, 7, 8], expected: BATCH_MALFORMED },
  { name: "field 1 as fixed32", bytes: [0x0d, 1, 2, 3, 4], expected: BATCH_MALFORMED },
  { name: "field 1 with a padded tag", bytes: [0x8a, 0x00, 0], expected: BATCH_MALFORMED },
  { name: "field 0", bytes: [0x02, 0], expected: BATCH_MALFORMED },
  { name: "a group", bytes: [0x13, 0x14], expected: BATCH_MALFORMED },
  { name: "wire type 7", bytes: [0x17, 0], expected: BATCH_MALFORMED },
  { name: "an unknown fixed64 that ends early", bytes: [0x11, 1, 2, 3], expected: BATCH_MALFORMED },
  { name: "an unknown block past the end", bytes: [0x12, 5, 1], expected: BATCH_MALFORMED },
  { name: "an unknown varint without end", bytes: [0x10, ...Array.from({ length: 12 }, () => 0xff)], expected: BATCH_MALFORMED },
  { name: "a tag without end", bytes: Array.from({ length: 12 }, () => 0x80), expected: BATCH_MALFORMED },
];

for (const { name, bytes, expected } of scans) {
  test(`records: a scan of ${name} gives ${expected}`, () => {
    expect(scanRecordBatch(Uint8Array.from(bytes), 0, bytes.length)).toBe(expected);
  });
}

test("records: a scan counts up to the bound and stops there", () => {
  const bytes = new Uint8Array((BATCH_RECORDS_MAX + 1) * 2);
  for (let at = 0; at < bytes.length; at += 2) bytes[at] = 0x0a;
  expect(scanRecordBatch(bytes, 0, bytes.length - 2)).toBe(BATCH_RECORDS_MAX);
  expect(scanRecordBatch(bytes, 0, bytes.length)).toBe(BATCH_TOO_MANY);
});

test("records: a scan counts field 1 whatever else is in the message", () => {
  const field = fc.oneof(
    fc.record({ number: fc.constant(1), body: fc.uint8Array({ maxLength: 300 }) }),
    fc.record({ number: fc.integer({ min: 2, max: 5_000 }), body: fc.uint8Array({ maxLength: 20 }) }),
    fc.record({ number: fc.integer({ min: 2, max: 5_000 }), value: whole }),
  );
  fc.assert(
    fc.property(fc.array(field, { maxLength: 40 }), (fields) => {
      const writer = new ProtoWriter();
      for (const one of fields) {
        if ("body" in one) writer.blockAlways(one.number, one.body);
        else writer.uintAlways(one.number, one.value);
      }
      const bytes = writer.finish();
      expect(scanRecordBatch(bytes, 0, bytes.length)).toBe(fields.filter(({ number }) => number === 1).length);
    }),
  );
});

test("records: a scan of any bytes is a count or a refusal, and looks at nothing outside its range", () => {
  const tag = fc.constantFrom(0x0a, 0x0a, 0x0a, 0, 1, 2, 3, 0x10, 0x12, 0x80, 0xff);
  const hostile = fc.array(fc.oneof(tag, fc.nat({ max: 255 })), { maxLength: 60 });
  fc.assert(
    fc.property(hostile, fc.array(fc.nat({ max: 255 }), { maxLength: 12 }), fc.nat({ max: 8 }), (bytes, after, before) => {
      const alone = scanRecordBatch(Uint8Array.from(bytes), 0, bytes.length);
      const embedded = Uint8Array.from([...Array.from({ length: before }, () => 0x0a), ...bytes, ...after]);
      expect(scanRecordBatch(embedded, before, before + bytes.length)).toBe(alone);
      expect(alone === BATCH_MALFORMED || (alone >= 0 && alone <= bytes.length / 2)).toBe(true);
    }),
    { numRuns: 500 },
  );
});
