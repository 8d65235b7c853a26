import { Command, Option } from "commander";
import type { Durability, TopicConfig, TopicInfo } from "../client/index.ts";
import { duration, print, session, size, whole, withOutput, type SessionOptions } from "./session.ts";

type ConfigOptions = {
  durability?: Durability;
  retentionTime?: number;
  retentionBytes?: number;
  flushInterval?: number;
  flushMessages?: number;
};

const COLUMNS = ["vhost", "name", "partitions", "replicas", "durability", "retentionMs", "retentionBytes"];

export function topicCommand(): Command {
  const topic = new Command("topic").description("create, list, describe, change and delete topics");
  withConfig(withOutput(topic.command("create <name>").description("create a topic; waits until every partition has a leader")))
    .option("--partitions <n>", "1..1000", whole(1, 1_000), 1)
    .option("--replicas <n>", "copies of each partition (default: 3, or as many as there are nodes)", whole(1, 7))
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla topic create logs --partitions 10 --replicas 3\n  flotilla topic create audit --retention-time 30d --retention-bytes 10GiB\n  flotilla topic create metrics --durability interval --flush-interval 200ms",
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
            "flotilla: nothing to change; name --durability, --retention-time, --retention-bytes, --flush-interval or --flush-messages\n",
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
      new Option("--durability <mode>", "when a publish is acknowledged: fsync (on a majority, the default), interval, os").choices([
        "fsync",
        "interval",
        "os",
      ]),
    )
    .option("--retention-time <duration>", "trim records older than this (7d, 12h; 0 = never)", duration)
    .option("--retention-bytes <size>", "trim a partition beyond this size (10GiB; 0 = no bound)", size)
    .option("--flush-interval <duration>", "with --durability interval: sync at the latest after this", duration)
    .option("--flush-messages <n>", "with --durability interval: sync at the latest after so many", whole(0, 0xffff_ffff));
}

function configOf(options: ConfigOptions): Partial<TopicConfig> {
  const { durability, retentionTime, retentionBytes, flushInterval, flushMessages } = options;
  return {
    ...(durability === undefined ? {} : { durability }),
    ...(retentionTime === undefined ? {} : { retentionMs: retentionTime }),
    ...(retentionBytes === undefined ? {} : { retentionBytes }),
    ...(flushInterval === undefined ? {} : { flushIntervalMs: flushInterval }),
    ...(flushMessages === undefined ? {} : { flushMessages }),
  };
}

function row({ vhost, name, partitions, replicas, config, createdMs }: TopicInfo): Record<string, unknown> {
  return { vhost, name, partitions, replicas, ...config, createdMs };
}
