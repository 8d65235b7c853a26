import { Command, InvalidArgumentError, Option } from "commander";
import { FlotillaError, type ConsumerOptions, type Flotilla, type FlotillaErrorCode } from "../client/index.ts";
import { consumeQueue, type ConsumeQueueOptions } from "./consume-queue.ts";
import { jsonOf, write } from "./output.ts";
import { Progress } from "./progress.ts";
import { duration, instant, session, whole, withConnection, type SessionOptions } from "./session.ts";

type From = "earliest" | "latest" | { readonly offset: number } | { readonly timeMs: number };
type ConsumeOptions = SessionOptions & {
  from?: From;
  count?: number;
  partition?: number;
  group?: string;
  follow?: boolean;
  format: "value" | "json";
  quiet?: boolean;
  queue?: string;
};

/** `flotilla consume`: prints records, one line each. */
export function consumeCommand(): Command {
  return withConnection(new Command("consume").argument("[topic]"))
    .description("print the records of a topic, or take the messages of a queue, one line each; ends at the present end unless --follow")
    .option("--from <position>", "earliest, latest, an offset, or a time (ISO 8601, or ms as @1767225600000)", parseFrom)
    .option("--count <n>", "end after so many records", whole(1, Number.MAX_SAFE_INTEGER))
    .option("--partition <n>", "read this partition only", whole(0, 999))
    .option("--group <name>", "go on where this subscription stopped, and commit what was printed")
    .option("--follow", "wait for new records")
    .addOption(new Option("--format <form>", "value: the body alone; json: everything").choices(["value", "json"]).default("value"))
    .option("--queue <name>", "take messages of this queue (or of a topic's work subscription) instead of reading a topic")
    .option("--subscription <name>", "with --queue naming a topic: its work subscription")
    .addOption(
      new Option("--ack <how>", "with --queue: acknowledge what was printed (manual), or what was sent (auto: at most once)")
        .choices(["auto", "manual"])
        .default("manual"),
    )
    .option(
      "--exec <command>",
      "with --queue: run this with each message on its standard input; it is acknowledged when that ends with 0, else it comes again",
    )
    .option("--wait <duration>", "with --queue: end when no message has come for so long", duration, 500)
    .option("--quiet", "no progress")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla consume logs --from earliest\n  flotilla consume logs --from 2026-01-31T12:00:00Z --count 100 --format json\n  flotilla consume logs --group billing --follow\n  flotilla consume --queue orders --count 10\n  flotilla consume --queue mails --follow --exec ./send-mail.sh",
    )
    .action((topic: string | undefined, options: ConsumeOptions) =>
      session(options, (client) => {
        if ((topic === undefined) === (options.queue === undefined))
          throw new InvalidArgumentError("name a topic, or a queue with --queue: one of the two");
        return topic === undefined ? consumeQueue(client, options as ConsumeQueueOptions) : consume(client, topic, options);
      }),
    );
}

/** With --follow, what was printed is committed so often. */
const COMMIT_EVERY_MS = 1_000;

async function consume(client: Flotilla, topic: string, options: ConsumeOptions): Promise<void> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.once("SIGINT", interrupt);
  process.stdout.on("error", interrupt); // The reader of our pipe has seen enough.
  const ends = options.follow === true ? null : await endsOf(client, topic, options);
  if (ends !== null) checkStart(options.from, ends);
  const consumer = await client.consumer(topic, {
    vhost: options.vhost,
    from: options.from ?? (options.group === undefined ? (options.follow === true ? "latest" : "earliest") : "committed"),
    ...(options.group === undefined ? {} : { subscription: options.group }),
    ...(options.partition === undefined ? {} : { partitions: [options.partition] }),
    maxWaitMs: ends === null ? 1_000 : 50,
    signal: stop.signal,
  } satisfies ConsumerOptions);
  const progress = new Progress("read", 0, { quiet: options.quiet === true || process.stdout.isTTY });
  // A batch is not always printed to its end: what is committed is what was printed.
  const printed = new Map<number, number>();
  const poll = ends === null ? undefined : setInterval(() => isDone(consumer.positions(), ends) && stop.abort(), 20);
  let left = options.count ?? Number.POSITIVE_INFINITY;
  let committedMs = Date.now();
  try {
    for await (const batch of consumer.batches()) {
      const records = batch.records.slice(0, left);
      left -= records.length;
      for (const record of records) progress.bytes += record.body.length + 1;
      progress.records += records.length;
      await write(records.map((record) => (options.format === "json" ? jsonOf(record) : record.body)));
      if (process.stdout.errored !== null) break;
      printed.set(batch.partition, records.at(-1)!.offset + 1);
      if (left === 0 || stop.signal.aborted || (ends !== null && isDone(consumer.positions(), ends))) break;
      if (Date.now() - committedMs >= COMMIT_EVERY_MS) {
        await commit(client, topic, options, printed);
        committedMs = Date.now();
      }
    }
    await commit(client, topic, options, printed);
  } finally {
    clearInterval(poll);
    await consumer.close();
    process.off("SIGINT", interrupt);
    progress.end();
  }
}

async function commit(client: Flotilla, topic: string, options: ConsumeOptions, printed: ReadonlyMap<number, number>): Promise<void> {
  const { group, vhost } = options;
  if (group === undefined || printed.size === 0) return;
  // Who says where to begin says so for the subscription too.
  const reset = options.from !== undefined;
  const offsets = [...printed].map(([partition, offset]) => ({ partition, offset, reset }));
  for (const { partition, error } of await client.commitOffsets(topic, group, offsets, { vhost })) {
    throw new FlotillaError(error.reason as FlotillaErrorCode, `partition ${partition}: ${error.message}`);
  }
}

/** Where each partition ends now: what comes later is not waited for. */
async function endsOf(client: Flotilla, topic: string, options: ConsumeOptions): Promise<ReadonlyMap<number, number>> {
  const offsets = await client.getOffsets(topic, {
    vhost: options.vhost,
    ...(options.partition === undefined ? {} : { partitions: [options.partition] }),
  });
  for (const { partition, error } of offsets) {
    if (error !== null) throw new FlotillaError(error.reason as FlotillaErrorCode, `partition ${partition}: ${error.message}`);
  }
  return new Map(offsets.map(({ partition, endOffset }) => [partition, endOffset]));
}

/** What does not exist yet is not waited for either. */
function checkStart(from: From | undefined, ends: ReadonlyMap<number, number>): void {
  if (typeof from !== "object" || !("offset" in from)) return;
  for (const [partition, end] of ends)
    if (from.offset > end)
      throw new FlotillaError("OFFSET_OUT_OF_RANGE", `partition ${partition}: offset ${from.offset} does not exist yet: the end is ${end}`);
}

function isDone(positions: ReadonlyMap<number, number>, ends: ReadonlyMap<number, number>): boolean {
  for (const [partition, end] of ends) if ((positions.get(partition) ?? -1) < end) return false;
  return true;
}

function parseFrom(text: string): From {
  if (text === "earliest" || text === "latest") return text;
  if (/^\d+$/.test(text)) return { offset: whole(0, Number.MAX_SAFE_INTEGER)(text) };
  return { timeMs: instant(text) };
}
