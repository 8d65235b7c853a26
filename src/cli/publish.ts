import { createReadStream, statSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { BATCH_BYTES_MAX, BATCH_RECORDS_MAX } from "../base/limits.ts";
import { FlotillaError, type Flotilla, type OutgoingRecord } from "../client/index.ts";
import { linesOf } from "./lines.ts";
import { Progress } from "./progress.ts";
import { header } from "./routing.ts";
import { prepare } from "./transaction.ts";
import { duration, instant, regex, session, whole, withConnection, type SessionOptions } from "./session.ts";

type PublishOptions = SessionOptions & {
  file?: string;
  key?: string;
  keyRegex?: RegExp;
  partition?: number;
  linger: number;
  batchBytes: number;
  quiet?: boolean;
  exchange?: string;
  routingKey: string;
  delay?: number;
  deliverAt?: number;
  priority?: number;
  ttl?: number;
  header: [string, string | null][];
  contentType?: string;
  correlationId?: string;
  replyTo?: string;
  mandatory?: boolean;
  prepare?: boolean;
  transaction?: string;
  timeout?: number;
};

/** `flotilla publish`: every line of the input is a record. */
export function publishCommand(): Command {
  return withConnection(new Command("publish").argument("[name]"))
    .description("publish lines from standard input or a file to a topic, queue or exchange; each line is one record")
    .option("--file <path>", "read this file instead of standard input")
    .option("--key <text>", "key of all records: they go to one partition")
    .option(
      "--key-regex <regex>",
      "key of a record: the first group (or the whole match) of this expression in its line; without a match it has none",
      regex,
    )
    .option("--partition <n>", "send everything to this partition", whole(0, 999))
    .option("--linger <ms>", "how long a record waits for company", whole(0, 60_000), 5)
    .option("--batch-bytes <n>", "bytes after which a batch is sent", whole(1, 4_000_000), 128 * 1024)
    .option("--exchange <name>", "publish to this exchange instead of a topic or queue")
    .option("--routing-key <key>", "with --exchange: the routing key of all records", "")
    .option("--mandatory", "with --exchange: fail when a record goes nowhere")
    .option("--delay <duration>", "queues deliver it so long after it was stored", duration)
    .option("--deliver-at <time>", "queues deliver it at this time (ISO 8601, or ms as @1767225600000)", instant)
    .option("--priority <n>", "in queues a higher one goes first", whole(0, 31))
    .option("--ttl <duration>", "how long it may wait in a queue", duration)
    .option("--header <name=value>", "a header of all records; may be given again", header, [])
    .option("--content-type <type>", "what the records are, as application/json")
    .option("--correlation-id <text>", "what they belong to")
    .option("--reply-to <queue>", "where an answer is expected")
    .option("--prepare", "publish all of it in one transaction, to be decided later, and print its id (flotilla transaction commit ID)")
    .option("--transaction <name>", "with --prepare: a name of your own for it")
    .option("--timeout <duration>", "with --prepare: when it is rolled back by itself (1m unless given, at most 1d)", duration)
    .option("--quiet", "no progress and no summary")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla publish logs --file access.log\n  tail -F app.log | flotilla publish logs --key-regex 'user=(\\w+)'\n  echo hello | flotilla publish mails --delay 10s --priority 5\n  echo paid | flotilla publish --exchange orders --routing-key order.42.paid\n  echo paid | flotilla publish orders --prepare --transaction order-42 --timeout 10m",
    )
    .action((name: string | undefined, options: PublishOptions) =>
      session(options, (client) => {
        if ((name === undefined) === (options.exchange === undefined))
          throw new InvalidArgumentError("name a topic or queue, or an exchange with --exchange: one of the two");
        if (options.prepare !== true && (options.transaction !== undefined || options.timeout !== undefined))
          throw new InvalidArgumentError("--transaction and --timeout are for --prepare");
        return options.prepare === true ? prepareAll(client, name, options) : publish(client, name, options);
      }),
    );
}

/** Where records go: `append` takes one, false when there is no room for more until `ready`. */
type Target = {
  append(record: OutgoingRecord, done: (error: FlotillaError | null) => void): boolean;
  ready(): Promise<void>;
  close(): Promise<void>;
};

async function targetOf(client: Flotilla, name: string | undefined, options: PublishOptions): Promise<Target> {
  const { vhost, linger: lingerMs, batchBytes, exchange, routingKey, mandatory = false, partition } = options;
  if (name !== undefined) {
    const producer = await client.producer(name, { vhost, lingerMs, batchBytes });
    return {
      append: (record, done) => producer.append(record, done, partition),
      ready: () => producer.ready(),
      close: () => producer.close(),
    };
  }
  const producer = client.exchangeProducer(exchange!, { vhost, lingerMs, batchBytes, mandatory });
  let last: Promise<unknown> = Promise.resolve();
  return {
    append: (record, done) => {
      last = producer.send({ ...record, routingKey }).then(
        () => done(null),
        (error: unknown) => done(error as FlotillaError),
      );
      return producer.hasRoom;
    },
    // It waits for room by itself before it takes the next one.
    ready: async () => {
      await last;
    },
    close: () => producer.close(),
  };
}

/** What all records of a call have in common. */
function commonOf(options: PublishOptions): Partial<OutgoingRecord> {
  const { delay, deliverAt, priority, ttl, header: headers, contentType, correlationId, replyTo } = options;
  return {
    ...(contentType === undefined ? {} : { contentType }),
    ...(correlationId === undefined ? {} : { correlationId }),
    ...(replyTo === undefined ? {} : { replyTo }),
    ...(delay === undefined ? {} : { delayMs: delay }),
    ...(deliverAt === undefined ? {} : { deliverAtMs: deliverAt }),
    ...(priority === undefined ? {} : { priority }),
    ...(ttl === undefined ? {} : { ttlMs: ttl }),
    ...(headers.length === 0 ? {} : { headers: headers.map(([name, value]) => ({ name, value: Buffer.from(value ?? "") })) }),
  };
}

/** All lines as one transaction: they are kept until the last one is there. */
async function prepareAll(client: Flotilla, name: string | undefined, options: PublishOptions): Promise<void> {
  const common = commonOf(options);
  const records: OutgoingRecord[] = [];
  let bytes = 0;
  try {
    for await (const lines of linesOf(inputOf(options)))
      for (const line of lines) {
        const key = keyOf(line, options);
        bytes += line.length;
        if (bytes > BATCH_BYTES_MAX || records.length >= BATCH_RECORDS_MAX)
          throw new FlotillaError("BATCH_TOO_LARGE", `a transaction may have ${BATCH_RECORDS_MAX} records and ${BATCH_BYTES_MAX} bytes`);
        records.push(key === undefined ? { ...common, body: line } : { ...common, body: line, key });
      }
  } catch (error) {
    throw fileProblem(error, options.file);
  }
  const { exchange, routingKey, partition, mandatory = false, vhost, transaction = "", timeout: timeoutMs = 0 } = options;
  await prepare(client, records, { name, exchange, routingKey, partition, mandatory }, { vhost, transaction, timeoutMs });
}

function inputOf({ file }: PublishOptions): NodeJS.ReadableStream & AsyncIterable<Buffer> & { destroy(): unknown } {
  return file === undefined ? process.stdin : createReadStream(file, { highWaterMark: 1024 * 1024 });
}

async function publish(client: Flotilla, name: string | undefined, options: PublishOptions): Promise<void> {
  const target = await targetOf(client, name, options);
  const common = commonOf(options);
  const input = inputOf(options);
  const totalBytes = options.file === undefined ? 0 : sizeOf(options.file);
  const progress = new Progress("published", totalBytes, { quiet: options.quiet === true });
  const state = { failure: null as FlotillaError | null, isInterrupted: false };
  // What was read so far is sent; a second one ends the process at once.
  const interrupt = (): void => {
    state.isInterrupted = true;
    input.destroy();
  };
  process.once("SIGINT", interrupt);
  const done = (error: FlotillaError | null): void => {
    if (error === null) progress.records += 1;
    else state.failure ??= error;
  };
  try {
    for await (const lines of linesOf(input)) {
      for (const line of lines) {
        progress.bytes += line.length + 1;
        const key = keyOf(line, options);
        const record = key === undefined ? { ...common, body: line } : { ...common, body: line, key };
        if (!target.append(record, done)) await target.ready();
      }
      if (state.failure !== null || state.isInterrupted) break;
    }
    await target.close();
  } catch (error) {
    if (!state.isInterrupted || isOurs(error)) throw fileProblem(error, options.file);
    await target.close();
  } finally {
    process.off("SIGINT", interrupt);
    const summary = progress.end();
    if (options.quiet !== true) process.stderr.write(`published ${summary}\n`);
  }
  if (state.failure !== null) throw state.failure;
  if (state.isInterrupted) process.exitCode = 130;
}

function isOurs(error: unknown): boolean {
  return error instanceof FlotillaError;
}

const PROBLEMS: Readonly<Record<string, string>> = { ENOENT: "does not exist", EACCES: "may not be read", EISDIR: "is a folder" };

function fileProblem(error: unknown, file: string | undefined): unknown {
  const problem = PROBLEMS[(error as NodeJS.ErrnoException).code ?? ""];
  return file === undefined || problem === undefined || isOurs(error)
    ? error
    : new FlotillaError("INVALID_ARGUMENT", `--file ${file} ${problem}`);
}

function keyOf(line: Buffer, options: PublishOptions): string | undefined {
  if (options.key !== undefined) return options.key;
  if (options.keyRegex === undefined) return undefined;
  const match = options.keyRegex.exec(line.toString("utf8"));
  return match === null ? undefined : (match[1] ?? match[0]);
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    return 0;
  }
}
