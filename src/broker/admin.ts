// Topics and subscriptions: what exists, made and changed by commands of the catalog.

import { BrokerError, type ErrorCode } from "../base/errors.ts";
import { utf8Decode } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { nodeOfReplica, type NodeId } from "../base/ids.ts";
import { NAME_LENGTH_MAX, PARTITIONS_PER_TOPIC_MAX, REPLICAS_MAX } from "../base/limits.ts";
import type { CatalogMachine, TopicRow } from "../machine/catalog/catalog.ts";
import {
  CATALOG_CONFLICT,
  CATALOG_EXISTS_DIFFERENT,
  CATALOG_EXISTS_SAME,
  CATALOG_INVALID_NAME,
  CATALOG_OK,
  CATALOG_TOO_MANY,
  CATALOG_UNKNOWN_GROUP,
  CATALOG_UNKNOWN_NODE,
  CATALOG_UNKNOWN_OBJECT,
  CATALOG_UNKNOWN_TOPIC,
} from "../machine/catalog/codes.ts";
import { encodeCreateTopic, encodeDeleteTopic, encodeExpandTopic, encodeUpdateTopic } from "../machine/catalog/commands.ts";
import type { DeclaredSettings } from "../machine/catalog/settings.ts";
import { CONFIG_FIELDS } from "../machine/catalog/rows.ts";
import { quoted } from "../machine/names.ts";
import { place, type PlacementNode } from "../machine/catalog/placement.ts";
import type { Router } from "./router.ts";
import { checkSpec } from "./schedule-times.ts";
import type { CreateTopicCall, ListTopicsCall, TopicConfig, TopicInfo, TopicPage } from "./types.ts";

export const CONFIG_DEFAULTS: TopicConfig = {
  durability: 1,
  retentionMs: 0,
  retentionBytes: 0,
  flushIntervalMs: 0,
  flushMessages: 0,
  retentionSchedule: "",
  retentionTimeZone: "",
  retentionPolicy: 1,
};
const WHOLE_FIELDS = ["retentionMs", "retentionBytes", "flushIntervalMs", "flushMessages"] as const;
const REPLICAS_DEFAULT = 3;
/** How long create and expand wait for the new partitions' leaders. */
const LEADERS_WAIT_MS = 15_000;
/** How long create and expand wait for a node that is known and not alive, or about to enter the catalog. */
const NODES_WAIT_MS = 5_000;
const NODES_RETRY_MS = 20;

export type AdminComponents = {
  readonly router: Router;
  readonly catalog: CatalogMachine;
  readonly clock: Clock;
  readonly isAlive: (node: NodeId) => boolean;
  /** The nodes that the settings name: at the start of a cluster some of them are not in the catalog yet. */
  readonly founders: ReadonlySet<NodeId>;
  /** Resolves when this node's catalog has applied up to what the command's reply saw. */
  readonly caughtUp: (condition: () => boolean, signal: AbortSignal) => Promise<void>;
};

export class Admin {
  private readonly components: AdminComponents;

  constructor(components: AdminComponents) {
    this.components = components;
  }

  topicOf(vhost: string, name: string): TopicRow | BrokerError {
    const topic = this.components.catalog.topic(vhostOf(vhost), name);
    return (
      topic ??
      new BrokerError("UNKNOWN_TOPIC", `there is no topic ${quoted(name)}; create it with "flotilla topic create"`, {
        topic: name.slice(0, NAME_LENGTH_MAX),
      })
    );
  }

  /** With settings of a queue it makes one, of one partition. */
  async create(
    call: CreateTopicCall,
    signal: AbortSignal,
    queue: DeclaredSettings | null = null,
  ): Promise<{ topic: TopicInfo; created: boolean }> {
    const vhost = vhostOf(call.vhost);
    checkName(queue === null ? "topic" : "queue", call.name);
    this.checkVhost(vhost);
    const config = completeConfig(CONFIG_DEFAULTS, call.config);
    const partitions = call.partitions || 1;
    if (!Number.isInteger(partitions) || partitions < 1 || partitions > PARTITIONS_PER_TOPIC_MAX) {
      throw new BrokerError("INVALID_ARGUMENT", `partitions must be 1..${PARTITIONS_PER_TOPIC_MAX}, not ${call.partitions}`);
    }
    const existing = this.components.catalog.topic(vhost, call.name);
    // Who does not say how many means as many as there are: the cluster may have had other nodes when it was made.
    const replicas = call.replicas || (existing?.replicas ?? Math.min(REPLICAS_DEFAULT, this.expectedNodes()));
    if (!Number.isInteger(replicas) || replicas < 1 || replicas > REPLICAS_MAX) {
      throw new BrokerError("INVALID_ARGUMENT", `replicas must be 1..${REPLICAS_MAX}, not ${call.replicas}`);
    }
    const nodes = existing === undefined ? await this.enoughNodes(replicas, signal) : this.placementNodes();
    const placement = place({ nodes, partitions, replicas: Math.min(replicas, nodes.length), start: this.components.catalog.viewVersion });
    const command = encodeCreateTopic({
      vhost,
      name: call.name,
      replicas,
      config,
      placement,
      queue,
    });
    const { code, detail } = await this.propose(command, signal);
    if (code === CATALOG_EXISTS_DIFFERENT && queue === null) throw new BrokerError("TOPIC_EXISTS", detail);
    if (code !== CATALOG_OK && code !== CATALOG_EXISTS_SAME) throw catalogError(code, detail);
    const topic = await this.settled(vhost, call.name, partitions, signal);
    return { topic: infoOf(topic), created: code === CATALOG_OK };
  }

  list({ vhost, after, topicsMax }: ListTopicsCall): TopicPage {
    const topics: TopicInfo[] = [];
    const only = vhost === null ? null : vhostOf(vhost);
    for (const topic of this.components.catalog.topicsAfter(after ?? { vhost: only ?? "", name: "" })) {
      if (only !== null && topic.vhost !== only) break;
      if (topic.queue !== null) continue;
      if (topics.length === topicsMax) return { topics, hasMore: true };
      topics.push(infoOf(topic));
    }
    return { topics, hasMore: false };
  }

  async update(vhost: string, name: string, changes: Partial<TopicConfig>, signal: AbortSignal): Promise<TopicInfo> {
    const topic = this.alone(vhost, name);
    const config = completeConfig(topic.config, changes);
    await this.command(
      encodeUpdateTopic({ vhost: topic.vhost, name, config, fields: CONFIG_FIELDS.filter((field) => changes[field] !== undefined) }),
      signal,
    );
    return { ...infoOf(topic), config };
  }

  async expand(vhost: string, name: string, partitions: number, signal: AbortSignal): Promise<TopicInfo> {
    const topic = this.alone(vhost, name);
    const now = topic.partitions.length;
    if (!Number.isInteger(partitions) || partitions > PARTITIONS_PER_TOPIC_MAX) {
      throw new BrokerError("INVALID_ARGUMENT", `partitions must be ${now}..${PARTITIONS_PER_TOPIC_MAX}, not ${partitions}`);
    }
    if (partitions < now) throw new BrokerError("FEWER_PARTITIONS", `the topic has ${now} partitions; it cannot get fewer`);
    if (partitions === now) return infoOf(topic);
    const nodes = await this.enoughNodes(topic.replicas, signal);
    const placement = place({ nodes, partitions: partitions - now, replicas: topic.replicas, start: this.components.catalog.viewVersion });
    await this.command(encodeExpandTopic({ vhost: topic.vhost, name, expected: now, placement }), signal);
    return infoOf(await this.settled(topic.vhost, name, partitions, signal));
  }

  async delete(vhost: string, name: string, signal: AbortSignal): Promise<void> {
    const topic = this.alone(vhost, name);
    await this.command(encodeDeleteTopic({ vhost: topic.vhost, name }), signal);
    await this.components.caughtUp(() => this.components.catalog.topic(topic.vhost, name) !== topic, signal);
  }

  /** A topic that is no queue: what is said of one of those is said in its own terms. */
  private alone(vhost: string, name: string): TopicRow {
    const topic = this.existing(vhost, name);
    if (topic.queue !== null)
      throw new BrokerError(
        "INVALID_ARGUMENT",
        `${name} is a queue, which is changed and deleted as one (UpdateQueue, DeleteQueue; flotilla queue)`,
      );
    return topic;
  }

  existing(vhost: string, name: string): TopicRow {
    const topic = this.topicOf(vhost, name);
    if (topic instanceof BrokerError) throw topic;
    return topic;
  }

  /** Waits until this node's catalog shows the topic and all its partitions are led. */
  private async settled(vhost: string, name: string, partitions: number, signal: AbortSignal): Promise<TopicRow> {
    const { catalog, router } = this.components;
    await this.components.caughtUp(() => (catalog.topic(vhost, name)?.partitions.length ?? 0) >= partitions, signal);
    const topic = catalog.topic(vhost, name)!;
    await Promise.all(topic.partitions.map(({ group }) => router.leader(group, LEADERS_WAIT_MS)));
    return topic;
  }

  /** Live nodes for so many replicas. A node that is expected may be away for a moment: waits a little for it. */
  private async enoughNodes(replicas: number, signal: AbortSignal): Promise<PlacementNode[]> {
    const { catalog, clock, router, isAlive } = this.components;
    const deadlineMs = clock.monotonicMs() + NODES_WAIT_MS;
    for (;;) {
      const alive = catalog.nodes().filter(({ id, drained }) => isAlive(id) && !drained).length;
      if (alive >= replicas) return this.placementNodes();
      if (this.expectedNodes() < replicas || clock.monotonicMs() >= deadlineMs || signal.aborted)
        throw new BrokerError("NOT_ENOUGH_NODES", `${replicas} replicas need as many live nodes that are not drained; there are ${alive}`);
      await router.pause(NODES_RETRY_MS);
    }
  }

  /** Nodes that may get replicas once they are all up and known to this node's catalog. */
  private expectedNodes(): number {
    const { catalog, founders } = this.components;
    const unknown = [...founders].filter((id) => catalog.node(id) === undefined && !catalog.wasForgotten(id));
    return catalog.nodes().filter(({ drained }) => !drained).length + unknown.length;
  }

  /** Live nodes that may get replicas, and what each has. */
  placementNodes(): PlacementNode[] {
    const { catalog, isAlive } = this.components;
    const counts = new Map<NodeId, { replicas: number; leaders: number }>();
    for (const { id, drained } of catalog.nodes()) if (isAlive(id) && !drained) counts.set(id, { replicas: 0, leaders: 0 });
    for (const topic of catalog.topics()) {
      for (const { replicas } of topic.partitions) {
        replicas.forEach((replica, at) => {
          const count = counts.get(nodeOfReplica(replica));
          if (count === undefined) return;
          count.replicas += 1;
          if (at === 0) count.leaders += 1;
        });
      }
    }
    const nodes = [...catalog.nodes()].filter(({ id }) => counts.has(id));
    return nodes.map(({ id, dc, zone }) => ({ id, dc, zone, ...counts.get(id)! }));
  }

  /** Proposes a catalog command; rejects with what its reply says is wrong. */
  async command(command: Uint8Array, signal: AbortSignal): Promise<void> {
    const { code, detail } = await this.propose(command, signal);
    if (code !== CATALOG_OK) throw catalogError(code, detail);
  }

  /** Throws UNKNOWN_VHOST. */
  checkVhost(vhost: string): void {
    if (!this.components.catalog.declarations.hasVhost(vhost)) throw unknownVhost(vhost);
  }

  /**
   * Proposes a declaration, and resolves when this node's view shows it: false when it was there already, alike. Rejects with what its
   * reply says is wrong.
   */
  async declare(command: Uint8Array, signal: AbortSignal): Promise<boolean> {
    const { code, value, detail } = await this.propose(command, signal);
    if (code !== CATALOG_OK && code !== CATALOG_EXISTS_SAME) throw catalogError(code, detail);
    await this.components.caughtUp(() => this.components.catalog.viewVersion >= value, signal);
    return code === CATALOG_OK;
  }

  /** Resolves when this node's catalog shows a change that was made. */
  seen(condition: () => boolean, signal: AbortSignal): Promise<void> {
    return this.components.caughtUp(condition, signal);
  }

  private propose(command: Uint8Array, signal: AbortSignal): Promise<{ code: number; value: number; detail: string }> {
    return new Promise((resolve, reject) => {
      const abort = (): void =>
        reject(new BrokerError("TIMEOUT", "the deadline passed before the catalog answered; the change may still be made"));
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener("abort", abort, { once: true });
      this.components.router.catalog(command, (error, code, value, detail) => {
        signal.removeEventListener("abort", abort);
        if (error === null) resolve({ code, value, detail: detail === null ? "" : utf8Decode(detail) });
        else reject(error);
      });
    });
  }
}

export function vhostOf(vhost: string): string {
  return vhost === "" ? "/" : vhost;
}

export function unknownVhost(vhost: string): BrokerError {
  return new BrokerError("UNKNOWN_VHOST", `there is no vhost ${quoted(vhost)}; create it with "flotilla vhost create"`, {
    vhost: vhost.slice(0, NAME_LENGTH_MAX),
  });
}

export function checkName(what: string, name: string): void {
  if (name.length === 0 || name.length > NAME_LENGTH_MAX || !/^[A-Za-z0-9._-]+$/.test(name)) {
    throw new BrokerError(
      "INVALID_NAME",
      `the ${what} name ${JSON.stringify(name.slice(0, 64))} must be 1 to ${NAME_LENGTH_MAX} of A-Z a-z 0-9 . _ -`,
    );
  }
}

export function infoOf(topic: TopicRow): TopicInfo {
  return {
    vhost: topic.vhost,
    name: topic.name,
    partitions: topic.partitions.length,
    replicas: topic.replicas,
    config: topic.config,
    createdMs: topic.createdMs,
  };
}

function completeConfig(base: TopicConfig, changes: Partial<TopicConfig>): TopicConfig {
  const config = { ...base, ...changes };
  if (![1, 2, 3].includes(config.durability)) throw new BrokerError("INVALID_ARGUMENT", "durability must be fsync, interval or os");
  for (const field of WHOLE_FIELDS) {
    if (!Number.isSafeInteger(config[field]) || config[field] < 0)
      throw new BrokerError("INVALID_ARGUMENT", `${field} must be a whole number of at least 0, not ${config[field]}`);
  }
  if (config.flushIntervalMs > 60_000)
    throw new BrokerError("INVALID_ARGUMENT", `flushIntervalMs must be at most 60000, not ${config.flushIntervalMs}`);
  if (config.flushMessages > 0xffff_ffff)
    throw new BrokerError("INVALID_ARGUMENT", `flushMessages must be below 2^32, not ${config.flushMessages}`);
  checkRetention(config);
  return config;
}

function checkRetention({ retentionSchedule, retentionTimeZone, retentionPolicy }: TopicConfig): void {
  if (![1, 2].includes(retentionPolicy))
    throw new BrokerError("INVALID_ARGUMENT", "the retention policy must be delete or archive", { field: "config.retention_policy" });
  const fields = { cron: "config.retention_schedule", timeZone: "config.retention_time_zone" };
  if (typeof retentionSchedule !== "string" || typeof retentionTimeZone !== "string")
    throw new BrokerError("INVALID_ARGUMENT", "the retention's schedule and its time zone are text", { field: fields.cron });
  // A zone without a schedule waits for one, and is to be one all the same.
  if (retentionSchedule + retentionTimeZone !== "")
    checkSpec({ cron: retentionSchedule || "* * * * *", timeZone: retentionTimeZone }, fields);
}

export function catalogError(code: number, detail: string): BrokerError {
  const known: Record<number, ErrorCode> = {
    [CATALOG_EXISTS_DIFFERENT]: "EXISTS_DIFFERENT",
    [CATALOG_INVALID_NAME]: "INVALID_NAME",
    [CATALOG_UNKNOWN_TOPIC]: "UNKNOWN_TOPIC",
    [CATALOG_UNKNOWN_NODE]: "CONFLICT",
    [CATALOG_UNKNOWN_GROUP]: "CONFLICT",
    [CATALOG_TOO_MANY]: "TOO_MANY",
    [CATALOG_CONFLICT]: "CONFLICT",
    [CATALOG_UNKNOWN_OBJECT]: "UNKNOWN_OBJECT",
  };
  return new BrokerError(known[code] ?? "INTERNAL", detail || `the catalog refused the change (${code})`);
}
