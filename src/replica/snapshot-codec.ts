// The bytes of a snapshot's way from node to node, all on the bulk lane.
//
//   chunk  = u32 group, from, to, u64 term, u32 attempt, u64 index, u32 total, u32 crc, u32 offset, u32 chunkCrc, bytes
//   answer = u32 group, from, to, u32 attempt, u8 verdict, u32 filled

import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import type { GroupId } from "../base/ids.ts";
import { SNAPSHOT_BYTES_MAX } from "../base/limits.ts";
import type { Configuration, PeerId } from "../raft/types.ts";
import type { Checkpoint } from "./types.ts";

/** First byte of a frame of the bulk lane. */
export const BULK_APPEND = 2;
export const BULK_CHUNK = 3;
export const BULK_ANSWER = 4;

/** A piece of a checkpoint. One without bytes at offset 0 asks how much of it the other side holds. */
export type Chunk = {
  readonly group: GroupId;
  /** Replicas. */
  readonly from: PeerId;
  readonly to: PeerId;
  readonly term: number;
  /** Rises whenever the sender begins anew; answers to an earlier attempt mean nothing. */
  readonly attempt: number;
  /** Index of the checkpoint; bytes and checksum of all of it. */
  readonly index: number;
  readonly total: number;
  readonly crc: number;
  /** Where `bytes` belong, and their checksum. */
  readonly offset: number;
  readonly chunkCrc: number;
  readonly bytes: Uint8Array;
};

/** `filled` bytes are here: go on. */
export const ANSWER_GO = 0;
/** Only `filled` bytes are here: begin again there. */
export const ANSWER_AGAIN = 1;
/** All of it is durable here, or something later is. */
export const ANSWER_DONE = 2;
/** Not now: no such replica here, or no room. */
export const ANSWER_REFUSED = 3;
export type Verdict = 0 | 1 | 2 | 3;

export type Answer = {
  readonly group: GroupId;
  /** Replicas: who received, and who sends. */
  readonly from: PeerId;
  readonly to: PeerId;
  readonly attempt: number;
  readonly verdict: Verdict;
  readonly filled: number;
};

/** As parts: the bytes are not copied. */
export function encodeChunk(chunk: Chunk): Uint8Array[] {
  const { group, from, to, term, attempt, index, total, crc, offset, chunkCrc, bytes } = chunk;
  const writer = new ByteWriter(64).u8(BULK_CHUNK).u32(group).u32(from).u32(to).u64(term).u32(attempt);
  return [writer.u64(index).u32(total).u32(crc).u32(offset).u32(chunkCrc).finish(), bytes];
}

/** After the first byte. Throws DecodeError. */
export function decodeChunk(reader: ByteReader): Chunk {
  const chunk = {
    group: reader.u32() as GroupId,
    from: reader.u32(),
    to: reader.u32(),
    term: reader.u64(),
    attempt: reader.u32(),
    index: reader.u64(),
    total: reader.u32(),
    crc: reader.u32(),
    offset: reader.u32(),
    chunkCrc: reader.u32(),
    bytes: reader.raw(reader.remaining),
  };
  if (chunk.total > SNAPSHOT_BYTES_MAX || chunk.offset + chunk.bytes.length > chunk.total)
    throw new DecodeError("snapshot chunk outside its snapshot");
  return chunk;
}

export function encodeAnswer({ group, from, to, attempt, verdict, filled }: Answer): Uint8Array[] {
  return [new ByteWriter(32).u8(BULK_ANSWER).u32(group).u32(from).u32(to).u32(attempt).u8(verdict).u32(filled).finish()];
}

/** After the first byte. Throws DecodeError. */
export function decodeAnswer(reader: ByteReader): Answer {
  const answer = {
    group: reader.u32() as GroupId,
    from: reader.u32(),
    to: reader.u32(),
    attempt: reader.u32(),
    verdict: reader.u8() as Verdict,
    filled: reader.u32(),
  };
  reader.done();
  if (answer.verdict > ANSWER_REFUSED) throw new DecodeError(`snapshot answer ${answer.verdict}`);
  return answer;
}

/** `withDigest`: the receiver's release knows of it. */
export function encodeCheckpoint(checkpoint: Checkpoint, withDigest: boolean): Uint8Array {
  const writer = new ByteWriter(checkpoint.snapshot.length + 256);
  writer.u64(checkpoint.index).u64(checkpoint.term).u32(checkpoint.machineVersion).u64(checkpoint.timeMs);
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = checkpoint.configuration;
  for (const list of [voters, votersOutgoing, learners, learnersNext]) {
    writer.varint(list.length);
    for (const peer of list) writer.varint(peer);
  }
  writer.u8(autoLeave ? 1 : 0).block(checkpoint.snapshot);
  const { digest } = checkpoint;
  if (withDigest && digest !== null) writer.u64(digest.origin).u32(digest.a).u32(digest.b);
  return writer.finish();
}

/** Throws DecodeError. The snapshot shares the memory of `bytes`. */
export function decodeCheckpoint(bytes: Uint8Array): Checkpoint {
  const reader = new ByteReader(bytes);
  const index = reader.u64();
  const term = reader.u64();
  const machineVersion = reader.u32();
  const timeMs = reader.u64();
  const lists = [0, 1, 2, 3].map(() => {
    const count = reader.varint();
    if (count > reader.remaining) throw new DecodeError("more members than bytes");
    return Array.from({ length: count }, () => reader.varint());
  });
  const configuration: Configuration = {
    voters: lists[0]!,
    votersOutgoing: lists[1]!,
    learners: lists[2]!,
    learnersNext: lists[3]!,
    autoLeave: reader.u8() === 1,
  };
  const snapshot = reader.block();
  const digest = reader.remaining === 0 ? null : { origin: reader.u64(), a: reader.u32(), b: reader.u32() };
  reader.done();
  return { index, term, configuration, machineVersion, timeMs, digest, snapshot };
}
