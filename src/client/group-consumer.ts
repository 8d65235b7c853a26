// A member of a consumer group: reads the partitions that the group gives it, commits where it is, and lets go of a partition before another
// member reads it. The nodes keep the group; this only says that it is alive.

import { randomUUID } from "node:crypto";
import type { Channels } from "./channels.ts";
import { Consumer, type ReceivedBatch } from "./consumer.ts";
import { FlotillaError, type FlotillaErrorCode } from "./errors.ts";
import type { ReceivedRecord } from "./records.ts";

export type GroupConsumerOptions = {
  readonly vhost?: string;
  /** Where a partition begins that nobody of the group has committed in. */
  readonly from?: "earliest" | "latest";
  /** Positions are committed so often, in ms, and when a partition goes. */
  readonly commitMs?: number;
};

type Assignment = {
  readonly generation: number;
  readonly partitions: readonly number[];
  readonly revoked: readonly number[];
  readonly sessionMs: number;
};
type PartError = { readonly reason: string; readonly message: string; readonly retryable: boolean };
type Outcomes = { readonly partitions: readonly { readonly partition: number; readonly error: PartError | null }[] };
type Offsets = {
  readonly partitions: readonly {
    readonly partition: number;
    readonly startOffset: number;
    readonly endOffset: number;
    readonly committedOffset?: number;
    readonly error: PartError | null;
  }[];
};
/** A partition that is read here. */
type Owned = {
  readonly partition: number;
  readonly consumer: Consumer;
  /** The next record to hand out, and what is committed of it. */
  position: number;
  committed: number;
  isLeaving: boolean;
  isLost: boolean;
};
type Ready = { readonly owned: Owned; readonly batch: ReceivedBatch; readonly done: () => void };

const DEFAULTS = { vhost: "", from: "earliest" as "earliest" | "latest", commitMs: 5_000 };
const SYNC_MS = 1_000;
const RETRY_MS = 200;

export class GroupConsumer implements AsyncIterable<ReceivedRecord> {
  readonly topic: string;
  readonly group: string;
  readonly member = randomUUID();
  private readonly channels: Channels;
  private readonly options: Required<GroupConsumerOptions>;
  private readonly closed: (self: GroupConsumer) => void;
  private generation = 0;
  /** Partitions that there were when it came: later ones are read from their first record on, wherever the others began. */
  private partitionsAtFirst = 0;
  private readonly owned = new Map<number, Owned>();
  private released: number[] = [];
  private ready: Ready[] = [];
  private wake: () => void = () => {};
  private current: Owned | null = null;
  private timer: NodeJS.Timeout | null = null;
  private commitTimer: NodeJS.Timeout | null = null;
  private syncing: Promise<void> | null = null;
  private failure: FlotillaError | null = null;

  /** Resolves when it is a member. */
  static async open(
    channels: Channels,
    topic: string,
    group: string,
    options: GroupConsumerOptions,
    closed: (self: GroupConsumer) => void,
  ): Promise<GroupConsumer> {
    const consumer = new GroupConsumer(channels, topic, group, options, closed);
    await consumer.begun();
    await consumer.sync();
    consumer.later(SYNC_MS);
    consumer.commitTimer = setInterval(() => void consumer.commit().catch(ignore), consumer.options.commitMs);
    consumer.commitTimer.unref();
    return consumer;
  }

  private constructor(
    channels: Channels,
    topic: string,
    group: string,
    options: GroupConsumerOptions,
    closed: (self: GroupConsumer) => void,
  ) {
    this.channels = channels;
    this.topic = topic;
    this.group = group;
    this.options = { ...DEFAULTS, ...options };
    this.closed = closed;
  }

  get isClosed(): boolean {
    return this.failure !== null;
  }

  /** The partitions that are read here now. */
  get partitions(): number[] {
    return [...this.owned.keys()].sort((a, b) => a - b);
  }

  /** A record counts as done when the next one is asked for. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ReceivedRecord> {
    for (;;) {
      const ready = await this.next();
      if (ready === null) return;
      const { owned, batch, done } = ready;
      try {
        for (const record of batch.records) {
          // Another member reads it from here on.
          if (this.owned.get(owned.partition) !== owned || owned.isLeaving) break;
          this.current = owned;
          yield record;
          owned.position = record.offset + 1;
        }
        if (!owned.isLeaving) owned.position = Math.max(owned.position, batch.nextOffset);
      } finally {
        this.current = null;
        done();
        this.letGo();
      }
    }
  }

  /** Commits where this member is, of all partitions that it reads. */
  async commit(): Promise<void> {
    await this.commitOf([...this.owned.values()]);
  }

  /** Commits, leaves the group, and ends. */
  async close(): Promise<void> {
    if (this.failure !== null) return;
    this.end(new FlotillaError("CLOSED", "the consumer is closed", { retryable: false }));
    const all = [...this.owned.values()];
    await this.commitOf(all).catch(ignore);
    await Promise.all(all.map(({ consumer }) => consumer.close()));
    const { vhost } = this.options;
    await this.channels
      .call("flotilla.v1.Messaging", "LeaveGroup", { vhost, topic: this.topic, group: this.group, member: this.member })
      .catch(ignore);
    this.closed(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async next(): Promise<Ready | null> {
    for (;;) {
      const ready = this.ready.shift();
      if (ready !== undefined) return ready;
      if (this.failure?.code === "CLOSED") return null;
      if (this.failure !== null) throw this.failure;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  private later(ms: number): void {
    if (this.failure !== null) return;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.sync().then(
        () => this.later(SYNC_MS),
        (error: unknown) => {
          if (!(error instanceof FlotillaError) || !isPassing(error)) this.end(error as FlotillaError);
          else this.later(RETRY_MS);
        },
      );
    }, ms);
  }

  private sync(): Promise<void> {
    this.syncing ??= this.syncOnce().finally(() => (this.syncing = null));
    return this.syncing;
  }

  private async syncOnce(): Promise<void> {
    const { vhost } = this.options;
    const released = this.released.splice(0);
    const request = { vhost, topic: this.topic, group: this.group, member: this.member, released };
    let assignment: Assignment;
    try {
      assignment = await this.channels.call<object, Assignment>("flotilla.v1.Messaging", "SyncGroup", request);
    } catch (error) {
      this.released.push(...released);
      throw error;
    }
    const { generation, partitions, revoked } = assignment;
    this.generation = generation;
    for (const owned of this.owned.values()) {
      if (partitions.includes(owned.partition)) continue;
      owned.isLeaving = true;
      // It was taken for gone: where the partition is read to is another member's business, whatever generation this one is of now.
      if (!revoked.includes(owned.partition)) owned.isLost = true;
    }
    // What it is to let go of and does not read, as after a restart of the group, it lets go of at once.
    for (const partition of revoked) if (!this.owned.has(partition)) this.released.push(partition);
    this.letGo();
    const added = partitions.filter((partition) => !this.owned.has(partition));
    if (added.length > 0) await this.take(added);
  }

  private async begun(): Promise<void> {
    const question = { vhost: this.options.vhost, topic: this.topic };
    const { partitions } = await this.channels.call<object, Offsets>("flotilla.v1.Messaging", "GetOffsets", question);
    this.partitionsAtFirst = partitions.length;
  }

  /**
   * Begins to read: first the generation is put on the position, so that a member of before can commit no more. Where nobody has
   * committed, the place to begin at is committed with it: there would be nothing to put it on.
   */
  private async take(partitions: readonly number[]): Promise<void> {
    const { vhost, from } = this.options;
    const place = { vhost, topic: this.topic };
    const question = { ...place, subscription: this.group, partitions };
    const { partitions: found } = await this.channels.call<object, Offsets>("flotilla.v1.Messaging", "GetOffsets", question);
    const begins = found
      .filter(({ error }) => mayRead(error))
      .map(({ partition, startOffset, endOffset, committedOffset }) => ({
        partition,
        offset: committedOffset ?? (from === "earliest" || partition >= this.partitionsAtFirst ? startOffset : endOffset),
      }));
    if (begins.length === 0) return;
    const offsets = begins.map((begin) => ({ ...begin, metadata: "", reset: false }));
    const request = { ...place, subscription: this.group, offsets, generation: this.generation };
    const { partitions: outcomes } = await this.channels.call<object, Outcomes>("flotilla.v1.Messaging", "CommitOffsets", request);
    const taken = begins.filter((_, at) => mayRead(outcomes[at]!.error));
    await Promise.all(taken.map(({ partition, offset }) => this.begin(partition, offset)));
  }

  private async begin(partition: number, offset: number): Promise<void> {
    const options = { vhost: this.options.vhost, partitions: [partition], from: { offset }, onOutOfRange: "earliest" as const };
    const consumer = await Consumer.open(this.channels, this.topic, options, () => {});
    const owned: Owned = { partition, consumer, position: offset, committed: offset, isLeaving: false, isLost: false };
    this.owned.set(partition, owned);
    void this.read(owned);
  }

  /** One batch of a partition waits at a time; the consumer fetches ahead by itself. */
  private async read(owned: Owned): Promise<void> {
    try {
      for await (const batch of owned.consumer.batches()) {
        await new Promise<void>((resolve) => {
          this.ready.push({ owned, batch, done: resolve });
          this.wake();
        });
        if (owned.isLeaving || this.failure !== null) return;
      }
    } catch (error) {
      if (!owned.isLeaving && this.failure === null) this.end(error as FlotillaError);
    }
  }

  /** Partitions that are to go and that nobody works on go: committed, closed, and told with the next call. */
  private letGo(): void {
    for (const owned of this.owned.values()) {
      if (!owned.isLeaving || owned === this.current) continue;
      this.owned.delete(owned.partition);
      for (const { done } of this.ready.filter((ready) => ready.owned === owned)) done();
      this.ready = this.ready.filter((ready) => ready.owned !== owned);
      void this.commitOf([owned])
        .catch(ignore)
        .then(() => owned.consumer.close())
        .then(() => {
          this.released.push(owned.partition);
          this.later(0);
        });
    }
  }

  private async commitOf(parts: readonly Owned[]): Promise<void> {
    const moved = parts.filter(({ position, committed, isLost }) => position !== committed && !isLost);
    if (moved.length === 0) return;
    const offsets = moved.map(({ partition, position }) => ({ partition, offset: position, metadata: "", reset: false }));
    const { vhost } = this.options;
    const request = { vhost, topic: this.topic, subscription: this.group, offsets, generation: this.generation };
    const { partitions } = await this.channels.call<object, Outcomes>("flotilla.v1.Messaging", "CommitOffsets", request);
    partitions.forEach(({ error }, at) => {
      if (error === null) moved[at]!.committed = offsets[at]!.offset;
    });
    const refused = partitions.find(({ error }) => error !== null);
    if (refused !== undefined)
      throw new FlotillaError(refused.error!.reason as FlotillaErrorCode, `partition ${refused.partition}: ${refused.error!.message}`);
  }

  private end(failure: FlotillaError): void {
    if (this.failure !== null) return;
    this.failure = failure;
    if (this.timer !== null) clearTimeout(this.timer);
    if (this.commitTimer !== null) clearInterval(this.commitTimer);
    for (const { done } of this.ready.splice(0)) done();
    this.wake();
  }
}

/** What passes, or that somebody else has committed meanwhile: the next call of the group looks again. Throws what does not pass. */
function mayRead(error: PartError | null): boolean {
  if (error === null) return true;
  if (error.retryable || error.reason === "OFFSET_WOULD_GO_BACK" || error.reason === "FENCED_MEMBER") return false;
  throw new FlotillaError(error.reason as FlotillaErrorCode, error.message);
}

/** A member that is taken for gone joins again; everything else that passes is tried again. */
function isPassing(error: FlotillaError): boolean {
  return error.retryable || error.code === "CONFLICT" || error.code === "UNREACHABLE";
}

function ignore(error: unknown): void {
  if (!(error instanceof FlotillaError)) throw error;
}
