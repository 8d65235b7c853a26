// Reads a topic as a log: fetches ahead from the leaders of its partitions, hands batches or records out in the order of
// each partition, and commits positions for a subscription, or leaves them to the caller.

import type { Channels } from "./channels.ts";
import { FlotillaError } from "./errors.ts";
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
  /** What to do when the wanted offset is no longer held. */
  readonly onOutOfRange?: "error" | "earliest" | "latest";
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

type State = {
  readonly partition: number;
  from: FetchFrom;
  /** Next offset to hand out; -1 until the first answer. */ position: number;
  endOffset: number;
};
type Ready = {
  readonly state: State;
  readonly baseOffset: number;
  readonly count: number;
  readonly storedMs: number;
  readonly bytes: Uint8Array;
  readonly generation: number;
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

export class Consumer implements AsyncIterable<ReceivedRecord> {
  private readonly channels: Channels;
  private readonly topic: string;
  private readonly options: Omit<ConsumerOptions, keyof typeof DEFAULTS> & typeof DEFAULTS;
  private readonly states = new Map<number, State>();
  private readonly loops = new Set<string>();
  private readonly stop = new AbortController();
  private topology!: TopologyWatch;
  private queue: Ready[] = [];
  private queuedBytes = 0;
  private generation = 0;
  private failure: FlotillaError | null = null;
  private wakeReader: (() => void) | null = null;
  private wakeFetchers: (() => void)[] = [];
  private commitTimer: NodeJS.Timeout | null = null;
  private readonly committed = new Map<number, number>();

  static async open(channels: Channels, topic: string, options: ConsumerOptions): Promise<Consumer> {
    const consumer = new Consumer(channels, topic, options);
    consumer.topology = await TopologyWatch.open(channels, consumer.options.vhost, topic, () => consumer.startLoops());
    await consumer.begin();
    return consumer;
  }

  private constructor(channels: Channels, topic: string, options: ConsumerOptions) {
    this.channels = channels;
    this.topic = topic;
    this.options = { ...DEFAULTS, ...options };
    options.signal?.addEventListener("abort", () => void this.close(), { once: true });
  }

  /** Records, in the order of each partition. Ends when the consumer is closed; throws when it fails. */
  async *[Symbol.asyncIterator](): AsyncIterator<ReceivedRecord> {
    for await (const batch of this.batches()) yield* batch.records;
  }

  /** Batches, as they were stored; the first one may have lost records below the wanted offset. */
  async *batches(): AsyncGenerator<ReceivedBatch> {
    for (;;) {
      const ready = this.queue.shift();
      if (ready === undefined) {
        if (this.failure !== null) throw this.failure;
        if (this.stop.signal.aborted) return;
        await new Promise<void>((resolve) => (this.wakeReader = resolve));
        continue;
      }
      this.queuedBytes -= ready.bytes.length;
      if (this.queuedBytes < this.options.readAheadBytes / 2) this.resumeFetchers();
      const { state, baseOffset, count, storedMs } = ready;
      if (ready.generation !== this.generation) continue;
      const all = decodeBatch(ready.bytes, { partition: state.partition, baseOffset, storedMs });
      const records = state.position > baseOffset ? all.slice(state.position - baseOffset) : all;
      state.position = baseOffset + count;
      if (records.length > 0)
        yield {
          partition: state.partition,
          baseOffset: baseOffset + all.length - records.length,
          count: records.length,
          storedMs,
          nextOffset: state.position,
          records,
        };
    }
  }

  /** Next offset of each partition, as far as it was handed out; for callers that keep their own. */
  positions(): ReadonlyMap<number, number> {
    return new Map([...this.states].filter(([, state]) => state.position >= 0).map(([partition, state]) => [partition, state.position]));
  }

  /** Records of a partition between the position and its end, as of the last answer; undefined before the first. */
  lag(partition: number): number | undefined {
    const state = this.states.get(partition);
    return state === undefined || state.position < 0 ? undefined : Math.max(0, state.endOffset - state.position);
  }

  /** Goes on elsewhere; what was fetched ahead is dropped. */
  seek(partition: number, from: FetchFrom): void {
    const state = this.states.get(partition);
    if (state === undefined) throw new FlotillaError("UNKNOWN_PARTITION", `the consumer does not read partition ${partition}`);
    this.generation += 1;
    for (const other of this.states.values()) if (other !== state && other.position >= 0) other.from = { offset: other.position };
    state.from = from;
    state.position = typeof from === "object" && "offset" in from ? from.offset : -1;
    this.queue = [];
    this.queuedBytes = 0;
    this.resumeFetchers();
  }

  /** Commits the positions of all partitions that moved since the last commit. */
  async commit(): Promise<void> {
    const { subscription, vhost } = this.options;
    if (subscription === undefined) throw new FlotillaError("INVALID_ARGUMENT", "commit needs the option subscription");
    const offsets = [...this.positions()]
      .filter(([partition, offset]) => this.committed.get(partition) !== offset)
      .map(([partition, offset]) => ({ partition, offset, metadata: "", reset: false }));
    if (offsets.length === 0) return;
    const { partitions } = await this.channels.call<
      object,
      { partitions: { partition: number; error: { reason: string; message: string } | null }[] }
    >("flotilla.v1.Messaging", "CommitOffsets", { vhost, topic: this.topic, subscription, offsets });
    for (const { partition, error } of partitions) {
      if (error !== null) throw new FlotillaError(error.reason as never, `partition ${partition}: ${error.message}`);
    }
    for (const { partition, offset } of offsets) this.committed.set(partition, offset);
  }

  /** Ends the iteration. With autoCommit, what was handed out is committed first. */
  async close(): Promise<void> {
    if (this.stop.signal.aborted) return;
    if (this.commitTimer !== null) clearInterval(this.commitTimer);
    try {
      if (this.options.autoCommit !== undefined && this.failure === null) await this.commit();
    } finally {
      this.stop.abort();
      this.topology.close();
      this.resumeFetchers();
      this.wake();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async begin(): Promise<void> {
    const wanted = this.options.partitions ?? Array.from({ length: this.topology.partitions }, (_, partition) => partition);
    for (const partition of wanted) this.states.set(partition, { partition, from: "earliest", position: -1, endOffset: 0 });
    const from = this.options.from ?? (this.options.subscription === undefined ? "latest" : "committed");
    if (from === "committed") await this.beginCommitted();
    else
      for (const state of this.states.values())
        state.from = from instanceof Map ? { offset: from.get(state.partition) ?? 0 } : (from as FetchFrom);
    if (this.options.autoCommit !== undefined) {
      this.commitTimer = setInterval(() => {
        this.commit().catch((error: unknown) => this.fail(error as FlotillaError));
      }, this.options.autoCommit.intervalMs);
      this.commitTimer.unref();
    }
    this.startLoops();
  }

  private async beginCommitted(): Promise<void> {
    const { subscription, vhost } = this.options;
    if (subscription === undefined) throw new FlotillaError("INVALID_ARGUMENT", 'from "committed" needs the option subscription');
    const { partitions } = await this.channels.call<
      object,
      { partitions: { partition: number; committedOffset?: number; startOffset: number }[] }
    >("flotilla.v1.Messaging", "GetOffsets", {
      vhost,
      topic: this.topic,
      subscription,
      partitions: [...this.states.keys()],
    });
    for (const row of partitions) {
      const state = this.states.get(row.partition)!;
      // The optional field reads as 0 with defaults on; "never committed" then equals "from the beginning".
      state.from = { offset: Math.max(row.committedOffset ?? 0, 0) };
      if (row.committedOffset === undefined || row.committedOffset < row.startOffset) state.from = "earliest";
    }
  }

  /** One loop per node that leads some of the partitions; it ends when it leads none any more. */
  private startLoops(): void {
    if (this.options.partitions === undefined && this.states.size > 0) {
      for (let partition = this.states.size; partition < this.topology.partitions; partition++)
        this.states.set(partition, { partition, from: "earliest", position: -1, endOffset: 0 });
    }
    for (const state of this.states.values()) {
      const endpoint = this.endpointOf(state.partition);
      if (this.loops.has(endpoint) || this.stop.signal.aborted) continue;
      this.loops.add(endpoint);
      this.loop(endpoint).catch((error: unknown) => this.fail(error as FlotillaError));
    }
  }

  private endpointOf(partition: number): string {
    return this.topology.leaderEndpoint(partition) ?? this.channels.endpoints()[0]!;
  }

  private async loop(endpoint: string): Promise<void> {
    let failures = 0;
    while (!this.stop.signal.aborted && this.failure === null) {
      const states = [...this.states.values()].filter(({ partition }) => this.endpointOf(partition) === endpoint);
      if (states.length === 0) break;
      if (this.queuedBytes >= this.options.readAheadBytes) {
        await new Promise<void>((resolve) => this.wakeFetchers.push(resolve));
        continue;
      }
      failures = (await this.fetchOnce(failures < 3 ? endpoint : undefined, states)) ? 0 : failures + 1;
      if (failures > 0) await this.pause(failures);
    }
    this.loops.delete(endpoint);
    this.startLoops();
  }

  /** False when the answer was a failure that may pass. */
  private async fetchOnce(endpoint: string | undefined, states: readonly State[]): Promise<boolean> {
    const { vhost, maxBytes, maxWaitMs } = this.options;
    const { generation } = this;
    const request = encodeFetch({
      vhost,
      topic: this.topic,
      positions: states.map(({ partition, from }) => ({ partition, from })),
      maxBytes,
      maxWaitMs,
    });
    let answer: FetchedPartition[];
    try {
      answer = decodeFetched(
        await this.channels.callRaw("flotilla.v1.Messaging", "Fetch", request, {
          endpoint,
          deadlineMs: maxWaitMs + 10_000,
          signal: this.stop.signal,
        }),
      );
    } catch (error) {
      if (this.stop.signal.aborted) return true;
      if (error instanceof FlotillaError && error.retryable) return false;
      throw error;
    }
    if (generation !== this.generation) return true;
    let isGood = true;
    for (const [at, part] of answer.entries()) if (!this.take(states[at]!, part)) isGood = false;
    if (this.queue.length > 0) this.wake();
    return isGood;
  }

  private take(state: State, part: FetchedPartition): boolean {
    if (part.error !== null) {
      if (part.error.code === "OFFSET_OUT_OF_RANGE" && this.options.onOutOfRange !== "error") {
        state.from = this.options.onOutOfRange;
        state.position = -1;
        return true;
      }
      if (!part.error.retryable && part.error.code !== "NOT_LEADER") throw part.error;
      return false;
    }
    state.endOffset = part.endOffset;
    if (state.position < 0)
      state.position =
        typeof state.from === "object" && "offset" in state.from ? state.from.offset : (part.batches[0]?.baseOffset ?? part.nextOffset);
    state.from = { offset: part.nextOffset };
    for (const { baseOffset, count, storedMs, bytes } of part.batches) {
      this.queue.push({ state, baseOffset, count, storedMs, bytes, generation: this.generation });
      this.queuedBytes += bytes.length;
    }
    return true;
  }

  private pause(failures: number): Promise<void> {
    const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failures, 10));
    return new Promise((resolve) => setTimeout(resolve, ceiling / 2 + Math.random() * (ceiling / 2)));
  }

  private fail(error: FlotillaError): void {
    if (this.stop.signal.aborted) return;
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
