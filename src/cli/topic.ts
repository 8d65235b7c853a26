import { Command, InvalidArgumentError, Option } from "commander";
import type { Durability, RetentionPolicy, TopicConfig, TopicInfo } from "../client/index.ts";
import { duration, print, session, size, whole, withOutput, type SessionOptions } from "./session.ts";

type ConfigOptions = {
  durability?: Durability;
  retentionTime?: number;
  retentionBytes?: number;
  flushInterval?: number;
  flushMessages?: number;
  retentionSchedule?: string;
  retentionTimeZone?: string;
  retentionPolicy?: RetentionPolicy;
  unflushInterval?: number;
  unflushThreshold?: number;
  deletePolicy?: DeletePolicy;
  deleteWhen?: string;
};
type DeletePolicy = { readonly retentionPolicy: RetentionPolicy; readonly retentionMs: number };

const COLUMNS = [
  "vhost",
  "name",
  "partitions",
  "replicas",
  "durability",
  "retentionMs",
  "retentionBytes",
  "retentionPolicy",
  "retentionSchedule",
];
/** MetaQ's flushTxLogAtCommit. */
const DURABILITIES: Readonly<Record<string, Durability>> = { "0": "os", "1": "fsync", "2": "interval" };

export function topicCommand(): Command {
  const topic = new Command("topic").description("create, list, describe, change and delete topics");
  withConfig(withOutput(topic.command("create <name>").description("create a topic; waits until every partition has a leader")))
    .option("--partitions <n>", "1..1000", whole(1, 1_000), 1)
    .option("--replicas <n>", "copies of each partition (default: 3, or as many as there are nodes)", whole(1, 7))
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla topic create logs --partitions 10 --replicas 3\n  flotilla topic create audit --retention-time 30d --retention-bytes 10GiB\n  flotilla topic create audit --retention-time 7d --retention-policy archive --retention-schedule '0 4 * * *'\n  flotilla topic create audit --delete-policy archive,168 --delete-when '0 0 6,18 * * ?'\n  flotilla topic create metrics --durability interval --flush-interval 200ms",
    )
    .action((name: string, options: SessionOptions & ConfigOptions & { partitions: number; replicas?: number }) =>
      session(options, async (client) => {
        const { topic: made, created } = await client.admin.createTopic({
          name,
          vhost: options.vhost,
          partitions: options.partitions,
          ...(options.replicas === undefined ? {} : { replicas: options.replicas }),
          config: configOf(options),
        });
        if (!created) process.stderr.write(`flotilla: topic ${name} exists already, with these settings\n`);
        print([row(made)], COLUMNS, options);
      }),
    );
  withOutput(topic.command("list").description("list topics")).action((options: SessionOptions) =>
    session(options, async (client) => print((await client.admin.listTopics(options.vhost)).map(row), COLUMNS, options)),
  );
  withOutput(topic.command("describe <name>").description("settings, leaders and offsets of a topic")).action(
    (name: string, options: SessionOptions) =>
      session(options, async (client) => {
        const { topic: info, partitions } = await client.admin.describeTopic(name, options.vhost);
        const rows = partitions.map(({ info: { partition, group, leader, replicas }, startOffset, endOffset, bytes, error }) => ({
          partition,
          group,
          leader: leader === 0 ? "none" : leader,
          replicas: replicas.join(","),
          startOffset,
          endOffset,
          records: endOffset - startOffset,
          bytes,
          error: error?.reason ?? "",
        }));
        if (options.output === "json") {
          process.stdout.write(`${JSON.stringify({ ...info, partitions: rows }, null, 2)}\n`);
          return;
        }
        print([row(info)], COLUMNS, options);
        process.stdout.write("\n");
        print(rows, ["partition", "group", "leader", "replicas", "startOffset", "endOffset", "records", "bytes", "error"], options);
      }),
  );
  withConfig(withOutput(topic.command("update <name>").description("change the configuration of a topic; what is not named stays"))).action(
    (name: string, options: SessionOptions & ConfigOptions) =>
      session(options, async (client) => {
        const config = configOf(options);
        if (Object.keys(config).length === 0) {
          process.stderr.write(
            "flotilla: nothing to change; name --durability, --retention-time, --retention-bytes, --retention-schedule, --retention-policy, --flush-interval or --flush-messages\n",
          );
          process.exitCode = 2;
          return;
        }
        print([row(await client.admin.updateTopic(name, config, options.vhost))], COLUMNS, options);
      }),
  );
  withOutput(topic.command("expand <name>").description("add partitions; existing ones keep their records"))
    .requiredOption("--partitions <n>", "the new total", whole(1, 1_000))
    .action((name: string, options: SessionOptions & { partitions: number }) =>
      session(options, async (client) =>
        print([row(await client.admin.expandTopic(name, options.partitions, options.vhost))], COLUMNS, options),
      ),
    );
  withOutput(topic.command("delete <name>").description("delete a topic and all its records")).action(
    (name: string, options: SessionOptions) => session(options, (client) => client.admin.deleteTopic(name, options.vhost)),
  );
  return topic;
}

function withConfig(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--durability <mode>",
        "when a publish is acknowledged: fsync (on a majority, the default), interval, os; or MetaQ's 1, 2 and 0 for the three",
      ).argParser(durability),
    )
    .option("--retention-time <duration>", "trim records older than this (7d, 12h; 0 = never)", duration)
    .option("--retention-bytes <size>", "trim a partition beyond this size (10GiB; 0 = no bound)", size)
    .option("--retention-schedule <cron>", "trim only when this is due: five fields, or six with seconds in front; '' = at any time")
    .option("--retention-time-zone <name>", "of the schedule, for example Europe/Berlin; '' = UTC")
    .addOption(
      new Option(
        "--retention-policy <what>",
        "delete (the default), or archive: written to files of the leader's node first (flotilla archive)",
      ).choices(["delete", "archive"]),
    )
    .option("--flush-interval <duration>", "with --durability interval: sync at the latest after this", duration)
    .option("--flush-messages <n>", "with --durability interval: sync at the latest after so many", whole(0, 0xffff_ffff))
    .option(
      "--delete-policy <policy>",
      "MetaQ's words: delete,168 or archive,168 = --retention-policy and --retention-time in hours",
      deletePolicy,
    )
    .option("--delete-when <cron>", "MetaQ's word for --retention-schedule")
    .option("--unflush-interval <duration>", "MetaQ's word for --flush-interval", duration)
    .option("--unflush-threshold <n>", "MetaQ's word for --flush-messages", whole(0, 0xffff_ffff));
}

function durability(text: string): Durability {
  const mode = DURABILITIES[text] ?? text;
  if (mode === "fsync" || mode === "interval" || mode === "os") return mode;
  throw new InvalidArgumentError("must be fsync, interval or os (or 1, 2 or 0)");
}

function deletePolicy(text: string): DeletePolicy {
  const [, what, time, unit] = /^(delete|archive),(\d+)([a-z]*)$/.exec(text) ?? [];
  if (what === undefined) throw new InvalidArgumentError("must be delete or archive, a comma and hours (delete,168), or a time as 7d");
  return { retentionPolicy: what as RetentionPolicy, retentionMs: duration(`${time}${unit === "" ? "h" : unit}`) };
}

function configOf(options: ConfigOptions): Partial<TopicConfig> {
  const retentionSchedule = one("--retention-schedule", options.retentionSchedule, "--delete-when", options.deleteWhen);
  const flushIntervalMs = one("--flush-interval", options.flushInterval, "--unflush-interval", options.unflushInterval);
  const flushMessages = one("--flush-messages", options.flushMessages, "--unflush-threshold", options.unflushThreshold);
  const retentionMs = one("--retention-time", options.retentionTime, "--delete-policy", options.deletePolicy?.retentionMs);
  const retentionPolicy = one("--retention-policy", options.retentionPolicy, "--delete-policy", options.deletePolicy?.retentionPolicy);
  const given = {
    durability: options.durability,
    retentionMs,
    retentionBytes: options.retentionBytes,
    flushIntervalMs,
    flushMessages,
    retentionSchedule,
    retentionTimeZone: options.retentionTimeZone,
    retentionPolicy,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** Two names of one thing: whoever gives both means something else than we can know. */
function one<T>(name: string, value: T | undefined, otherName: string, other: T | undefined): T | undefined {
  if (value !== undefined && other !== undefined && value !== other)
    throw new InvalidArgumentError(`${name} and ${otherName} say two things; name one of them`);
  return value ?? other;
}

function row({ vhost, name, partitions, replicas, config, createdMs }: TopicInfo): Record<string, unknown> {
  return { vhost, name, partitions, replicas, ...config, createdMs };
}
