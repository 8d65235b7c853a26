// The description of the cluster: its nodes and what exists on them. Every node holds it and routes from it.

import { assert } from "../../base/assert.ts";
import { ByteReader, ByteWriter, DecodeError, utf8Encode } from "../../base/bytes.ts";
import { GROUP_ID_MAX, nodeOfReplica, replicaId, type GroupId, type NodeId, type ReplicaId } from "../../base/ids.ts";
import { PARTITIONS_PER_TOPIC_MAX, REPLICAS_MAX, TOPICS_MAX } from "../../base/limits.ts";
import type { ApplyMeta, Effects, Machine } from "../machine.ts";
import { FIRST_VERSION, RULES_VERSION } from "../versions.ts";
import { isName, isVhost, quoted } from "../names.ts";
import {
  CATALOG_BAD_COMMAND,
  CATALOG_CONFLICT,
  CATALOG_EXISTS_DIFFERENT,
  CATALOG_EXISTS_SAME,
  CATALOG_INVALID_NAME,
  CATALOG_OK,
  CATALOG_TOO_MANY,
  CATALOG_UNKNOWN_GROUP,
  CATALOG_UNKNOWN_NODE,
  CATALOG_UNKNOWN_TOPIC,
} from "./codes.ts";
import {
  CREATE_TOPIC,
  DECLARE,
  DELETE_TOPIC,
  DRAIN_NODE,
  EXPAND_TOPIC,
  FORGET_NODE,
  INITIALIZE,
  JOIN_NODE,
  PLACE_REPLICAS,
  PREFER_LEADER,
  REGISTER_NODE,
  RENEW_REPLICAS,
  UPDATE_TOPIC,
  decodeCatalogCommand,
  type CatalogCommand,
  type CreateTopic,
  type ExpandTopic,
  type ForgetNode,
  type JoinNode,
  type PlaceReplicas,
  type Placement,
  type PreferLeader,
  type RenewReplicas,
  type UpdateTopic,
} from "./commands.ts";
import { changedTopic, isOutcome, otherQueue, type Declare } from "./declare.ts";
import { Declarations, keyOf } from "./declarations.ts";
import { SortedKeys } from "../sorted-keys.ts";
import { NodeTable, unknownNode } from "./nodes.ts";
import { DONE, refuse, type Outcome } from "./outcome.ts";
import { sameDeclared } from "./settings.ts";
import { mergeConfig, readTopic, ReplicaLists, sameConfig, writeTopic, type NodeRow, type PartitionRow, type TopicRow } from "./rows.ts";

export type { NodeRow, PartitionRow, TopicRow } from "./rows.ts";

const FORMAT = 1;
/** The kind of log entry that carries a command, as the contract of `Machine.apply` numbers it. */
const KIND_COMMAND = 2;

export class CatalogMachine implements Machine {
  version = FIRST_VERSION;
  readonly newestVersion: number = RULES_VERSION;
  clusterId = "";
  /** Rises with every change. */
  viewVersion = 0;
  /** The next group to be made; numbers are never used twice. */
  private nextGroup = 1;
  private nodeTable = new NodeTable();
  private topicRows = new Map<string, TopicRow>();
  /** The keys of `topicRows`, ascending. */
  private topicKeys = new SortedKeys();
  private groupRows = new Map<GroupId, { topic: TopicRow; partition: number }>();
  /** Vhosts, exchanges and what else is declared, and how publishing is routed by it. */
  declarations = new Declarations();

  useVersion(version: number): void {
    assert(version >= FIRST_VERSION && version <= this.newestVersion, "the version of the rules is known");
    this.version = version;
  }

  apply(meta: ApplyMeta, kind: number, payload: Uint8Array, effects: Effects): void {
    const command = kind === KIND_COMMAND ? decodeCatalogCommand(payload) : undefined;
    const { code, detail, value } = command === undefined ? refuse(CATALOG_BAD_COMMAND, "unknown command") : this.run(command, meta.timeMs);
    if (code === CATALOG_OK) {
      this.viewVersion += 1;
      effects.changed();
    }
    effects.reply(code, value ?? this.viewVersion, detail === "" ? null : utf8Encode(detail));
  }

  /** Ascending by id. */
  nodes(): NodeRow[] {
    return this.nodeTable.all();
  }

  node(id: NodeId): NodeRow | undefined {
    return this.nodeTable.get(id);
  }

  /** The node was a member once, and was forgotten on purpose. */
  wasForgotten(id: NodeId): boolean {
    return this.nodeTable.wasForgotten(id);
  }

  topic(vhost: string, name: string): TopicRow | undefined {
    return this.topicRows.get(keyOf(vhost, name));
  }

  /** By vhost, then name, from the first one after the given place on. Reads the catalog as it goes: do not wait in between. */
  topicsAfter(place: { readonly vhost: string; readonly name: string }): Generator<TopicRow> {
    return this.ordered(keyOf(place.vhost, place.name));
  }

  /** In no order that means anything: it differs between a replay and a restore. */
  topics(): IterableIterator<TopicRow> {
    return this.topicRows.values();
  }

  /** How many there are. */
  get groups(): number {
    return this.groupRows.size;
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
    this.nodeTable.write(writer);
    writer.varint(this.topicRows.size);
    for (const topic of this.ordered("")) writeTopic(writer, topic);
    this.declarations.write(writer);
    return writer.finish();
  }

  restore(snapshot: Uint8Array): void {
    const reader = new ByteReader(snapshot);
    const format = reader.u8();
    if (format !== FORMAT) throw new DecodeError(`catalog snapshot of format ${format}, this release knows ${FORMAT}`);
    const [clusterId, viewVersion, nextGroup] = [reader.string(), reader.varint(), reader.varint()];
    const nodes = NodeTable.read(reader);
    const topics: TopicRow[] = [];
    for (let count = reader.varint(); count > 0; count--) topics.push(readTopic(reader));
    const declarations = Declarations.read(reader);
    reader.done();
    // Only now: a damaged snapshot leaves the state as it was.
    this.clusterId = clusterId;
    this.viewVersion = viewVersion;
    this.nextGroup = nextGroup;
    this.nodeTable = nodes;
    this.topicRows = new Map();
    this.topicKeys = new SortedKeys();
    this.groupRows = new Map();
    this.declarations = declarations;
    for (const topic of topics) this.put(topic);
  }

  private run(command: CatalogCommand, timeMs: number): Outcome {
    switch (command.kind) {
      case INITIALIZE:
        return this.initialize(command.clusterId);
      case REGISTER_NODE:
        return this.nodeTable.register(command.node);
      case CREATE_TOPIC:
        return this.create(command, timeMs);
      case EXPAND_TOPIC:
        return this.expand(command);
      case UPDATE_TOPIC:
        return this.update(command, timeMs);
      case DELETE_TOPIC:
        return this.delete(command.vhost, command.name);
      case JOIN_NODE:
        return this.join(command);
      case FORGET_NODE:
        return this.forget(command);
      case DRAIN_NODE:
        return this.nodeTable.drain(command);
      case PREFER_LEADER:
        return this.prefer(command);
      case PLACE_REPLICAS:
        return this.place(command);
      case RENEW_REPLICAS:
        return this.renew(command);
      case DECLARE:
        return this.declare(command.declare);
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

  private create(command: CreateTopic, timeMs: number): Outcome {
    const { vhost, name, replicas, config, placement } = command;
    if (!isName(name)) return refuse(CATALOG_INVALID_NAME, `${quoted(name)} is not a topic name`);
    if (!isVhost(vhost)) return refuse(CATALOG_INVALID_NAME, `${quoted(vhost)} is not a vhost name`);
    const queue = command.queue ?? null;
    const known = this.topic(vhost, name);
    if (known !== undefined && (known.queue === null) !== (queue === null))
      return refuse(
        CATALOG_EXISTS_DIFFERENT,
        `${name} exists as a ${known.queue === null ? "topic" : "queue"}: both share one space of names`,
      );
    if (known !== undefined) {
      const sameShape = known.partitions.length === placement.length && known.replicas === replicas && sameConfig(known.config, config);
      const same = sameShape && (queue === null || sameDeclared(known.queue!, queue));
      if (same) return refuse(CATALOG_EXISTS_SAME, "");
      if (queue !== null) return refuse(CATALOG_EXISTS_DIFFERENT, otherQueue(known, { replicas, config, queue }));
      return refuse(
        CATALOG_EXISTS_DIFFERENT,
        `topic ${name} exists with ${known.partitions.length} partitions, ${known.replicas} replicas or another configuration`,
      );
    }
    if (this.topicRows.size >= TOPICS_MAX) return refuse(CATALOG_TOO_MANY, `there are ${TOPICS_MAX} topics already`);
    const fault = this.faultOf(placement, replicas);
    if (fault !== null) return fault;
    const partitions = this.makePartitions(placement);
    this.put({ vhost, name, partitions, replicas, config, createdMs: timeMs, configuredMs: timeMs, queue, works: [] });
    return DONE;
  }

  private update(command: UpdateTopic, timeMs: number): Outcome {
    const topic = this.topic(command.vhost, command.name);
    if (topic === undefined) return unknownTopic(command.name);
    const config = command.fields === undefined ? command.config : mergeConfig(topic.config, command.config, command.fields);
    this.put({ ...topic, config, configuredMs: timeMs });
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
    this.remove(topic);
    return DONE;
  }

  private declare(declare: Declare): Outcome {
    const { declarations } = this;
    switch (declare.do) {
      case "createVhost":
        return declarations.createVhost(declare.row);
      case "deleteVhost":
        return this.deleteVhost(declare.name);
      case "createExchange":
        return declarations.createExchange(declare.row);
      case "updateExchange":
        return declarations.updateExchange(declare);
      case "deleteExchange":
        return declarations.deleteExchange(declare);
      case "createBinding":
        return declarations.createBinding(declare.row, (vhost, name) => this.topic(vhost, name) !== undefined);
      case "deleteBinding":
        return declarations.deleteBinding(declare.row);
      case "setPolicy":
        return declarations.setPolicy(declare.row);
      case "deletePolicy":
        return declarations.deletePolicy(declare.vhost, declare.name);
      case "setSchedule":
        return declarations.setSchedule(declare.row);
      case "deleteSchedule":
        return declarations.deleteSchedule(declare.vhost, declare.name);
      case "createWork":
      case "alterWork":
      case "deleteWork":
      case "alterQueue":
        return this.changeTopic(declare);
      case "deleteQueue": {
        const topic = this.topic(declare.vhost, declare.name);
        if (topic === undefined) return unknownTopic(declare.name);
        if (topic.partitions[0]!.group !== declare.group) return refuse(CATALOG_CONFLICT, `queue ${declare.name} is another one by now`);
        this.remove(topic);
        return DONE;
      }
      default:
        return refuse(CATALOG_BAD_COMMAND, "unknown declaration");
    }
  }

  private changeTopic(declare: Parameters<typeof changedTopic>[1]): Outcome {
    const topic = this.topic(declare.vhost, declare.name);
    if (topic === undefined) return unknownTopic(declare.name);
    const changed = changedTopic(topic, declare);
    if (isOutcome(changed)) return changed;
    this.put(changed);
    return DONE;
  }

  /** With all that is in it. */
  private deleteVhost(name: string): Outcome {
    if (this.declarations.isVhostLasting(name)) return this.declarations.deleteVhost(name);
    for (const topic of [...this.topicRows.values()]) if (topic.vhost === name) this.remove(topic);
    return this.declarations.deleteVhost(name);
  }

  private remove(topic: TopicRow): void {
    const { vhost, name } = topic;
    this.topicRows.delete(keyOf(vhost, name));
    this.topicKeys.delete(keyOf(vhost, name));
    for (const { group } of topic.partitions) this.groupRows.delete(group);
    this.declarations.streamRemoved(vhost, name);
  }

  private join(command: JoinNode): Outcome {
    const { replaced, ...outcome } = this.nodeTable.join(command);
    if (!replaced) return outcome;
    const { id } = command.node;
    for (const topic of [...this.topicRows.values()])
      this.replace(topic, (replica) => (nodeOfReplica(replica) === id ? replicaId(id, outcome.value!) : replica));
    return outcome;
  }

  private forget(command: ForgetNode): Outcome {
    const { node } = command;
    let held = 0;
    for (const topic of this.topicRows.values())
      for (const { replicas } of topic.partitions) if (replicas.some((replica) => nodeOfReplica(replica) === node)) held += 1;
    if (held > 0) return refuse(CATALOG_CONFLICT, `node ${node} is to hold ${held} replicas; move them away first`);
    return this.nodeTable.forget(command);
  }

  private prefer({ group, node }: PreferLeader): Outcome {
    const row = this.partitionOf(group);
    if (row === undefined) return unknownGroup(group);
    const first = row.replicas.find((replica) => nodeOfReplica(replica) === node);
    if (first === undefined) return refuse(CATALOG_CONFLICT, `node ${node} has no replica of group ${group}`);
    this.setReplicas(group, [first, ...row.replicas.filter((replica) => replica !== first)]);
    return DONE;
  }

  private place({ group, expected, nodes }: PlaceReplicas): Outcome {
    const row = this.partitionOf(group);
    if (row === undefined) return unknownGroup(group);
    if (row.replicas.length !== expected.length || row.replicas.some((replica, at) => replica !== expected[at]))
      return refuse(CATALOG_CONFLICT, `the placement of group ${group} has changed by now`);
    if (nodes.length === 0 || nodes.length > REPLICAS_MAX || new Set(nodes).size !== nodes.length)
      return refuse(CATALOG_BAD_COMMAND, "a group is placed on 1 or more nodes, on each once");
    const unknown = nodes.find((node) => this.nodeTable.get(node) === undefined);
    if (unknown !== undefined) return unknownNode(unknown);
    const replicas = nodes.map(
      (node) => row.replicas.find((replica) => nodeOfReplica(replica) === node) ?? replicaId(node, this.nodeTable.takeLife(node)),
    );
    this.setReplicas(group, replicas);
    return DONE;
  }

  private renew({ node, damaged }: RenewReplicas): Outcome {
    if (this.nodeTable.get(node) === undefined) return unknownNode(node);
    const placed = new Map(
      damaged
        .filter(({ group, replica }) => nodeOfReplica(replica) === node && this.partitionOf(group)?.replicas.includes(replica) === true)
        .map(({ group, replica }) => [group, replica]),
    );
    if (placed.size === 0) return refuse(CATALOG_CONFLICT, "none of these replicas is placed there");
    const life = this.nodeTable.takeLife(node);
    for (const topic of new Set([...placed.keys()].map((group) => this.groupRows.get(group)!.topic)))
      this.replace(topic, (replica, group) => (placed.get(group) === replica ? replicaId(node, life) : replica));
    return DONE;
  }

  private partitionOf(group: GroupId): PartitionRow | undefined {
    const known = this.groupRows.get(group);
    return known?.topic.partitions[known.partition];
  }

  private setReplicas(group: GroupId, replicas: readonly ReplicaId[]): void {
    const { topic } = this.groupRows.get(group)!;
    this.put({ ...topic, partitions: topic.partitions.map((row) => (row.group === group ? { ...row, replicas } : row)) });
  }

  private replace(topic: TopicRow, successor: (replica: ReplicaId, group: GroupId) => ReplicaId): void {
    const partitions = topic.partitions.map((row) => ({ ...row, replicas: row.replicas.map((replica) => successor(replica, row.group)) }));
    this.put({ ...topic, partitions });
  }

  /** Why these partitions cannot be made; null when they can. */
  private faultOf(placement: Placement, replicas: number): Outcome | null {
    if (placement.length === 0) return refuse(CATALOG_BAD_COMMAND, "the placement has no partitions");
    if (placement.length > GROUP_ID_MAX - this.nextGroup) return refuse(CATALOG_TOO_MANY, "all group numbers are used up");
    for (const nodes of placement) {
      if (nodes.length !== replicas)
        return refuse(CATALOG_CONFLICT, `a partition is placed on ${nodes.length} nodes instead of ${replicas}`);
      if (new Set(nodes).size !== nodes.length) return refuse(CATALOG_BAD_COMMAND, "a partition is placed on a node twice");
      const unknown = nodes.find((node) => this.nodeTable.get(node) === undefined);
      if (unknown !== undefined) return refuse(CATALOG_UNKNOWN_NODE, `node ${unknown} is not registered`);
    }
    return null;
  }

  private makePartitions(placement: Placement): PartitionRow[] {
    const lists = new ReplicaLists();
    return placement.map((nodes) => {
      const replicas = lists.of(nodes.map((node) => replicaId(node, 0)));
      return { group: this.nextGroup++ as GroupId, replicas, founders: replicas };
    });
  }

  private *ordered(after: string): Generator<TopicRow> {
    for (let at = this.topicKeys.placeAfter(after); at < this.topicKeys.size; at++) yield this.topicRows.get(this.topicKeys.at(at))!;
  }

  private put(topic: TopicRow): void {
    const key = keyOf(topic.vhost, topic.name);
    if (!this.topicRows.has(key)) this.declarations.streamAdded(topic.vhost, topic.name);
    this.topicKeys.add(key);
    this.topicRows.set(key, topic);
    topic.partitions.forEach(({ group }, partition) => this.groupRows.set(group, { topic, partition }));
  }
}

function unknownTopic(name: string): Outcome {
  return refuse(CATALOG_UNKNOWN_TOPIC, `there is no topic ${quoted(name)}`);
}

function unknownGroup(group: GroupId): Outcome {
  return refuse(CATALOG_UNKNOWN_GROUP, `there is no group ${group}`);
}
