import { Command, InvalidArgumentError, Option } from "commander";
import type { ConsumerOptions, Flotilla, ReceivedRecord } from "../client/index.ts";
import { Progress } from "./progress.ts";
import { session, whole, withConnection, type SessionOptions } from "./session.ts";

type From = "earliest" | "latest" | { readonly offset: number } | { readonly timeMs: number };
type ConsumeOptions = SessionOptions & {
  from?: From;
  count?: number;
  partition?: number;
  group?: string;
  follow?: boolean;
  format: "value" | "json";
  quiet?: boolean;
};

/** `flotilla consume`: prints records, one line each. */
export function consumeCommand(): Command {
  return withConnection(new Command("consume").argument("<topic>"))
    .description("print the records of a topic, one line each; ends at the present end unless --follow")
    .option("--from <position>", "earliest, latest, an offset, or a time (ISO 8601, or ms as @1767225600000)", parseFrom)
    .option("--count <n>", "end after so many records", whole(1, Number.MAX_SAFE_INTEGER))
    .option("--partition <n>", "read this partition only", whole(0, 999))
    .option("--group <name>", "go on where this subscription stopped, and commit what was printed")
    .option("--follow", "wait for new records")
    .addOption(new Option("--format <form>", "value: the body alone; json: everything").choices(["value", "json"]).default("value"))
    .option("--quiet", "no progress")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla consume logs --from earliest\n  flotilla consume logs --from 2026-01-31T12:00:00Z --count 100 --format json\n  flotilla consume logs --group billing --follow",
    )
    .action((topic: string, options: ConsumeOptions) => session(options, (client) => consume(client, topic, options)));
}

async function consume(client: Flotilla, topic: string, options: ConsumeOptions): Promise<void> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.once("SIGINT", interrupt);
  process.stdout.on("error", interrupt); // The reader of our pipe has seen enough.
  const ends = options.follow === true ? null : await endsOf(client, topic, options);
  const consumer = await client.consumer(topic, {
    vhost: options.vhost,
    from: options.from ?? (options.group === undefined ? (options.follow === true ? "latest" : "earliest") : "committed"),
    ...(options.group === undefined ? {} : { subscription: options.group }),
    ...(options.partition === undefined ? {} : { partitions: [options.partition] }),
    maxWaitMs: ends === null ? 1_000 : 50,
    signal: stop.signal,
  } satisfies ConsumerOptions);
  const progress = new Progress("read", 0, { quiet: options.quiet === true || process.stdout.isTTY });
  const left = { count: options.count ?? Number.POSITIVE_INFINITY };
  try {
    const poll = ends === null ? null : setInterval(() => isDone(consumer.positions(), ends) && stop.abort(), 20);
    for await (const batch of consumer.batches()) {
      const records = batch.records.slice(0, left.count);
      left.count -= records.length;
      for (const record of records) progress.bytes += record.body.length + 1;
      progress.records += records.length;
      await write(records.map((record) => (options.format === "json" ? jsonOf(record) : record.body)));
      if (left.count === 0 || stop.signal.aborted || (ends !== null && isDone(consumer.positions(), ends))) break;
    }
    if (poll !== null) clearInterval(poll);
    if (options.group !== undefined) await consumer.commit();
  } finally {
    await consumer.close();
    process.off("SIGINT", interrupt);
    progress.end();
  }
}

/** Where each partition ends now: what comes later is not waited for. */
async function endsOf(client: Flotilla, topic: string, options: ConsumeOptions): Promise<ReadonlyMap<number, number>> {
  const offsets = await client.getOffsets(topic, {
    vhost: options.vhost,
    ...(options.partition === undefined ? {} : { partitions: [options.partition] }),
  });
  return new Map(offsets.map(({ partition, endOffset }) => [partition, endOffset]));
}

function isDone(positions: ReadonlyMap<number, number>, ends: ReadonlyMap<number, number>): boolean {
  for (const [partition, end] of ends) if ((positions.get(partition) ?? -1) < end) return false;
  return true;
}

const NEWLINE = Buffer.from("\n");

async function write(lines: readonly (Uint8Array | string)[]): Promise<void> {
  const block = Buffer.concat(lines.flatMap((line) => [typeof line === "string" ? Buffer.from(line) : line, NEWLINE]));
  if (!process.stdout.write(block) && !process.stdout.destroyed)
    await new Promise<void>((resolve) => {
      process.stdout.once("drain", resolve);
      process.stdout.once("close", resolve);
      process.stdout.once("error", () => resolve());
    });
}

function jsonOf(record: ReceivedRecord): string {
  const { partition, offset, storedMs, key, body, headers, timeMs, contentType, correlationId } = record;
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
  });
}

function parseFrom(text: string): From {
  if (text === "earliest" || text === "latest") return text;
  if (/^\d+$/.test(text)) return { offset: whole(0, Number.MAX_SAFE_INTEGER)(text) };
  if (/^@\d+$/.test(text)) return { timeMs: whole(0, Number.MAX_SAFE_INTEGER)(text.slice(1)) };
  const timeMs = Date.parse(text);
  if (Number.isNaN(timeMs)) throw new InvalidArgumentError("must be earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z");
  return { timeMs };
}
