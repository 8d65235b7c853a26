// Archive files: what is written comes back, however it is read, and what is damaged is said to be.

import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import protobuf from "protobufjs";
import { expect, test } from "vitest";
import {
  ArchiveParser,
  encodeArchivedBatch,
  encodeArchiveEnd,
  encodeArchiveHeader,
  type ArchivedBatch,
  type ArchiveItem,
} from "../../src/base/archive-format.ts";
import { DecodeError } from "../../src/base/bytes.ts";

const HEADER = {
  clusterId: "c",
  vhost: "/",
  topic: "logs",
  partition: 3,
  group: 17,
  nodeId: 2,
  createdMs: 1_700_000_000_000,
  firstOffset: 5,
};

function fileOf(batches: readonly ArchivedBatch[]): Buffer {
  const bytes = Buffer.concat([encodeArchiveHeader(HEADER), ...batches.map((batch) => encodeArchivedBatch(batch, crc32))]);
  return Buffer.concat([bytes, encodeArchiveEnd({ endOffset: 9, records: batches.length }, crc32(bytes), crc32)]);
}

/** All items of a file that is read in pieces. Records share the memory of their piece, so they are copied. */
function itemsOf(file: Uint8Array, pieceBytes: number): ArchiveItem[] {
  const parser = new ArchiveParser(crc32);
  const items: ArchiveItem[] = [];
  for (let at = 0; at < file.length; at += pieceBytes)
    for (const item of parser.push(file.subarray(at, at + pieceBytes)))
      items.push(item.kind === "batch" ? { ...item, batch: { ...item.batch, records: Uint8Array.from(item.batch.records) } } : item);
  parser.done();
  return items;
}

const batch = fc.record({
  baseOffset: fc.maxSafeNat(),
  count: fc.nat(65_536),
  timeMs: fc.maxSafeNat(),
  records: fc.uint8Array({ maxLength: 200 }),
});

test("archive format: what was written comes back, in pieces of any size", () => {
  fc.assert(
    fc.property(fc.array(batch, { maxLength: 5 }), fc.integer({ min: 1, max: 300 }), (batches, pieceBytes) => {
      const items = itemsOf(fileOf(batches), pieceBytes);
      expect(items).toEqual([
        { kind: "header", header: HEADER },
        ...batches.map((one) => ({ kind: "batch", batch: one })),
        { kind: "end", end: { endOffset: 9, records: batches.length } },
      ]);
    }),
  );
});

test("archive format: any flipped bit and any cut is noticed", () => {
  const records = new Uint8Array(40).fill(7);
  const file = fileOf([1, 2].map((baseOffset) => ({ baseOffset, count: 1, timeMs: 1, records })));
  for (let bit = 0; bit < file.length * 8; bit++) {
    const damaged = Buffer.from(file);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    expect(() => itemsOf(damaged, 64), `bit ${bit}`).toThrow(DecodeError);
  }
  for (let length = 0; length < file.length; length++)
    expect(() => itemsOf(file.subarray(0, length), 64), `${length}`).toThrow(DecodeError);
});

test("archive format: any protobuf library reads a file as the one message that archive.proto says it is", async () => {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => fileURLToPath(new URL(`../../proto/${target}`, import.meta.url));
  await root.load("flotilla/v1/archive.proto");
  const record = { key: Buffer.from("k"), body: Buffer.from("hello") };
  const records = root
    .lookupType("flotilla.v1.RecordBatch")
    .encode({ records: [record] })
    .finish();
  const type = root.lookupType("flotilla.v1.ArchiveFile");
  const file = type.toObject(type.decode(fileOf([{ baseOffset: 5, count: 1, timeMs: 42, records }])), { longs: Number });
  expect(file).toMatchObject({
    header: HEADER,
    batches: [{ batch: { baseOffset: 5, count: 1, timeMs: 42, records: { records: [{ body: Buffer.from("hello") }] } } }],
    end: { endOffset: 9, records: 1 },
  });
});
