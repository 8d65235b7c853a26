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
  const { vhost, queue, subscription = "", ack, follow = false } = options;
  const autoAck = ack === "auto";
  const prefetch = Math.min(options.count ?? 1_000, 1_000);
  const consumer = await client.queueConsumer(queue, { vhost, subscription, autoAck, prefetch });
  const stop = (): void => void consumer.close();
  process.once("SIGINT", stop);
  process.stdout.on("error", stop); // The reader of our pipe has seen enough.
  const progress = new Progress("read", 0, { quiet: options.quiet === true || process.stdout.isTTY });
  let left = options.count ?? Number.POSITIVE_INFINITY;
  let idle: NodeJS.Timeout | undefined;
  const wait = (): void => {
    clearTimeout(idle);
    if (!follow) idle = setTimeout(stop, options.wait);
  };
  const print = async (messages: readonly Message[]): Promise<void> => {
    if (options.exec !== undefined) {
      for (const message of messages) {
        const isDone = await handle(options.exec, message);
        progress.records += 1;
        if (!autoAck) await (isDone ? message.ack() : message.nack());
      }
      return;
    }
    await write(messages.map((message) => (options.format === "json" ? jsonOf(message) : message.body)));
    progress.records += messages.length;
    for (const { body } of messages) progress.bytes += body.length + 1;
    if (process.stdout.errored === null && !autoAck) await Promise.all(messages.map((message) => message.ack()));
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
    process.off("SIGINT", stop);
    progress.end();
  }
}
