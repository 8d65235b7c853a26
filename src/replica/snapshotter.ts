// Sends and receives checkpoints on the bulk lane. A snapshot is the checkpoint at which the sender's log begins; what
// comes after it follows as ordinary entries. Chunks carry their place and the whole has a checksum, so a half or mixed
// one is never installed.

import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { GroupId, NodeId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import { LANE_BULK, type PeerTransport } from "../peer/transport.ts";
import { Message, MSG_SNAPSHOT, type Configuration } from "../raft/types.ts";
import type { Checkpoint } from "./types.ts";

const CHUNK_BYTES = 1024 * 1024;
/** A snapshot beyond this is refused: machines keep theirs to a few hundred KB. */
export const SNAPSHOT_BYTES_MAX = 256 * 1024 * 1024;
/** Snapshots being received at one time by one node. */
const RECEIVING_MAX = 64;
const FORMAT = 1;
const RETRY_MS = 20;

export type SnapshotterComponents = {
  readonly transport: PeerTransport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly crc32: (bytes: Uint8Array) => number;
  /** All of it is here and its checksum is right. */
  readonly received: (from: NodeId, group: GroupId, message: Message, checkpoint: Checkpoint) => void;
};

type Incoming = { readonly key: string; readonly bytes: Uint8Array; filled: number };

export class Snapshotter {
  private readonly components: SnapshotterComponents;
  private readonly incoming = new Map<string, Incoming>();

  constructor(components: SnapshotterComponents) {
    this.components = components;
  }

  /** Sends `checkpoint` chunk by chunk as the peer takes them; `done(false)` when the peer was lost. */
  send(to: NodeId, group: GroupId, message: Message, checkpoint: Checkpoint, done: (ok: boolean) => void): void {
    const body = encodeCheckpoint(checkpoint);
    const crc = this.components.crc32(body);
    let offset = 0;
    const step = (): void => {
      while (offset < body.length) {
        if (!this.components.transport.isUp(to)) return done(false);
        const end = Math.min(offset + CHUNK_BYTES, body.length);
        const header = new ByteWriter(64)
          .u8(FORMAT)
          .u32(group)
          .u32(message.from)
          .u32(message.to)
          .u64(message.term)
          .u32(body.length)
          .u32(crc)
          .u32(offset)
          .finish();
        if (!this.components.transport.send(to, LANE_BULK, [header, body.subarray(offset, end)])) {
          this.components.clock.schedule(RETRY_MS, step);
          return;
        }
        offset = end;
      }
      done(true);
    };
    step();
  }

  /** A frame of the bulk lane. Throws DecodeError on nonsense. */
  onFrame(from: NodeId, frame: Uint8Array): void {
    const reader = new ByteReader(frame);
    if (reader.u8() !== FORMAT) throw new DecodeError("snapshot frame of an unknown version");
    const group = reader.u32() as GroupId;
    const sender = reader.u32();
    const receiver = reader.u32();
    const term = reader.u64();
    const total = reader.u32();
    const crc = reader.u32();
    const offset = reader.u32();
    const chunk = reader.raw(reader.remaining);
    const id = `${group}:${sender}`;
    const key = `${receiver}:${term}:${total}:${crc}`;
    const incoming = this.collect(id, key, total, offset, chunk);
    if (incoming === undefined || incoming.filled < total) return;
    this.incoming.delete(id);
    if (this.components.crc32(incoming.bytes) !== crc) {
      this.components.logger.warn({ group, from }, "snapshot arrived damaged and is dropped");
      return;
    }
    const checkpoint = decodeCheckpoint(incoming.bytes);
    const message = new Message(MSG_SNAPSHOT, sender, receiver, term);
    message.index = checkpoint.index;
    message.logTerm = checkpoint.term;
    message.snapshot = { index: checkpoint.index, term: checkpoint.term, configuration: checkpoint.configuration };
    this.components.received(from, group, message, checkpoint);
  }

  private collect(id: string, key: string, total: number, offset: number, chunk: Uint8Array): Incoming | undefined {
    if (total > SNAPSHOT_BYTES_MAX || offset + chunk.length > total) throw new DecodeError("snapshot chunk outside its snapshot");
    let incoming = this.incoming.get(id);
    if (offset === 0) {
      if (incoming === undefined && this.incoming.size >= RECEIVING_MAX) return undefined;
      incoming = { key, bytes: new Uint8Array(total), filled: 0 };
      this.incoming.set(id, incoming);
    }
    if (incoming === undefined || incoming.key !== key || incoming.filled !== offset) {
      this.incoming.delete(id); // A piece was lost with a connection: the leader sends the whole again.
      return undefined;
    }
    incoming.bytes.set(chunk, offset);
    incoming.filled += chunk.length;
    return incoming;
  }
}

function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array {
  const writer = new ByteWriter(checkpoint.snapshot.length + 256);
  writer.u64(checkpoint.index).u64(checkpoint.term).u32(checkpoint.machineVersion).u64(checkpoint.timeMs);
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = checkpoint.configuration;
  for (const list of [voters, votersOutgoing, learners, learnersNext]) {
    writer.varint(list.length);
    for (const peer of list) writer.varint(peer);
  }
  return writer
    .u8(autoLeave ? 1 : 0)
    .block(checkpoint.snapshot)
    .finish();
}

function decodeCheckpoint(bytes: Uint8Array): Checkpoint {
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
  reader.done();
  return { index, term, configuration, machineVersion, timeMs, snapshot };
}
