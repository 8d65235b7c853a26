// Takes messages of a queue, or of a work subscription of a topic, and says what became of each. The queue holds a message for this
// consumer until then; while it is worked on, its lease is extended.

import { CONSUMER_CREDIT_MAX } from "../base/limits.ts";
import type { Channels } from "./channels.ts";
import { ConsumeLink, leaseLost, type Detail, type Done } from "./consume-link.ts";
import { FlotillaError } from "./errors.ts";
import { LeasedMessage, type Message, type MessageOwner } from "./message.ts";
import { TopologyWatch } from "./topology.ts";
import type { ConsumeOpen, Delivery, Outcome } from "./work-wire.ts";

export type QueueConsumerOptions = {
  readonly vhost?: string;
  /** Of a topic: its work subscription. */
  readonly subscription?: string;
  /** Messages that this consumer may hold at one time. */
  readonly prefetch?: number;
  /** At most once: a message counts as done when it is sent. */
  readonly autoAck?: boolean;
  /** How long a message is this consumer's, in ms, unless the lease is extended. */
  readonly leaseMs?: number;
  /** Extends leases of messages that wait here or are worked on, for so long each, in ms; 0 = never. */
  readonly extendMsMax?: number;
  /** -128..127: consumers of the highest priority are served first. */
  readonly priority?: number;
};

const DEFAULTS = { vhost: "", subscription: "", prefetch: 100, autoAck: false, leaseMs: 30_000, extendMsMax: 3_600_000, priority: 0 };
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 2_000;
/** A node that has not opened the stream by then is left for another one. */
const OPEN_MS = 10_000;

export class QueueConsumer implements AsyncIterable<Message> {
  readonly queue: string;
  private readonly options: Required<QueueConsumerOptions>;
  private readonly channels: Channels;
  private readonly closed: (self: QueueConsumer) => void;
  private topology!: TopologyWatch;
  private link: ConsumeLink | null = null;
  private isOpened = false;
  private lives = 0;
  private failures = 0;
  /** Came, and was not taken by anybody yet. */
  private ready: LeasedMessage[] = [];
  /** Handed out and not settled. */
  private readonly held = new Set<LeasedMessage>();
  /** Credit that settled messages gave back, and that the node was not told of yet. */
  private owed = 0;
  private settledWaiters: (() => void)[] = [];
  private readonly madeMs = performance.now();
  private takers: ((message: LeasedMessage | null) => void)[] = [];
  private failure: FlotillaError | null = null;
  private isClosing = false;
  private timer: NodeJS.Timeout | null = null;
  private retryTimer: NodeJS.Timeout | null = null;
  private openTimer: NodeJS.Timeout | null = null;
  private readonly owner: MessageOwner;
  private onOpened: () => void = () => {};
  private onDrained: () => void = () => {};

  /** Resolves when the queue knows of this consumer. Rejects with UNKNOWN_QUEUE if there is none. */
  static async open(
    channels: Channels,
    queue: string,
    options: QueueConsumerOptions,
    closed: (self: QueueConsumer) => void,
  ): Promise<QueueConsumer> {
    const consumer = new QueueConsumer(channels, queue, options, closed);
    // A stream to another node goes on when the leader moves: that node brings everything here.
    consumer.topology = await TopologyWatch.open(channels, consumer.options.vhost, queue, () => {}).catch((error: unknown) => {
      if (consumer.timer !== null) clearInterval(consumer.timer);
      throw asUnknownQueue(error, queue, consumer.options.subscription);
    });
    await new Promise<void>((resolve, reject) => {
      consumer.onOpened = () => (consumer.failure === null ? resolve() : reject(consumer.failure));
      consumer.connect();
    });
    return consumer;
  }

  private constructor(channels: Channels, queue: string, options: QueueConsumerOptions, closed: (self: QueueConsumer) => void) {
    const given = { ...DEFAULTS, ...options };
    check(given);
    this.channels = channels;
    this.queue = queue;
    this.options = given;
    this.closed = closed;
    this.owner = {
      target: { vhost: given.vhost, queue, subscription: given.subscription },
      settle: (message, outcome, detail = {}) => this.settle(message as LeasedMessage, outcome, detail),
      claim: (message) => this.claim(message as LeasedMessage),
      concluded: (message, isSettled) => this.concluded(message as LeasedMessage, isSettled),
    };
    if (!given.autoAck && given.extendMsMax > 0) {
      this.timer = setInterval(() => this.extend(), Math.max(100, given.leaseMs / 4));
      this.timer.unref();
    }
  }

  get isClosed(): boolean {
    return this.failure !== null;
  }

  /** Messages that came and were not settled. */
  get outstanding(): number {
    return this.held.size + this.ready.length;
  }

  /** Messages that came and were not handed out yet. */
  get waiting(): number {
    return this.ready.length;
  }

  /** The next message; null once the consumer is closed. Rejects when it has failed. */
  next(): Promise<Message | null> {
    const message = this.ready.shift();
    return message === undefined ? this.nextToCome() : Promise.resolve(this.handOut(message));
  }

  /**
   * All messages that are here, `max` at most and at least one; waits for one when there is none. Empty once the consumer is closed.
   * Rejects when it has failed. With `ackAll` the fast way: what they cost beyond their bytes is shared by all of them.
   */
  async nextBatch(max = CONSUMER_CREDIT_MAX): Promise<Message[]> {
    if (!Number.isSafeInteger(max) || max < 1)
      throw new FlotillaError("INVALID_ARGUMENT", `a batch has 1 message or more, not ${String(max)}`);
    if (this.ready.length > 0) return this.ready.splice(0, max).map((message) => this.handOut(message));
    const first = await this.nextToCome();
    return first === null ? [] : [first, ...this.ready.splice(0, max - 1).map((message) => this.handOut(message))];
  }

  private async nextToCome(): Promise<Message | null> {
    this.throwFailure();
    if (this.failure !== null || this.isClosing) return null;
    const taken = await new Promise<LeasedMessage | null>((resolve) => this.takers.push(resolve));
    if (taken !== null) return this.handOut(taken);
    this.throwFailure();
    return null;
  }

  /** Why it ended, unless somebody closed it. */
  private throwFailure(): void {
    if (this.failure !== null && this.failure.code !== "CLOSED") throw this.failure;
  }

  /** A loop that is left leaves the consumer open: another one goes on where it was. */
  [Symbol.asyncIterator](): AsyncIterator<Message> {
    return { next: () => this.next().then(asResult) };
  }

  /**
   * Has `handler` called with each message, `concurrency` at a time, until the consumer is closed: done is acknowledged, what throws goes
   * back. Resolves once all that were begun are settled.
   */
  async run(handler: (message: Message) => Promise<void> | void, { concurrency = 1 }: { concurrency?: number } = {}): Promise<void> {
    const worker = async (): Promise<void> => {
      for await (const message of this) {
        let isDone = true;
        try {
          await handler(message);
        } catch {
          isDone = false;
        }
        if (this.options.autoAck || (message as LeasedMessage).isSettled) continue;
        // Whose lease is lost is somebody else's: there is nothing to be done about it here.
        await (isDone ? message.ack() : message.nack()).catch(ignoreLost);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
  }

  /**
   * `ack` of each, with one answer for all: rejects with LEASE_LOST when some were the caller's no more, and says how many; the others are
   * acknowledged. Whoever is to know which they are calls `ack` of each.
   */
  ackAll(messages: readonly Message[]): Promise<void> {
    return new Promise((resolve, reject) => {
      let left = messages.length;
      const failures: FlotillaError[] = [];
      const done: Done = (error) => {
        if (error !== null) failures.push(error);
        if (--left > 0) return;
        if (failures.length === 0) resolve();
        else reject(notAll(failures, messages.length));
      };
      for (const message of messages) this.say(message as LeasedMessage, "ack", {}, done);
      if (messages.length === 0) resolve();
    });
  }

  /** Takes nothing more, waits for what was handed out to be settled (`timeoutMs` at most), gives the rest back, and ends. */
  async close({ timeoutMs = 10_000 }: { timeoutMs?: number } = {}): Promise<void> {
    if (this.isClosing || this.failure !== null) return;
    this.isClosing = true;
    for (const take of this.takers.splice(0)) take(null);
    const { link } = this;
    if (link !== null && this.isOpened) {
      const drained = new Promise<void>((resolve) => (this.onDrained = resolve));
      link.drain();
      await withinMs(drained, timeoutMs);
      const unread = this.ready.splice(0);
      const held = withinMs(this.allSettled(), timeoutMs);
      await Promise.all(unread.map((message) => message.release().catch(ignoreLost)));
      await held;
      await withinMs(link.close(), timeoutMs);
    }
    this.end(new FlotillaError("CLOSED", "the consumer is closed", { retryable: false }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private allSettled(): Promise<void> {
    if (this.held.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.settledWaiters.push(resolve));
  }

  private handOut(message: LeasedMessage): Message {
    if (this.options.autoAck) {
      message.isSettled = true;
      this.giveBack(1);
    } else {
      message.sinceMs = this.nowMs();
      this.held.add(message);
    }
    return message;
  }

  private settle(message: LeasedMessage, outcome: Outcome, detail: Detail): Promise<void> {
    return new Promise((resolve, reject) =>
      this.say(message, outcome, detail, (error) => {
        if (error === null) resolve();
        else reject(error);
      }),
    );
  }

  private say(message: LeasedMessage, outcome: Outcome, detail: Detail, done: Done): void {
    const { link } = this;
    if (link === null || link.life !== message.life || link.isClosed) {
      this.forget(message);
      done(leaseLost());
    } else if (outcome !== "extend" && message.isSettled) {
      done(new FlotillaError("LEASE_LOST", "the message was settled already"));
    } else {
      link.settle(message, outcome, detail, done);
      if (outcome === "extend") return;
      message.isSettled = true;
      // Room for the next one goes out with what is said of this one, not a round later when the queue has answered.
      if (this.held.has(message)) this.giveBack(1);
    }
  }

  private claim(message: LeasedMessage): void {
    const { link } = this;
    if (message.isSettled || this.options.autoAck) throw new FlotillaError("LEASE_LOST", "the message was settled already");
    if (link === null || link.life !== message.life || link.isClosed) {
      this.forget(message);
      throw leaseLost();
    }
    message.isSettled = true;
  }

  /** Either way it is this consumer's no more, and there is room for another one. What no transaction took is given back. */
  private concluded(message: LeasedMessage, isSettled: boolean): void {
    const { link } = this;
    const isHere = this.held.has(message);
    this.forget(message);
    if (isHere) this.giveBack(1);
    if (!isSettled && link !== null && link.life === message.life && !link.isClosed) link.settle(message, "release", {}, () => {});
  }

  private answered(message: LeasedMessage, outcome: Outcome, { leaseMs = 0 }: Detail, error: FlotillaError | null): void {
    if (outcome !== "extend") this.forget(message);
    else if (error === null) message.deadlineMs = Date.now() + leaseMs;
  }

  /** Since it was made: small, so that it costs a message no memory of its own. */
  private nowMs(): number {
    return Math.floor(performance.now() - this.madeMs);
  }

  private forget(message: LeasedMessage): void {
    this.held.delete(message);
    if (this.held.size === 0) for (const wake of this.settledWaiters.splice(0)) wake();
  }

  /** Room for more, told in portions. */
  private giveBack(messages: number): void {
    this.owed += messages;
    if (this.isClosing || this.link === null || this.owed < Math.max(1, Math.floor(this.options.prefetch / 8))) return;
    this.link.grant(this.owed);
    this.owed = 0;
  }

  private extend(): void {
    const { link } = this;
    if (link === null || link.isClosed) return;
    const { leaseMs, extendMsMax } = this.options;
    const nowMs = Date.now();
    for (const messages of [this.held, this.ready])
      for (const message of messages) {
        const isDue = message.life === link.life && !message.isSettled && message.deadlineMs - nowMs <= leaseMs / 2;
        if (!isDue || this.nowMs() - message.sinceMs > extendMsMax) continue;
        message.deadlineMs = nowMs + leaseMs;
        // Whose lease is lost is told so when he says what became of it.
        link.settle(message, "extend", { leaseMs }, () => {});
      }
  }

  private connect(): void {
    if (this.failure !== null || this.isClosing) return;
    const endpoint = this.endpoint();
    this.lives += 1;
    const { vhost, subscription, autoAck, leaseMs, priority, prefetch } = this.options;
    const open: ConsumeOpen = { vhost, queue: this.queue, subscription, autoAck, leaseMs, priority };
    const life = this.lives;
    this.isOpened = false;
    const link = new ConsumeLink(endpoint, life, this.channels.duplex(endpoint, "flotilla.v1.Messaging", "Consume"), open, {
      opened: () => {
        this.isOpened = true;
        this.failures = 0;
        if (this.openTimer !== null) clearTimeout(this.openTimer);
        this.onOpened();
      },
      delivered: (delivery) => this.delivered(delivery, life),
      answered: (message, outcome, detail, error) => this.answered(message, outcome, detail, error),
      revoked: (partition, firstOffset, count) => this.revoked(partition, firstOffset, count),
      drained: () => this.onDrained(),
      lost: (_link, error) => this.lost(error),
    });
    this.link = link;
    this.owed = 0;
    link.grant(prefetch);
    this.openTimer = setTimeout(() => {
      link.cancel();
      this.lost(new FlotillaError("TIMEOUT", "the node did not open the stream in time"));
    }, OPEN_MS);
    this.openTimer.unref();
  }

  /** Where the queue is led; of a topic, and while nobody leads, any node. */
  private endpoint(): string {
    const led = this.topology.partitions === 1 ? this.topology.leaderEndpoint(0) : undefined;
    if (led !== undefined && this.failures < 3) return led;
    const known = this.channels.endpoints();
    return known[this.lives % known.length]!;
  }

  private lost(error: FlotillaError): void {
    if (this.openTimer !== null) clearTimeout(this.openTimer);
    this.link = null;
    this.isOpened = false;
    // What was not handed out is somebody else's by now.
    this.ready = [];
    for (const message of this.held) if (!message.isSettled) this.held.delete(message);
    if (this.held.size === 0) for (const wake of this.settledWaiters.splice(0)) wake();
    this.onDrained();
    const isLasting = !error.retryable && error.code !== "UNREACHABLE" && error.code !== "STOPPING";
    if (isLasting) {
      this.end(error);
      return;
    }
    if (this.isClosing) return;
    this.failures += 1;
    const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.failures - 1, 8));
    if (this.retryTimer !== null) clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.connect(), this.failures === 1 ? 0 : ceiling / 2 + Math.random() * (ceiling / 2));
  }

  private delivered(delivery: Delivery, life: number): void {
    for (const message of LeasedMessage.allOf(delivery, life, this.nowMs(), this.owner)) {
      const take = this.takers.shift();
      if (take === undefined) this.ready.push(message);
      else take(message);
    }
  }

  private revoked(partition: number, firstOffset: number, count: number): void {
    const isIn = (message: LeasedMessage): boolean =>
      message.partition === partition && message.offset >= firstOffset && message.offset < firstOffset + count;
    const before = this.ready.length;
    this.ready = this.ready.filter((message) => !isIn(message));
    this.giveBack(before - this.ready.length);
    for (const message of this.held)
      if (isIn(message) && !message.isSettled) {
        this.held.delete(message);
        this.giveBack(1);
      }
  }

  private end(failure: FlotillaError): void {
    if (this.failure !== null) return;
    this.failure = failure;
    for (const timer of [this.retryTimer, this.openTimer]) if (timer !== null) clearTimeout(timer);
    if (this.timer !== null) clearInterval(this.timer);
    this.link?.cancel();
    this.topology.close();
    for (const take of this.takers.splice(0)) take(null);
    this.onOpened();
    this.closed(this);
  }
}

function asResult(message: Message | null): IteratorResult<Message> {
  return message === null ? { done: true, value: undefined } : { done: false, value: message };
}

/** Where topics are looked up, a queue that is not there is an unknown topic. */
function asUnknownQueue(error: unknown, queue: string, subscription: string): unknown {
  if (!(error instanceof FlotillaError) || error.code !== "UNKNOWN_TOPIC" || subscription !== "") return error;
  return new FlotillaError("UNKNOWN_QUEUE", `there is no queue ${JSON.stringify(queue)}; create it with "flotilla queue create"`);
}

/** That of which the outcome is not known says more than what was lost. */
function notAll(failures: readonly FlotillaError[], messages: number): FlotillaError {
  const first = failures.find(({ maybeApplied }) => maybeApplied) ?? failures[0]!;
  const { code, details, retryable, maybeApplied } = first;
  const text = `${failures.length} of ${messages} messages are not acknowledged: ${first.message}`;
  return new FlotillaError(code, text, { details, retryable, maybeApplied, cause: first });
}

function ignoreLost(error: unknown): void {
  if (!(error instanceof FlotillaError)) throw error;
}

function withinMs(work: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, timeoutMs)));
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function check(options: Required<QueueConsumerOptions>): void {
  const bounds: readonly [keyof QueueConsumerOptions, number, number][] = [
    ["prefetch", 1, CONSUMER_CREDIT_MAX],
    ["leaseMs", 1_000, 43_200_000],
    ["extendMsMax", 0, Number.MAX_SAFE_INTEGER],
    ["priority", -128, 127],
  ];
  for (const [name, minimum, maximum] of bounds) {
    const value = options[name];
    if (!(Number.isSafeInteger(value) && (value as number) >= minimum && (value as number) <= maximum))
      throw new FlotillaError("INVALID_ARGUMENT", `${name} must be a whole number of ${minimum}..${maximum}, not ${String(value)}`);
  }
}
