// The first frame of each connection, both ways, and the answer to one that is not welcome.

import { ByteReader, ByteWriter, DecodeError } from "../base/bytes.ts";
import { NODE_ID_MAX, type NodeId } from "../base/ids.ts";

export const PROTOCOL_VERSION = 1;
const MAGIC = 0x464c4f54;
const TEXT_MAX = 256;
const JOINING = 1;
const USED = 2;
const COMPARES = 4;

export const CHANNEL_MAIN = 0;
export const CHANNEL_BULK = 1;
/** "You are to dial me": from a node that does not dial itself; closed after the answer. */
export const CHANNEL_KNOCK = 2;
export type Channel = 0 | 1 | 2;

export type Hello = {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly storeId: string;
  readonly incarnation: number;
  /** The newest version of the machines' rules that this release knows. */
  readonly rulesVersion: number;
  /** Its release takes part when replicas compare what they have applied. */
  readonly compares: boolean;
  readonly channel: Channel;
  /** Where the node listens. */
  readonly port: number;
} & NodeState;

/** How far a node is in its cluster. */
export type NodeState = {
  /** It has no replica of the catalog yet, or no longer, and wants one. */
  readonly joining: boolean;
  /** Its replica of the catalog has voted or holds something: this cluster is not new. */
  readonly used: boolean;
};

/** STORE_MISMATCH comes from earlier releases only, whose catalog may lag: it means no more than "not now". */
export type RefusalCode = "WRONG_CLUSTER" | "DUPLICATE_NODE" | "UNKNOWN_NODE" | "STORE_MISMATCH" | "VERSION";
export type Refusal = { readonly code: RefusalCode; readonly reason: string };

export function encodeHello(hello: Hello): Uint8Array {
  const writer = new ByteWriter(128).u32(MAGIC).u16(PROTOCOL_VERSION);
  return writer
    .u8(hello.channel)
    .u8((hello.joining ? JOINING : 0) | (hello.used ? USED : 0) | (hello.compares ? COMPARES : 0))
    .u16(hello.nodeId)
    .u16(hello.port)
    .u64(hello.incarnation)
    .u16(hello.rulesVersion)
    .string(hello.clusterId)
    .string(hello.storeId)
    .finish();
}

/** A refusal when the other side speaks another version. Throws DecodeError on anything that is not a hello. */
export function decodeHello(body: Uint8Array): Hello | Refusal {
  const reader = new ByteReader(body);
  if (reader.u32() !== MAGIC) throw new DecodeError("not a hello");
  const version = reader.u16();
  if (version !== PROTOCOL_VERSION)
    return { code: "VERSION", reason: `the peer speaks protocol ${version}, this node ${PROTOCOL_VERSION}` };
  const channel = reader.u8();
  const state = reader.u8();
  const nodeId = reader.u16();
  const port = reader.u16();
  const incarnation = reader.u64();
  const rulesVersion = reader.u16();
  const clusterId = text(reader);
  const storeId = text(reader);
  reader.done();
  if (channel > CHANNEL_KNOCK || nodeId < 1 || nodeId > NODE_ID_MAX) throw new DecodeError("hello out of range");
  return {
    clusterId,
    nodeId: nodeId as NodeId,
    storeId,
    incarnation,
    rulesVersion,
    compares: (state & COMPARES) !== 0,
    channel: channel as Channel,
    port,
    joining: (state & JOINING) !== 0,
    used: (state & USED) !== 0,
  };
}

export function encodeRefusal(refusal: Refusal): Uint8Array {
  return new ByteWriter(128).string(refusal.code).string(refusal.reason).finish();
}

export function decodeRefusal(body: Uint8Array): Refusal {
  const reader = new ByteReader(body);
  return { code: text(reader) as RefusalCode, reason: text(reader) };
}

function text(reader: ByteReader): string {
  const value = reader.string();
  if (value.length > TEXT_MAX) throw new DecodeError("text too long");
  return value;
}
