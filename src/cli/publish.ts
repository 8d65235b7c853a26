import { createReadStream, statSync } from "node:fs";
import { Command } from "commander";
import { FlotillaError, type RecordCallback } from "../client/index.ts";
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
      "key of a record: the first group (or the whole match) of this expression in its line",
      (text) => new RegExp(text),
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

async function publish(client: Parameters<Parameters<typeof session>[1]>[0], topic: string, options: PublishOptions): Promise<void> {
  const producer = await client.producer(topic, { vhost: options.vhost, lingerMs: options.linger, batchBytes: options.batchBytes });
  const input = options.file === undefined ? process.stdin : createReadStream(options.file, { highWaterMark: 1024 * 1024 });
  const totalBytes = options.file === undefined ? 0 : sizeOf(options.file);
  const progress = new Progress("published", totalBytes, { quiet: options.quiet === true });
  let failure: FlotillaError | null = null;
  const done: RecordCallback = (error) => {
    if (error === null) progress.records += 1;
    else failure ??= error;
  };
  try {
    for await (const lines of linesOf(input)) {
      for (const line of lines) {
        progress.bytes += line.length + 1;
        const key = keyOf(line, options);
        const hasRoom = producer.append(key === undefined ? { body: line } : { body: line, key }, done, options.partition);
        if (!hasRoom) await producer.ready();
      }
      if (failure !== null) break;
    }
    await producer.close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT")
      throw new FlotillaError("INVALID_ARGUMENT", `--file ${options.file} does not exist`);
    throw error;
  } finally {
    const summary = progress.end();
    if (options.quiet !== true) process.stderr.write(`published ${summary}\n`);
  }
  if (failure !== null) throw failure;
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
