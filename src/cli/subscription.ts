import { Command } from "commander";
import { type Flotilla, FlotillaError, type FlotillaErrorCode, type StartAt } from "../client/index.ts";
import { write } from "./output.ts";
import { instant, print, session, timeText, whole, withConnection, withOutput, type SessionOptions } from "./session.ts";
import { changesFrom, settingRows, settingsFrom, withSettings, type SettingsOptions } from "./settings.ts";

type Target = "earliest" | "latest" | number;

export function subscriptionCommand(): Command {
  const subscription = new Command("subscription").description(
    "who reads a topic: reading positions, and work subscriptions with competing consumers",
  );
  withOutput(subscription.command("list <topic>").description("subscriptions that committed an offset, with their lag")).action(
    (topic: string, options: SessionOptions) =>
      session(options, async (client) => {
        const subscriptions = await client.admin.listSubscriptions(topic, options.vhost);
        const works = await client.queues.listWorkSubscriptions(topic, options.vhost);
        const rows = [
          ...subscriptions.map(({ name, partitions }) => ({
            name,
            kind: "cursor",
            partitions: partitions.length,
            lag: partitions.reduce((sum, { committedOffset, endOffset }) => sum + endOffset - committedOffset, 0),
          })),
          ...works.map(({ name, counts }) => ({
            name,
            kind: "work",
            partitions: "all",
            lag: counts === null ? "?" : counts.ready + counts.leased + counts.delayed + counts.waitingForKey,
            ...counts,
          })),
        ];
        print(rows, ["name", "kind", "partitions", "lag", "ready", "leased", "delayed", "dead", "consumers"], options);
      }),
  );
  withOutput(
    subscription
      .command("describe <topic> <name>")
      .description("a subscription by partition: its positions, or the messages and consumers of a work subscription"),
  )
    .option("--partition <n>", "of a work subscription: the partition whose consumers are shown", whole(0, 999), 0)
    .action((topic: string, name: string, options: SessionOptions & { partition: number }) =>
      session(options, async (client) => {
        const works = await client.queues.listWorkSubscriptions(topic, options.vhost);
        await (works.some((work) => work.name === name) ? describeWork : describeCursor)(client, topic, name, options);
      }),
    );
  withOutput(subscription.command("members <topic> <group>").description("who reads what in a consumer group")).action(
    (topic: string, group: string, options: SessionOptions) =>
      session(options, async (client) => {
        const { generation, members } = await client.admin.describeGroup(topic, group, options.vhost);
        const list = (partitions: readonly number[]): unknown => (options.output === "json" ? partitions : partitions.join(","));
        const rows = members.map(({ name, partitions, revoked }) => ({
          member: name,
          generation,
          partitions: list(partitions),
          revoked: list(revoked),
        }));
        print(rows, ["member", "generation", "partitions", "revoked"], options);
      }),
  );
  withConnection(subscription.command("reset <topic> <name>").description("set the position of a subscription, forwards or back"))
    .requiredOption("--to <position>", "earliest, latest or an offset", parseTarget)
    .option("--partition <n>", "one partition only", whole(0, 999))
    .action((topic: string, name: string, options: SessionOptions & { to: Target; partition?: number }) =>
      session(options, async (client) => {
        const offsets = await client.getOffsets(topic, {
          vhost: options.vhost,
          ...(options.partition === undefined ? {} : { partitions: [options.partition] }),
        });
        const { to } = options;
        const target = (start: number, end: number): number => (to === "earliest" ? start : to === "latest" ? end : to);
        for (const { partition, error } of offsets) {
          if (error !== null) throw new FlotillaError(error.reason as FlotillaErrorCode, `partition ${partition}: ${error.message}`);
        }
        const refused = await client.commitOffsets(
          topic,
          name,
          offsets.map(({ partition, startOffset, endOffset }) => ({ partition, offset: target(startOffset, endOffset), reset: true })),
          { vhost: options.vhost },
        );
        for (const { partition, error } of refused)
          process.stderr.write(`flotilla: partition ${partition}: ${error.message} (${error.reason})\n`);
        if (refused.length > 0) process.exitCode = 1;
      }),
    );
  withConnection(subscription.command("delete <topic> <name>").description("forget a subscription: its positions, or its messages")).action(
    (topic: string, name: string, options: SessionOptions) =>
      session(options, async (client) => {
        const works = await client.queues.listWorkSubscriptions(topic, options.vhost);
        if (works.some((work) => work.name === name)) await client.queues.deleteWorkSubscription(topic, name, options.vhost);
        else await client.admin.deleteSubscription(topic, name, options.vhost);
      }),
  );
  addWork(subscription);
  return subscription;
}

/** Work subscriptions: competing consumers over the records of a topic. */
function addWork(subscription: Command): void {
  const withFrom = (command: Command): Command =>
    command.option(
      "--from <position>",
      "earliest, latest, an offset of each partition, or a time (ISO 8601, or ms as @1767225600000)",
      parseStart,
    );
  withSettings(withFrom(withOutput(subscription.command("create <topic> <name>").description("create a work subscription of a topic"))), {
    isQueue: false,
  })
    .addHelpText("after", "\nExamples:\n  flotilla subscription create clicks billing --from earliest --delivery-limit 5")
    .action((topic: string, name: string, options: SessionOptions & SettingsOptions & { from?: StartAt }) =>
      session(options, async (client) => {
        const { vhost, from } = options;
        const call = { topic, name, vhost, settings: settingsFrom(options), ...(from === undefined ? {} : { from }) };
        const { subscription: made, created } = await client.queues.createWorkSubscription(call);
        if (!created) process.stderr.write(`flotilla: work subscription ${name} exists already, with these settings\n`);
        print([made], ["topic", "name"], options);
      }),
    );
  withSettings(
    withOutput(
      subscription.command("update <topic> <name>").description("change settings of a work subscription; what is not named stays"),
    ),
    {
      isQueue: false,
    },
  )
    .option("--reset <settings>", "settings to be as if they had never been given, comma-separated (as deliveryLimit,ttlMs)")
    .action((topic: string, name: string, options: SessionOptions & SettingsOptions & { reset?: string }) =>
      session(options, async (client) => {
        const work = { topic, name, vhost: options.vhost, ...changesFrom(options) };
        print([await client.queues.updateWorkSubscription(work)], ["topic", "name"], options);
      }),
    );
  withConnection(
    subscription.command("seek <topic> <name>").description("have a work subscription deliver everything anew from a position on"),
  )
    .requiredOption("--to <position>", "earliest, latest, an offset of each partition, or a time", parseStart)
    .action((topic: string, name: string, options: SessionOptions & { to: StartAt }) =>
      session(options, (client) => client.queues.seekWorkSubscription(topic, name, options.to, options.vhost)),
    );
}

async function describeCursor(client: Flotilla, topic: string, name: string, options: SessionOptions): Promise<void> {
  const found = (await client.admin.listSubscriptions(topic, options.vhost)).find((one) => one.name === name);
  if (found === undefined)
    throw new FlotillaError(
      "UNKNOWN_SUBSCRIPTION",
      `topic ${topic} has no work subscription ${JSON.stringify(name)}, and no offset was ever committed under it`,
    );
  const rows = found.partitions.map((row) => ({
    ...row,
    lag: row.endOffset - row.committedOffset,
    committed: timeText(row.committedMs),
  }));
  print(rows, ["partition", "committedOffset", "endOffset", "lag", "committed"], options);
}

async function describeWork(client: Flotilla, topic: string, name: string, options: SessionOptions & { partition: number }): Promise<void> {
  const { vhost, partition } = options;
  const description = await client.queues.describeWorkSubscription(topic, name, { vhost, partition });
  if (options.output === "json") {
    await write([JSON.stringify(description, null, 2)]);
    return;
  }
  const { subscription, partitions, consumers } = description;
  print(settingRows(subscription), ["setting", "value", "declared"], options);
  process.stdout.write("\n");
  const rows = partitions.map((counts, at) => ({ partition: at, ...(counts ?? { ready: "?" }) }));
  print(rows, ["partition", "ready", "leased", "delayed", "waitingForKey", "dead", "consumers"], options);
  if (consumers.length === 0) return;
  process.stdout.write("\n");
  print(
    consumers.map((consumer) => ({ ...consumer, active: consumer.active ? "yes" : "" })),
    ["id", "node", "priority", "credit", "held", "active"],
    options,
  );
}

function parseStart(text: string): StartAt {
  if (text === "earliest" || text === "latest") return text;
  return /^\d+$/.test(text) ? { offset: whole(0, Number.MAX_SAFE_INTEGER)(text) } : { timeMs: instant(text) };
}

function parseTarget(text: string): Target {
  return text === "earliest" || text === "latest" ? text : whole(0, Number.MAX_SAFE_INTEGER)(text);
}
