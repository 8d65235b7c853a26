// BrokerError -> gRPC status: the only place where one becomes the other. Details follow google.rpc: ErrorInfo always,
// RetryInfo where a retry makes sense, BadRequest and QuotaFailure where they fit.

import { Metadata, status as grpcStatus, type ServiceError } from "@grpc/grpc-js";
import { ERRORS, GRPC, type BrokerError } from "../base/errors.ts";
import { ProtoWriter } from "../base/protobuf.ts";

const DOMAIN = "flotilla";
const TYPE_PREFIX = "type.googleapis.com/google.rpc.";
const RETRY_MS = 100;

/** What grpc-js sends as the end of a failed call. */
export function toStatus(error: BrokerError): Partial<ServiceError> & { code: number; details: string; metadata: Metadata } {
  const { grpc } = ERRORS[error.code];
  const message = ascii(error.message);
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(encodeStatus(error, grpc, message)));
  return { code: grpc, details: message, metadata };
}

export function unknownFailure(): Partial<ServiceError> {
  return { code: grpcStatus.INTERNAL, details: "a bug; the node's log says more" };
}

function encodeStatus(error: BrokerError, code: number, message: string): Uint8Array {
  const writer = new ProtoWriter(512).uint(1, code).string(2, message);
  detail(writer, "ErrorInfo", (info) => {
    info.string(1, error.code).string(2, DOMAIN);
    const entries = Object.entries(error.details);
    if (error.maybeApplied) entries.push(["maybe_applied", "true"]);
    for (const [name, value] of entries) {
      const mark = info.open(3);
      info.string(1, name).string(2, ascii(value)).close(mark);
    }
  });
  if (error.retryable) {
    detail(writer, "RetryInfo", (info) => {
      const mark = info.open(1);
      info.uint(2, RETRY_MS * 1_000_000).close(mark);
    });
  }
  if (code === GRPC.INVALID_ARGUMENT) {
    detail(writer, "BadRequest", (info) => {
      const mark = info.open(1);
      info
        .string(1, error.details["field"] ?? "")
        .string(2, message)
        .close(mark);
    });
  }
  if (code === GRPC.RESOURCE_EXHAUSTED) {
    detail(writer, "QuotaFailure", (info) => {
      const mark = info.open(1);
      info
        .string(1, error.details["subject"] ?? error.code)
        .string(2, message)
        .close(mark);
    });
  }
  return writer.finish();
}

function detail(writer: ProtoWriter, type: string, fill: (message: ProtoWriter) => void): void {
  const value = new ProtoWriter(128);
  fill(value);
  const mark = writer.open(3);
  writer
    .string(1, TYPE_PREFIX + type)
    .block(2, value.finish())
    .close(mark);
}

/** gRPC carries messages as ASCII; a stray character could cost the whole status. */
export function ascii(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
