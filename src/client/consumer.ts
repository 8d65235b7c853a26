// Reads a topic as a log: fetches ahead from the leaders of its partitions, hands batches or records out in the order of
// each partition, and commits positions for a subscription, or leaves them to the caller.

import type { Channels } from "./channels.ts";
import { Commits } from "./commits.ts";
import { FlotillaError } from "./errors.ts";
import { PartitionReader } from "./partition-reader.ts";
import { decodeBatch, type ReceivedRecord } from "./records.ts";
import { TopologyWatch } from "./topology.ts";
import { decodeFetched, encodeFetch, type FetchedPartition, type FetchFrom } from "./wire.ts";

export type ConsumerOptions = {
  readonly vhost?: string;
  /** Under which name positions are committed. */
  readonly subscription?: string;
  /** Where to begin. `committed`: where the subscription stopped, and at the earliest record if it never began. */
  readonly from?:
    | "committed"
    | "earliest"
    | "latest"
    | { readonly offset: number }
    | { readonly timeMs: number }
    | ReadonlyMap<number, number>;
  /** Default: all partitions of the topic. */
  readonly partitions?: readonly number[];
  /** Bytes of one answer of a node. */
  readonly maxBytes?: number;
  /** Bytes fetched and not yet handed out, over all partitions. */
  readonly readAheadBytes?: number;
  /** How long a node waits for new records before it answers with none. */
  readonly maxWaitMs?: number;
  /** What to do when the wanted offset is no longer held, or was never reached. `error` (the default): the iteration throws. */
  readonly onOutOfRange?: "error" | "earliest" | "latest";
  /** Commits what the reader is done with, every so often and at the end. */
  readonly autoCommit?: { readonly intervalMs: number };
  /** Ends the iteration. */
  readonly signal?: AbortSignal;
};

export type ReceivedBatch = {
  readonly partition: number;
  readonly baseOffset: number;
  readonly count: number;
  readonly storedMs: number;
  /** The next offset after this batch. */ readonly nextOffset: number;
  readonly records: readonly ReceivedRecord[];
};

type Committed = {
  readonly partitions: readonly {
    readonly partition: number;
    readonly committedOffset?: number;
    readonly error: { readonly reason: string; readonly message: string; readonly retryable: boolean } | null;
  }[];
};
type Ready = {
  readonly reader: PartitionReader;
  readonly generation: number;
  readonly baseOffset: number;
  readonly count: number;
  readonly storedMs: number;
  readonly bytes: Uint8Array;
};

const DEFAULTS = {
  vhost: "",
  maxBytes: 1024 * 1024,
  readAheadBytes: 8 * 1024 * 1024,
  maxWaitMs: 1_000,
  onOutOfRange: "error" as "error" | "earliest" | "latest",
};
const RETRY_MS_MIN = 20;
const RETRY_MS_MAX = 1_000;
/** Pause after an empty answer that came before its time, doubled with each in a row. */
const EMPTY_MS_MIN = 2;
const EMPTY_MS_MAX = 100;
/** Failures in a row after which not the leader is asked but any node, which passes the question on. */
const LEADER_TRIES_MAX = 3;
const DEADLINE_MS = 10_000;
/** Answers in a row that some partition has no leader, after which a consumer does not begin. */
const BEGIN_TRIES_MAX = 20;

export class Consumer implements AsyncIterable<ReceivedRecord> {
  private readonly channels: Channels;
  private readonly topic: string;
  private readonly options: Omit<ConsumerOptions, keyof typeof DEFAULTS> & typeof DEFAULTS;
  private readonly readers = new Map<number, PartitionReader>();
  private readonly commits: Commits | null;
  /** Addresses with a loop of fetches. */
  private readonly loops = new Set<string>();
  private readonly stop = new AbortController();
  private readonly closed: (self: Consumer) => void;
  private topology!: TopologyWatch;
  private queue: Ready[] = [];
  private queuedBytes = 0;
  private failure: FlotillaError | null = null;
  private wakeReader: (() => void) | null = null;
  private wakeFetchers: (() => void)[] = [];
  private commitTimer: NodeJS.Timeout | null = null;

  /** `closed` is called once, when the consumer is closed. */
  static async open(channels: Channels, topic: string, options: ConsumerOptions, closed: (self: Consumer) => void): Promise<Consumer> {
    const consumer = new Consumer(channels, topic, options, closed);
    consumer.topology = await TopologyWatch.open(channels, consumer.options.vhost, topic, () => consumer.startLoops());
    try {
      await consumer.begin();
    } catch (error) {
      consumer.topology.close();
      throw error;
    }
    return consumer;
  }

  private constructor(channels: Channels, topic: string, options: ConsumerOptions, closed: (self: Consumer) => void) {
    this.channels = channels;
    this.topic = topic;
    this.options = { ...DEFAULTS, ...options };
    this.closed = closed;
    const { subscription } = options;
    this.commits = subscription === undefined ? null : new Commits(channels, { vhost: this.options.vhost, topic, subscription });
    if (options.autoCommit !== undefined && subscription === undefined) {
      throw new FlotillaError("INVALID_ARGUMENT", "autoCommit needs the option subscription");
    }
  }

  /** It has ended, by a close or a failure that it does not survive. */
  get isClosed(): boolean {
    return this.stop.signal.aborted;
  }

  /** Records, in the order of each partition. Ends when the consumer is closed; throws when it fails. */
  async *[Symbol.asyncIterator](): AsyncIterator<ReceivedRecord> {
    for await (const { reader, records } of this.take()) {
      const { generation } = reader;
      for (const record of records) {
        if (reader.generation !== generation) break;
        reader.position = record.offset + 1;
        yield record;
        if (reader.generation === generation) reader.processed = reader.position;
      }
    }
  }

  /** Batches, as they were stored; the first one may have lost records below the wanted offset. */
  async *batches(): AsyncGenerator<ReceivedBatch> {
    for await (const { reader, records, storedMs, nextOffset } of this.take()) {
      const { generation, partition } = reader;
      reader.position = nextOffset;
      yield { partition, baseOffset: nextOffset - records.length, count: records.length, storedMs, nextOffset, records };
      if (reader.generation === generation) reader.processed = nextOffset;
    }
  }

  /** Next offset of each partition, the record or batch last handed out included; for callers that keep their own. */
  positions(): ReadonlyMap<number, number> {
    return new Map([...this.readers.values()].flatMap(({ partition, position }) => (position < 0 ? [] : [[partition, position]])));
  }

  /** Records of a partition between the position and its end, as of the last answer; undefined before the first. */
  lag(partition: number): number | undefined {
    const reader = this.readers.get(partition);
    return reader === undefined || reader.position < 0 ? undefined : Math.max(0, reader.endOffset - reader.position);
  }

  /** Goes on elsewhere; what was fetched ahead of this partition is dropped. */
  seek(partition: number, from: FetchFrom): void {
    const reader = this.readers.get(partition);
    if (reader === undefined) throw new FlotillaError("UNKNOWN_PARTITION", `the consumer does not read partition ${partition}`);
    reader.moveTo(from);
    reader.wasMoved = true;
    this.queue = this.queue.filter((ready) => ready.reader !== reader);
    this.queuedBytes = this.queue.reduce((sum, { bytes }) => sum + bytes.length, 0);
    this.resumeFetchers();
  }

  /** Commits the positions of all partitions that moved since the last commit, the record last handed out included. */
  async commit(): Promise<void> {
    if (this.commits === null) throw new FlotillaError("INVALID_ARGUMENT", "commit needs the option subscription");
    await this.commits.commit(this.readers.values(), ({ position }) => position);
  }

  /**
   * Ends the iteration. With autoCommit, what the reader is done with is committed first; the record or batch that a loop
   * was left with does not count, as it may have been left by a failure: call `commit()` to count it.
   */
  async close(): Promise<void> {
    if (this.stop.signal.aborted) return;
    this.end();
    if (this.options.autoCommit !== undefined && this.failure === null) {
      await this.commits!.commit(this.readers.values(), ({ processed }) => processed);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private readonly abort = (): void => void this.close().catch((error: unknown) => this.fail(error as FlotillaError));

  private end(): void {
    if (this.commitTimer !== null) clearInterval(this.commitTimer);
    // One signal may end many consumers, most of which have ended before.
    this.options.signal?.removeEventListener("abort", this.abort);
    this.stop.abort();
    this.topology.close();
    this.resumeFetchers();
    this.wake();
    this.closed(this);
  }

  private async begin(): Promise<void> {
    const { partitions, autoCommit, signal } = this.options;
    const wanted = partitions ?? Array.from({ length: this.topology.partitions }, (_, partition) => partition);
    const from = this.options.from ?? (this.commits === null ? "latest" : "committed");
    if (from === "committed") await this.beginCommitted(wanted);
    else {
      for (const partition of wanted) {
        const place = from instanceof Map ? { offset: from.get(partition) ?? 0 } : (from as FetchFrom);
        this.readers.set(partition, new PartitionReader(partition, place));
      }
    }
    if (signal?.aborted === true) this.end();
    signal?.addEventListener("abort", this.abort, { once: true });
    if (autoCommit !== undefined) {
      this.commitTimer = setInterval(() => this.commitProcessed(), autoCommit.intervalMs);
      this.commitTimer.unref();
    }
    this.startLoops();
  }

  private async beginCommitted(wanted: readonly number[]): Promise<void> {
    const { subscription, vhost } = this.options;
    if (subscription === undefined) throw new FlotillaError("INVALID_ARGUMENT", 'from "committed" needs the option subscription');
    let left = wanted;
    for (let failures = 0; left.length > 0; failures++) {
      if (failures > 0) await this.pause(failures, RETRY_MS_MIN, RETRY_MS_MAX);
      const request = { vhost, topic: this.topic, subscription, partitions: left };
      const { partitions } = await this.channels.call<object, Committed>("flotilla.v1.Messaging", "GetOffsets", request);
      const again: number[] = [];
      for (const { partition, committedOffset, error } of partitions) {
        // A partition that cannot tell now must not be taken for one that was never read.
        if (error !== null && error.retryable && failures < BEGIN_TRIES_MAX) again.push(partition);
        else if (error !== null) throw new FlotillaError(error.reason as never, `partition ${partition}: ${error.message}`);
        else {
          const from = committedOffset === undefined ? ("earliest" as const) : { offset: committedOffset };
          this.readers.set(partition, new PartitionReader(partition, from));
        }
      }
      left = again;
    }
  }

  private commitProcessed(): void {
    const { commits } = this;
    commits!
      .commit(this.readers.values(), ({ processed }) => processed)
      .catch((error: unknown) => {
        // What passes is tried again with the next interval.
        if (!(error instanceof FlotillaError) || !error.retryable) this.fail(error as FlotillaError);
      });
  }

  /** What is fetched, decoded, without what lies below the position. */
  private async *take(): AsyncGenerator<{ reader: PartitionReader; records: ReceivedRecord[]; storedMs: number; nextOffset: number }> {
    for (;;) {
      if (this.stop.signal.aborted) return;
      const ready = this.queue.shift();
      if (ready === undefined) {
        if (this.failure !== null) throw this.failure;
        await new Promise<void>((resolve) => (this.wakeReader = resolve));
        continue;
      }
      const { reader, generation, baseOffset, count, storedMs, bytes } = ready;
      this.queuedBytes -= bytes.length;
      if (this.queuedBytes < this.options.readAheadBytes / 2) this.resumeFetchers();
      if (generation !== reader.generation) continue;
      const all = decodeBatch(bytes, { partition: reader.partition, baseOffset, storedMs });
      const records = reader.position > baseOffset ? all.slice(reader.position - baseOffset) : all;
      if (records.length > 0) yield { reader, records, storedMs, nextOffset: baseOffset + count };
    }
  }

  /** One loop per node that leads some of the partitions; it ends when it leads none any more. */
  private startLoops(): void {
    if (this.options.partitions === undefined && this.readers.size > 0) {
      for (let partition = this.readers.size; partition < this.topology.partitions; partition++) {
        this.readers.set(partition, new PartitionReader(partition, "earliest"));
      }
    }
    for (const reader of this.readers.values()) {
      const endpoint = this.endpointOf(reader);
      if (reader.isFetching || this.loops.has(endpoint) || this.stop.signal.aborted || this.failure !== null) continue;
      this.loops.add(endpoint);
      this.loop(endpoint).catch((error: unknown) => this.fail(error as FlotillaError));
    }
  }

  private endpointOf({ partition }: PartitionReader): string {
    return this.topology.leaderEndpoint(partition) ?? this.channels.endpoints()[0]!;
  }

  private async loop(endpoint: string): Promise<void> {
    let failures = 0;
    let empties = 0;
    while (!this.stop.signal.aborted && this.failure === null) {
      const readers = [...this.readers.values()].filter((reader) => !reader.isFetching && this.endpointOf(reader) === endpoint);
      if (readers.length === 0) break;
      if (this.queuedBytes >= this.options.readAheadBytes) {
        await new Promise<void>((resolve) => this.wakeFetchers.push(resolve));
        continue;
      }
      const isLeaderAsked = failures === 0 || (failures < LEADER_TRIES_MAX && this.channels.isConnected(endpoint));
      const outcome = await this.fetchOnce(isLeaderAsked ? endpoint : undefined, readers);
      failures = outcome === "failed" ? failures + 1 : 0;
      empties = outcome === "empty" ? empties + 1 : 0;
      // Partitions that have moved go to the loop of their new leader.
      if (readers.some((reader) => this.endpointOf(reader) !== endpoint)) this.startLoops();
      if (failures > 0) await this.pause(failures, RETRY_MS_MIN, RETRY_MS_MAX);
      else if (empties > 0) await this.pause(empties, EMPTY_MS_MIN, EMPTY_MS_MAX);
    }
    this.loops.delete(endpoint);
    this.startLoops();
  }

  /** `empty`: an answer without records that did not wait for any. `failed`: a failure that may pass. */
  private async fetchOnce(endpoint: string | undefined, readers: readonly PartitionReader[]): Promise<"good" | "empty" | "failed"> {
    const { vhost, maxBytes, maxWaitMs } = this.options;
    const asked = readers.map(({ generation }) => generation);
    const startedMs = Date.now();
    const positions = readers.map(({ partition, from }) => ({ partition, from }));
    const request = encodeFetch({ vhost, topic: this.topic, positions, maxBytes, maxWaitMs });
    const options = { endpoint, deadlineMs: maxWaitMs + DEADLINE_MS, signal: this.stop.signal };
    for (const reader of readers) reader.isFetching = true;
    let answer: FetchedPartition[];
    try {
      answer = decodeFetched(await this.channels.callRaw("flotilla.v1.Messaging", "Fetch", request, options));
    } catch (error) {
      if (this.stop.signal.aborted) return "good";
      if (error instanceof FlotillaError && error.retryable) {
        if (endpoint !== undefined && error.maybeApplied) {
          // No answer came: what this node told of the leaders may be as old as its last one.
          this.channels.avoid(endpoint);
          this.topology.leave(endpoint);
        }
        return "failed";
      }
      throw error;
    } finally {
      for (const reader of readers) reader.isFetching = false;
    }
    let outcome: "good" | "empty" | "failed" = Date.now() - startedMs < maxWaitMs / 2 || maxWaitMs === 0 ? "empty" : "good";
    for (const part of answer) {
      const at = readers.findIndex(({ partition }) => partition === part.partition);
      const reader = readers[at];
      // Not asked for, or asked for before a seek.
      if (reader === undefined || asked[at] !== reader.generation) continue;
      const isGood = this.accept(reader, part);
      if (!isGood) outcome = "failed";
      else if (part.batches.length > 0 && outcome === "empty") outcome = "good";
    }
    if (this.queue.length > 0) this.wake();
    return outcome;
  }

  /** False if the partition failed in a way that may pass. */
  private accept(reader: PartitionReader, part: FetchedPartition): boolean {
    const { error } = part;
    if (error !== null) {
      if (error.code === "OFFSET_OUT_OF_RANGE" && this.options.onOutOfRange !== "error") {
        reader.moveTo(this.options.onOutOfRange);
        return true;
      }
      if (error.retryable) return false;
      const details = { ...error.details, partition: String(reader.partition) };
      throw new FlotillaError(error.code, `partition ${reader.partition}: ${error.message}`, { details, cause: error });
    }
    reader.endOffset = part.endOffset;
    if (reader.position < 0) {
      reader.position = part.batches[0]?.baseOffset ?? part.nextOffset;
      reader.processed = reader.position;
    }
    reader.from = { offset: part.nextOffset };
    for (const { baseOffset, count, storedMs, bytes } of part.batches) {
      this.queue.push({ reader, generation: reader.generation, baseOffset, count, storedMs, bytes });
      this.queuedBytes += bytes.length;
    }
    return true;
  }

  /** A pause with jitter that a close cuts short. */
  private pause(turns: number, minimumMs: number, maximumMs: number): Promise<void> {
    const ceiling = Math.min(maximumMs, minimumMs * 2 ** Math.min(turns - 1, 10));
    const { signal } = this.stop;
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, ceiling / 2 + Math.random() * (ceiling / 2));
      signal.addEventListener("abort", end, { once: true });
      if (signal.aborted) end();
    });
  }

  private fail(error: FlotillaError): void {
    this.failure ??= error;
    this.resumeFetchers();
    this.wake();
  }

  private wake(): void {
    const { wakeReader } = this;
    this.wakeReader = null;
    wakeReader?.();
  }

  private resumeFetchers(): void {
    for (const resume of this.wakeFetchers.splice(0)) resume();
  }
}
