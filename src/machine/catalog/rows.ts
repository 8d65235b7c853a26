// The rows of the catalog and their bytes.

import { DecodeError, type ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { CRON_LENGTH_MAX, NODE_TEXT_LENGTH_MAX, REPLICAS_MAX } from "../../base/limits.ts";
import type { WorkRow } from "./declaration-rows.ts";
import { parseRow } from "./declarations.ts";
import type { DeclaredSettings } from "./settings.ts";
import { NODE_ID_MAX, type GroupId, type NodeId, type ReplicaId } from "../../base/ids.ts";

/** What a node says of itself with each start. */
export type NodeRegistration = {
  readonly id: NodeId;
  readonly storeId: string;
  readonly clientEndpoint: string;
  readonly peerEndpoint: string;
  readonly dc: string;
  readonly zone: string;
  readonly version: string;
  readonly incarnation: number;
};

export type NodeRow = NodeRegistration & {
  /** The life of this node's replica of the catalog; 0 for a founder. */
  readonly catalogLife: number;
  /** The life of the next replica that is made here. Only rises, so no replica id is ever given out twice. */
  readonly nextLife: number;
  /** Gets neither leaders nor new replicas. */
  readonly drained: boolean;
};

export type ConfigRow = {
  readonly durability: 1 | 2 | 3;
  readonly retentionMs: number;
  readonly retentionBytes: number;
  readonly flushIntervalMs: number;
  readonly flushMessages: number;
  /** A cron expression; empty = whenever there is something to trim. Nobody down here reads it. */
  readonly retentionSchedule: string;
  readonly retentionTimeZone: string;
  /** 1 delete, 2 archive (types.proto RetentionPolicy). */
  readonly retentionPolicy: 1 | 2;
};

export const CONFIG_FIELDS = [
  "durability",
  "retentionMs",
  "retentionBytes",
  "flushIntervalMs",
  "flushMessages",
  "retentionSchedule",
  "retentionTimeZone",
  "retentionPolicy",
] as const;
export type ConfigField = (typeof CONFIG_FIELDS)[number];

export type PartitionRow = {
  readonly group: GroupId;
  /** Who is to hold it; the leader of the group brings its membership there. `replicas[0]` is where the leader is wanted. */
  readonly replicas: readonly ReplicaId[];
  /** Who held it when it was created: the members that its log begins with. All of life 0. */
  readonly founders: readonly ReplicaId[];
};

/** Equal lists of replicas, once in memory: the partitions of a topic lie in few ways on its nodes, and there may be thousands. */
export class ReplicaLists {
  private readonly lists = new Map<string, readonly ReplicaId[]>();

  of(replicas: readonly ReplicaId[]): readonly ReplicaId[] {
    const key = replicas.join();
    const known = this.lists.get(key);
    if (known === undefined) this.lists.set(key, replicas);
    return known ?? replicas;
  }
}

export type TopicRow = {
  readonly vhost: string;
  readonly name: string;
  readonly partitions: readonly PartitionRow[];
  readonly replicas: number;
  readonly config: ConfigRow;
  /** The catalog's time when it was made, and when `config` was set: what was due before then is none of its business. */
  readonly createdMs: number;
  readonly configuredMs: number;
  /** Of a queue, which has one partition: what was declared of it; null = it is a topic. */
  readonly queue: DeclaredSettings | null;
  /** Work subscriptions of a topic, by name. */
  readonly works: readonly WorkRow[];
};

export function writeRegistration(writer: ByteWriter, row: NodeRegistration): void {
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

export function readRegistration(reader: ByteReader): NodeRegistration {
  return {
    id: readNodeId(reader),
    storeId: readText(reader),
    clientEndpoint: readText(reader),
    peerEndpoint: readText(reader),
    dc: readText(reader),
    zone: readText(reader),
    version: readText(reader),
    incarnation: reader.varint(),
  };
}

export function writeNode(writer: ByteWriter, row: NodeRow): void {
  writeRegistration(writer, row);
  writer
    .varint(row.catalogLife)
    .varint(row.nextLife)
    .u8(row.drained ? 1 : 0);
}

export function readNode(reader: ByteReader): NodeRow {
  const registration = readRegistration(reader);
  return { ...registration, catalogLife: reader.varint(), nextLife: reader.varint(), drained: reader.u8() === 1 };
}

export function readText(reader: ByteReader): string {
  const text = reader.string();
  if (text.length > NODE_TEXT_LENGTH_MAX) throw new DecodeError(`a text of ${text.length} characters`);
  return text;
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
    .varint(config.flushMessages)
    .string(config.retentionSchedule)
    .string(config.retentionTimeZone)
    .u8(config.retentionPolicy);
}

export function readConfig(reader: ByteReader): ConfigRow {
  const durability = reader.u8();
  if (durability !== 1 && durability !== 2 && durability !== 3) throw new DecodeError(`durability ${durability}`);
  const [retentionMs, retentionBytes, flushIntervalMs, flushMessages] = [
    reader.varint(),
    reader.varint(),
    reader.varint(),
    reader.varint(),
  ];
  const [retentionSchedule, retentionTimeZone, retentionPolicy] = [readCron(reader), readCron(reader), reader.u8()];
  if (retentionPolicy !== 1 && retentionPolicy !== 2) throw new DecodeError(`retention policy ${retentionPolicy}`);
  return {
    durability,
    retentionMs,
    retentionBytes,
    flushIntervalMs,
    flushMessages,
    retentionSchedule,
    retentionTimeZone,
    retentionPolicy,
  };
}

function readCron(reader: ByteReader): string {
  const text = reader.string();
  if (text.length > CRON_LENGTH_MAX) throw new DecodeError(`a text of ${text.length} characters`);
  return text;
}

export function writeTopic(writer: ByteWriter, topic: TopicRow): void {
  writer.string(topic.vhost).string(topic.name).varint(topic.replicas).varint(topic.createdMs).varint(topic.configuredMs);
  writeConfig(writer, topic.config);
  writer.string(topic.queue === null ? "" : JSON.stringify(topic.queue)).varint(topic.works.length);
  for (const work of topic.works) writer.string(JSON.stringify(work));
  writer.varint(topic.partitions.length);
  for (const { group, replicas, founders } of topic.partitions) {
    writer.varint(group);
    writeReplicas(writer, replicas);
    writeReplicas(writer, founders);
  }
}

export function readTopic(reader: ByteReader): TopicRow {
  const vhost = reader.string();
  const name = reader.string();
  const replicas = reader.varint();
  const createdMs = reader.varint();
  const configuredMs = reader.varint();
  const config = readConfig(reader);
  const queue = readQueue(reader);
  const works = Array.from({ length: reader.varint() }, () => parseRow<WorkRow>(reader.string()));
  const partitions: PartitionRow[] = [];
  const lists = new ReplicaLists();
  for (let count = reader.varint(); count > 0; count--) {
    const group = reader.varint() as GroupId;
    partitions.push({ group, replicas: lists.of(readReplicas(reader)), founders: lists.of(readReplicas(reader)) });
  }
  return { vhost, name, partitions, replicas, config, createdMs, configuredMs, queue, works };
}

/** What is declared of a queue; null of a topic. */
export function readQueue(reader: ByteReader): DeclaredSettings | null {
  const text = reader.string();
  return text === "" ? null : parseRow<DeclaredSettings>(text);
}

export function writeReplicas(writer: ByteWriter, replicas: readonly ReplicaId[]): void {
  writer.varint(replicas.length);
  for (const replica of replicas) writer.varint(replica);
}

/** In the order written; bounded by REPLICAS_MAX. */
export function readReplicas(reader: ByteReader): ReplicaId[] {
  const count = reader.varint();
  if (count > REPLICAS_MAX) throw new DecodeError(`${count} replicas`);
  return Array.from({ length: count }, () => reader.varint() as ReplicaId);
}

export function sameConfig(a: ConfigRow, b: ConfigRow): boolean {
  return CONFIG_FIELDS.every((field) => a[field] === b[field]);
}

/** `before` with the named fields of `changes`, so that two callers who change different fields do not undo each other. */
export function mergeConfig(before: ConfigRow, changes: ConfigRow, fields: readonly ConfigField[]): ConfigRow {
  const from = (field: ConfigField): ConfigRow => (fields.includes(field) ? changes : before);
  return {
    durability: from("durability").durability,
    retentionMs: from("retentionMs").retentionMs,
    retentionBytes: from("retentionBytes").retentionBytes,
    flushIntervalMs: from("flushIntervalMs").flushIntervalMs,
    flushMessages: from("flushMessages").flushMessages,
    retentionSchedule: from("retentionSchedule").retentionSchedule,
    retentionTimeZone: from("retentionTimeZone").retentionTimeZone,
    retentionPolicy: from("retentionPolicy").retentionPolicy,
  };
}
