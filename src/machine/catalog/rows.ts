// The rows of the catalog and their bytes.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { NODE_ID_MAX, type GroupId, type NodeId, type ReplicaId } from "../../base/ids.ts";

export type NodeRow = {
  readonly id: NodeId;
  readonly storeId: string;
  readonly clientEndpoint: string;
  readonly peerEndpoint: string;
  readonly dc: string;
  readonly zone: string;
  readonly version: string;
  readonly incarnation: number;
};

export type ConfigRow = {
  readonly durability: 1 | 2 | 3;
  readonly retentionMs: number;
  readonly retentionBytes: number;
  readonly flushIntervalMs: number;
  readonly flushMessages: number;
};

/** `replicas[0]` is where the leader is wanted. */
export type PartitionRow = { readonly group: GroupId; readonly replicas: readonly ReplicaId[] };

export type TopicRow = {
  readonly vhost: string;
  readonly name: string;
  readonly partitions: readonly PartitionRow[];
  readonly replicas: number;
  readonly config: ConfigRow;
  readonly createdMs: number;
};

export function writeNode(writer: ByteWriter, row: NodeRow): void {
  writer
    .varint(row.id)
    .string(row.storeId)
    .string(row.clientEndpoint)
    .string(row.peerEndpoint)
    .string(row.dc)
    .string(row.zone)
    .string(row.version)
    .varint(row.incarnation);
}

export function readNode(reader: ByteReader): NodeRow {
  return {
    id: readNodeId(reader),
    storeId: reader.string(),
    clientEndpoint: reader.string(),
    peerEndpoint: reader.string(),
    dc: reader.string(),
    zone: reader.string(),
    version: reader.string(),
    incarnation: reader.varint(),
  };
}

export function readNodeId(reader: ByteReader): NodeId {
  const id = reader.varint();
  if (id < 1 || id > NODE_ID_MAX) throw new DecodeError(`node id ${id}`);
  return id as NodeId;
}

export function writeConfig(writer: ByteWriter, config: ConfigRow): void {
  writer
    .u8(config.durability)
    .varint(config.retentionMs)
    .varint(config.retentionBytes)
    .varint(config.flushIntervalMs)
    .varint(config.flushMessages);
}

export function readConfig(reader: ByteReader): ConfigRow {
  const durability = reader.u8();
  if (durability !== 1 && durability !== 2 && durability !== 3) throw new DecodeError(`durability ${durability}`);
  return {
    durability,
    retentionMs: reader.varint(),
    retentionBytes: reader.varint(),
    flushIntervalMs: reader.varint(),
    flushMessages: reader.varint(),
  };
}

export function writeTopic(writer: ByteWriter, topic: TopicRow): void {
  writer.string(topic.vhost).string(topic.name).varint(topic.replicas).varint(topic.createdMs);
  writeConfig(writer, topic.config);
  writer.varint(topic.partitions.length);
  for (const { group, replicas } of topic.partitions) {
    writer.varint(group).varint(replicas.length);
    for (const replica of replicas) writer.varint(replica);
  }
}

export function readTopic(reader: ByteReader): TopicRow {
  const vhost = reader.string();
  const name = reader.string();
  const replicas = reader.varint();
  const createdMs = reader.varint();
  const config = readConfig(reader);
  const partitions: PartitionRow[] = [];
  for (let count = reader.varint(); count > 0; count--) {
    const group = reader.varint() as GroupId;
    const members: ReplicaId[] = [];
    for (let left = reader.varint(); left > 0; left--) members.push(reader.varint() as ReplicaId);
    partitions.push({ group, replicas: members });
  }
  return { vhost, name, partitions, replicas, config, createdMs };
}

export function sameConfig(a: ConfigRow, b: ConfigRow): boolean {
  return (
    a.durability === b.durability &&
    a.retentionMs === b.retentionMs &&
    a.retentionBytes === b.retentionBytes &&
    a.flushIntervalMs === b.flushIntervalMs &&
    a.flushMessages === b.flushMessages
  );
}
