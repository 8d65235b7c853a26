// Commands of a stream as bytes: u8 format, u8 kind, then the fields.

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { COMMIT_METADATA_LENGTH_MAX } from "../../base/limits.ts";
import { isName } from "../names.ts";
import type { CursorCommit } from "./cursors.ts";

const FORMAT = 1;
export const COMMAND_COMMIT = 1;
export const COMMAND_DELETE_CURSOR = 2;
export const COMMAND_TRIM = 3;

export type StreamCommand =
  | ({ readonly kind: typeof COMMAND_COMMIT } & CursorCommit)
  | { readonly kind: typeof COMMAND_DELETE_CURSOR; readonly subscription: string }
  | { readonly kind: typeof COMMAND_TRIM; /** The new first offset. */ readonly offset: number };

function begin(kind: number): ByteWriter {
  return new ByteWriter(64).u8(FORMAT).u8(kind);
}

export function encodeCommitOffset(commit: CursorCommit): Uint8Array {
  return begin(COMMAND_COMMIT)
    .string(commit.subscription)
    .u64(commit.offset)
    .string(commit.metadata)
    .u8(commit.reset ? 1 : 0)
    .finish();
}

export function encodeDeleteCursor(subscription: string): Uint8Array {
  return begin(COMMAND_DELETE_CURSOR).string(subscription).finish();
}

export function encodeTrim(offset: number): Uint8Array {
  return begin(COMMAND_TRIM).u64(offset).finish();
}

/** Undefined for anything that is not a command of this format: the machine then replies BAD_COMMAND. */
export function decodeStreamCommand(bytes: Uint8Array): StreamCommand | undefined {
  try {
    const reader = new ByteReader(bytes);
    if (reader.u8() !== FORMAT) return undefined;
    const command = decodeFields(reader.u8(), reader);
    reader.done();
    return command;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

function decodeFields(kind: number, reader: ByteReader): StreamCommand | undefined {
  switch (kind) {
    case COMMAND_COMMIT:
      return {
        kind,
        subscription: name(reader),
        offset: reader.u64(),
        metadata: metadata(reader),
        reset: reader.u8() === 1,
      };
    case COMMAND_DELETE_CURSOR:
      return { kind, subscription: name(reader) };
    case COMMAND_TRIM:
      return { kind, offset: reader.u64() };
    default:
      return undefined;
  }
}

function name(reader: ByteReader): string {
  const value = reader.string();
  if (!isName(value)) throw new DecodeError("not a subscription name");
  return value;
}

function metadata(reader: ByteReader): string {
  const value = reader.string();
  if (value.length > COMMIT_METADATA_LENGTH_MAX) throw new DecodeError("metadata too long");
  return value;
}
