// The one table of errors that cross a border: code -> gRPC status, what the caller should do, what it means. README.md
// and the proto comments name the same codes; a test compares them.

import { ERROR_TEXT_LENGTH_MAX } from "./limits.ts";

/** gRPC status numbers that we use. */
export const GRPC = {
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
} as const;

/** `same`: send it again after a pause. `leader`: look the leader up, then send it again. `no`: it will fail again. */
export type Retry = "same" | "leader" | "no";
type Row = { readonly grpc: number; readonly retry: Retry; readonly meaning: string };

const row = (grpc: number, retry: Retry, meaning: string): Row => ({ grpc, retry, meaning });

export const ERRORS = {
  INVALID_ARGUMENT: row(
    GRPC.INVALID_ARGUMENT,
    "no",
    "A field is missing, too long, out of range or of the wrong form; the message names it.",
  ),
  INVALID_NAME: row(GRPC.INVALID_ARGUMENT, "no", 'A name must be 1 to 200 of A-Z a-z 0-9 . _ - (a vhost may also be "/").'),
  MALFORMED_BATCH: row(GRPC.INVALID_ARGUMENT, "no", "The record batch is not a RecordBatch message, or is empty."),
  COUNT_MISMATCH: row(GRPC.INVALID_ARGUMENT, "no", "The count does not match the records in the batch."),
  BATCH_TOO_LARGE: row(GRPC.INVALID_ARGUMENT, "no", "A batch may have 65,536 records and 4,128,768 bytes; send smaller batches."),
  REQUEST_TOO_LARGE: row(
    GRPC.RESOURCE_EXHAUSTED,
    "no",
    "The request has more bytes or more values than its kind may have; ask for less at a time.",
  ),
  UNKNOWN_TOPIC: row(GRPC.NOT_FOUND, "no", "There is no such topic; create it first."),
  UNKNOWN_PARTITION: row(GRPC.NOT_FOUND, "no", "The topic has fewer partitions."),
  UNKNOWN_SUBSCRIPTION: row(GRPC.NOT_FOUND, "no", "No offset was ever committed under this name."),
  UNKNOWN_QUEUE: row(GRPC.NOT_FOUND, "no", "There is no such queue; create it first."),
  UNKNOWN_VHOST: row(GRPC.NOT_FOUND, "no", "There is no such vhost; create it first."),
  UNKNOWN_EXCHANGE: row(GRPC.NOT_FOUND, "no", "There is no such exchange; create it first."),
  UNKNOWN_OBJECT: row(GRPC.NOT_FOUND, "no", "There is no such binding, policy, schedule or consumer group."),
  UNKNOWN_TRANSACTION: row(GRPC.NOT_FOUND, "no", "There is no such transaction: it is over, or there never was one."),
  TRANSACTION_ENDED: row(
    GRPC.FAILED_PRECONDITION,
    "no",
    "The transaction was committed or rolled back already, and that stands; or its time was up.",
  ),
  UNROUTABLE: row(GRPC.FAILED_PRECONDITION, "same", "No queue is bound to the exchange for this message."),
  EXISTS_DIFFERENT: row(GRPC.ALREADY_EXISTS, "no", "It exists with other settings; the message says which."),
  QUEUE_FULL: row(
    GRPC.RESOURCE_EXHAUSTED,
    "same",
    "The queue has as many messages or bytes as it may and refuses more; consume some, or raise the bound.",
  ),
  LEASE_LOST: row(GRPC.FAILED_PRECONDITION, "no", "The messages are not the caller's: settled already, or their lease has ended."),
  FENCED_MEMBER: row(GRPC.ABORTED, "no", "A later member of the consumer group reads the partition; synchronise with the group."),
  TOPIC_EXISTS: row(GRPC.ALREADY_EXISTS, "no", "A topic of this name exists with other settings."),
  OFFSET_OUT_OF_RANGE: row(GRPC.OUT_OF_RANGE, "no", "The offset is below the first one held or past the end; the details carry both."),
  OFFSET_WOULD_GO_BACK: row(GRPC.FAILED_PRECONDITION, "no", "A later offset is committed already; set reset to go back on purpose."),
  NOT_LEADER: row(
    GRPC.FAILED_PRECONDITION,
    "leader",
    "The call asked for direct routing and this node does not lead; the details name who does.",
  ),
  NO_LEADER: row(GRPC.UNAVAILABLE, "same", "The partition has no leader at the moment: an election is under way or a majority is down."),
  LEADER_CHANGED: row(GRPC.UNAVAILABLE, "leader", "The leader changed before the outcome was known; it may have been carried out."),
  NODE_UNREACHABLE: row(GRPC.UNAVAILABLE, "same", "The leader's node was lost while it worked on this call; it may have been carried out."),
  TIMEOUT: row(GRPC.DEADLINE_EXCEEDED, "same", "The deadline passed before the outcome was known; it may have been carried out."),
  STOPPING: row(GRPC.UNAVAILABLE, "leader", "The node is shutting down; use another."),
  OVERLOADED: row(GRPC.RESOURCE_EXHAUSTED, "same", "A bound on unfinished work is reached; slow down and send it again."),
  DISK_FULL: row(GRPC.RESOURCE_EXHAUSTED, "same", "The node's disk is near its watermark; nothing is accepted until space is free."),
  TOO_MANY: row(GRPC.RESOURCE_EXHAUSTED, "no", "A limit on how many of a thing may exist is reached."),
  OUT_OF_SEQUENCE: row(GRPC.ABORTED, "no", "An earlier batch of this producer is missing; send all that are not acknowledged, in order."),
  FENCED_PRODUCER: row(GRPC.ABORTED, "no", "A producer of the same id with a higher epoch is at work."),
  PRODUCER_UNKNOWN: row(GRPC.ABORTED, "no", "The partition no longer remembers this producer; go on with the next epoch from sequence 0."),
  NOT_ENOUGH_NODES: row(GRPC.FAILED_PRECONDITION, "no", "There are fewer live nodes than replicas asked for."),
  FEWER_PARTITIONS: row(GRPC.FAILED_PRECONDITION, "no", "A topic can only get more partitions."),
  CONFLICT: row(GRPC.ABORTED, "same", "Someone else changed the same thing at the same time; look again."),
  DATA_DAMAGED: row(GRPC.DATA_LOSS, "leader", "A stored record failed its checksum on this node and is not served."),
  INTERNAL: row(GRPC.INTERNAL, "no", "A bug; the node's log says more."),
} as const satisfies Record<string, Row>;

export type ErrorCode = keyof typeof ERRORS;

export type ErrorDetails = Readonly<Record<string, string>>;

/**
 * An operational failure on its way to a caller: a code of the table, a reason for people, and what the next step needs. Texts
 * are cut to ERROR_TEXT_LENGTH_MAX: they may quote what the caller sent, and travel in headers.
 */
export class BrokerError extends Error {
  override readonly name = "BrokerError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(cut(message));
    this.code = code;
    const names = Object.keys(details);
    this.details = names.some((name) => details[name]!.length > ERROR_TEXT_LENGTH_MAX)
      ? Object.fromEntries(names.map((name) => [name, cut(details[name]!)]))
      : details;
  }

  /** The outcome is unknown: the call may have been carried out. */
  get maybeApplied(): boolean {
    return this.code === "LEADER_CHANGED" || this.code === "NODE_UNREACHABLE" || this.code === "TIMEOUT";
  }

  get retryable(): boolean {
    return ERRORS[this.code].retry !== "no";
  }
}

function cut(text: string): string {
  return text.length > ERROR_TEXT_LENGTH_MAX ? `${text.slice(0, ERROR_TEXT_LENGTH_MAX - 3)}...` : text;
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
