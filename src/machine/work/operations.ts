// What is said to work subscriptions, as bytes. One entry carries what many clients said within a turn: u8 kind, then its fields,
// one operation after the other. Each has one result, a whole number.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { HOLDER_OFFSET_MAX } from "../../base/ids.ts";
import { DELAY_MS_MAX, FEED_RECORDS_MAX, LEASE_MS_MAX, PRIORITY_MAX } from "../../base/limits.ts";
import { isName } from "../names.ts";
import type { Transaction } from "../transaction-marks.ts";
import { readWorkConfig, writeWorkConfig, type WorkConfig } from "./config.ts";
import { readTerms, writeTerms, type ConsumerTerms } from "./consumers.ts";
import { readBatches, writeBatches, type FedBatch } from "./backlog.ts";
import type { Outcome } from "./work.ts";

const CREATE = 1;
const ALTER = 2;
const DELETE = 3;
const ATTACH = 4;
const GRANT = 5;
const DRAIN = 6;
const DETACH = 7;
const SETTLE = 8;
const EXTEND = 9;
const TICK = 10;
const PURGE = 11;
const RECALL = 12;
const BURIED = 13;
const SEEK = 14;
const REVIVED = 15;
const FEED = 16;
const EXPEDITE = 17;
const HOLD = 18;
const CONCLUDE = 19;
const LET_GO = 20;

const OUTCOMES = ["ack", "return", "release", "reject"] as const;
/** A return that waits by the back-off. */
const BY_BACK_OFF = 0;

export type Range = { readonly from: number; readonly end: number };

/** `name` is that of the subscription; "" is a queue's own. */
export type WorkOperation =
  | { readonly op: "create"; readonly name: string; readonly config: WorkConfig; readonly start: number }
  | { readonly op: "alter"; readonly name: string; readonly config: WorkConfig }
  | { readonly op: "delete" | "purge"; readonly name: string }
  | { readonly op: "attach"; readonly name: string; readonly consumer: number; readonly terms: ConsumerTerms; readonly granted: number }
  | { readonly op: "grant"; readonly name: string; readonly consumer: number; readonly granted: number }
  | { readonly op: "drain" | "detach"; readonly name: string; readonly consumer: number }
  | ({ readonly op: "settle"; readonly name: string; readonly consumer: number; readonly token: number; readonly outcome: Outcome } & Range)
  | ({ readonly op: "extend"; readonly name: string; readonly consumer: number; readonly token: number; readonly leaseMs: number } & Range)
  | { readonly op: "tick" }
  /** What there is to be known of stored records, batch by batch, from `from` on. */
  | { readonly op: "feed"; readonly name: string; readonly from: number; readonly batches: readonly FedBatch[] }
  /** `priority` -1: the one that it has; `whilePriority` -1: whatever it has. */
  | {
      readonly op: "expedite";
      readonly name: string;
      readonly offset: number;
      readonly delayMs: number;
      readonly priority: number;
      readonly whilePriority: number;
    }
  | ({
      readonly op: "hold";
      readonly name: string;
      readonly consumer: number;
      readonly token: number;
      readonly transaction: Transaction;
    } & Range)
  | ({
      readonly op: "conclude";
      readonly name: string;
      readonly token: number;
      readonly transaction: Transaction;
      readonly outcome: Outcome;
    } & Range)
  | { readonly op: "letGo"; readonly name: string; readonly transaction: Transaction }
  | { readonly op: "recall" | "seek"; readonly name: string; readonly offset: number }
  /** Dead messages are somewhere else now, or wait again. */
  | ({ readonly op: "buried" | "revived"; readonly name: string } & Range);

export function writeOperation(writer: ByteWriter, operation: WorkOperation): void {
  switch (operation.op) {
    case "create":
      writer.u8(CREATE).string(operation.name).varint(operation.start);
      writeWorkConfig(writer, operation.config);
      return;
    case "alter":
      writer.u8(ALTER).string(operation.name);
      writeWorkConfig(writer, operation.config);
      return;
    case "delete":
    case "purge":
      writer.u8(operation.op === "delete" ? DELETE : PURGE).string(operation.name);
      return;
    case "attach":
      writer.u8(ATTACH).string(operation.name).varint(operation.consumer).varint(operation.granted);
      writeTerms(writer, operation.terms);
      return;
    case "grant":
      writer.u8(GRANT).string(operation.name).varint(operation.consumer).varint(operation.granted);
      return;
    case "drain":
    case "detach":
      writer
        .u8(operation.op === "drain" ? DRAIN : DETACH)
        .string(operation.name)
        .varint(operation.consumer);
      return;
    case "settle":
      writer.u8(SETTLE).string(operation.name).varint(operation.consumer).varint(operation.token);
      writeRange(writer, operation);
      writeOutcome(writer, operation.outcome);
      return;
    case "extend":
      writer.u8(EXTEND).string(operation.name).varint(operation.consumer).varint(operation.token);
      writeRange(writer, operation);
      writer.varint(operation.leaseMs);
      return;
    case "tick":
      writer.u8(TICK);
      return;
    case "feed":
      writer.u8(FEED).string(operation.name).varint(operation.from);
      writeBatches(writer, operation.batches);
      return;
    case "expedite": {
      const { offset, delayMs, priority, whilePriority } = operation;
      writer
        .u8(EXPEDITE)
        .string(operation.name)
        .varint(offset)
        .varint(delayMs)
        .varint(priority + 1)
        .varint(whilePriority + 1);
      return;
    }
    case "hold":
      writer.u8(HOLD).string(operation.name).varint(operation.consumer).varint(operation.token);
      writeTransaction(writer, operation.transaction);
      writeRange(writer, operation);
      return;
    case "conclude":
      writer.u8(CONCLUDE).string(operation.name).varint(operation.token);
      writeTransaction(writer, operation.transaction);
      writeRange(writer, operation);
      writeOutcome(writer, operation.outcome);
      return;
    case "letGo":
      writer.u8(LET_GO).string(operation.name);
      writeTransaction(writer, operation.transaction);
      return;
    case "recall":
    case "seek":
      writer
        .u8(operation.op === "recall" ? RECALL : SEEK)
        .string(operation.name)
        .varint(operation.offset);
      return;
    case "buried":
    case "revived":
      writer.u8(operation.op === "buried" ? BURIED : REVIVED).string(operation.name);
      writeRange(writer, operation);
  }
}

/** Throws DecodeError on what no operation is, or with numbers out of bounds. */
export function readOperation(reader: ByteReader): WorkOperation {
  const kind = reader.u8();
  if (kind === TICK) return { op: "tick" };
  const name = reader.string();
  if (name !== "" && !isName(name)) throw new DecodeError("not a name of a subscription");
  switch (kind) {
    case CREATE:
      return { op: "create", name, start: reader.varint(), config: readWorkConfig(reader) };
    case ALTER:
      return { op: "alter", name, config: readWorkConfig(reader) };
    case DELETE:
    case PURGE:
      return { op: kind === DELETE ? "delete" : "purge", name };
    case ATTACH: {
      const [consumer, granted, terms] = [idOf(reader), reader.varint(), readTerms(reader)];
      if (terms.leaseMs > LEASE_MS_MAX) throw new DecodeError(`a lease of ${terms.leaseMs} ms`);
      return { op: "attach", name, consumer, granted, terms };
    }
    case GRANT:
      return { op: "grant", name, consumer: idOf(reader), granted: reader.varint() };
    case DRAIN:
    case DETACH:
      return { op: kind === DRAIN ? "drain" : "detach", name, consumer: idOf(reader) };
    case SETTLE:
      return { op: "settle", name, consumer: idOf(reader), token: reader.varint(), ...readRange(reader), outcome: readOutcome(reader) };
    case EXTEND: {
      const [consumer, token, range] = [idOf(reader), reader.varint(), readRange(reader)];
      return { op: "extend", name, consumer, token, ...range, leaseMs: atMost(LEASE_MS_MAX, reader) };
    }
    case FEED:
      return { op: "feed", name, from: reader.varint(), batches: readBatches(reader, FEED_RECORDS_MAX) };
    case RECALL:
    case SEEK:
      return { op: kind === RECALL ? "recall" : "seek", name, offset: reader.varint() };
    case EXPEDITE: {
      const [offset, delayMs] = [reader.varint(), atMost(DELAY_MS_MAX, reader)];
      const [priority, whilePriority] = [atMost(PRIORITY_MAX + 1, reader) - 1, atMost(PRIORITY_MAX + 1, reader) - 1];
      return { op: "expedite", name, offset, delayMs, priority, whilePriority };
    }
    case HOLD: {
      const [consumer, token, transaction] = [idOf(reader), reader.varint(), readTransaction(reader)];
      return { op: "hold", name, consumer, token, transaction, ...readRange(reader) };
    }
    case CONCLUDE: {
      const [token, transaction, range] = [reader.varint(), readTransaction(reader), readRange(reader)];
      return { op: "conclude", name, token, transaction, ...range, outcome: readOutcome(reader) };
    }
    case LET_GO:
      return { op: "letGo", name, transaction: readTransaction(reader) };
    case BURIED:
    case REVIVED:
      return { op: kind === BURIED ? "buried" : "revived", name, ...readRange(reader) };
    default:
      throw new DecodeError(`operation ${kind} of a work subscription`);
  }
}

function writeRange(writer: ByteWriter, { from, end }: Range): void {
  writer.varint(from).varint(end - from);
}

function readRange(reader: ByteReader): Range {
  const from = reader.varint();
  const length = reader.varint();
  if (length === 0 || !Number.isSafeInteger(from + length)) throw new DecodeError("a range of no offsets");
  return { from, end: from + length };
}

function writeTransaction(writer: ByteWriter, { group, offset }: Transaction): void {
  writer.u32(group).varint(offset);
}

function readTransaction(reader: ByteReader): Transaction {
  const group = reader.u32();
  if (group === 0) throw new DecodeError("the catalog is no queue of transactions");
  return { group, offset: atMost(HOLDER_OFFSET_MAX, reader) };
}

function writeOutcome(writer: ByteWriter, outcome: Outcome): void {
  writer.u8(OUTCOMES.indexOf(outcome.kind));
  // One more than what is said, so that there is a place for the back-off.
  if (outcome.kind === "return") writer.varint(outcome.delayMs < 0 ? BY_BACK_OFF : outcome.delayMs + 1);
}

function readOutcome(reader: ByteReader): Outcome {
  const kind = OUTCOMES[reader.u8()];
  if (kind === undefined) throw new DecodeError("an outcome that is none");
  if (kind !== "return") return { kind };
  const said = atMost(DELAY_MS_MAX + 1, reader);
  return { kind, delayMs: said === BY_BACK_OFF ? -1 : said - 1 };
}

function idOf(reader: ByteReader): number {
  const id = reader.varint();
  if (id === 0) throw new DecodeError("no consumer has the id 0");
  return id;
}

function atMost(max: number, reader: ByteReader): number {
  const value = reader.varint();
  if (value > max) throw new DecodeError(`${value} is more than ${max}`);
  return value;
}
