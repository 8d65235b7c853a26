// Dead letters go back to the queues in which they died: published there first, and only then acknowledged here.

import { setTimeout as delay } from "node:timers/promises";
import type { ExchangeProducer } from "./exchange-producer.ts";
import type { Message } from "./message.ts";
import type { QueueConsumer } from "./queue-consumer.ts";

const ORIGIN = "x-death-queue";
const OURS = /^x-(?:first-)?death-/;

export type RedriveOptions = {
  /** Only those for which it says true; the others stay. */
  readonly filter?: (message: Message) => boolean;
  /** Messages a second; default: as fast as it goes. */
  readonly perSecond?: number;
  /** Ends after so many were looked at: as many as the queue had at the beginning, or the same ones would come again. */
  readonly messagesMax: number;
  readonly progress?: (moved: number) => void;
};
export type Redriven = { readonly moved: number; readonly kept: number };

/** `back` publishes to the default exchange. */
export async function redrive(letters: QueueConsumer, back: ExchangeProducer, options: RedriveOptions): Promise<Redriven> {
  const { filter = () => true, perSecond = Number.POSITIVE_INFINITY, messagesMax, progress } = options;
  const kept: Message[] = [];
  const beganMs = Date.now();
  let moved = 0;
  while (moved + kept.length < messagesMax) {
    const message = await letters.next();
    if (message === null) break;
    const origin = originOf(message);
    if (origin === null || !filter(message)) {
      // Held until the end: given back now it would come again.
      kept.push(message);
      continue;
    }
    const dueMs = beganMs + (moved / perSecond) * 1_000;
    if (dueMs > Date.now()) await delay(dueMs - Date.now());
    const headers = message.headers.filter(({ name }) => !OURS.test(name));
    const { body, key, contentType, correlationId, replyTo, messageId, priority } = message;
    const record = { body, headers, contentType, correlationId, replyTo, messageId, priority, routingKey: origin };
    const { routed } = await back.send(key === null ? record : { ...record, key });
    if (!routed) {
      kept.push(message);
      continue;
    }
    await message.ack();
    moved += 1;
    progress?.(moved);
  }
  await Promise.all(kept.map((message) => message.release().catch(() => {})));
  return { moved, kept: kept.length };
}

/** The queue where it died last; null of one that is no dead letter. */
function originOf({ headers }: Message): string | null {
  let origin: string | null = null;
  for (const { name, value } of headers) if (name === ORIGIN) origin = Buffer.from(value).toString("utf8");
  return origin;
}
