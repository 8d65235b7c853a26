// `flotilla consume --queue`: takes messages of a queue and prints them.

import { spawn } from "node:child_process";
import type { Flotilla, Message } from "../client/index.ts";
import { jsonOf, write } from "./output.ts";
import { Progress } from "./progress.ts";
import type { SessionOptions } from "./session.ts";

export type ConsumeQueueOptions = SessionOptions & {
  queue: string;
  subscription?: string;
  ack: "auto" | "manual";
  count?: number;
  follow?: boolean;
  format: "value" | "json";
  quiet?: boolean;
  /** Without --follow it ends when no message has come for so long, in ms. */
  wait: number;
  /** Run with each message on its standard input; what it does not take goes back. */
  exec?: string;
};

const PRINTED_AT_ONCE = 256;
/** How long one Receive waits for a first message. */
const RECEIVE_MS = 20_000;

/** Runs the command with the message on its standard input; resolves with whether it ended well. */
function handle(command: string, message: Message): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(command, { shell: true, stdio: ["pipe", "inherit", "inherit"] });
    child.on("error", () => resolve(false));
    child.on("close", (code) => resolve(code === 0));
    // A command that does not read to the end is no failure of ours.
    child.stdin.on("error", () => {});
    child.stdin.end(Buffer.concat([message.body, Buffer.from("\n")]));
  });
}

/** With `manual` a message is acknowledged once it is printed: what is not printed stays. With `auto` it is done when it is sent. */
export async function consumeQueue(client: Flotilla, options: ConsumeQueueOptions): Promise<void> {
  const stopped = new AbortController();
  const stop = (): void => stopped.abort();
  process.once("SIGINT", stop);
  process.stdout.on("error", stop); // The reader of our pipe has seen enough.
  const progress = new Progress("read", 0, { quiet: options.quiet === true || process.stdout.isTTY });
  const print = (messages: readonly Message[]): Promise<void> => printed(messages, options, progress);
  try {
    // Of a stream more may be sent than is asked for, and is done then.
    if (options.ack === "auto" && options.count !== undefined) await receive(client, options, options.count, stopped.signal, print);
    else await stream(client, options, stopped.signal, print);
  } finally {
    process.off("SIGINT", stop);
    progress.end();
  }
}

type Print = (messages: readonly Message[]) => Promise<void>;

async function stream(client: Flotilla, options: ConsumeQueueOptions, stopped: AbortSignal, print: Print): Promise<void> {
  const { vhost, queue, subscription = "", ack, follow = false } = options;
  const prefetch = Math.min(options.count ?? 1_000, 1_000);
  const consumer = await client.queueConsumer(queue, { vhost, subscription, autoAck: ack === "auto", prefetch });
  const stop = (): void => void consumer.close();
  stopped.addEventListener("abort", stop);
  let left = options.count ?? Number.POSITIVE_INFINITY;
  let idle: NodeJS.Timeout | undefined;
  const wait = (): void => {
    clearTimeout(idle);
    if (!follow) idle = setTimeout(stop, options.wait);
  };
  try {
    wait();
    let batch: Message[] = [];
    for (let message = await consumer.next(); message !== null; message = left > 0 ? await consumer.next() : null) {
      batch.push(message);
      left -= 1;
      // What has come already is printed together.
      if (options.exec === undefined && left > 0 && batch.length < PRINTED_AT_ONCE && consumer.waiting > 0) continue;
      await print(batch);
      batch = [];
      wait();
    }
  } finally {
    clearTimeout(idle);
    await consumer.close();
  }
}

/** As many as are asked for and not one more. */
async function receive(client: Flotilla, options: ConsumeQueueOptions, count: number, stopped: AbortSignal, print: Print): Promise<void> {
  const { vhost, queue, subscription = "", follow = false } = options;
  let idleMs = 0;
  for (let left = count; left > 0 && !stopped.aborted && (follow || idleMs < options.wait);) {
    const maxWaitMs = follow ? RECEIVE_MS : Math.min(RECEIVE_MS, options.wait - idleMs);
    const maxMessages = Math.min(left, PRINTED_AT_ONCE);
    const messages = await client
      .receive(queue, { vhost, subscription, maxMessages, maxWaitMs, autoAck: true, signal: stopped })
      .catch((error: unknown) => {
        if (!stopped.aborted) throw error;
        return [];
      });
    idleMs = messages.length === 0 ? idleMs + maxWaitMs : 0;
    left -= messages.length;
    if (messages.length > 0) await print(messages);
  }
}

async function printed(messages: readonly Message[], { ack, exec, format }: ConsumeQueueOptions, progress: Progress): Promise<void> {
  const autoAck = ack === "auto";
  if (exec !== undefined) {
    for (const message of messages) {
      const isDone = await handle(exec, message);
      progress.records += 1;
      if (!autoAck) await (isDone ? message.ack() : message.nack());
    }
    return;
  }
  await write(messages.map((message) => (format === "json" ? jsonOf(message) : message.body)));
  progress.records += messages.length;
  for (const { body } of messages) progress.bytes += body.length + 1;
  if (process.stdout.errored === null && !autoAck) await Promise.all(messages.map((message) => message.ack()));
}
