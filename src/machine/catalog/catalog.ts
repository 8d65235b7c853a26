// The description of the cluster: its nodes and what exists on them. Every node holds it and routes from it.

import { ByteReader, ByteWriter, DecodeError, utf8Encode } from "../../base/bytes.ts";
import { replicaId, type GroupId, type NodeId } from "../../base/ids.ts";
import { NAME_LENGTH_MAX, PARTITIONS_PER_TOPIC_MAX } from "../../base/limits.ts";
import type { ApplyMeta, Effects, Machine } from "../machine.ts";
import {
  CATALOG_BAD_COMMAND,
  CATALOG_CONFLICT,
  CATALOG_EXISTS_DIFFERENT,
  CATALOG_EXISTS_SAME,
  CATALOG_INVALID_NAME,
  CATALOG_OK,
  CATALOG_STORE_MISMATCH,
  CATALOG_TOO_MANY,
  CATALOG_UNKNOWN_NODE,
  CATALOG_UNKNOWN_TOPIC,
  CREATE_TOPIC,
  DELETE_TOPIC,
  EXPAND_TOPIC,
  INITIALIZE,
  REGISTER_NODE,
  UPDATE_TOPIC,
  decodeCatalogCommand,
  type CatalogCommand,
  type CreateTopic,
  type ExpandTopic,
  type NodeRegistration,
  type Placement,
} from "./commands.ts";
import { readNode, readTopic, sameConfig, writeNode, writeTopic, type NodeRow, type PartitionRow, type TopicRow } from "./rows.ts";

export type { NodeRow, PartitionRow, TopicRow } from "./rows.ts";

const FORMAT = 1;
const TOPICS_MAX = 100_000;

type Outcome = { readonly code: number; readonly detail: string };
const DONE: Outcome = { code: CATALOG_OK, detail: "" };
const refuse = (code: number, detail: string): Outcome => ({ code, detail });

export class CatalogMachine implements Machine {
  readonly version = 1;
  clusterId = "";
  /** Rises with every change. */
  viewVersion = 0;
  /** The next group to be made; numbers are never used twice. */
  private nextGroup = 1;
  private nodeRows = new Map<NodeId, NodeRow>();
  private topicRows = new Map<string, TopicRow>();
  private groupRows = new Map<GroupId, { topic: TopicRow; partition: number }>();

  apply(_meta: ApplyMeta, _kind: number, payload: Uint8Array, effects: Effects): void {
    const command = decodeCatalogCommand(payload);
    const { code, detail } = command === undefined ? refuse(CATALOG_BAD_COMMAND, "unknown command") : this.run(command);
    if (code === CATALOG_OK) {
      this.viewVersion += 1;
      effects.changed();
    }
    effects.reply(code, this.viewVersion, detail === "" ? null : utf8Encode(detail));
  }

  /** Ascending by id. */
  nodes(): NodeRow[] {
    return [...this.nodeRows.values()].sort((a, b) => a.id - b.id);
  }

  node(id: NodeId): NodeRow | undefined {
    return this.nodeRows.get(id);
  }

  topic(vhost: string, name: string): TopicRow | undefined {
    return this.topicRows.get(keyOf(vhost, name));
  }

  topics(): IterableIterator<TopicRow> {
    return this.topicRows.values();
  }

  group(group: GroupId): { readonly topic: TopicRow; readonly partition: number } | undefined {
    return this.groupRows.get(group);
  }

  /** `deleted` only if a command that this catalog applied made and deleted the group. */
  groupState(group: GroupId): "live" | "deleted" | "unknown" {
    if (this.groupRows.has(group)) return "live";
    return group > 0 && group < this.nextGroup ? "deleted" : "unknown";
  }

  snapshot(): Uint8Array {
    const writer = new ByteWriter(4096).u8(FORMAT).string(this.clusterId).varint(this.viewVersion).varint(this.nextGroup);
    writer.varint(this.nodeRows.size);
    for (const row of this.nodes()) writeNode(writer, row);
    const topics = [...this.topicRows].sort(([a], [b]) => (a < b ? -1 : 1));
    writer.varint(topics.length);
    for (const [, topic] of topics) writeTopic(writer, topic);
    return writer.finish();
  }

  restore(snapshot: Uint8Array): void {
    const reader = new ByteReader(snapshot);
    const format = reader.u8();
    if (format !== FORMAT) throw new DecodeError(`catalog snapshot of format ${format}, this release knows ${FORMAT}`);
    this.clusterId = reader.string();
    this.viewVersion = reader.varint();
    this.nextGroup = reader.varint();
    this.nodeRows = new Map();
    this.topicRows = new Map();
    this.groupRows = new Map();
    for (let count = reader.varint(); count > 0; count--) {
      const row = readNode(reader);
      this.nodeRows.set(row.id, row);
    }
    for (let count = reader.varint(); count > 0; count--) this.put(readTopic(reader));
    reader.done();
  }

  private run(command: CatalogCommand): Outcome {
    switch (command.kind) {
      case INITIALIZE:
        return this.initialize(command.clusterId);
      case REGISTER_NODE:
        return this.register(command.node);
      case CREATE_TOPIC:
        return this.create(command);
      case EXPAND_TOPIC:
        return this.expand(command);
      case UPDATE_TOPIC: {
        const topic = this.topic(command.vhost, command.name);
        if (topic === undefined) return unknownTopic(command.name);
        this.put({ ...topic, config: command.config });
        return DONE;
      }
      case DELETE_TOPIC:
        return this.delete(command.vhost, command.name);
      default:
        return refuse(CATALOG_BAD_COMMAND, "unknown command");
    }
  }

  private initialize(clusterId: string): Outcome {
    if (this.clusterId !== "" && this.clusterId !== clusterId) return refuse(CATALOG_CONFLICT, `the cluster is ${this.clusterId}`);
    this.clusterId = clusterId;
    return DONE;
  }

  private register(node: NodeRegistration): Outcome {
    const known = this.nodeRows.get(node.id);
    if (known !== undefined && known.storeId !== node.storeId) {
      return refuse(
        CATALOG_STORE_MISMATCH,
        `node ${node.id} joined with store ${known.storeId}, not ${node.storeId}; an emptied disk must come back under a new node id`,
      );
    }
    if (known !== undefined && node.incarnation < known.incarnation)
      return refuse(CATALOG_CONFLICT, "a later start of this node is registered already");
    this.nodeRows.set(node.id, node);
    return DONE;
  }

  private create(command: CreateTopic): Outcome {
    const { vhost, name, replicas, config, placement, createdMs } = command;
    if (!isName(name) || !(vhost === "/" || isName(vhost)))
      return refuse(CATALOG_INVALID_NAME, `${JSON.stringify(name)} is not a topic name`);
    const known = this.topic(vhost, name);
    if (known !== undefined) {
      const same = known.partitions.length === placement.length && known.replicas === replicas && sameConfig(known.config, config);
      if (same) return refuse(CATALOG_EXISTS_SAME, "");
      return refuse(
        CATALOG_EXISTS_DIFFERENT,
        `topic ${name} exists with ${known.partitions.length} partitions, ${known.replicas} replicas or another configuration`,
      );
    }
    if (this.topicRows.size >= TOPICS_MAX) return refuse(CATALOG_TOO_MANY, `there are ${TOPICS_MAX} topics already`);
    if (placement.length < 1 || placement.length > PARTITIONS_PER_TOPIC_MAX)
      return refuse(CATALOG_TOO_MANY, `${placement.length} partitions`);
    const partitions = this.makePartitions(placement);
    if (partitions === undefined) return refuse(CATALOG_UNKNOWN_NODE, "the placement names a node that is not registered");
    this.put({ vhost, name, partitions, replicas, config, createdMs });
    return DONE;
  }

  private expand(command: ExpandTopic): Outcome {
    const topic = this.topic(command.vhost, command.name);
    if (topic === undefined) return unknownTopic(command.name);
    if (topic.partitions.length !== command.expected)
      return refuse(CATALOG_CONFLICT, `the topic has ${topic.partitions.length} partitions by now`);
    if (topic.partitions.length + command.placement.length > PARTITIONS_PER_TOPIC_MAX)
      return refuse(CATALOG_TOO_MANY, `a topic may have ${PARTITIONS_PER_TOPIC_MAX} partitions`);
    const added = this.makePartitions(command.placement);
    if (added === undefined) return refuse(CATALOG_UNKNOWN_NODE, "the placement names a node that is not registered");
    this.put({ ...topic, partitions: [...topic.partitions, ...added] });
    return DONE;
  }

  private delete(vhost: string, name: string): Outcome {
    const topic = this.topic(vhost, name);
    if (topic === undefined) return unknownTopic(name);
    this.topicRows.delete(keyOf(vhost, name));
    for (const { group } of topic.partitions) this.groupRows.delete(group);
    return DONE;
  }

  private makePartitions(placement: Placement): PartitionRow[] | undefined {
    for (const nodes of placement) {
      if (new Set(nodes).size !== nodes.length || nodes.some((node) => !this.nodeRows.has(node))) return undefined;
    }
    return placement.map((nodes) => ({ group: this.nextGroup++ as GroupId, replicas: nodes.map((node) => replicaId(node, 0)) }));
  }

  private put(topic: TopicRow): void {
    this.topicRows.set(keyOf(topic.vhost, topic.name), topic);
    topic.partitions.forEach(({ group }, partition) => this.groupRows.set(group, { topic, partition }));
  }
}

function unknownTopic(name: string): Outcome {
  return refuse(CATALOG_UNKNOWN_TOPIC, `there is no topic ${JSON.stringify(name)}`);
}

/** Neither part can contain a NUL. */
function keyOf(vhost: string, name: string): string {
  return `${vhost}\0${name}`;
}

function isName(name: string): boolean {
  return name.length <= NAME_LENGTH_MAX && /^[A-Za-z0-9._-]+$/.test(name);
}
