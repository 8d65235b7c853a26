// What is said to the consumer groups of a topic, as bytes: u8 kind, then the fields. They live in the stream of partition 0.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { PARTITIONS_PER_TOPIC_MAX } from "../../base/limits.ts";
import { isName } from "../names.ts";

const JOIN = 1;
const LEAVE = 2;
const RELEASE = 3;
const DELETE = 4;

export type GroupOperation =
  /** Joined again a member stays as it is; `partitions` is how many the topic has by now. */
  | { readonly op: "join"; readonly group: string; readonly member: string; readonly partitions: number }
  | { readonly op: "leave"; readonly group: string; readonly member: string }
  /** The member no longer reads these: whoever is to have them may. */
  | { readonly op: "release"; readonly group: string; readonly member: string; readonly released: readonly number[] }
  | { readonly op: "delete"; readonly group: string };

export function writeGroupOperation(writer: ByteWriter, operation: GroupOperation): void {
  const { op, group } = operation;
  switch (op) {
    case "join":
      writer.u8(JOIN).string(group).string(operation.member).varint(operation.partitions);
      return;
    case "leave":
      writer.u8(LEAVE).string(group).string(operation.member);
      return;
    case "release":
      writer.u8(RELEASE).string(group).string(operation.member).varint(operation.released.length);
      for (const partition of operation.released) writer.varint(partition);
      return;
    case "delete":
      writer.u8(DELETE).string(group);
  }
}

/** Throws DecodeError on what no operation is. */
export function readGroupOperation(reader: ByteReader): GroupOperation {
  const kind = reader.u8();
  const group = name(reader);
  switch (kind) {
    case JOIN:
      return { op: "join", group, member: name(reader), partitions: partitionsOf(reader) };
    case LEAVE:
      return { op: "leave", group, member: name(reader) };
    case RELEASE: {
      const member = name(reader);
      return { op: "release", group, member, released: Array.from({ length: partitionsOf(reader) }, () => reader.varint()) };
    }
    case DELETE:
      return { op: "delete", group };
    default:
      throw new DecodeError(`operation ${kind} of a consumer group`);
  }
}

function name(reader: ByteReader): string {
  const value = reader.string();
  if (!isName(value)) throw new DecodeError("not a name of a group or member");
  return value;
}

function partitionsOf(reader: ByteReader): number {
  const count = reader.varint();
  if (count > PARTITIONS_PER_TOPIC_MAX) throw new DecodeError(`${count} partitions`);
  return count;
}
