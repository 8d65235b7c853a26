// The description of the cluster: its nodes and what exists on them. Every node holds it and routes from it.

import { ByteReader, ByteWriter, DecodeError, utf8Encode } from "../../base/bytes.ts";
import { GROUP_ID_MAX, replicaId, type GroupId, type NodeId } from "../../base/ids.ts";
import { PARTITIONS_PER_TOPIC_MAX, TOPICS_MAX } from "../../base/limits.ts";
import type { ApplyMeta, Effects, Machine } from "../machine.ts";
import { isName, isVhost, quoted } from "../names.ts";
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
  type UpdateTopic,
} from "./commands.ts";
import {
  mergeConfig,
  readNode,
  readTopic,
  sameConfig,
  writeNode,
  writeTopic,
  type NodeRow,
  type PartitionRow,
  type TopicRow,
} from "./rows.ts";

export type { NodeRow, PartitionRow, TopicRow } from "./rows.ts";

const FORMAT = 1;
/** The kind of log entry that carries a command, as the contract of `Machine.apply` numbers it. */
const KIND_COMMAND = 2;

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

  apply(_meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    const command = kind === KIND_COMMAND ? decodeCatalogCommand(payload) : undefined;
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

  /** In no order that means anything: it differs between a replay and a restore. */
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
    const [clusterId, viewVersion, nextGroup] = [reader.string(), reader.varint(), reader.varint()];
    const nodes = new Map<NodeId, NodeRow>();
    for (let count = reader.varint(); count > 0; count--) {
      const row = readNode(reader);
      nodes.set(row.id, row);
    }
    const topics: TopicRow[] = [];
    for (let count = reader.varint(); count > 0; count--) topics.push(readTopic(reader));
    reader.done();
    // Only now: a damaged snapshot leaves the state as it was.
    this.clusterId = clusterId;
    this.viewVersion = viewVersion;
    this.nextGroup = nextGroup;
    this.nodeRows = nodes;
    this.topicRows = new Map();
    this.groupRows = new Map();
    for (const topic of topics) this.put(topic);
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
      case UPDATE_TOPIC:
        return this.update(command);
      case DELETE_TOPIC:
        return this.delete(command.vhost, command.name);
      default:
        return refuse(CATALOG_BAD_COMMAND, "unknown command");
    }
  }

  private initialize(clusterId: string): Outcome {
    if (clusterId === "") return refuse(CATALOG_BAD_COMMAND, "a cluster id has at least one character");
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
    if (!isName(name)) return refuse(CATALOG_INVALID_NAME, `${quoted(name)} is not a topic name`);
    if (!isVhost(vhost)) return refuse(CATALOG_INVALID_NAME, `${quoted(vhost)} is not a vhost name`);
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
    const fault = this.faultOf(placement, replicas);
    if (fault !== null) return fault;
    this.put({ vhost, name, partitions: this.makePartitions(placement), replicas, config, createdMs });
    return DONE;
  }

  private update(command: UpdateTopic): Outcome {
    const topic = this.topic(command.vhost, command.name);
    if (topic === undefined) return unknownTopic(command.name);
    const config = command.fields === undefined ? command.config : mergeConfig(topic.config, command.config, command.fields);
    this.put({ ...topic, config });
    return DONE;
  }

  private expand(command: ExpandTopic): Outcome {
    const topic = this.topic(command.vhost, command.name);
    if (topic === undefined) return unknownTopic(command.name);
    if (topic.partitions.length !== command.expected)
      return refuse(CATALOG_CONFLICT, `the topic has ${topic.partitions.length} partitions by now`);
    if (topic.partitions.length + command.placement.length > PARTITIONS_PER_TOPIC_MAX)
      return refuse(CATALOG_TOO_MANY, `a topic may have ${PARTITIONS_PER_TOPIC_MAX} partitions`);
    const fault = this.faultOf(command.placement, topic.replicas);
    if (fault !== null) return fault;
    this.put({ ...topic, partitions: [...topic.partitions, ...this.makePartitions(command.placement)] });
    return DONE;
  }

  private delete(vhost: string, name: string): Outcome {
    const topic = this.topic(vhost, name);
    if (topic === undefined) return unknownTopic(name);
    this.topicRows.delete(keyOf(vhost, name));
    for (const { group } of topic.partitions) this.groupRows.delete(group);
    return DONE;
  }

  /** Why these partitions cannot be made; null when they can. */
  private faultOf(placement: Placement, replicas: number): Outcome | null {
    if (placement.length === 0) return refuse(CATALOG_BAD_COMMAND, "the placement has no partitions");
    if (placement.length > GROUP_ID_MAX - this.nextGroup) return refuse(CATALOG_TOO_MANY, "all group numbers are used up");
    for (const nodes of placement) {
      if (nodes.length !== replicas)
        return refuse(CATALOG_CONFLICT, `a partition is placed on ${nodes.length} nodes instead of ${replicas}`);
      if (new Set(nodes).size !== nodes.length) return refuse(CATALOG_BAD_COMMAND, "a partition is placed on a node twice");
      const unknown = nodes.find((node) => !this.nodeRows.has(node));
      if (unknown !== undefined) return refuse(CATALOG_UNKNOWN_NODE, `node ${unknown} is not registered`);
    }
    return null;
  }

  private makePartitions(placement: Placement): PartitionRow[] {
    return placement.map((nodes) => ({ group: this.nextGroup++ as GroupId, replicas: nodes.map((node) => replicaId(node, 0)) }));
  }

  private put(topic: TopicRow): void {
    this.topicRows.set(keyOf(topic.vhost, topic.name), topic);
    topic.partitions.forEach(({ group }, partition) => this.groupRows.set(group, { topic, partition }));
  }
}

function unknownTopic(name: string): Outcome {
  return refuse(CATALOG_UNKNOWN_TOPIC, `there is no topic ${quoted(name)}`);
}

/** Neither part can contain a NUL. */
function keyOf(vhost: string, name: string): string {
  return `${vhost}\0${name}`;
}
