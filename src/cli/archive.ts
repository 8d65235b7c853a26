import { Command, InvalidArgumentError, Option } from "commander";
import type { ArchivedBatch } from "../base/archive-format.ts";
import { DecodeError } from "../base/bytes.ts";
import { decodeBatch, FlotillaError, type ReceivedRecord } from "../client/index.ts";
import { batchesOf, findArchives, type FoundFile } from "./archive-reader.ts";
import { jsonOf, write } from "./output.ts";
import { print, whole } from "./session.ts";

type ArchiveOptions = { dir: string[]; vhost?: string; topic?: string; partition?: number; output: "table" | "json" };
type CatOptions = ArchiveOptions & { from?: number; count?: number; format: "value" | "json" };

const COLUMNS = ["vhost", "topic", "partition", "group", "firstOffset", "endOffset", "bytes", "node", "created", "path"];

/** `flotilla archive`: what retention archived, read from the files without a cluster. */
export function archiveCommand(): Command {
  const archive = new Command("archive").description(
    "list and print archived records (topics with --retention-policy archive), from files",
  );
  withPlace(archive.command("list").description("list archive files"))
    .addOption(new Option("--output <form>", "how to print").choices(["table", "json"]).default("table"))
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla archive list --dir data/archive\n  flotilla archive list --dir node-1 --dir node-2 --topic logs --output json",
    )
    .action((options: ArchiveOptions) => reading(() => list(options)));
  withPlace(archive.command("cat").description("print archived records, each once, in the order of their offsets"))
    .option("--from <offset>", "begin at this offset", whole(0, Number.MAX_SAFE_INTEGER))
    .option("--count <n>", "end after so many records", whole(1, Number.MAX_SAFE_INTEGER))
    .addOption(new Option("--format <form>", "value: the body alone; json: everything").choices(["value", "json"]).default("value"))
    .addHelpText(
      "after",
      "\nLeaders move, so the archive of a topic may lie on several nodes: name all of them. What two files have is printed once.\nExit code 1: a file is damaged or cut off; what it still gives, and what others have of the same, is printed.\n\nExamples:\n  flotilla archive cat --dir data/archive --topic logs\n  flotilla archive cat --dir node-1 --dir node-2 --topic logs --partition 0 --format json",
    )
    .action((options: CatOptions) => reading(() => cat(options)));
  return archive;
}

function withPlace(command: Command): Command {
  return command
    .requiredOption(
      "--dir <path>",
      "the data of a node, its folder archive, a folder in that or one file; may be named several times",
      (path: string, before: string[] | undefined) => [...(before ?? []), path],
    )
    .option("--vhost <name>", "of this vhost only")
    .option("--topic <name>", "of this topic only")
    .option("--partition <n>", "of this partition only", whole(0, 999));
}

/** What is wrong with a place is said without a trace. */
async function reading(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || error instanceof InvalidArgumentError) throw error;
    process.stderr.write(`flotilla: ${(error as Error).message}\n`);
    process.exitCode = code === "ENOENT" ? 3 : 1;
  }
}

async function list(options: ArchiveOptions): Promise<void> {
  const rows = (await chosen(options)).map(({ path, bytes, endOffset, header }) => ({
    vhost: header.vhost,
    topic: header.topic,
    partition: header.partition,
    group: header.group,
    firstOffset: header.firstOffset,
    endOffset,
    bytes,
    node: header.nodeId,
    created: new Date(header.createdMs).toISOString(),
    path,
  }));
  print(rows, COLUMNS, options);
}

async function cat(options: CatOptions): Promise<void> {
  process.stdout.on("error", () => {}); // The reader of our pipe has seen enough.
  const from = options.from ?? 0;
  let left = options.count ?? Number.POSITIVE_INFINITY;
  /** Of the partition that is being printed. */
  let key = "";
  let next = -1;
  for (const file of await chosen(options)) {
    const { header } = file;
    const ofFile = `${header.clusterId} ${header.vhost} ${header.topic} ${header.partition} ${header.group}`;
    if (ofFile !== key) [key, next] = [ofFile, -1];
    try {
      for await (const batch of batchesOf(file.path)) {
        const records = recordsOf(batch, header.partition).filter(({ offset }) => offset >= Math.max(next, from));
        const printed = records.slice(0, left);
        if (next >= 0 && printed.length > 0 && printed[0]!.offset > Math.max(next, from)) missing(file, next, printed[0]!.offset);
        await write(printed.map((record) => (options.format === "json" ? jsonOf(record) : record.body)));
        next = Math.max(next, batch.baseOffset + batch.count);
        left -= printed.length;
        if (left === 0 || process.stdout.errored !== null) return;
      }
    } catch (error) {
      if (!(error instanceof DecodeError) && !(error instanceof FlotillaError)) throw error;
      damaged(file.path, error.message);
    }
  }
}

function recordsOf({ baseOffset, timeMs, records }: ArchivedBatch, partition: number): ReceivedRecord[] {
  return decodeBatch(records, { partition, baseOffset, storedMs: timeMs });
}

async function chosen({ dir, vhost, topic, partition }: ArchiveOptions): Promise<FoundFile[]> {
  const { files, unreadable } = await findArchives(dir);
  for (const { path, reason } of unreadable) damaged(path, reason);
  return files.filter(
    ({ header }) =>
      (vhost === undefined || header.vhost === vhost) &&
      (topic === undefined || header.topic === topic) &&
      (partition === undefined || header.partition === partition),
  );
}

function damaged(path: string, reason: string): void {
  process.stderr.write(`flotilla: ${path}: ${reason}\n`);
  process.exitCode = 1;
}

function missing({ header }: FoundFile, from: number, end: number): void {
  process.stderr.write(
    `flotilla: offsets ${from} to ${end - 1} of ${header.topic}, partition ${header.partition}, are in none of these files; another node may have them\n`,
  );
}
