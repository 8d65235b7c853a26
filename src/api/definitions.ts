// The service definitions, from the shipped .proto files. Requests are decoded by us: a malformed one is the caller's
// INVALID_ARGUMENT, not a failure of ours, and costs no more than its bytes.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from "@grpc/proto-loader";
import { DecodeError } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import { GRPC_MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX } from "../base/limits.ts";
import type { Worked } from "../base/work.ts";
import { checkBytes, checkValues, shapeOf } from "./request-bounds.ts";

export type Decoded<T> = { readonly value: T; readonly error: null } | { readonly value: null; readonly error: BrokerError };

const files = ["messaging", "cluster", "admin"].map((name) => `flotilla/v1/${name}.proto`);

/** 64-bit numbers come as decimal text, so that none is rounded unseen. */
export function loadProtos(): PackageDefinition {
  return loadSync(files, { includeDirs: [protoDirectory()], longs: String, defaults: true, oneofs: true, keepCase: false, enums: Number });
}

/** The `proto` folder of the package, from the sources as well as from the build. */
function protoDirectory(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (let level = 0; level < 6; level++) {
    const candidate = join(directory, "proto");
    if (existsSync(join(candidate, "flotilla/v1/messaging.proto"))) return candidate;
    directory = dirname(directory);
  }
  throw new Error("the folder proto/flotilla/v1 is missing from the installation");
}

export type Codec = {
  /** Bounds the values of the request itself. */
  readonly decode?: (bytes: Uint8Array) => unknown;
  readonly encode?: (value: never) => Buffer;
  readonly bytesMax?: number;
};

/** A service whose requests arrive as Decoded; `codecs` replace the generic ones, by method name. */
export function serviceOf(
  protos: PackageDefinition,
  name: string,
  codecs: Readonly<Record<string, Codec>>,
  worked: Worked = () => {},
): ServiceDefinition {
  const service = protos[name] as ServiceDefinition;
  const result: Record<string, MethodDefinition<unknown, unknown>> = {};
  for (const [method, definition] of Object.entries(service) as [string, MethodDefinition<unknown, unknown>][]) {
    const codec = codecs[method] ?? {};
    const bytesMax = codec.bytesMax ?? (codec.decode === undefined ? REQUEST_BYTES_MAX : GRPC_MESSAGE_BYTES_MAX);
    const decode = codec.decode ?? generic(protos, definition);
    const encode = (codec.encode as ((value: unknown) => Buffer) | undefined) ?? definition.responseSerialize;
    const decoding = `decoding a request: ${method}`;
    const encoding = `encoding an answer: ${method}`;
    result[method] = {
      ...definition,
      requestDeserialize: (bytes) => {
        const beganMs = performance.now();
        const request = decoded(() => {
          checkBytes(bytes, bytesMax);
          return decode(bytes);
        });
        worked(decoding, beganMs);
        return request;
      },
      responseSerialize: (value) => {
        const beganMs = performance.now();
        const bytes = encode(value);
        worked(encoding, beganMs);
        return bytes;
      },
    };
  }
  return result;
}

function generic(protos: PackageDefinition, definition: MethodDefinition<unknown, unknown>): (bytes: Uint8Array) => unknown {
  const shape = shapeOf(protos, (definition as unknown as { requestType: MessageTypeDefinition<object, object> }).requestType);
  return (bytes) => {
    checkValues(bytes, shape);
    try {
      return definition.requestDeserialize(bytes as Buffer);
    } catch (error) {
      throw new DecodeError((error as Error).message);
    }
  };
}

function decoded(decode: () => unknown): Decoded<unknown> {
  try {
    return { value: decode(), error: null };
  } catch (error) {
    if (error instanceof DecodeError)
      return { value: null, error: new BrokerError("INVALID_ARGUMENT", `the request is not a valid message: ${error.message}`) };
    if (error instanceof BrokerError) return { value: null, error };
    throw error;
  }
}

/** A 64-bit field as a number of 0..2^53-1. */
export function count(text: string | number, field: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new BrokerError("INVALID_ARGUMENT", `${field} must be a whole number of 0..2^53-1, not ${text}`, { field });
  return value;
}
