// The service definitions, from the shipped .proto files. Requests are decoded by us: a malformed one is the caller's
// INVALID_ARGUMENT, not a failure of ours, and costs no more than its bytes.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { loadSync, type PackageDefinition } from "@grpc/proto-loader";
import { DecodeError } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import { ProtoReader } from "../base/protobuf.ts";

/** Fields of one request outside the hot messages; a legal one has at most a few per partition. */
const FIELDS_MAX = 10_000;

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

export type Codec = { readonly decode?: (bytes: Uint8Array) => unknown; readonly encode?: (value: never) => Buffer };

/** A service whose requests arrive as Decoded; `codecs` replace the generic ones, by method name. */
export function serviceOf(protos: PackageDefinition, name: string, codecs: Readonly<Record<string, Codec>>): ServiceDefinition {
  const service = protos[name] as ServiceDefinition;
  const result: Record<string, MethodDefinition<unknown, unknown>> = {};
  for (const [method, definition] of Object.entries(service)) {
    const codec = codecs[method];
    const decode = codec?.decode ?? ((bytes: Uint8Array) => generic(definition as MethodDefinition<unknown, unknown>, bytes));
    result[method] = {
      ...(definition as MethodDefinition<unknown, unknown>),
      requestDeserialize: (bytes) => decoded(() => decode(bytes)),
      ...(codec?.encode === undefined ? {} : { responseSerialize: codec.encode as (value: unknown) => Buffer }),
    };
  }
  return result;
}

function generic(definition: MethodDefinition<unknown, unknown>, bytes: Buffer | Uint8Array): unknown {
  const reader = new ProtoReader(bytes);
  for (let fields = 0; reader.next(); fields++) {
    if (fields > FIELDS_MAX) throw new DecodeError(`a request may have ${FIELDS_MAX} fields`);
    reader.skip();
  }
  try {
    return definition.requestDeserialize(bytes as Buffer);
  } catch (error) {
    throw new DecodeError((error as Error).message);
  }
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
