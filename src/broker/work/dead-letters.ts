// Brings dead messages to where they are to go, for the groups led here: published there first, and only then buried here. So there is one
// copy at least at any time, and a change of leaders in between may leave two.

import type { Clock } from "../../base/clock.ts";
import { BrokerError } from "../../base/errors.ts";
import type { GroupId } from "../../base/ids.ts";
import { DEAD_LETTER_HOPS_MAX } from "../../base/limits.ts";
import type { Logger } from "../../base/logger.ts";
import { ProtoReader, ProtoWriter } from "../../base/protobuf.ts";
import type { TopicRow } from "../../machine/catalog/catalog.ts";
import type { DeclaredSettings, WorkSettings } from "../../machine/catalog/settings.ts";
import type { StreamMachine } from "../../machine/stream/stream.ts";
import { DEAD_EXPIRED, DEAD_LIMIT, DEAD_OVERFLOW, DEAD_REJECTED, type DeadReason } from "../../machine/work/state.ts";
import { QUEUE } from "../../machine/work/works.ts";
import type { ReplicaHost } from "../../replica/host.ts";
import { utf8Decode, utf8Encode } from "../../base/bytes.ts";
import { endAfter } from "../wait-until.ts";
import type { WorkOperator } from "./operator.ts";
import type { RunReader } from "./run-reader.ts";

export const DEAD_REASONS: Readonly<Record<DeadReason, string>> = {
  [DEAD_REJECTED]: "rejected",
  [DEAD_LIMIT]: "delivery-limit",
  [DEAD_EXPIRED]: "expired",
  [DEAD_OVERFLOW]: "overflow",
};
export const DEATH_QUEUE_HEADER = "x-death-queue";

const READ_MS_MAX = 10_000;
const RECORDS_PER_ROUND = 64;
const ROUND_BYTES_MAX = 512 * 1024;
const RETRY_MS_MIN = 200;
const RETRY_MS_MAX = 30_000;
/** Subscriptions of which it is known when they were looked at last. */
const JOBS_REMEMBERED_MAX = 100_000;
/** Jobs of one node that read and publish at one time. */
const JOBS_MAX = 64;

/** Publishes records; resolves with how many copies were stored, rejects with BrokerError. */
export type PublishDead = (call: { vhost: string; exchange: string; key: string; records: Uint8Array; count: number }) => Promise<number>;

export type DeadLettersComponents = {
  readonly host: ReplicaHost;
  readonly reader: RunReader;
  readonly operator: WorkOperator;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settingsOf: (topic: TopicRow, declared: DeclaredSettings) => WorkSettings;
  readonly publish: PublishDead;
};

type Job = { readonly group: GroupId; readonly name: string; failures: number; notBeforeMs: number };

export class DeadLetters {
  private readonly components: DeadLettersComponents;
  private readonly jobs = new Map<string, Job>();
  private running = 0;

  constructor(components: DeadLettersComponents) {
    this.components = components;
  }

  /** Looks whether the group, which is led here, has dead messages that are to go somewhere. */
  look(group: GroupId, topic: TopicRow): void {
    const replica = this.components.host.get(group);
    if (replica === undefined || !replica.isLeader) return;
    const { works } = replica.machine as StreamMachine;
    for (const name of works.list()) {
      if (works.get(name)!.counts.dead === 0) continue;
      const settings = this.settingsOf(topic, name);
      if (settings === null || settings.deadLetterExchange === null) continue;
      this.begin(group, topic, name, settings);
    }
  }

  private settingsOf(topic: TopicRow, name: string): WorkSettings | null {
    const declared = name === QUEUE ? topic.queue : (topic.works.find((work) => work.name === name)?.settings ?? null);
    return declared === null ? null : this.components.settingsOf(topic, declared);
  }

  private begin(group: GroupId, topic: TopicRow, name: string, settings: WorkSettings): void {
    const { clock, logger } = this.components;
    const key = `${group}/${name}`;
    let job = this.jobs.get(key);
    if (job === undefined) job = { group, name, failures: 0, notBeforeMs: 0 };
    else if (clock.monotonicMs() < job.notBeforeMs) return;
    if (this.running >= JOBS_MAX) return;
    this.jobs.set(key, { ...job, notBeforeMs: Number.POSITIVE_INFINITY });
    this.running += 1;
    const ended = (error: unknown): void => {
      this.running -= 1;
      if (error === null) {
        // What stays, as it has died too often, is not looked at again with every entry.
        this.jobs.set(key, { ...job, failures: 0, notBeforeMs: clock.monotonicMs() + RETRY_MS_MIN });
        if (this.jobs.size > JOBS_REMEMBERED_MAX) this.jobs.delete(this.jobs.keys().next().value!);
        return;
      }
      if (!(error instanceof BrokerError)) throw error;
      const failures = job.failures + 1;
      const waitMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failures, 10));
      this.jobs.set(key, { ...job, failures, notBeforeMs: clock.monotonicMs() + waitMs });
      clock.schedule(waitMs, () => this.look(group, topic));
      logger.warn({ queue: topic.name, subscription: name, error: error.message }, "dead messages stay where they are for now");
    };
    this.transfer(group, topic, name, settings).then(() => ended(null), ended);
  }

  /** Until none is left that can go. */
  private async transfer(group: GroupId, topic: TopicRow, name: string, settings: WorkSettings): Promise<void> {
    const { host } = this.components;
    for (let offset = 0; ;) {
      const replica = host.get(group);
      if (replica === undefined || !replica.isLeader) return;
      const work = (replica.machine as StreamMachine).works.get(name);
      const [next] = work?.state.deadFrom(offset, 1) ?? [];
      if (next === undefined) return;
      offset = await this.bury(group, topic, name, settings, next);
    }
  }

  /** Returns the offset to go on from. */
  private async bury(
    group: GroupId,
    topic: TopicRow,
    name: string,
    settings: WorkSettings,
    { run, reason, deliveries }: { run: { from: number; end: number }; reason: DeadReason; deliveries: number },
  ): Promise<number> {
    const { reader, operator, clock } = this.components;
    const end = Math.min(run.end, run.from + RECORDS_PER_ROUND);
    const slices = await reader.read(group, run.from, end, ROUND_BYTES_MAX, endAfter(clock, READ_MS_MAX));
    const facts = { queue: topic.name, subscription: name, reason: DEAD_REASONS[reason], deliveries, timeMs: clock.wallMs() };
    let at = run.from;
    for (const slice of slices)
      for (const { key, records, count, hops } of letters(slice.records, { ...facts, key: settings.deadLetterKey, offset: slice.from })) {
        // One that has gone round and round stays here, where people can find it.
        if (hops < DEAD_LETTER_HOPS_MAX) {
          await this.publish(topic, settings, key, records, count);
          await operator.ask(group, { op: "buried", name, from: at, end: at + count });
        }
        at += count;
      }
    return at;
  }

  private async publish(topic: TopicRow, settings: WorkSettings, key: string | null, records: Uint8Array, count: number): Promise<void> {
    const copies = await this.components.publish({
      vhost: topic.vhost,
      exchange: settings.deadLetterExchange!,
      key: settings.deadLetterKey ?? key ?? topic.name,
      records,
      count,
    });
    if (copies === 0)
      throw new BrokerError(
        "UNROUTABLE",
        `nothing is bound to exchange "${settings.deadLetterExchange}" for the dead messages of ${topic.name}`,
      );
  }
}

type Facts = {
  /** Replaces its own. */ key: string | null;
  queue: string;
  subscription: string;
  reason: string;
  deliveries: number;
  timeMs: number;
  offset: number;
};
type Letter = { readonly key: string | null; readonly records: Uint8Array; readonly count: number; readonly hops: number };

/** The records with what became of them, and without what they were to wait for: those in a row that go the same way as one batch. */
function letters(records: Uint8Array, facts: Facts): Letter[] {
  const found: { key: string | null; hops: number; count: number; writer: ProtoWriter }[] = [];
  let at = 0;
  const reader = new ProtoReader(records);
  while (reader.next()) {
    if (reader.field !== 1) {
      reader.skip();
      continue;
    }
    const record = reader.block();
    const { key, hops } = historyOf(record);
    const added = graveOf(facts, at, hops, key);
    at += 1;
    let last = found[found.length - 1];
    if (last === undefined || last.key !== key || last.hops !== hops)
      found.push((last = { key, hops, count: 0, writer: new ProtoWriter(records.length + 1024) }));
    last.count += 1;
    last.writer
      .blockHead(1, record.length + added.length)
      .raw(record)
      .raw(added);
  }
  return found.map(({ writer, ...letter }) => ({ ...letter, records: writer.finish() }));
}

/** With which key it was published, and how often it has died before. */
function historyOf(record: Uint8Array): { key: string | null; hops: number } {
  const reader = new ProtoReader(record);
  let key: string | null = null;
  let hops = 0;
  while (reader.next()) {
    if (reader.field === 14) key = reader.string();
    else if (reader.field === 3) {
      const header = reader.message();
      while (header.next())
        if (header.field === 1) {
          if (utf8Decode(header.block()) === DEATH_QUEUE_HEADER) hops += 1;
        } else header.skip();
    } else reader.skip();
  }
  return { key, hops };
}

/** Fields behind a record's own: of a number the last one counts, and headers add up. */
function graveOf(
  { key, queue, subscription, reason, deliveries, timeMs, offset }: Facts,
  at: number,
  hops: number,
  ownKey: string | null,
): Uint8Array {
  const writer = new ProtoWriter(256);
  const header = (name: string, value: string): void => {
    const mark = writer.open(3);
    writer.string(1, name).block(2, utf8Encode(value)).close(mark);
  };
  header(DEATH_QUEUE_HEADER, queue);
  if (subscription !== "") header("x-death-subscription", subscription);
  header("x-death-reason", reason);
  header("x-death-attempts", String(deliveries));
  header("x-death-time-ms", String(timeMs));
  header("x-death-offset", String(offset + at));
  if (hops === 0) {
    header("x-first-death-queue", queue);
    header("x-first-death-reason", reason);
  }
  if (ownKey !== null) header("x-death-routing-key", ownKey);
  // It neither waits nor expires where it goes, unless the queue there says so.
  writer.uintAlways(9, 0).uintAlways(10, 0).uintAlways(11, 0);
  return (key === null ? writer : writer.string(14, key)).finish();
}
