// Commands of the catalog as bytes: u8 format, u8 kind, then the fields.

import { ByteReader, ByteWriter, DecodeError } from "../../base/bytes.ts";
import { GROUP_ID_MAX, type GroupId, type NodeId, type ReplicaId } from "../../base/ids.ts";
import { PARTITIONS_PER_TOPIC_MAX, RENEWALS_PER_COMMAND_MAX, REPLICAS_MAX } from "../../base/limits.ts";
import { parseDeclare, writeDeclare, type Declare } from "./declare.ts";
import { declared, type DeclaredSettings } from "./settings.ts";
import {
  CONFIG_FIELDS,
  readConfig,
  readNodeId,
  readQueue,
  readRegistration,
  readReplicas,
  readText,
  writeConfig,
  writeRegistration,
  writeReplicas,
  type ConfigField,
  type ConfigRow,
  type NodeRegistration,
} from "./rows.ts";

export type { NodeRegistration } from "./rows.ts";
/** One list of nodes per partition; the first of each is where its leader is wanted. */
export type Placement = readonly (readonly NodeId[])[];

const FORMAT = 1;
export const INITIALIZE = 1;
export const REGISTER_NODE = 2;
export const CREATE_TOPIC = 3;
export const UPDATE_TOPIC = 4;
export const EXPAND_TOPIC = 5;
export const DELETE_TOPIC = 6;
export const JOIN_NODE = 7;
export const FORGET_NODE = 8;
export const DRAIN_NODE = 9;
export const PREFER_LEADER = 10;
export const PLACE_REPLICAS = 11;
export const RENEW_REPLICAS = 12;
export const DECLARE = 13;

export type CreateTopic = {
  readonly vhost: string;
  readonly name: string;
  readonly replicas: number;
  readonly config: ConfigRow;
  readonly placement: Placement;
  /** Makes it a queue, of one partition; absent or null: a topic. */
  readonly queue?: DeclaredSettings | null;
};
export type UpdateTopic = {
  readonly vhost: string;
  readonly name: string;
  readonly config: ConfigRow;
  /** The fields of `config` that change; absent: all of them. */
  readonly fields?: readonly ConfigField[];
};
export type ExpandTopic = {
  readonly vhost: string;
  readonly name: string;
  /** Partitions at the time of asking. */ readonly expected: number;
  readonly placement: Placement;
};
export type DeleteTopic = { readonly vhost: string; readonly name: string };
/**
 * A node that cannot use what it held before: it is new, its disk is, or its replica of the catalog (`lostLife`; -1 = it
 * has none) is damaged. The reply's value is the life of its new replica of the catalog; asking again changes nothing.
 */
export type JoinNode = { readonly node: NodeRegistration; readonly lostLife: number };
/** `drained`: the node gets neither leaders nor new replicas. */
export type DrainNode = { readonly node: NodeId; readonly drained: boolean };
/** The node as it ran on this disk: an order that comes late says nothing of the node that came back on another one. */
export type ForgetNode = { readonly node: NodeId; readonly storeId: string };
export type PreferLeader = { readonly group: GroupId; readonly node: NodeId };
/** Where a group is to be. Refused when the placement is no longer `expected`. The first node is where the leader is wanted. */
export type PlaceReplicas = { readonly group: GroupId; readonly expected: readonly ReplicaId[]; readonly nodes: readonly NodeId[] };
/** Replicas whose files on the node are damaged: each gets a successor there. Those that are no longer placed are left alone. */
export type RenewReplicas = {
  readonly node: NodeId;
  readonly damaged: readonly { readonly group: GroupId; readonly replica: ReplicaId }[];
};

export type CatalogCommand =
  | { readonly kind: typeof INITIALIZE; readonly clusterId: string }
  | { readonly kind: typeof REGISTER_NODE; readonly node: NodeRegistration }
  | ({ readonly kind: typeof CREATE_TOPIC } & CreateTopic)
  | ({ readonly kind: typeof UPDATE_TOPIC } & UpdateTopic)
  | ({ readonly kind: typeof EXPAND_TOPIC } & ExpandTopic)
  | ({ readonly kind: typeof DELETE_TOPIC } & DeleteTopic)
  | ({ readonly kind: typeof JOIN_NODE } & JoinNode)
  | ({ readonly kind: typeof FORGET_NODE } & ForgetNode)
  | ({ readonly kind: typeof DRAIN_NODE } & DrainNode)
  | ({ readonly kind: typeof PREFER_LEADER } & PreferLeader)
  | ({ readonly kind: typeof PLACE_REPLICAS } & PlaceReplicas)
  | ({ readonly kind: typeof RENEW_REPLICAS } & RenewReplicas)
  | { readonly kind: typeof DECLARE; readonly declare: Declare };

function begin(kind: number): ByteWriter {
  return new ByteWriter(256).u8(FORMAT).u8(kind);
}

export function encodeInitialize(clusterId: string): Uint8Array {
  return begin(INITIALIZE).string(clusterId).finish();
}

export function encodeRegisterNode(node: NodeRegistration): Uint8Array {
  const writer = begin(REGISTER_NODE);
  writeRegistration(writer, node);
  return writer.finish();
}

export function encodeCreateTopic(topic: CreateTopic): Uint8Array {
  const writer = begin(CREATE_TOPIC).string(topic.vhost).string(topic.name).varint(topic.replicas);
  writeConfig(writer, topic.config);
  writePlacement(writer, topic.placement);
  return writer.string(topic.queue === undefined || topic.queue === null ? "" : JSON.stringify(declared(topic.queue))).finish();
}

export function encodeUpdateTopic(topic: UpdateTopic): Uint8Array {
  const writer = begin(UPDATE_TOPIC)
    .string(topic.vhost)
    .string(topic.name)
    .u8(maskOf(topic.fields ?? CONFIG_FIELDS));
  writeConfig(writer, topic.config);
  return writer.finish();
}

export function encodeExpandTopic(topic: ExpandTopic): Uint8Array {
  const writer = begin(EXPAND_TOPIC).string(topic.vhost).string(topic.name).varint(topic.expected);
  writePlacement(writer, topic.placement);
  return writer.finish();
}

export function encodeDeleteTopic(topic: DeleteTopic): Uint8Array {
  return begin(DELETE_TOPIC).string(topic.vhost).string(topic.name).finish();
}

export function encodeJoinNode({ node, lostLife }: JoinNode): Uint8Array {
  const writer = begin(JOIN_NODE).varint(lostLife + 1);
  writeRegistration(writer, node);
  return writer.finish();
}

export function encodeForgetNode({ node, storeId }: ForgetNode): Uint8Array {
  return begin(FORGET_NODE).varint(node).string(storeId).finish();
}

export function encodeDrainNode({ node, drained }: DrainNode): Uint8Array {
  return begin(DRAIN_NODE)
    .varint(node)
    .u8(drained ? 1 : 0)
    .finish();
}

export function encodePreferLeader({ group, node }: PreferLeader): Uint8Array {
  return begin(PREFER_LEADER).varint(group).varint(node).finish();
}

export function encodePlaceReplicas({ group, expected, nodes }: PlaceReplicas): Uint8Array {
  const writer = begin(PLACE_REPLICAS).varint(group);
  writeReplicas(writer, expected);
  writePlacement(writer, [nodes]);
  return writer.finish();
}

export function encodeRenewReplicas({ node, damaged }: RenewReplicas): Uint8Array {
  const writer = begin(RENEW_REPLICAS).varint(node).varint(damaged.length);
  for (const { group, replica } of damaged) writer.varint(group).varint(replica);
  return writer.finish();
}

export function encodeDeclare(declare: Declare): Uint8Array {
  return begin(DECLARE).string(writeDeclare(declare)).finish();
}

/** Undefined for anything that is not a command of this format: the machine then replies BAD_COMMAND. */
export function decodeCatalogCommand(bytes: Uint8Array): CatalogCommand | undefined {
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

function decodeFields(kind: number, reader: ByteReader): CatalogCommand | undefined {
  switch (kind) {
    case INITIALIZE:
      return { kind, clusterId: readText(reader) };
    case REGISTER_NODE:
      return { kind, node: readRegistration(reader) };
    case CREATE_TOPIC: {
      const [vhost, name, replicas] = [reader.string(), reader.string(), reader.varint()];
      const [config, placement] = [readConfig(reader), readPlacement(reader)];
      return { kind, vhost, name, replicas, config, placement, queue: readQueue(reader) };
    }
    case UPDATE_TOPIC:
      return { kind, vhost: reader.string(), name: reader.string(), fields: readFields(reader), config: readConfig(reader) };
    case EXPAND_TOPIC:
      return { kind, vhost: reader.string(), name: reader.string(), expected: reader.varint(), placement: readPlacement(reader) };
    case DELETE_TOPIC:
      return { kind, vhost: reader.string(), name: reader.string() };
    case JOIN_NODE:
      return { kind, lostLife: reader.varint() - 1, node: readRegistration(reader) };
    case FORGET_NODE:
      return { kind, node: readNodeId(reader), storeId: reader.string() };
    case DRAIN_NODE:
      return { kind, node: readNodeId(reader), drained: reader.u8() === 1 };
    case PREFER_LEADER:
      return { kind, group: readGroup(reader), node: readNodeId(reader) };
    case PLACE_REPLICAS:
      return { kind, group: readGroup(reader), expected: readReplicas(reader), nodes: readPlacement(reader)[0] ?? [] };
    case RENEW_REPLICAS:
      return { kind, node: readNodeId(reader), damaged: readDamaged(reader) };
    case DECLARE:
      return { kind, declare: parseDeclare(reader.string()) };
    default:
      return undefined;
  }
}

function readGroup(reader: ByteReader): GroupId {
  const group = reader.varint();
  if (group > GROUP_ID_MAX) throw new DecodeError(`group ${group}`);
  return group as GroupId;
}

function readDamaged(reader: ByteReader): RenewReplicas["damaged"] {
  const count = reader.varint();
  if (count > RENEWALS_PER_COMMAND_MAX) throw new DecodeError(`${count} replicas`);
  return Array.from({ length: count }, () => ({ group: readGroup(reader), replica: reader.varint() as ReplicaId }));
}

/** A bit for each field, in the order of CONFIG_FIELDS. */
function maskOf(fields: readonly ConfigField[]): number {
  return fields.reduce((mask, field) => mask | (1 << CONFIG_FIELDS.indexOf(field)), 0);
}

function readFields(reader: ByteReader): ConfigField[] {
  const mask = reader.u8();
  if (mask >= 1 << CONFIG_FIELDS.length) throw new DecodeError(`field mask ${mask}`);
  return CONFIG_FIELDS.filter((_, at) => (mask & (1 << at)) !== 0);
}

function writePlacement(writer: ByteWriter, placement: Placement): void {
  writer.varint(placement.length);
  for (const nodes of placement) {
    writer.varint(nodes.length);
    for (const node of nodes) writer.varint(node);
  }
}

function readPlacement(reader: ByteReader): Placement {
  const partitions = reader.varint();
  if (partitions > PARTITIONS_PER_TOPIC_MAX) throw new DecodeError(`${partitions} partitions`);
  return Array.from({ length: partitions }, () => {
    const replicas = reader.varint();
    if (replicas < 1 || replicas > REPLICAS_MAX) throw new DecodeError(`${replicas} replicas`);
    return Array.from({ length: replicas }, () => readNodeId(reader));
  });
}
