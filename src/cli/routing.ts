// Vhosts, exchanges and bindings, and where a message would go.

import { Command, InvalidArgumentError, Option } from "commander";
import type { Binding, ExchangeType, Flotilla, HeadersMatch } from "../client/index.ts";
import { print, session, timeText, withConnection, withOutput, type SessionOptions } from "./session.ts";

const TYPES: readonly ExchangeType[] = ["direct", "fanout", "topic", "headers", "consistent-hash"];
const MATCHES: readonly HeadersMatch[] = ["all", "any", "all-with-x", "any-with-x"];

export function vhostCommand(): Command {
  const vhost = new Command("vhost").description("create, list, describe and delete namespaces");
  withConnection(vhost.command("create <name>").description("create a vhost")).action((name: string, options: SessionOptions) =>
    session(options, async (client) => {
      if (!(await client.queues.createVhost(name))) process.stderr.write(`flotilla: vhost ${name} exists already\n`);
    }),
  );
  withOutput(vhost.command("list").description("list vhosts")).action((options: SessionOptions) =>
    session(options, async (client) => {
      const rows = (await client.queues.listVhosts()).map((one) => ({ ...one, created: timeText(one.createdMs) }));
      print(rows, ["name", "created"], options);
    }),
  );
  withOutput(vhost.command("describe <name>").description("a vhost, and how much is in it")).action(
    (name: string, options: SessionOptions) =>
      session(options, async (client) => {
        const found = await client.queues.describeVhost(name);
        print([{ ...found, created: timeText(found.createdMs) }], ["name", "created", "topics", "queues", "exchanges"], options);
      }),
  );
  withConnection(vhost.command("delete <name>").description("delete a vhost with everything in it")).action(
    (name: string, options: SessionOptions) => session(options, (client) => client.queues.deleteVhost(name)),
  );
  return vhost;
}

export function exchangeCommand(): Command {
  const exchange = new Command("exchange").description("create, list, describe, change and delete exchanges");
  withOutput(exchange.command("create <name>").description("create an exchange"))
    .addOption(new Option("--type <type>", "how it routes").choices(TYPES).default("direct"))
    .option("--alternate <exchange>", "gets what this one cannot route", "")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla exchange create orders --type topic\n  flotilla exchange create sharded --type consistent-hash --alternate unrouted",
    )
    .action((name: string, options: SessionOptions & { type: ExchangeType; alternate: string }) =>
      session(options, async (client) => {
        const { type, alternate, vhost } = options;
        const { exchange: made, created } = await client.queues.createExchange({ name, type, alternate, vhost });
        if (!created) process.stderr.write(`flotilla: exchange ${name} exists already, with these settings\n`);
        print([made], ["vhost", "name", "type", "alternate"], options);
      }),
    );
  withOutput(exchange.command("list").description("list exchanges, those that every vhost has too")).action((options: SessionOptions) =>
    session(options, async (client) =>
      print(await client.queues.listExchanges(options.vhost), ["vhost", "name", "type", "alternate"], options),
    ),
  );
  withOutput(exchange.command("describe <name>").description("an exchange, what is bound to it and what it is bound to")).action(
    (name: string, options: SessionOptions) => session(options, (client) => describeExchange(client, name, options)),
  );
  withOutput(exchange.command("update <name>").description("change what gets what an exchange cannot route; its type stays what it is"))
    .requiredOption("--alternate <exchange>", 'the exchange that gets it; "" is none')
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla exchange update orders --alternate unrouted\n  flotilla exchange update orders --alternate ''",
    )
    .action((name: string, options: SessionOptions & { alternate: string }) =>
      session(options, async (client) => {
        const { alternate, vhost } = options;
        print([await client.queues.updateExchange(name, { alternate }, vhost)], ["vhost", "name", "type", "alternate"], options);
      }),
    );
  withConnection(exchange.command("delete <name>").description("delete an exchange and its bindings"))
    .option("--if-unused", "only when it has no bindings")
    .action((name: string, options: SessionOptions & { ifUnused?: boolean }) =>
      session(options, (client) => client.queues.deleteExchange(name, { vhost: options.vhost, ifUnused: options.ifUnused === true })),
    );
  return exchange;
}

/** Of its bindings a table shows so many; `binding list` shows them all. */
const BINDINGS_SHOWN_MAX = 1_000;

async function describeExchange(client: Flotilla, name: string, options: SessionOptions): Promise<void> {
  const { vhost } = options;
  const exchange = await client.queues.describeExchange(name, vhost);
  const bindings = [
    ...(await client.queues.listBindings({ vhost, source: name })),
    ...(await client.queues.listBindings({ vhost, destination: name })).filter(({ toExchange }) => toExchange),
  ];
  if (options.output === "json") {
    process.stdout.write(`${JSON.stringify({ exchange, bindings }, null, 2)}\n`);
    return;
  }
  print([exchange], ["vhost", "name", "type", "alternate"], options);
  if (bindings.length === 0) return;
  process.stdout.write("\n");
  print(bindings.slice(0, BINDINGS_SHOWN_MAX).map(bindingRow(options)), BINDING_COLUMNS, options);
  if (bindings.length > BINDINGS_SHOWN_MAX) process.stderr.write(`flotilla: and ${bindings.length - BINDINGS_SHOWN_MAX} more bindings\n`);
}

const BINDING_COLUMNS = ["source", "destination", "kind", "routingKey", "headers"];

function bindingRow({ output }: SessionOptions): (binding: Required<Binding>) => Record<string, unknown> {
  return ({ headers, toExchange, match, ...rest }) => ({
    ...rest,
    kind: toExchange ? "exchange" : "queue",
    match,
    headers: output === "json" ? headers : Object.keys(headers).length === 0 ? "" : `${match} ${JSON.stringify(headers)}`,
  });
}

type BindingOptions = SessionOptions & { routingKey: string; toExchange?: boolean; header: [string, string | null][]; match: HeadersMatch };

export function bindingCommand(): Command {
  const binding = new Command("binding").description("bind queues, topics and exchanges to exchanges, list and unbind");
  const withBinding = (command: Command): Command =>
    command
      .option(
        "--routing-key <key>",
        "of a topic exchange a pattern: * is one word, # any number of them; of a consistent-hash one a weight",
        "",
      )
      .option("--to-exchange", "the destination is an exchange")
      .option("--header <name[=value]>", "of a headers exchange: a header to look for; may be given again", header, [])
      .addOption(new Option("--match <how>", "of a headers exchange: all of the headers, or any").choices(MATCHES).default("all"));
  withBinding(
    withConnection(binding.command("create <exchange> <destination>").description("bind a queue, topic or exchange to an exchange")),
  )
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla binding create orders mails --routing-key 'order.*.paid'\n  flotilla binding create docs pdfs --header kind=pdf --header urgent --match any",
    )
    .action((source: string, destination: string, options: BindingOptions) =>
      session(options, async (client) => {
        if (!(await client.queues.createBinding(bindingFrom(source, destination, options))))
          process.stderr.write("flotilla: it is bound already\n");
      }),
    );
  withOutput(binding.command("list").description("list bindings"))
    .option("--source <exchange>", "only those of this exchange", "")
    .option("--destination <name>", "only those to this queue, topic or exchange", "")
    .action((options: SessionOptions & { source: string; destination: string }) =>
      session(options, async (client) => {
        const { vhost, source, destination } = options;
        const bindings = await client.queues.listBindings({ vhost, source, destination });
        print(bindings.map(bindingRow(options)), BINDING_COLUMNS, options);
      }),
    );
  withBinding(withConnection(binding.command("delete <exchange> <destination>").description("unbind"))).action(
    (source: string, destination: string, options: BindingOptions) =>
      session(options, (client) => client.queues.deleteBinding(bindingFrom(source, destination, options))),
  );
  return binding;
}

/** `flotilla explain publish`: where a message would go. */
export function explainCommand(): Command {
  const explain = new Command("explain").description("say what would happen, and why, without doing it");
  withOutput(explain.command("publish").description("which queues and topics would get a message, and by which exchanges"))
    .requiredOption("--exchange <name>", 'the exchange that it would be published to ("" is the default one)')
    .option("--routing-key <key>", "with this routing key", "")
    .option("--header <name=value>", "with this header; may be given again", header, [])
    .action((options: SessionOptions & { exchange: string; routingKey: string; header: [string, string | null][] }) =>
      session(options, async (client) => {
        const { exchange, routingKey, vhost } = options;
        const headers = options.header.map(([name, value]) => ({ name, value: Buffer.from(value ?? "") }));
        const routes = await client.queues.explainPublish({ exchange, routingKey, headers, vhost });
        const rows = routes.map(({ target, exchanges, isQueue, partitions, leader, durability }) => ({
          target,
          kind: isQueue ? "queue" : `topic of ${partitions}`,
          by: exchanges.map((name) => (name === "" ? "(default)" : name)).join(" -> "),
          leader: leader === 0 ? "" : leader,
          durability,
        }));
        print(rows, ["target", "kind", "by", "leader", "durability"], options);
        if (rows.length === 0) process.stderr.write("flotilla: it would go nowhere\n");
      }),
    );
  return explain;
}

function bindingFrom(
  source: string,
  destination: string,
  { routingKey, toExchange = false, header: headers, match, vhost }: BindingOptions,
): {
  source: string;
  destination: string;
  routingKey: string;
  toExchange: boolean;
  headers: Record<string, string | null>;
  match: HeadersMatch;
  vhost: string;
} {
  return { source, destination, routingKey, toExchange, headers: Object.fromEntries(headers), match, vhost };
}

/** name=value, or the name alone. */
export function header(text: string, before: [string, string | null][]): [string, string | null][] {
  const at = text.indexOf("=");
  if (at === 0 || text === "") throw new InvalidArgumentError("must be as name=value");
  return [...before, at < 0 ? [text, null] : [text.slice(0, at), text.slice(at + 1)]];
}
