import { status as grpcStatus, type ServiceError } from "@grpc/grpc-js";
import { DecodeError } from "../base/bytes.ts";
import { ERRORS, isErrorCode, type ErrorCode } from "../base/errors.ts";
import { ProtoReader } from "../base/protobuf.ts";

/** A code of the server's error table, or one of the client's own. */
export type FlotillaErrorCode = ErrorCode | "UNREACHABLE" | "CLOSED" | "ABORTED";

/** Every failure that this library reports. `retryable`: the same call may succeed later. */
export class FlotillaError extends Error {
  override readonly name = "FlotillaError";
  readonly code: FlotillaErrorCode;
  readonly details: Readonly<Record<string, string>>;
  readonly retryable: boolean;
  /** The call may have been carried out although it failed. */
  readonly maybeApplied: boolean;

  constructor(
    code: FlotillaErrorCode,
    message: string,
    options: { details?: Readonly<Record<string, string>>; retryable?: boolean; maybeApplied?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
    this.retryable = options.retryable ?? (isErrorCode(code) ? ERRORS[code].retry !== "no" : code === "UNREACHABLE");
    this.maybeApplied = options.maybeApplied ?? false;
  }
}

/** A failed call as FlotillaError: from its ErrorInfo if the server sent one, else from its gRPC status. */
export function fromGrpc(error: ServiceError): FlotillaError {
  const info = errorInfoOf(error);
  if (info !== undefined) {
    const { maybe_applied: maybeApplied, ...details } = info.metadata;
    return new FlotillaError(info.reason, error.details, { details, maybeApplied: maybeApplied === "true", cause: error });
  }
  switch (error.code) {
    case grpcStatus.UNAVAILABLE:
      return new FlotillaError("UNREACHABLE", `no answer: ${error.details}; is the node up, and the address right (--endpoints)?`, {
        maybeApplied: true,
        cause: error,
      });
    case grpcStatus.DEADLINE_EXCEEDED:
      return new FlotillaError("TIMEOUT", "the deadline passed before the answer came", { maybeApplied: true, cause: error });
    case grpcStatus.CANCELLED:
      // Not by us: that is told apart before. The node went away, and took the call with it.
      return new FlotillaError("UNREACHABLE", "the node ended the call", { maybeApplied: true, cause: error });
    case grpcStatus.INVALID_ARGUMENT:
      return new FlotillaError("INVALID_ARGUMENT", error.details, { cause: error });
    case grpcStatus.RESOURCE_EXHAUSTED:
      return new FlotillaError("BATCH_TOO_LARGE", error.details, { cause: error });
    default:
      return new FlotillaError("INTERNAL", error.details, { cause: error });
  }
}

function errorInfoOf(error: ServiceError): { reason: ErrorCode; metadata: Record<string, string> } | undefined {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(bytes instanceof Uint8Array)) return undefined;
  try {
    const status = new ProtoReader(bytes);
    while (status.next()) {
      if (status.field !== 3) {
        status.skip();
        continue;
      }
      const info = readAny(status.message());
      if (info !== undefined) return info;
    }
  } catch (problem) {
    if (!(problem instanceof DecodeError)) throw problem;
  }
  return undefined;
}

function readAny(any: ProtoReader): { reason: ErrorCode; metadata: Record<string, string> } | undefined {
  let type = "";
  let value: Uint8Array = new Uint8Array(0);
  while (any.next()) {
    if (any.field === 1) type = any.string();
    else if (any.field === 2) value = any.block();
    else any.skip();
  }
  if (!type.endsWith("google.rpc.ErrorInfo")) return undefined;
  const info = new ProtoReader(value);
  let reason = "";
  const metadata: Record<string, string> = {};
  while (info.next()) {
    if (info.field === 1) reason = info.string();
    else if (info.field === 3) readEntry(info.message(), metadata);
    else info.skip();
  }
  return isErrorCode(reason) ? { reason, metadata } : undefined;
}

/** One entry of a map<string, string>. */
export function readEntry(entry: ProtoReader, into: Record<string, string>): void {
  let name = "";
  let value = "";
  while (entry.next()) {
    if (entry.field === 1) name = entry.string();
    else if (entry.field === 2) value = entry.string();
    else entry.skip();
  }
  into[name] = value;
}
