// Policies, schedules and definitions.

import { readFile, writeFile } from "node:fs/promises";
import { Command } from "commander";
import { FlotillaError, type Policy } from "../client/index.ts";
import { print, session, whole, withConnection, withOutput, type SessionOptions } from "./session.ts";
import { settingsFrom, withSettings, type SettingsOptions } from "./settings.ts";

export function policyCommand(): Command {
  const policy = new Command("policy").description("settings for all queues whose name fits; those of a queue itself go first");
  withSettings(
    withConnection(policy.command("set <name> <pattern>").description("create or change a policy for the queues that the pattern finds")),
    {
      isQueue: true,
    },
  )
    .option("--priority <n>", "of those that fit a queue the highest counts", whole(-2_147_483_648, 2_147_483_647), 0)
    .addHelpText("after", "\nExamples:\n  flotilla policy set short-lived '^tmp\\.' --ttl 1h --expires 1d")
    .action((name: string, pattern: string, options: SessionOptions & SettingsOptions & { priority: number }) =>
      session(options, (client) =>
        client.queues.setPolicy({ name, pattern, priority: options.priority, settings: settingsFrom(options), vhost: options.vhost }),
      ),
    );
  withOutput(policy.command("list").description("list policies")).action((options: SessionOptions) =>
    session(options, async (client) => {
      print((await client.queues.listPolicies(options.vhost)).map(policyRow(options)), POLICY_COLUMNS, options);
    }),
  );
  withOutput(policy.command("describe <name>").description("a policy and what it says")).action((name: string, options: SessionOptions) =>
    session(options, async (client) =>
      print([await client.queues.describePolicy(name, options.vhost)].map(policyRow(options)), POLICY_COLUMNS, options),
    ),
  );
  withConnection(policy.command("delete <name>").description("delete a policy")).action((name: string, options: SessionOptions) =>
    session(options, (client) => client.queues.deletePolicy(name, options.vhost)),
  );
  return policy;
}

const POLICY_COLUMNS = ["vhost", "name", "pattern", "priority", "settings"];

function policyRow({ output }: SessionOptions): (policy: Required<Policy>) => Record<string, unknown> {
  return (one) => ({ ...one, settings: output === "json" ? one.settings : JSON.stringify(one.settings) });
}

type ScheduleOptions = SessionOptions & {
  timeZone: string;
  exchange: string;
  routingKey: string;
  body: string;
  key?: string;
  paused?: boolean;
};

export function scheduleCommand(): Command {
  const schedule = new Command("schedule").description("messages that are published again and again");
  withOutput(schedule.command("set <name> <cron>").description("create or change a schedule: five fields, or six with seconds in front"))
    .option("--time-zone <zone>", "in which the expression is meant, as Europe/Berlin", "UTC")
    .option("--exchange <name>", 'publish to this exchange ("" is the default one)', "")
    .requiredOption("--routing-key <key>", "with this routing key: for the default exchange the name of a queue or topic")
    .requiredOption("--body <text>", "the message")
    .option("--key <text>", "its key")
    .option("--paused", "do not publish until it is set again without this")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla schedule set nightly '0 3 * * *' --time-zone Europe/Berlin --routing-key reports --body '{}'",
    )
    .action((name: string, cron: string, options: ScheduleOptions) =>
      session(options, async (client) => {
        const { timeZone, exchange, routingKey, body, key, paused = false, vhost } = options;
        const record = key === undefined ? { body } : { body, key };
        print(
          [row(await client.queues.setSchedule({ name, cron, timeZone, exchange, routingKey, record, paused, vhost }))],
          COLUMNS,
          options,
        );
      }),
    );
  withOutput(schedule.command("list").description("list schedules, and when each is due next")).action((options: SessionOptions) =>
    session(options, async (client) => print((await client.queues.listSchedules(options.vhost)).map(row), COLUMNS, options)),
  );
  withOutput(schedule.command("describe <name>").description("a schedule, and when it is due next")).action(
    (name: string, options: SessionOptions) =>
      session(options, async (client) => print([row(await client.queues.describeSchedule(name, options.vhost))], COLUMNS, options)),
  );
  withConnection(schedule.command("delete <name>").description("delete a schedule")).action((name: string, options: SessionOptions) =>
    session(options, (client) => client.queues.deleteSchedule(name, options.vhost)),
  );
  return schedule;
}

const COLUMNS = ["name", "cron", "timeZone", "exchange", "routingKey", "next", "body"];

function row({
  nextMs,
  body,
  paused,
  ...rest
}: {
  nextMs: number;
  body: Uint8Array;
  paused: boolean;
  name: string;
}): Record<string, unknown> {
  const next = paused ? "paused" : nextMs === 0 ? "never" : new Date(nextMs).toISOString();
  return { ...rest, paused, next, body: Buffer.from(body).toString("utf8") };
}

export function definitionsCommand(): Command {
  const definitions = new Command("definitions").description("everything that is declared, as JSON; RabbitMQ's definitions are taken too");
  withConnection(definitions.command("export").description("print the definitions of all vhosts"))
    .option("--file <path>", "write them to this file")
    .action((options: SessionOptions & { file?: string }) =>
      session(options, async (client) => {
        const json = await client.queues.exportDefinitions();
        if (options.file === undefined) process.stdout.write(json);
        else await writeFile(options.file, json);
      }),
    );
  withConnection(definitions.command("import <file>").description("declare what is in the file and not there; nothing is deleted")).action(
    (file: string, options: SessionOptions) =>
      session(options, async (client) => {
        const json = await readFile(file, "utf8").catch((error: unknown) => {
          throw new FlotillaError("INVALID_ARGUMENT", `${file} cannot be read: ${(error as Error).message}`);
        });
        const { created, unchanged, problems } = await client.queues.importDefinitions(json);
        process.stderr.write(`created ${created}, unchanged ${unchanged}, not taken ${problems.length}\n`);
        for (const problem of problems) process.stderr.write(`  ${problem}\n`);
        if (problems.length > 0) process.exitCode = 1;
      }),
  );
  return definitions;
}
