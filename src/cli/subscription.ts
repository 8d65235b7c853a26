import { Command } from "commander";
import { FlotillaError, type FlotillaErrorCode } from "../client/index.ts";
import type { StartAt } from "../client/index.ts";
import { instant, print, session, whole, withConnection, withOutput, type SessionOptions } from "./session.ts";
import { settingsFrom, withSettings, type SettingsOptions } from "./settings.ts";

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
  withOutput(subscription.command("describe <topic> <name>").description("positions of one subscription by partition")).action(
    (topic: string, name: string, options: SessionOptions) =>
      session(options, async (client) => {
        const found = (await client.admin.listSubscriptions(topic, options.vhost)).find((one) => one.name === name);
        if (found === undefined) {
          process.stderr.write(`flotilla: no offset was ever committed under ${JSON.stringify(name)} (UNKNOWN_SUBSCRIPTION)\n`);
          process.exitCode = 3;
          return;
        }
        const rows = found.partitions.map((row) => ({
          ...row,
          lag: row.endOffset - row.committedOffset,
          committed: new Date(row.committedMs).toISOString(),
        }));
        print(rows, ["partition", "committedOffset", "endOffset", "lag", "committed"], options);
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
  withSettings(withOutput(subscription.command("update <topic> <name>").description("change settings of a work subscription")), {
    isQueue: false,
  }).action((topic: string, name: string, options: SessionOptions & SettingsOptions) =>
    session(options, async (client) =>
      print(
        [await client.queues.updateWorkSubscription({ topic, name, vhost: options.vhost, settings: settingsFrom(options) })],
        ["topic", "name"],
        options,
      ),
    ),
  );
  withConnection(
    subscription.command("seek <topic> <name>").description("have a work subscription deliver everything anew from a position on"),
  )
    .requiredOption("--to <position>", "earliest, latest, an offset of each partition, or a time", parseStart)
    .action((topic: string, name: string, options: SessionOptions & { to: StartAt }) =>
      session(options, (client) => client.queues.seekWorkSubscription(topic, name, options.to, options.vhost)),
    );
}

function parseStart(text: string): StartAt {
  if (text === "earliest" || text === "latest") return text;
  return /^\d+$/.test(text) ? { offset: whole(0, Number.MAX_SAFE_INTEGER)(text) } : { timeMs: instant(text) };
}

function parseTarget(text: string): Target {
  return text === "earliest" || text === "latest" ? text : whole(0, Number.MAX_SAFE_INTEGER)(text);
}
