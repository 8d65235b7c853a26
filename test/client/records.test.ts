import fc from "fast-check";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import { expect, test } from "vitest";
import { BatchEncoder, HEAD_ROOM_BYTES, decodeBatch, hashKey, type OutgoingRecord } from "../../src/client/records.ts";

const root = new protobuf.Root();
root.resolvePath = (_origin, target) => fileURLToPath(new URL(`../../proto/${target}`, import.meta.url));
root.loadSync("flotilla/v1/messaging.proto");
const RecordBatch = root.lookupType("flotilla.v1.RecordBatch");

const bytes = fc.uint8Array({ maxLength: 300 });
const outgoing: fc.Arbitrary<OutgoingRecord> = fc.record(
  {
    body: fc.oneof(bytes, fc.string({ unit: "binary" })),
    key: fc.oneof(bytes, fc.string({ unit: "binary" })),
    headers: fc.array(fc.record({ name: fc.string(), value: bytes }), { maxLength: 4 }),
    timeMs: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    contentType: fc.string(),
    correlationId: fc.string(),
  },
  { requiredKeys: ["body"] },
);

const hex = (value: Uint8Array | string): string => Buffer.from(value as string).toString("hex");

function encode(records: readonly OutgoingRecord[]): Uint8Array {
  const encoder = new BatchEncoder(Buffer.allocUnsafeSlow(16));
  for (const record of records) encoder.add(record);
  expect(encoder.count).toBe(records.length);
  return batchOf(encoder);
}

function batchOf(encoder: BatchEncoder): Buffer {
  const { length } = encoder;
  return encoder.finish().subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + length);
}

/** A record in a form that can be compared, whichever codec it came from. */
function plain({ body, key, headers = [], timeMs = 0, contentType = "", correlationId = "" }: OutgoingRecord): object {
  return {
    body: hex(body),
    key: key === undefined ? null : hex(key),
    headers: headers.map(({ name, value }) => [name ?? "", hex(value ?? "")]),
    timeMs,
    contentType,
    correlationId,
  };
}

test("records: what we encode, protobufjs reads", () => {
  fc.assert(
    fc.property(fc.array(outgoing, { minLength: 1, maxLength: 20 }), (records) => {
      const message = RecordBatch.toObject(RecordBatch.decode(encode(records)), { longs: Number, arrays: true }) as {
        records: OutgoingRecord[];
      };
      expect(message.records.map(({ body, ...rest }) => plain({ ...rest, body: body ?? "" }))).toEqual(records.map(plain));
    }),
  );
});

test("records: what protobufjs encodes, we read", () => {
  fc.assert(
    fc.property(fc.array(outgoing, { minLength: 1, maxLength: 20 }), fc.nat(1e9), (records, baseOffset) => {
      const message = {
        records: records.map(({ body, key, headers = [], ...rest }) => ({
          ...rest,
          body: Buffer.from(body as string),
          ...(key === undefined ? {} : { key: Buffer.from(key as string) }),
          headers,
        })),
      };
      const encoded = RecordBatch.encode(RecordBatch.fromObject(message)).finish();
      const decoded = decodeBatch(encoded, { partition: 3, baseOffset, storedMs: 5 });
      expect(decoded.map(({ key, ...rest }) => plain({ ...rest, key: key ?? undefined }))).toEqual(records.map(plain));
      expect(decoded.map(({ offset }) => offset)).toEqual(records.map((_, at) => baseOffset + at));
    }),
  );
});

test("records: bytes that are no batch give MALFORMED_BATCH with the place, never anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), (noise) => {
      try {
        decodeBatch(noise, { partition: 1, baseOffset: 10, storedMs: 0 });
      } catch (error) {
        expect(error).toMatchObject({ name: "FlotillaError", code: "MALFORMED_BATCH", details: { partition: "1" } });
      }
    }),
  );
  const cut = encode([{ body: "whole" }, { body: "cut" }]).slice(0, -1);
  expect(() => decodeBatch(cut, { partition: 1, baseOffset: 10, storedMs: 0 })).toThrow(/offset 11/);
});

test("records: a foreign time before 1970 does not cost the record", () => {
  const encoded = RecordBatch.encode(
    RecordBatch.fromObject({ records: [{ body: Buffer.from("old"), timeMs: -1, contentType: "text/plain" }] }),
  ).finish();
  const [record] = decodeBatch(encoded, { partition: 0, baseOffset: 0, storedMs: 0 });
  expect(record).toMatchObject({ timeMs: 0, contentType: "text/plain" });
  expect(Buffer.from(record!.body).toString()).toBe("old");
});

test("records: a record taken back leaves no trace", () => {
  const encoder = new BatchEncoder(Buffer.allocUnsafeSlow(4));
  encoder.add({ body: "one", key: "k" });
  const before = encoder.length;
  encoder.add({ body: "x".repeat(5_000) });
  encoder.takeBack(before);
  encoder.add({ body: "two" });
  expect(hex(batchOf(encoder))).toBe(hex(encode([{ body: "one", key: "k" }, { body: "two" }])));
});

test("records: a batch keeps its bytes when the record's buffer is written again", () => {
  const body = Buffer.from("before");
  const encoder = new BatchEncoder(Buffer.allocUnsafeSlow(64));
  encoder.add({ body });
  body.write("after!");
  const [record] = decodeBatch(batchOf(encoder), { partition: 0, baseOffset: 0, storedMs: 0 });
  expect(Buffer.from(record!.body).toString()).toBe("before");
});

test("records: keys hash as FNV-1a does", () => {
  // Vectors of the FNV authors (isthe.com/chongo/tech/comp/fnv).
  for (const [text, expected] of [
    ["", 0x811c9dc5],
    ["a", 0xe40c292c],
    ["foobar", 0xbf9cf968],
  ] as const) {
    expect(hashKey(Buffer.from(text)), text).toBe(expected);
  }
});
