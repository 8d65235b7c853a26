// Publishes to one of RabbitMQ's queues with confirms. Its client library does not connect again by itself, so what a careful
// application would do is done here: on to the next node as soon as the connection is lost, or of no use.

import amqp, { type ChannelModel, type ConfirmChannel } from "amqplib";
import { payload } from "../system.ts";
import type { Outcome } from "./failover-probes.ts";

const BODY = payload(128);
/** Seconds; a connection without any sign of life is given up after two to three times as long. */
export const HEARTBEAT_S = 1;
/**
 * Everything is refused for so long: a channel on which the first publish came when the queue's leader was gone goes on refusing
 * until that node is back (seen with 3.10), and one that is opened later does not.
 */
export const REFUSED_MS = 100;
/** Nothing is confirmed, though the connection lives: longer than an election after a silent loss takes. */
export const UNCONFIRMED_MS = 20_000;
const CONNECT_MS = 1_000;
const LOOK_MS = 20;
/** Unconfirmed messages of one queue. */
const OUTSTANDING_MAX = 5_000;

type Sent = { readonly done: Outcome };

export class QueueSender {
  readonly queue: string;
  private readonly urls: readonly string[];
  /** Index of the node that it is connected to, or tries. */
  private at: number;
  private connection: ChannelModel | null = null;
  private channel: ConfirmChannel | null = null;
  private outstanding = new Set<Sent>();
  private confirmedMs = performance.now();
  /** Since then everything was refused; 0 = the last answer was none. */
  private refusedMs = 0;
  private isConnecting = false;
  private isClosed = false;
  private readonly timer: NodeJS.Timeout;

  /** `urls`: of all nodes. It begins with the one at this index. */
  constructor(urls: readonly string[], queue: string, at: number) {
    this.urls = urls;
    this.queue = queue;
    this.at = at;
    this.timer = setInterval(() => this.look(), LOOK_MS);
  }

  send(done: Outcome): void {
    const { channel, outstanding } = this;
    if (channel === null || outstanding.size >= OUTSTANDING_MAX) {
      done(channel === null ? "NOT_CONNECTED" : "TOO_MANY_OUTSTANDING");
      return;
    }
    if (outstanding.size === 0) this.confirmedMs = performance.now();
    const sent: Sent = { done };
    outstanding.add(sent);
    try {
      channel.sendToQueue(this.queue, BODY, { persistent: true }, (error) => this.answered(sent, outstanding, error !== null));
    } catch {
      // Closed, and about to say so.
      if (outstanding.delete(sent)) done("CHANNEL_CLOSED");
    }
  }

  /** Connects to the node at this index, if it is another one. */
  async goTo(at: number): Promise<void> {
    if (this.channel !== null && this.at === at) return;
    this.drop("MOVED");
    this.at = at;
    await this.connect();
  }

  close(): void {
    this.isClosed = true;
    clearInterval(this.timer);
    this.drop("CLOSED");
  }

  private answered(sent: Sent, of: Set<Sent>, isRefused: boolean): void {
    if (!of.delete(sent)) return;
    const now = performance.now();
    if (isRefused) this.refusedMs ||= now;
    else {
      this.confirmedMs = now;
      this.refusedMs = 0;
    }
    sent.done(isRefused ? "NACK" : null);
  }

  private look(): void {
    const now = performance.now();
    if (this.channel === null) void this.connect();
    else if (this.refusedMs > 0 && now - this.refusedMs > REFUSED_MS) this.lost("REFUSED");
    else if (this.outstanding.size > 0 && now - this.confirmedMs > UNCONFIRMED_MS) this.lost("UNCONFIRMED");
  }

  /** To one node after the other, each once. */
  private async connect(): Promise<void> {
    if (this.isClosed || this.isConnecting) return;
    this.isConnecting = true;
    try {
      for (let tries = 0; tries < this.urls.length && !this.isClosed; tries++) {
        if (await this.open(this.urls[this.at]!)) return;
        this.at = (this.at + 1) % this.urls.length;
      }
    } finally {
      this.isConnecting = false;
    }
  }

  private async open(url: string): Promise<boolean> {
    let connection: ChannelModel | null = null;
    try {
      connection = await amqp.connect(`${url}?heartbeat=${HEARTBEAT_S}`, { timeout: CONNECT_MS, noDelay: true });
      connection.on("error", () => {});
      const channel = await within(connection.createConfirmChannel(), CONNECT_MS);
      channel.on("error", () => {});
      const lost = (): void => {
        if (this.channel === channel) this.lost("CONNECTION_LOST");
      };
      connection.on("close", lost);
      channel.on("close", lost);
      this.connection = connection;
      this.channel = channel;
      this.refusedMs = 0;
      return true;
    } catch {
      if (connection !== null) leave(connection);
      return false;
    }
  }

  private lost(code: string): void {
    this.drop(code);
    this.at = (this.at + 1) % this.urls.length;
    void this.connect();
  }

  private drop(code: string): void {
    const { connection, outstanding } = this;
    this.connection = null;
    this.channel = null;
    this.refusedMs = 0;
    this.outstanding = new Set();
    for (const { done } of outstanding) done(code);
    if (connection !== null) leave(connection);
  }
}

/** One that is closed already throws at once, one to a stopped node never answers. */
function leave(connection: ChannelModel): void {
  void (async () => connection.close())().catch(() => {});
}

async function within<Value>(value: Promise<Value>, ms: number): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([value, late]);
  } finally {
    clearTimeout(timer);
  }
}
