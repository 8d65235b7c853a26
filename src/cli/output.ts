// Lines on standard output, as fast as its reader takes them.

import type { ReceivedRecord } from "../client/index.ts";

const NEWLINE = Buffer.from("\n");
/** What ends the wait for a full pipe. */
const EVENTS = ["drain", "close", "error"] as const;

export async function write(lines: readonly (Uint8Array | string)[]): Promise<void> {
  const { stdout } = process;
  const block = Buffer.concat(lines.flatMap((line) => [typeof line === "string" ? Buffer.from(line) : line, NEWLINE]));
  if (stdout.write(block) || stdout.destroyed) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      for (const event of EVENTS) stdout.off(event, end);
      resolve();
    };
    for (const event of EVENTS) stdout.on(event, end);
  });
}

/** A record with everything that it says. */
export function jsonOf(record: ReceivedRecord): string {
  const { partition, offset, storedMs, key, body, headers, timeMs, contentType, correlationId } = record;
  const { replyTo, messageId, routingKey, priority } = record;
  const text = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  return JSON.stringify({
    partition,
    offset,
    storedMs,
    key: key === null ? null : text(key),
    body: text(body),
    headers: headers.map(({ name, value }) => ({ name, value: text(value) })),
    timeMs,
    contentType,
    correlationId,
    replyTo,
    messageId,
    routingKey,
    priority,
  });
}
