import fc from "fast-check";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import { expect, test } from "vitest";
import { ProtoWriter } from "../../src/base/protobuf.ts";
import { HEAD_ROOM_BYTES } from "../../src/client/records.ts";
import { decodeAcks, decodeFetched, encodeBatch, encodeFetch, encodeOpen, frameInPlace, toBuffer } from "../../src/client/wire.ts";

const root = new protobuf.Root();
root.resolvePath = (_origin, target) => fileURLToPath(new URL(`../../proto/${target}`, import.meta.url));
root.loadSync("flotilla/v1/messaging.proto");

const whole = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const small = fc.nat(0xffff_ffff);
const options = { longs: Number, defaults: true, arrays: true, oneofs: true } as const;

function read(type: string, bytes: Uint8Array): Record<string, unknown> {
  const Type = root.lookupType(`flotilla.v1.${type}`);
  return Type.toObject(Type.decode(bytes), options);
}

function write(type: string, message: object): Uint8Array {
  const Type = root.lookupType(`flotilla.v1.${type}`);
  return Type.encode(Type.fromObject(message)).finish();
}

const records = fc.array(fc.record({ body: fc.uint8Array({ minLength: 1, maxLength: 40 }) }), { minLength: 1, maxLength: 5 });

test("wire: a publish frame is read by protobufjs", () => {
  const batch = fc.record({ id: whole, partition: small, sequence: whole, count: small, records });
  fc.assert(
    fc.property(fc.string(), whole, small, fc.array(batch, { maxLength: 5 }), (topic, producerId, epoch, batches) => {
      const writer = new ProtoWriter();
      encodeOpen(writer, { vhost: "v", topic, producerId, epoch });
      for (const { id, records: list, ...rest } of batches)
        encodeBatch(writer, id, { ...rest, records: write("RecordBatch", { records: list }) });
      const frame = read("PublishStreamRequest", toBuffer(writer)) as {
        open: object;
        batches: { records: { records: { body: Buffer }[] } }[];
      };
      expect(frame.open).toMatchObject({ vhost: "v", topic, producerId, producerEpoch: epoch });
      expect(frame.batches).toMatchObject(batches.map(({ id, partition, sequence, count }) => ({ id, partition, sequence, count })));
      expect(frame.batches.map((one) => one.records.records.map(({ body }) => body.toString("hex")))).toEqual(
        batches.map((one) => one.records.map(({ body }) => Buffer.from(body).toString("hex"))),
      );
    }),
  );
});

test("wire: a batch framed where it lies is the same message as a copied one", () => {
  fc.assert(
    fc.property(whole, small, whole, small, records, (id, partition, sequence, count, list) => {
      const body = write("RecordBatch", { records: list });
      const memory = Buffer.alloc(HEAD_ROOM_BYTES + body.length, 0xff);
      memory.set(body, HEAD_ROOM_BYTES);
      const batch = { partition, sequence, count, records: memory.subarray(HEAD_ROOM_BYTES) };
      const copied = new ProtoWriter();
      encodeBatch(copied, id, batch);
      expect(read("PublishStreamRequest", frameInPlace(id, batch))).toEqual(read("PublishStreamRequest", toBuffer(copied)));
    }),
  );
});

const partError = fc.option(
  fc.record({
    reason: fc.constantFrom("NO_LEADER", "OUT_OF_SEQUENCE"),
    message: fc.string(),
    retryable: fc.boolean(),
    maybeApplied: fc.boolean(),
    metadata: fc.dictionary(
      fc.string({ minLength: 1 }).filter((name) => name !== "__proto__"),
      fc.string(),
    ),
  }),
  { nil: undefined },
);
const asRead = (
  error: { reason: string; message: string; retryable: boolean; maybeApplied: boolean; metadata: object } | undefined,
): object | null =>
  error === undefined
    ? null
    : {
        code: error.reason,
        message: error.message,
        retryable: error.retryable,
        maybeApplied: error.maybeApplied,
        details: { ...error.metadata },
      };
const shown = (
  error: { code: string; message: string; retryable: boolean; maybeApplied: boolean; details: object } | null,
): object | null =>
  error === null
    ? null
    : {
        code: error.code,
        message: error.message,
        retryable: error.retryable,
        maybeApplied: error.maybeApplied,
        details: { ...error.details },
      };

test("wire: acknowledgements of protobufjs are read", () => {
  const ack = fc.record({
    firstId: whole,
    batches: small,
    partition: small,
    baseOffset: whole,
    count: small,
    duplicate: fc.boolean(),
    error: partError,
    unroutable: fc.array(small, { maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(ack, { maxLength: 6 }), (acks) => {
      const decoded = decodeAcks(
        write("PublishStreamResponse", { acks: acks.map(({ error, ...rest }) => (error === undefined ? rest : { ...rest, error })) }),
      );
      expect(decoded.map(({ error, ...rest }) => ({ ...rest, error: shown(error) }))).toEqual(
        acks.map(({ firstId, batches, baseOffset, duplicate, unroutable, error }) => ({
          firstId,
          batches,
          baseOffset,
          duplicate,
          unroutable,
          error: asRead(error),
        })),
      );
    }),
  );
});

test("wire: a fetch request is read by protobufjs", () => {
  const from = fc.oneof(
    fc.record({ offset: whole }),
    fc.record({ timeMs: whole }),
    fc.constantFrom("earliest" as const, "latest" as const),
  );
  fc.assert(
    fc.property(fc.array(fc.record({ partition: small, from }), { maxLength: 6 }), small, small, (positions, maxBytes, maxWaitMs) => {
      const request = read("FetchRequest", encodeFetch({ vhost: "v", topic: "t", positions, maxBytes, maxWaitMs })) as {
        positions: Record<string, unknown>[];
      };
      expect(request).toMatchObject({ vhost: "v", topic: "t", maxBytes, maxWaitMs });
      expect(request.positions).toMatchObject(
        positions.map(({ partition, from: wanted }) => ({
          partition,
          ...(wanted === "earliest"
            ? { from: "earliest" }
            : wanted === "latest"
              ? { from: "latest" }
              : "offset" in wanted
                ? { from: "offset", offset: wanted.offset }
                : { from: "timeMs", timeMs: wanted.timeMs }),
        })),
      );
    }),
  );
});

test("wire: a fetch answer of protobufjs is read", () => {
  const batch = fc.record({ baseOffset: whole, count: small, timeMs: whole, records });
  const part = fc.record({
    partition: small,
    batches: fc.array(batch, { maxLength: 3 }),
    startOffset: whole,
    endOffset: whole,
    nextOffset: whole,
    error: partError,
  });
  fc.assert(
    fc.property(fc.array(part, { maxLength: 4 }), (partitions) => {
      const decoded = decodeFetched(
        write("FetchResponse", {
          partitions: partitions.map(({ error, batches, ...rest }) => ({
            ...rest,
            batches: batches.map((one) => ({ ...one, records: { records: one.records } })),
            ...(error === undefined ? {} : { error }),
          })),
        }),
      );
      expect(
        decoded.map(({ error, batches, ...rest }) => ({
          ...rest,
          error: shown(error),
          batches: batches.map(({ bytes, ...one }) => ({ ...one, bytes: Buffer.from(bytes).toString("hex") })),
        })),
      ).toEqual(
        partitions.map(({ error, batches, partition, ...rest }) => ({
          ...rest,
          partition,
          error: asRead(error),
          batches: batches.map(({ baseOffset, count, timeMs, records: list }) => ({
            partition,
            baseOffset,
            count,
            storedMs: timeMs,
            bytes: Buffer.from(write("RecordBatch", { records: list })).toString("hex"),
          })),
        })),
      );
    }),
  );
});
