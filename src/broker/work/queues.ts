// The use cases of queues and work subscriptions: declared, listed, changed, deleted, consumed, settled, browsed.

import { BrokerError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import { NAME_LENGTH_MAX, RECEIVE_MESSAGES_MAX, DELAY_MS_MAX, FETCH_WAIT_MS_MAX, PRIORITY_MAX } from "../../base/limits.ts";
import type { CatalogMachine, TopicRow } from "../../machine/catalog/catalog.ts";
import { encodeDeclare } from "../../machine/catalog/commands.ts";
import type { WorkRow } from "../../machine/catalog/declaration-rows.ts";
import { changedSettings, declared, workConfigOf, type DeclaredSettings } from "../../machine/catalog/settings.ts";
import { quoted } from "../../machine/names.ts";
import { sameWorkConfig } from "../../machine/work/config.ts";
import { QUEUE } from "../../machine/work/works.ts";
import { checkName, vhostOf, type Admin } from "../admin.ts";
import { checkNotReserved } from "../reserved.ts";
import { checkSettings, faultOf, leaseOf } from "./checks.ts";
import { groupOf, type ClusterAdmin } from "../cluster-admin.ts";
import type { Fetcher } from "../fetcher.ts";
import { POSITIONS } from "../cursors.ts";
import type { Look } from "./codec.ts";
import type { Gateway } from "./gateway.ts";
import type { Inspector } from "./inspector.ts";
import type { WorkOperator } from "./operator.ts";
import type { Policies } from "./policies.ts";
import { receive } from "./receiver.ts";
import { operationOf, Session, settleUntilKnown } from "./session.ts";
import type * as types from "./types.ts";

const SETTLED_RETRY_MS = 20;
const COUNTS = { withConsumers: false, browseFrom: 0, browseMax: 0 };

export type QueuesComponents = {
  readonly catalog: CatalogMachine;
  readonly admin: Admin;
  readonly cluster: ClusterAdmin;
  readonly policies: Policies;
  readonly gateway: Gateway;
  readonly inspector: Inspector;
  readonly operator: WorkOperator;
  readonly fetcher: Fetcher;
  readonly clock: Clock;
  /** Resolves at once where the topic or queue is known here; else once it can be said for sure that it is not there. */
  readonly sure: (vhost: string, name: string) => Promise<void>;
  readonly viewIsCurrent: () => Promise<void>;
};

export class Queues {
  private readonly components: QueuesComponents;

  constructor(components: QueuesComponents) {
    this.components = components;
  }

  // Queues.

  async create(
    call: { vhost: string; name: string; replicas: number; durability: 0 | 1 | 2 | 3; settings: DeclaredSettings },
    signal: AbortSignal,
  ): Promise<{ queue: types.QueueInfo; created: boolean }> {
    const { admin, catalog, viewIsCurrent } = this.components;
    checkNotReserved(call.name);
    checkSettings(call.settings, true);
    if (!catalog.declarations.hasVhost(vhostOf(call.vhost))) await viewIsCurrent();
    const config = call.durability === 0 ? {} : { durability: call.durability };
    const { created } = await admin.create(
      { vhost: call.vhost, name: call.name, partitions: 1, replicas: call.replicas, config },
      signal,
      declared(call.settings),
    );
    const topic = this.queueOf(call.vhost, call.name);
    await this.settled(topic, signal);
    return { queue: this.infoOf(topic, null), created };
  }

  /** A queue of the broker's own: made as it is needed, and never changed. It may be made by several nodes at one time. */
  async declareOwn(vhost: string, name: string, settings: DeclaredSettings, signal: AbortSignal): Promise<void> {
    const { admin, viewIsCurrent } = this.components;
    const made = admin.create({ vhost, name, partitions: 1, replicas: 0, config: {} }, signal, declared(settings));
    await made.catch((error: unknown) => {
      // By another node, which counted on other nodes to be there.
      if (!(error instanceof BrokerError) || error.code !== "TOPIC_EXISTS") throw error;
      return viewIsCurrent();
    });
    await this.settled(this.queueOf(vhost, name), signal);
  }

  async list(
    call: { vhost: string | null; after: { vhost: string; name: string } | null; max: number; withCounts: boolean },
    signal: AbortSignal,
  ): Promise<{ queues: readonly types.QueueInfo[]; hasMore: boolean }> {
    const { catalog, inspector, viewIsCurrent } = this.components;
    await viewIsCurrent();
    const only = call.vhost === null ? null : vhostOf(call.vhost);
    const found: TopicRow[] = [];
    let hasMore = false;
    for (const topic of catalog.topicsAfter(call.after ?? { vhost: only ?? "", name: "" })) {
      if (only !== null && topic.vhost !== only) break;
      if (topic.queue === null) continue;
      if (found.length === call.max) {
        hasMore = true;
        break;
      }
      found.push(topic);
    }
    const groups = found.map(({ partitions }) => partitions[0]!.group);
    const looks = call.withCounts ? await inspector.looks({ ...COUNTS, groups, subscription: QUEUE }, signal) : [];
    return { queues: found.map((topic, at) => this.infoOf(topic, looks[at] ?? null)), hasMore };
  }

  async describe(vhost: string, name: string, signal: AbortSignal): Promise<types.QueueDescription> {
    await this.components.sure(vhost, name);
    const { inspector, cluster } = this.components;
    const topic = this.queueOf(vhost, name);
    const look = await inspector.look(groupOf(topic, 0), { ...COUNTS, subscription: QUEUE, withConsumers: true }, signal);
    const { consumers, startOffset, endOffset, bytes, lastUsedMs } = look;
    return {
      queue: this.infoOf(topic, look),
      partition: cluster.partitionInfo(topic, 0),
      consumers,
      startOffset,
      endOffset,
      bytes,
      lastUsedMs,
    };
  }

  async update(
    call: { vhost: string; name: string; settings: DeclaredSettings; reset: readonly (keyof types.WorkSettings)[] },
    signal: AbortSignal,
  ): Promise<types.QueueInfo> {
    const { admin, sure } = this.components;
    checkNotReserved(call.name);
    await sure(call.vhost, call.name);
    const topic = this.queueOf(call.vhost, call.name);
    checkSettings(call.settings, true);
    const settings = changedSettings(topic.queue!, call.settings, call.reset);
    await admin.command(encodeDeclare({ do: "alterQueue", vhost: topic.vhost, name: topic.name, settings }), signal);
    await admin.seen(() => this.rowOf(topic) !== topic, signal);
    const changed = this.queueOf(call.vhost, call.name);
    await this.settled(changed, signal);
    return this.infoOf(changed, null);
  }

  async delete(call: { vhost: string; name: string; ifUnused: boolean; ifEmpty: boolean }, signal: AbortSignal): Promise<void> {
    const { admin, inspector, sure } = this.components;
    checkNotReserved(call.name);
    await sure(call.vhost, call.name);
    const topic = this.queueOf(call.vhost, call.name);
    if (call.ifUnused || call.ifEmpty) {
      const { counts } = await inspector.look(groupOf(topic, 0), { ...COUNTS, subscription: QUEUE }, signal);
      const messages = counts.ready + counts.leased + counts.delayed + counts.parked + counts.dead;
      if (call.ifUnused && counts.consumers > 0) throw new BrokerError("CONFLICT", `queue ${topic.name} has ${counts.consumers} consumers`);
      if (call.ifEmpty && messages > 0) throw new BrokerError("CONFLICT", `queue ${topic.name} has ${messages} messages`);
    }
    const { group } = topic.partitions[0]!;
    await admin.command(encodeDeclare({ do: "deleteQueue", vhost: topic.vhost, name: topic.name, group }), signal);
    await admin.seen(() => this.rowOf(topic)?.partitions[0]!.group !== group, signal);
  }

  /** Returns how many messages were dropped. */
  async purge(target: types.WorkTarget, dead: boolean, signal: AbortSignal): Promise<number> {
    const { operator } = this.components;
    const name = target.subscription;
    checkNotReserved(target.queue);
    await this.sure(target);
    const results = await Promise.all(
      this.groupsOf(target).map(({ group }) =>
        operator.ask(group, dead ? { op: "buried", name, from: 0, end: Number.MAX_SAFE_INTEGER } : { op: "purge", name }, signal),
      ),
    );
    return results.reduce((sum, result) => sum + Math.max(0, result), 0);
  }

  /** Returns how many dead messages wait again. */
  async revive(target: types.WorkTarget, signal: AbortSignal): Promise<number> {
    const { operator } = this.components;
    checkNotReserved(target.queue);
    await this.sure(target);
    const results = await Promise.all(
      this.groupsOf(target).map(({ group }) =>
        operator.ask(group, { op: "revived", name: target.subscription, from: 0, end: Number.MAX_SAFE_INTEGER }, signal),
      ),
    );
    return results.reduce((sum, result) => sum + Math.max(0, result), 0);
  }

  // Work subscriptions.

  async createWork(
    call: { vhost: string; topic: string; name: string; settings: DeclaredSettings; start: types.StartAt },
    signal: AbortSignal,
  ): Promise<{ subscription: types.WorkInfo; created: boolean }> {
    const { admin, clock, inspector, sure } = this.components;
    await sure(call.vhost, call.topic);
    const topic = this.topicOf(call.vhost, call.topic);
    checkName("subscription", call.name);
    checkSettings(call.settings, false);
    const row: WorkRow = { name: call.name, settings: declared(call.settings), ...call.start, createdMs: clock.wallMs(), partitions: 0 };
    const created = await admin.declare(encodeDeclare({ do: "createWork", vhost: topic.vhost, name: topic.name, row }), signal);
    await admin.seen(() => this.workOf(topic.vhost, topic.name, call.name) !== undefined, signal);
    const made = this.workOf(topic.vhost, topic.name, call.name)!;
    await this.groupsSettled(topic, call.name, made.settings, signal);
    await Promise.all(topic.partitions.map(({ group }) => inspector.begun(group, call.name, signal)));
    return { subscription: this.workInfo(topic.name, made, topic, null), created };
  }

  async listWorks(vhost: string, name: string, signal: AbortSignal): Promise<readonly types.WorkInfo[]> {
    const { inspector, viewIsCurrent } = this.components;
    await viewIsCurrent();
    const topic = this.topicOf(vhost, name);
    const groups = topic.partitions.map(({ group }) => group);
    return Promise.all(
      topic.works.map(async (work) => {
        const looks = await inspector.looks({ ...COUNTS, groups, subscription: work.name }, signal);
        return this.workInfo(topic.name, work, topic, sumOf(looks));
      }),
    );
  }

  async describeWork(
    call: { vhost: string; topic: string; name: string; partition: number },
    signal: AbortSignal,
  ): Promise<types.WorkDescription> {
    const { inspector, viewIsCurrent } = this.components;
    await viewIsCurrent();
    const topic = this.topicOf(call.vhost, call.topic);
    const work = this.existingWork(topic, call.name);
    const groups = topic.partitions.map(({ group }) => group);
    const question = { ...COUNTS, subscription: call.name };
    const [looks, [one]] = await Promise.all([
      inspector.looks({ ...question, groups }, signal),
      inspector.looks({ ...question, groups: [groupOf(topic, call.partition)], withConsumers: true }, signal),
    ]);
    const partitions = looks.map((look) => look?.counts ?? null);
    return { subscription: this.workInfo(topic.name, work, topic, sumOf(looks)), partitions, consumers: one?.consumers ?? [] };
  }

  async updateWork(
    call: { vhost: string; topic: string; name: string; settings: DeclaredSettings; reset: readonly (keyof types.WorkSettings)[] },
    signal: AbortSignal,
  ): Promise<types.WorkInfo> {
    const { admin, viewIsCurrent } = this.components;
    await viewIsCurrent();
    const topic = this.topicOf(call.vhost, call.topic);
    const work = this.existingWork(topic, call.name);
    checkSettings(call.settings, false);
    const settings = changedSettings(work.settings, call.settings, call.reset);
    await admin.command(encodeDeclare({ do: "alterWork", vhost: topic.vhost, name: topic.name, work: call.name, settings }), signal);
    await admin.seen(() => this.rowOf(topic) !== topic, signal);
    const changed = this.topicOf(call.vhost, call.topic);
    await this.groupsSettled(changed, call.name, settings, signal);
    return this.workInfo(topic.name, this.existingWork(changed, call.name), changed, null);
  }

  async deleteWork(vhost: string, topicName: string, name: string, signal: AbortSignal): Promise<void> {
    const { admin, viewIsCurrent } = this.components;
    await viewIsCurrent();
    const topic = this.topicOf(vhost, topicName);
    this.existingWork(topic, name);
    await admin.command(encodeDeclare({ do: "deleteWork", vhost: topic.vhost, name: topic.name, work: name }), signal);
    await admin.seen(() => this.workOf(topic.vhost, topic.name, name) === undefined, signal);
  }

  async seekWork(call: { vhost: string; topic: string; name: string; to: types.StartAt }, signal: AbortSignal): Promise<void> {
    const { inspector, operator, viewIsCurrent } = this.components;
    await viewIsCurrent();
    const topic = this.topicOf(call.vhost, call.topic);
    this.existingWork(topic, call.name);
    await Promise.all(
      topic.partitions.map(async ({ group }) => {
        const offset = await this.offsetOf(group, call.to.from, call.to.value, signal);
        await operator.ask(group, { op: "seek", name: call.name, offset }, signal);
        await inspector.begun(group, call.name, signal);
      }),
    );
  }

  /** The offset that the words mean in the group now. */
  async offsetOf(group: Parameters<Inspector["look"]>[0], from: 0 | 1 | 2 | 3, value: number, signal: AbortSignal): Promise<number> {
    if (from === 0) return value;
    const question = { ...POSITIONS, groups: [group], timeMs: from === 1 ? value : -1 };
    const [offsets] = await this.components.fetcher.offsets(question, false, signal);
    if (offsets!.error !== null) throw offsets!.error;
    if (from === 1) return offsets!.timeOffset;
    return from === 2 ? offsets!.startOffset : offsets!.endOffset;
  }

  // Messages.

  /** Resolves when this node knows all that there is to be known of the target: `consume` can then tell what is not there. */
  async sure({ vhost, queue, subscription }: types.WorkTarget): Promise<void> {
    const { sure, viewIsCurrent } = this.components;
    await sure(vhost, queue);
    if (subscription !== QUEUE && this.workOf(vhostOf(vhost), queue, subscription) === undefined) await viewIsCurrent();
  }

  consume(call: types.ConsumeCall, events: types.ConsumeEvents): types.ConsumeHandle {
    checkNotReserved(call.queue);
    const partitions = this.groupsOf(call);
    if (!Number.isInteger(call.priority) || call.priority < -128 || call.priority > 127)
      throw new BrokerError("INVALID_ARGUMENT", `priority must be -128..127, not ${call.priority}`, { field: "priority" });
    const { subscription, autoAck, priority } = call;
    return new Session(this.components.gateway, { partitions, subscription, autoAck, priority, leaseMs: leaseOf(call.leaseMs) }, events);
  }

  async receive(call: types.ReceiveCall, signal: AbortSignal): Promise<readonly types.Delivered[]> {
    checkNotReserved(call.queue);
    await this.sure(call);
    const partitions = this.groupsOf(call);
    const maxMessages = call.maxMessages === 0 ? 1 : call.maxMessages;
    if (maxMessages > RECEIVE_MESSAGES_MAX)
      throw new BrokerError("INVALID_ARGUMENT", `max_messages must be 1..${RECEIVE_MESSAGES_MAX}, not ${maxMessages}`, {
        field: "max_messages",
      });
    const { subscription, autoAck } = call;
    const maxWaitMs = Math.min(call.maxWaitMs, FETCH_WAIT_MS_MAX);
    return receive(
      this.components.gateway,
      { partitions, subscription, autoAck, priority: 0, leaseMs: leaseOf(call.leaseMs), maxMessages, maxWaitMs },
      signal,
    );
  }

  async settle(target: types.WorkTarget, settlements: readonly types.Settlement[]): Promise<types.Settled[]> {
    checkNotReserved(target.queue);
    await this.sure(target);
    const groups = new Map(this.groupsOf(target).map(({ group, partition }) => [partition, group]));
    return Promise.all(
      settlements.map(
        (settlement) =>
          new Promise<types.Settled>((resolve) => {
            const group = groups.get(settlement.partition);
            const fault = faultOf(settlement) ?? (group === undefined ? unknownPartition(settlement.partition) : null);
            if (fault !== null) {
              resolve({ error: fault, messages: 0, lost: [] });
              return;
            }
            const operation = operationOf(settlement, target.subscription, settlement.consumer);
            settleUntilKnown(this.components.gateway, group!, operation, settlement.count, (error, messages, lost) =>
              resolve({ error, messages, lost }),
            );
          }),
      ),
    );
  }

  async browse(call: types.BrowseCall, signal: AbortSignal): Promise<types.BrowsePage> {
    await this.sure(call);
    const part = this.groupsOf(call).find(({ partition }) => partition === call.partition);
    if (part === undefined) throw unknownPartition(call.partition);
    const max = call.maxMessages === 0 ? 100 : Math.min(call.maxMessages, RECEIVE_MESSAGES_MAX);
    return this.components.inspector.browse(part.group, call.subscription, call.fromOffset, max, signal);
  }

  async recall(target: types.WorkTarget, partition: number, offset: number, signal: AbortSignal): Promise<boolean> {
    const { group } = await this.changing(target, partition);
    return (await this.components.operator.ask(group, { op: "recall", name: target.subscription, offset }, signal)) > 0;
  }

  /** A delayed message goes now, or after another while; false when it is not delayed, or no more. `priority` -1: as it was. */
  async expedite(
    target: types.WorkTarget,
    message: { partition: number; offset: number; delayMs: number; priority: number },
    signal: AbortSignal,
  ): Promise<boolean> {
    const { partition, offset, delayMs, priority } = message;
    if (delayMs > DELAY_MS_MAX)
      throw new BrokerError("INVALID_ARGUMENT", `delay_ms must be 0..${DELAY_MS_MAX} (a year), not ${delayMs}`, { field: "delay_ms" });
    if (priority > PRIORITY_MAX)
      throw new BrokerError("INVALID_ARGUMENT", `priority must be 0..${PRIORITY_MAX}, not ${priority}`, { field: "priority" });
    const { group } = await this.changing(target, partition);
    const operation = { op: "expedite" as const, name: target.subscription, offset, delayMs, priority, whilePriority: -1 };
    return (await this.components.operator.ask(group, operation, signal)) > 0;
  }

  // Inside.

  private async changing(target: types.WorkTarget, partition: number): Promise<{ group: TopicRow["partitions"][number]["group"] }> {
    checkNotReserved(target.queue);
    await this.sure(target);
    const part = this.groupsOf(target).find((one) => one.partition === partition);
    if (part === undefined) throw unknownPartition(partition);
    return part;
  }

  /** The partitions of a queue, or of a topic that has the subscription. */
  groupsOf({ vhost, queue, subscription }: types.WorkTarget): { group: TopicRow["partitions"][number]["group"]; partition: number }[] {
    if (subscription === QUEUE) return [{ group: groupOf(this.queueOf(vhost, queue), 0), partition: 0 }];
    const topic = this.topicOf(vhost, queue);
    this.existingWork(topic, subscription);
    return topic.partitions.map(({ group }, partition) => ({ group, partition }));
  }

  queueOf(vhost: string, name: string): TopicRow {
    const topic = this.components.catalog.topic(vhostOf(vhost), name);
    if (topic === undefined)
      throw new BrokerError("UNKNOWN_QUEUE", `there is no queue ${quoted(name)}; create it with "flotilla queue create"`, {
        queue: name.slice(0, NAME_LENGTH_MAX),
      });
    if (topic.queue === null)
      throw new BrokerError("UNKNOWN_QUEUE", `${name} is a topic: name one of its work subscriptions, or read it as a log`, {
        queue: name,
      });
    return topic;
  }

  private topicOf(vhost: string, name: string): TopicRow {
    const topic = this.components.admin.existing(vhost, name);
    if (topic.queue !== null) throw new BrokerError("UNKNOWN_TOPIC", `${name} is a queue, not a topic`, { topic: name });
    return topic;
  }

  private existingWork(topic: TopicRow, name: string): WorkRow {
    const work = topic.works.find((one) => one.name === name);
    if (work === undefined)
      throw new BrokerError("UNKNOWN_SUBSCRIPTION", `topic ${topic.name} has no work subscription ${quoted(name)}; create it first`);
    return work;
  }

  private workOf(vhost: string, topic: string, name: string): WorkRow | undefined {
    return this.components.catalog.topic(vhost, topic)?.works.find((work) => work.name === name);
  }

  private rowOf({ vhost, name }: TopicRow): TopicRow | undefined {
    return this.components.catalog.topic(vhost, name);
  }

  /** Waits until the queue's leader goes by these settings: whatever is published from then on is treated by them. */
  private async settled(topic: TopicRow, signal: AbortSignal): Promise<void> {
    await this.groupsSettled(topic, QUEUE, topic.queue!, signal);
  }

  private async groupsSettled(topic: TopicRow, name: string, declaredOf: DeclaredSettings, signal: AbortSignal): Promise<void> {
    const { inspector, policies, clock } = this.components;
    const wanted = workConfigOf(policies.settingsOf(topic, declaredOf));
    await Promise.all(
      topic.partitions.map(async ({ group }) => {
        for (;;) {
          const { config } = await inspector.look(group, { ...COUNTS, subscription: name }, signal);
          if (sameWorkConfig(config, wanted)) return;
          if (signal.aborted) throw new BrokerError("TIMEOUT", "the change is made, but the leader of the queue has not taken it up yet");
          await new Promise<void>((resolve) => clock.schedule(SETTLED_RETRY_MS, resolve));
        }
      }),
    );
  }

  infoOf(topic: TopicRow, look: Look | null): types.QueueInfo {
    const { policies } = this.components;
    const { vhost, name, replicas, createdMs, config } = topic;
    return {
      vhost,
      name,
      replicas,
      declared: topic.queue!,
      settings: policies.settingsOf(topic, topic.queue!),
      policy: policies.of(topic)?.name ?? "",
      createdMs,
      durability: config.durability,
      counts: look?.counts ?? null,
    };
  }

  private workInfo(topic: string, row: WorkRow, of: TopicRow, counts: types.WorkCounts | null): types.WorkInfo {
    const { name, settings, createdMs } = row;
    return { topic, name, declared: settings, settings: this.components.policies.settingsOf(of, settings), createdMs, counts };
  }
}

function unknownPartition(partition: number): BrokerError {
  return new BrokerError("UNKNOWN_PARTITION", `there is no partition ${partition}`);
}

function sumOf(looks: readonly (Look | null)[]): types.WorkCounts | null {
  const sum = { ready: 0, leased: 0, delayed: 0, parked: 0, dead: 0, consumers: 0 };
  for (const look of looks) {
    if (look === null) return null;
    for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += look.counts[name];
  }
  return sum;
}
