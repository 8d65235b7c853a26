// What a request may cost before it is decoded: bytes and values are bounded, at all levels, in every method.

import { expect, test } from "vitest";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { loadProtos, serviceOf, type Decoded } from "../../src/api/definitions.ts";
import { decodeFetch, decodePublish, decodePublishFrame } from "../../src/api/raw-codec.ts";
import {
  BATCH_FIELDS_MAX,
  BATCH_RECORDS_MAX,
  COMMIT_BYTES_MAX,
  ERROR_TEXT_LENGTH_MAX,
  GRPC_MESSAGE_BYTES_MAX,
  REQUEST_BYTES_MAX,
  REQUEST_PARTITIONS_MAX,
  REQUEST_VALUES_MAX,
} from "../../src/base/limits.ts";
import { BrokerError } from "../../src/base/errors.ts";
import { ProtoWriter } from "../../src/base/protobuf.ts";
import { BATCH_TOO_MANY, scanRecordBatch } from "../../src/machine/stream/records-codec.ts";
import { attacks } from "../../bench/attacks.ts";

const protos = loadProtos();
const services: Readonly<Record<string, ServiceDefinition>> = {
  "flotilla.v1.Messaging": serviceOf(protos, "flotilla.v1.Messaging", {
    Publish: { decode: decodePublish },
    PublishStream: { decode: decodePublishFrame },
    Fetch: { decode: decodeFetch, bytesMax: REQUEST_BYTES_MAX },
    CommitOffsets: { bytesMax: COMMIT_BYTES_MAX },
  }),
  "flotilla.v1.Cluster": serviceOf(protos, "flotilla.v1.Cluster", {}),
  "flotilla.v1.Admin": serviceOf(protos, "flotilla.v1.Admin", {}),
};

function decode(service: string, method: string, bytes: Uint8Array): Decoded<unknown> {
  return services[service]![method]!.requestDeserialize(Buffer.from(bytes)) as Decoded<unknown>;
}

function codeOf(service: string, method: string, bytes: Uint8Array): string {
  return decode(service, method, bytes).error?.code ?? "none";
}

/** An empty submessage, or an empty text, of this field, so many times. */
const empties = (field: number, count: number): Uint8Array => Buffer.alloc(count * 2, Buffer.from([field * 8 + 2, 0]));
const message = (fill: (writer: ProtoWriter) => void): Uint8Array => {
  const writer = new ProtoWriter();
  fill(writer);
  return writer.finish();
};

test("request bounds: a request has as many values as it may have, and no more, whatever they are", () => {
  const cases = [
    { name: "submessages", method: "CommitOffsets", bytes: (count: number) => empties(4, count) },
    { name: "unknown fields", method: "CommitOffsets", bytes: (count: number) => empties(15, count) },
    { name: "packed numbers", method: "GetOffsets", bytes: (count: number) => message((w) => w.block(4, Buffer.alloc(count - 1))) },
    {
      name: "packed numbers of several bytes",
      method: "GetOffsets",
      bytes: (count: number) => message((w) => w.block(4, Buffer.alloc((count - 1) * 2, Buffer.from([0x80, 1])))),
    },
    {
      name: "values within a submessage",
      method: "CommitOffsets",
      bytes: (count: number) => message((w) => w.block(4, Buffer.alloc((count - 1) * 2, Buffer.from([8, 1])))),
    },
    {
      name: "packed numbers in several fields",
      method: "GetOffsets",
      bytes: (count: number) => message((w) => w.block(4, Buffer.alloc(count / 2 - 1)).block(4, Buffer.alloc(count / 2 - 1))),
    },
  ];
  for (const { name, method, bytes } of cases) {
    expect(codeOf("flotilla.v1.Messaging", method, bytes(REQUEST_VALUES_MAX)), name).toBe("none");
    expect(codeOf("flotilla.v1.Messaging", method, bytes(REQUEST_VALUES_MAX + 2)), name).toBe("REQUEST_TOO_LARGE");
  }
});

test("request bounds: every method has a bound on its bytes", () => {
  for (const [service, methods] of Object.entries(services)) {
    for (const method of Object.keys(methods)) {
      const carries = method === "Publish" || method === "PublishStream";
      const max = carries ? GRPC_MESSAGE_BYTES_MAX : method === "CommitOffsets" ? COMMIT_BYTES_MAX : REQUEST_BYTES_MAX;
      // One field that nobody knows.
      const filler = (bytes: number): Uint8Array => message((w) => w.block(15, Buffer.alloc(bytes)));
      expect(codeOf(service, method, filler(max)), `${service}/${method}`).toBe("REQUEST_TOO_LARGE");
      expect(codeOf(service, method, filler(max - 8)), `${service}/${method}`).toBe("none");
    }
  }
});

test("request bounds: what is no message is the caller's INVALID_ARGUMENT, groups and cut packed numbers too", () => {
  for (const bytes of [[0x0b, 0x0c], [0x22, 0x02, 0x80, 0x80], [0x22, 0x7f], [0x07]])
    expect(codeOf("flotilla.v1.Messaging", "GetOffsets", new Uint8Array(bytes)), bytes.join(" ")).toBe("INVALID_ARGUMENT");
});

test("request bounds: hot messages have few fields beside their repeated ones, at each level", () => {
  const many = 1_000;
  const publish = (bytes: Uint8Array): string => codeOf("flotilla.v1.Messaging", "Publish", bytes);
  for (const field of [2, 4, 6, 7, 15]) expect(publish(empties(field, many)), `field ${field}`).toBe("INVALID_ARGUMENT");
  expect(publish(message((w) => w.block(6, Buffer.alloc(many * 2, Buffer.from([8, 1])))))).toBe("INVALID_ARGUMENT");
  const frame = (bytes: Uint8Array): string => codeOf("flotilla.v1.Messaging", "PublishStream", bytes);
  expect(frame(empties(1, many * 2))).toBe("INVALID_ARGUMENT");
  expect(frame(message((w) => w.block(2, empties(5, many))))).toBe("INVALID_ARGUMENT");
  expect(frame(message((w) => w.block(1, empties(2, many))))).toBe("INVALID_ARGUMENT");
  expect(frame(empties(2, 1_024))).toBe("none");
  const fetch = (bytes: Uint8Array): string => codeOf("flotilla.v1.Messaging", "Fetch", bytes);
  expect(fetch(empties(3, REQUEST_PARTITIONS_MAX))).toBe("none");
  expect(fetch(empties(3, REQUEST_PARTITIONS_MAX + 1))).toBe("INVALID_ARGUMENT");
  expect(fetch(empties(2, many * 2))).toBe("INVALID_ARGUMENT");
  expect(fetch(message((w) => w.block(3, Buffer.alloc(many * 2, Buffer.from([8, 1])))))).toBe("INVALID_ARGUMENT");
});

test("request bounds: a name that cannot be one is refused before it is decoded", () => {
  const long = message((w) => w.string(2, "é".repeat(1_000_000)));
  expect(codeOf("flotilla.v1.Messaging", "Publish", long)).toBe("INVALID_NAME");
});

test("request bounds: a record batch has few fields that are no records, and the scan ends early", () => {
  const scan = (bytes: Uint8Array): number => scanRecordBatch(bytes, 0, bytes.length);
  expect(scan(Buffer.concat([empties(9, BATCH_FIELDS_MAX), empties(1, 1)]))).toBe(1);
  expect(scan(Buffer.concat([empties(9, BATCH_FIELDS_MAX + 1), empties(1, 1)]))).toBe(BATCH_TOO_MANY);
  expect(scan(empties(1, BATCH_RECORDS_MAX))).toBe(BATCH_RECORDS_MAX);
  expect(scan(empties(1, BATCH_RECORDS_MAX + 1))).toBe(BATCH_TOO_MANY);
});

test("request bounds: an error does not repeat megabytes to its caller", () => {
  const error = new BrokerError("UNKNOWN_TOPIC", "m".repeat(1_000_000), { topic: "t".repeat(1_000_000), other: "short" });
  expect(error.message).toHaveLength(ERROR_TEXT_LENGTH_MAX);
  expect(error.details["topic"]).toHaveLength(ERROR_TEXT_LENGTH_MAX);
  expect(error.details["other"]).toBe("short");
});

test("request bounds: refusing the worst requests costs no more than the best ones", () => {
  // Compared with looking at the same bytes once, in this very run: a bound that is gone makes it hundreds of times as much.
  const targets = { topic: "t", wide: "w", partitions: 100, tiny: "t" };
  const largest = Buffer.alloc(4 * 1024 * 1024, 1);
  const look = (): number => {
    let sum = 0;
    for (let at = 0; at < largest.length; at++) sum += largest[at]!;
    return sum;
  };
  const fastest = (work: () => unknown): number => {
    let best = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 5; round++) {
      const began = performance.now();
      work();
      best = Math.min(best, performance.now() - began);
    }
    return best;
  };
  const once = fastest(look);
  for (const { name, path, body, headers, isLegal } of attacks(targets)) {
    const [, service, method] = path.split("/") as [string, string, string];
    if (headers !== undefined || isLegal || services[service]?.[method] === undefined) continue;
    const bytes = body().subarray(5);
    expect(
      fastest(() => decode(service, method, bytes)),
      name,
    ).toBeLessThan(20 * once);
  }
});
