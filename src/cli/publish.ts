import { createReadStream, statSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { FlotillaError, type Flotilla, type RecordCallback } from "../client/index.ts";
import { linesOf } from "./lines.ts";
import { Progress } from "./progress.ts";
import { session, whole, withConnection, type SessionOptions } from "./session.ts";

type PublishOptions = SessionOptions & {
  file?: string;
  key?: string;
  keyRegex?: RegExp;
  partition?: number;
  linger: number;
  batchBytes: number;
  quiet?: boolean;
};

/** `flotilla publish`: every line of the input is a record. */
export function publishCommand(): Command {
  return withConnection(new Command("publish").argument("<topic>"))
    .description("publish lines from standard input or a file; each line is one record")
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
    .option("--quiet", "no progress and no summary")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla publish logs --file access.log\n  tail -F app.log | flotilla publish logs --key-regex 'user=(\\w+)'",
    )
    .action((topic: string, options: PublishOptions) => session(options, (client) => publish(client, topic, options)));
}

async function publish(client: Flotilla, topic: string, options: PublishOptions): Promise<void> {
  const producer = await client.producer(topic, { vhost: options.vhost, lingerMs: options.linger, batchBytes: options.batchBytes });
  const input = options.file === undefined ? process.stdin : createReadStream(options.file, { highWaterMark: 1024 * 1024 });
  const totalBytes = options.file === undefined ? 0 : sizeOf(options.file);
  const progress = new Progress("published", totalBytes, { quiet: options.quiet === true });
  const state = { failure: null as FlotillaError | null, isInterrupted: false };
  // What was read so far is sent; a second one ends the process at once.
  const interrupt = (): void => {
    state.isInterrupted = true;
    input.destroy();
  };
  process.once("SIGINT", interrupt);
  const done: RecordCallback = (error) => {
    if (error === null) progress.records += 1;
    else state.failure ??= error;
  };
  try {
    for await (const lines of linesOf(input)) {
      for (const line of lines) {
        progress.bytes += line.length + 1;
        const key = keyOf(line, options);
        const hasRoom = producer.append(key === undefined ? { body: line } : { body: line, key }, done, options.partition);
        if (!hasRoom) await producer.ready();
      }
      if (state.failure !== null || state.isInterrupted) break;
    }
    await producer.close();
  } catch (error) {
    if (!state.isInterrupted || isOurs(error)) throw fileProblem(error, options.file);
    await producer.close();
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

function regex(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
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
