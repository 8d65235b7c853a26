import { Command } from "commander";
import { FlotillaError, type FlotillaErrorCode } from "../client/index.ts";
import { print, session, whole, withConnection, withOutput, type SessionOptions } from "./session.ts";

type Target = "earliest" | "latest" | number;

export function subscriptionCommand(): Command {
  const subscription = new Command("subscription").description("reading positions of a topic: list, describe, reset, delete");
  withOutput(subscription.command("list <topic>").description("subscriptions that committed an offset, with their lag")).action(
    (topic: string, options: SessionOptions) =>
      session(options, async (client) => {
        const subscriptions = await client.admin.listSubscriptions(topic, options.vhost);
        const rows = subscriptions.map(({ name, partitions }) => ({
          name,
          partitions: partitions.length,
          lag: partitions.reduce((sum, { committedOffset, endOffset }) => sum + endOffset - committedOffset, 0),
        }));
        print(rows, ["name", "partitions", "lag"], options);
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
  withConnection(subscription.command("delete <topic> <name>").description("forget a subscription and its positions")).action(
    (topic: string, name: string, options: SessionOptions) =>
      session(options, (client) => client.admin.deleteSubscription(topic, name, options.vhost)),
  );
  return subscription;
}

function parseTarget(text: string): Target {
  return text === "earliest" || text === "latest" ? text : whole(0, Number.MAX_SAFE_INTEGER)(text);
}
