// Raft messages of many groups in one frame. Votes, heartbeats and answers stand before appends; large payloads travel
// as parts of their own, uncopied.
//
//   frame   = u8 format, message*
//   message = u8 kind, u8 flags, varint group, from, to, term, index, logTerm, commit, hint, context
//             [APPEND: varint count, entry*] [SNAPSHOT: configuration]
//   entry   = u8 kind, varint term, varint stamp, u32 crc, varint length, payload

import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import { toGroupId, type GroupId } from "../base/ids.ts";
import {
  Entry,
  ENTRY_VERSION,
  Message,
  MSG_APPEND,
  MSG_DIGEST_VERDICT,
  MSG_SNAPSHOT,
  NOTHING,
  type EntryKind,
  type MessageKind,
  type SnapshotMeta,
} from "../raft/types.ts";

const FORMAT = 1;
/** How a frame of appends alone begins. Never written to. */
const FORMAT_ALONE = Uint8Array.of(FORMAT);
const FLAG_REJECT = 1;
const COPY_BELOW_BYTES = 1024;
/** Bytes of the smallest entry: kind, term, stamp, crc, length. */
const ENTRY_BYTES_MIN = 8;

export class RaftFrameWriter {
  /** Each exists once there is something for it: most frames are of one kind alone. */
  private urgent: ByteWriter | null = null;
  private appends: ByteWriter | null = null;
  /** Payloads that travel uncopied, and after how many bytes of `appends` each belongs. */
  private payloads: Uint8Array[] = [];
  private cuts: number[] = [];
  private payloadBytes = 0;

  get bytes(): number {
    return (this.urgent?.length ?? FORMAT_ALONE.length) + (this.appends?.length ?? 0) + this.payloadBytes;
  }

  add(group: GroupId, message: Message): void {
    if (message.kind !== MSG_APPEND) {
      const urgent = (this.urgent ??= new ByteWriter(512).u8(FORMAT));
      writeFields(urgent, group, message);
      if (message.kind === MSG_SNAPSHOT) writeSnapshot(urgent, message.snapshot!);
      return;
    }
    const appends = (this.appends ??= new ByteWriter(512));
    writeFields(appends, group, message);
    const entries = message.entries ?? NOTHING;
    appends.varint(entries.length);
    for (const { kind, term, timestampMs, crc, payload } of entries) {
      appends.u8(kind).varint(term).varint(timestampMs).u32(crc).varint(payload.length);
      if (payload.length < COPY_BELOW_BYTES) appends.raw(payload);
      else this.cut(payload, appends.length);
    }
  }

  /** The frame, in order. The parts never change afterwards; the writer needs `reset` before its next use. */
  parts(): Uint8Array[] {
    const parts = [this.urgent?.finish() ?? FORMAT_ALONE];
    if (this.appends === null) return parts;
    const end = this.appends.length;
    const appends = this.appends.finish();
    let from = 0;
    for (let at = 0; at < this.payloads.length; at++) {
      parts.push(appends.subarray(from, this.cuts[at]), this.payloads[at]!);
      from = this.cuts[at]!;
    }
    if (from < end) parts.push(appends.subarray(from, end));
    return parts;
  }

  reset(): void {
    this.urgent = null;
    this.appends = null;
    if (this.payloads.length > 0) {
      this.payloads = [];
      this.cuts = [];
    }
    this.payloadBytes = 0;
  }

  private cut(payload: Uint8Array, at: number): void {
    this.payloads.push(payload);
    this.cuts.push(at);
    this.payloadBytes += payload.length;
  }
}

function writeFields(writer: ByteWriter, group: GroupId, message: Message): void {
  writer
    .u8(message.kind)
    .u8(message.reject ? FLAG_REJECT : 0)
    .varint(group)
    .varint(message.from)
    .varint(message.to);
  writer
    .varint(message.term)
    .varint(message.index)
    .varint(message.logTerm)
    .varint(message.commit)
    .varint(message.hint)
    .varint(message.context);
}

function writeSnapshot(writer: ByteWriter, { configuration }: SnapshotMeta): void {
  for (const list of [configuration.voters, configuration.votersOutgoing, configuration.learners, configuration.learnersNext]) {
    writer.varint(list.length);
    for (const peer of list) writer.varint(peer);
  }
  writer.u8(configuration.autoLeave ? 1 : 0);
}

/** Throws DecodeError on anything malformed. Payloads share the frame's memory. */
export function decodeRaftFrame(bytes: Uint8Array, onMessage: (group: GroupId, message: Message) => void): void {
  const reader = new ByteReader(bytes);
  const format = reader.u8();
  if (format !== FORMAT) throw new DecodeError(`raft frame of format ${format}, this release knows ${FORMAT}`);
  while (reader.remaining > 0) {
    const kind = reader.u8();
    if (kind < MSG_APPEND || kind > MSG_DIGEST_VERDICT) throw new DecodeError(`raft message of kind ${kind}`);
    const flags = reader.u8();
    const group = reader.varint();
    if (group > 0xffff_ffff) throw new DecodeError(`group ${group}`);
    const message = new Message(kind as MessageKind, reader.varint(), reader.varint(), reader.varint());
    message.index = reader.varint();
    message.logTerm = reader.varint();
    message.commit = reader.varint();
    message.hint = reader.varint();
    message.context = reader.varint();
    message.reject = (flags & FLAG_REJECT) !== 0;
    if (kind === MSG_APPEND) readEntries(reader, message);
    if (kind === MSG_SNAPSHOT) message.snapshot = readSnapshot(reader, message);
    onMessage(toGroupId(group), message);
  }
}

function readEntries(reader: ByteReader, message: Message): void {
  const count = reader.varint();
  if (count * ENTRY_BYTES_MIN > reader.remaining) throw new DecodeError("more entries than bytes");
  const entries: Entry[] = [];
  for (let at = 1; at <= count; at++) {
    const kind = reader.u8();
    if (kind > ENTRY_VERSION) throw new DecodeError(`entry of kind ${kind}`);
    const term = reader.varint();
    const timestampMs = reader.varint();
    const crc = reader.u32();
    entries.push(new Entry(message.index + at, term, kind as EntryKind, timestampMs, reader.block(), crc));
  }
  message.entries = entries;
  message.lastEntry = message.index + count;
}

function readSnapshot(reader: ByteReader, message: Message): SnapshotMeta {
  const list = (): number[] => {
    const count = reader.varint();
    if (count > reader.remaining) throw new DecodeError("more members than bytes");
    return Array.from({ length: count }, () => reader.varint());
  };
  const configuration = { voters: list(), votersOutgoing: list(), learners: list(), learnersNext: list(), autoLeave: reader.u8() === 1 };
  return { index: message.index, term: message.logTerm, configuration };
}
