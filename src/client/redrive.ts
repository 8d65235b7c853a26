// Dead letters go back to the queues in which they died: published there first, and only then taken out of here. They are looked at, not
// consumed: those that stay keep their place, and hold nobody of their key up.

import { setTimeout as delay } from "node:timers/promises";
import type { BrowsedMessage, Flotilla } from "./flotilla.ts";
import type { OutgoingRecord } from "./records.ts";
import type { MessageState } from "./work-wire.ts";

const ORIGIN = "x-death-queue";
const OURS = /^x-(?:first-)?death-/;
/** Messages that are looked at together, and those of them that are on their way at one time. */
const PAGE_MESSAGES = 500;
const MOVING_MAX = 64;
/** Nobody is at work on them, and they have not died here once more. */
const WAITING: readonly MessageState[] = ["ready", "delayed", "waiting for key"];

export type RedriveOptions = {
  /** Only those for which it says true; the others stay. */
  readonly filter?: (message: BrowsedMessage) => boolean;
  /** Messages a second; default: as fast as it goes. */
  readonly perSecond?: number;
  /** Ends after so many went back. */
  readonly movedMax?: number;
  /** How many have gone back. */
  readonly progress?: (moved: number) => void;
};
export type Redriven = { readonly moved: number; readonly kept: number };

/** Of those that are there now: one that comes back meanwhile stays. */
export async function redrive(client: Flotilla, queue: string, options: RedriveOptions & { vhost?: string }): Promise<Redriven> {
  const { vhost = "", filter = () => true, perSecond = Number.POSITIVE_INFINITY, movedMax = Number.POSITIVE_INFINITY, progress } = options;
  const { endOffset } = await client.queues.describeQueue(queue, vhost);
  await using back = client.exchangeProducer("", { vhost, lingerMs: 0 });
  const done = { moved: 0, kept: 0 };
  const move = async (message: BrowsedMessage, origin: string): Promise<void> => {
    const { routed } = await back.send(recordOf(message, origin));
    done[routed ? "moved" : "kept"] += 1;
    if (!routed) return;
    // If somebody has taken it since, it is in both places: it is not known what becomes of it there.
    await client.recall(queue, message.offset, { vhost });
    progress?.(done.moved);
  };
  const beganMs = Date.now();
  let begun = 0;
  for (let next: number | undefined = 0; next !== undefined && next < endOffset && begun < movedMax;) {
    const page = await client.browse(queue, { vhost, fromOffset: next, maxMessages: PAGE_MESSAGES });
    let moving: Promise<void>[] = [];
    for (const message of page.messages.filter((one) => one.offset < endOffset && WAITING.includes(one.state))) {
      const origin = originOf(message);
      if (origin === null || !filter(message)) {
        done.kept += 1;
        continue;
      }
      if (begun >= movedMax) break;
      const dueMs = beganMs + (begun / perSecond) * 1_000;
      if (dueMs > Date.now()) await delay(dueMs - Date.now());
      begun += 1;
      moving.push(move(message, origin));
      if (moving.length < MOVING_MAX) continue;
      await Promise.all(moving);
      moving = [];
    }
    await Promise.all(moving);
    ({ next } = page);
  }
  return done;
}

function recordOf(message: BrowsedMessage, origin: string): OutgoingRecord {
  const { body, key, contentType, correlationId, replyTo, messageId, priority } = message;
  const headers = message.headers.filter(({ name }) => !OURS.test(name));
  const record = { body, headers, contentType, correlationId, replyTo, messageId, priority, routingKey: origin };
  return key === null ? record : { ...record, key };
}

/** The queue where it died last; null of one that is no dead letter. */
function originOf({ headers }: BrowsedMessage): string | null {
  let origin: string | null = null;
  for (const { name, value } of headers) if (name === ORIGIN) origin = Buffer.from(value).toString("utf8");
  return origin;
}
