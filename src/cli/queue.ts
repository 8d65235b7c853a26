import { Command, Option } from "commander";
import { FlotillaError, type Flotilla, type QueueInfo } from "../client/index.ts";
import { jsonOf, write } from "./output.ts";
import { StepProgress } from "./progress.ts";
import { duration, print, regex, session, whole, withConnection, withOutput, type SessionOptions } from "./session.ts";
import { changesFrom, settingRows, settingsFrom, withSettings, type SettingsOptions } from "./settings.ts";

const COLUMNS = ["vhost", "name", "ready", "leased", "delayed", "dead", "consumers", "replicas", "policy"];

export function queueCommand(): Command {
  const queue = new Command("queue").description("create, list, describe, change, purge and delete queues");
  withSettings(withOutput(queue.command("create <name>").description("create a queue; waits until it has a leader")), { isQueue: true })
    .option("--replicas <n>", "copies (default: 3, or as many as there are nodes)", whole(1, 7))
    .addOption(new Option("--durability <mode>", "when a publish is acknowledged").choices(["fsync", "interval", "os"]))
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla queue create orders --dead-letter-queue orders.dead --delivery-limit 5 --back-off exponential:100ms:1m\n  flotilla queue create mails --ttl 1h --max-messages 100000 --overflow reject-publish",
    )
    .action((name: string, options: SessionOptions & SettingsOptions & { replicas?: number; durability?: "fsync" | "interval" | "os" }) =>
      session(options, async (client) => {
        const { replicas = 0, durability, vhost } = options;
        const { queue: made, created } = await client.queues.createQueue({
          name,
          vhost,
          replicas,
          settings: settingsFrom(options),
          ...(durability === undefined ? {} : { durability }),
        });
        if (!created) process.stderr.write(`flotilla: queue ${name} exists already, with these settings\n`);
        print([changedRow(made)], ["vhost", "name", "replicas"], options);
      }),
    );
  withOutput(queue.command("list").description("queues and what is in them")).action((options: SessionOptions) =>
    session(options, async (client) => print((await client.queues.listQueues(options.vhost)).map(row), COLUMNS, options)),
  );
  withOutput(queue.command("describe <name>").description("settings, counts, consumers and leader of a queue")).action(
    (name: string, options: SessionOptions) => session(options, (client) => describe(client, name, options)),
  );
  withSettings(withOutput(queue.command("update <name>").description("change settings; what is not named stays")), { isQueue: true })
    .option("--reset <settings>", "settings to be as if they had never been given, comma-separated (as deliveryLimit,ttlMs)")
    .action((name: string, options: SessionOptions & SettingsOptions & { reset?: string }) =>
      session(options, async (client) => {
        const changed = await client.queues.updateQueue(name, changesFrom(options), options.vhost);
        print([changedRow(changed)], ["vhost", "name", "replicas"], options);
      }),
    );
  withConnection(queue.command("delete <name>").description("delete a queue and its messages"))
    .option("--if-unused", "only when it has no consumers")
    .option("--if-empty", "only when it has no messages")
    .action((name: string, options: SessionOptions & { ifUnused?: boolean; ifEmpty?: boolean }) =>
      session(options, (client) =>
        client.queues.deleteQueue(name, { vhost: options.vhost, ifUnused: options.ifUnused === true, ifEmpty: options.ifEmpty === true }),
      ),
    );
  for (const command of [peekCommand(), purgeCommand(), redriveCommand(), reviveCommand(), recallCommand(), expediteCommand()])
    queue.addCommand(command);
  return queue;
}

/** `flotilla peek`: what is in a queue, without touching it. */
export function peekCommand(): Command {
  return withOutput(new Command("peek").argument("<queue>"))
    .description("print the messages of a queue that are not settled, and change nothing")
    .option("--subscription <name>", "of a topic: this work subscription")
    .option("--partition <n>", "of a topic: this partition", whole(0, 999), 0)
    .option("--from <offset>", "begin here", whole(0, Number.MAX_SAFE_INTEGER), 0)
    .option("--count <n>", "at most so many", whole(1, 1_000_000), 20)
    .action((name: string, options: SessionOptions & { subscription?: string; partition: number; from: number; count: number }) =>
      session(options, async (client) => {
        const { vhost, subscription = "", partition, count } = options;
        const rows: Record<string, unknown>[] = [];
        for (let next: number | undefined = options.from; next !== undefined && rows.length < count;) {
          const page = await client.browse(name, {
            vhost,
            subscription,
            partition,
            fromOffset: next,
            maxMessages: Math.min(1_000, count - rows.length),
          });
          for (const message of page.messages) {
            const { offset, state, attempts, priority, untilMs, reason, body } = message;
            const until = untilMs === 0 ? "" : new Date(untilMs).toISOString();
            rows.push(
              options.output === "json"
                ? { ...(JSON.parse(jsonOf(message)) as object), state, attempts, priority, until, reason }
                : { offset, state, attempts, priority, until, reason, body: Buffer.from(body).toString("utf8").slice(0, 80) },
            );
          }
          ({ next } = page);
        }
        print(rows, ["offset", "state", "attempts", "priority", "until", "reason", "body"], options);
      }),
    );
}

export function purgeCommand(): Command {
  return withConnection(new Command("purge").argument("<queue>"))
    .description("drop the messages that wait; those that a consumer has stay")
    .option("--subscription <name>", "of a topic: this work subscription")
    .option("--dead", "the dead messages instead")
    .action((name: string, options: SessionOptions & { subscription?: string; dead?: boolean }) =>
      session(options, async (client) => {
        const { vhost, subscription = "", dead = false } = options;
        const messages = await client.queues.purgeQueue(name, { vhost, subscription, dead });
        process.stderr.write(`purged ${messages.toLocaleString("en")} messages\n`);
      }),
    );
}

export function redriveCommand(): Command {
  return withConnection(new Command("redrive").argument("<queue>"))
    .description("send the dead letters in a queue back to the queues that they died in")
    .option("--filter <regex>", "only messages whose body matches", regex)
    .addOption(
      new Option("--reason <reason>", "only those that died of this").choices(["rejected", "delivery-limit", "expired", "overflow"]),
    )
    .option("--rate <n>", "messages a second", whole(1, 1_000_000))
    .option("--count <n>", "at most so many", whole(1, Number.MAX_SAFE_INTEGER))
    .addHelpText("after", "\nExamples:\n  flotilla redrive orders.dead\n  flotilla redrive orders.dead --filter 'customer=42' --rate 100")
    .action((name: string, options: SessionOptions & { filter?: RegExp; reason?: string; rate?: number; count?: number }) =>
      session(options, (client) => sendBack(client, name, options)),
    );
}

type DelayedOptions = SessionOptions & { subscription?: string; partition: number };

/** A command about one message that is delayed. */
function delayedCommand(name: string): Command {
  return withConnection(new Command(name).argument("<queue>").argument("<offset>", "as peek prints it", whole(0, Number.MAX_SAFE_INTEGER)))
    .option("--subscription <name>", "of a topic: this work subscription")
    .option("--partition <n>", "of a topic: this partition", whole(0, 999), 0);
}

function recallCommand(): Command {
  return delayedCommand("recall")
    .description("take back a message that is delayed")
    .addHelpText("after", "\nExamples:\n  flotilla queue recall reminders 17")
    .action((name: string, offset: number, { vhost, subscription = "", partition, ...options }: DelayedOptions) =>
      session({ vhost, ...options }, async (client) => {
        if (!(await client.recall(name, offset, { vhost, subscription, partition }))) throw notDelayed(name, offset);
      }),
    );
}

function expediteCommand(): Command {
  return delayedCommand("expedite")
    .description("deliver a message that is delayed at once, or after another while")
    .option("--delay <duration>", "after so long from now on", duration, 0)
    .option("--priority <n>", "and with this priority", whole(0, 31))
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla queue expedite reminders 17\n  flotilla queue expedite reminders 17 --delay 10m --priority 9",
    )
    .action((name: string, offset: number, options: DelayedOptions & { delay: number; priority?: number }) =>
      session(options, async (client) => {
        const { vhost, subscription = "", partition, delay: delayMs, priority } = options;
        const how = { vhost, subscription, partition, delayMs, ...(priority === undefined ? {} : { priority }) };
        if (!(await client.expedite(name, offset, how))) throw notDelayed(name, offset);
      }),
    );
}

function notDelayed(queue: string, offset: number): FlotillaError {
  return new FlotillaError("UNKNOWN_OBJECT", `message ${offset} of ${queue} is not delayed, or not any more`);
}

function reviveCommand(): Command {
  return withConnection(new Command("revive").argument("<queue>"))
    .description("have dead messages that are still in the queue wait again, as if they had never been delivered")
    .option("--subscription <name>", "of a topic: this work subscription")
    .action((name: string, options: SessionOptions & { subscription?: string }) =>
      session(options, async (client) => {
        const messages = await client.queues.reviveQueue(name, { vhost: options.vhost, subscription: options.subscription ?? "" });
        process.stderr.write(`${messages.toLocaleString("en")} messages wait again\n`);
      }),
    );
}

async function sendBack(
  client: Flotilla,
  name: string,
  options: SessionOptions & { filter?: RegExp; reason?: string; rate?: number; count?: number },
): Promise<void> {
  const { vhost, filter, reason, rate, count } = options;
  const { queue } = await client.queues.describeQueue(name, vhost);
  const letters = Math.min(count ?? Number.POSITIVE_INFINITY, (queue.counts?.ready ?? 0) + (queue.counts?.waitingForKey ?? 0));
  const progress = new StepProgress("sent back", "messages");
  const { moved, kept } = await client
    .redrive(name, {
      vhost,
      ...(rate === undefined ? {} : { perSecond: rate }),
      ...(count === undefined ? {} : { movedMax: count }),
      filter: (message) => {
        const died = message.headers.filter(({ name: header }) => header === "x-death-reason").pop();
        const isReason = reason === undefined || (died !== undefined && Buffer.from(died.value).toString() === reason);
        return isReason && (filter === undefined || filter.test(Buffer.from(message.body).toString("utf8")));
      },
      progress: (done) => progress.update(done, letters),
    })
    .finally(() => progress.end());
  process.stderr.write(`sent back ${moved.toLocaleString("en")} messages, kept ${kept.toLocaleString("en")}\n`);
}

async function describe(client: Flotilla, name: string, options: SessionOptions): Promise<void> {
  const description = await client.queues.describeQueue(name, options.vhost);
  if (options.output === "json") {
    await write([JSON.stringify(description, null, 2)]);
    return;
  }
  const { queue, partition, consumers, startOffset, endOffset, bytes } = description;
  print([row(queue)], COLUMNS, options);
  process.stdout.write("\n");
  print(settingRows(queue), ["setting", "value", "declared"], options);
  process.stdout.write("\n");
  const { leader, replicas } = partition;
  print(
    [{ leader: leader === 0 ? "none" : leader, replicas: replicas.join(","), startOffset, endOffset, bytes }],
    ["leader", "replicas", "startOffset", "endOffset", "bytes"],
    options,
  );
  if (consumers.length === 0) return;
  process.stdout.write("\n");
  print(
    consumers.map((consumer) => ({ ...consumer, active: consumer.active ? "yes" : "" })),
    ["id", "node", "priority", "credit", "held", "active"],
    options,
  );
}

/** One that was just made or changed: with what it is, not with what is in it. */
function changedRow({ vhost, name, replicas, declared, settings, policy, createdMs, durability }: QueueInfo): Record<string, unknown> {
  return { vhost, name, replicas, declared, settings, policy, createdMs, durability };
}

function row({ vhost, name, replicas, policy, counts }: QueueInfo): Record<string, unknown> {
  const {
    ready,
    leased,
    delayed,
    waitingForKey = 0,
    dead,
    consumers,
  } = counts ?? { ready: "?", leased: "?", delayed: "?", dead: "?", consumers: "?" };
  return {
    vhost,
    name,
    ready: typeof ready === "number" ? ready + waitingForKey : ready,
    leased,
    delayed,
    dead,
    consumers,
    replicas,
    policy,
  };
}
