// Transactions that are not over: looked at, and decided.

import { Command, Option } from "commander";
import type { Flotilla, OutgoingRecord, TransactionInfo, TransactionKey } from "../client/index.ts";
import { print, session, withConnection, withOutput, type SessionOptions } from "./session.ts";

export function transactionCommand(): Command {
  const transaction = new Command("transaction").description("list, describe, commit and roll back transactions that are prepared");
  withOutput(transaction.command("list").description("list those that are prepared, or decided and not everywhere yet"))
    .addHelpText("after", "\nExamples:\n  flotilla transaction list --output json")
    .action((options: SessionOptions) =>
      session(options, async (client) => {
        const found = await client.transactions.list({ vhost: options.vhost });
        const columns = ["id", "name", "state", "age", "until", "records", "bytes", "holds"];
        print(options.output === "json" ? found : found.map(rowOf), columns, options);
      }),
    );
  withOutput(transaction.command("describe").argument("<id>", "its id, or with --name its name"))
    .description("what a transaction publishes, and which messages it holds")
    .addOption(named())
    .addHelpText("after", "\nExamples:\n  flotilla transaction describe 5-12-mgx3k1\n  flotilla transaction describe payment-7 --name")
    .action((id: string, options: SessionOptions & { name?: boolean }) =>
      session(options, async (client) =>
        describe(await client.transactions.describe(keyOf(id, options), { vhost: options.vhost }), options),
      ),
    );
  for (const verb of ["commit", "rollback"] as const)
    withConnection(transaction.command(verb).argument("<id>", "its id, or with --name its name"))
      .description(
        verb === "commit" ? "have all of a prepared transaction take effect" : "have nothing of a prepared transaction take effect",
      )
      .addOption(named())
      .addHelpText("after", `\nExamples:\n  flotilla transaction ${verb} 5-12-mgx3k1\n  flotilla transaction ${verb} payment-7 --name`)
      .action((id: string, options: SessionOptions & { name?: boolean }) =>
        session(options, async (client) => {
          const { complete } = await client.transactions[verb](keyOf(id, options), { vhost: options.vhost });
          if (!complete) process.stderr.write("flotilla: that is decided; not everything is where it belongs yet, and is tried again\n");
        }),
      );
  return transaction;
}

/** Publishes records in a transaction that is to be decided later, and prints its id. */
export async function prepare(
  client: Flotilla,
  records: readonly OutgoingRecord[],
  to: { name: string | undefined; exchange: string | undefined; routingKey: string; partition: number | undefined; mandatory: boolean },
  options: { vhost: string; transaction: string; timeoutMs: number },
): Promise<void> {
  const { vhost, transaction: name, timeoutMs } = options;
  const tx = client.transaction({ vhost, name, timeoutMs });
  const { partition, routingKey, mandatory } = to;
  if (to.name !== undefined) tx.publish(to.name, records, partition === undefined ? {} : { partition });
  else tx.publishToExchange(to.exchange!, records, { routingKey, mandatory });
  process.stdout.write(`${await tx.prepare()}\n`);
}

function named(): Option {
  return new Option("--name", "what is given is the name that its caller gave it");
}

function keyOf(id: string, { name = false }: { name?: boolean }): TransactionKey {
  return name ? { name: id } : id;
}

function rowOf({ id, name, state, createdMs, untilMs, targets, bytes, holds }: TransactionInfo): Record<string, unknown> {
  return {
    id,
    name,
    state,
    age: `${((Date.now() - createdMs) / 1_000).toFixed(0)}s`,
    until: untilMs === 0 ? "" : new Date(untilMs).toISOString(),
    records: targets.reduce((sum, { records }) => sum + records, 0),
    bytes,
    holds: holds.reduce((sum, { count }) => sum + count, 0),
  };
}

function describe(info: TransactionInfo, options: SessionOptions): void {
  if (options.output === "json") {
    process.stdout.write(`${JSON.stringify(info, null, 2)}\n`);
    return;
  }
  print([rowOf(info)], ["id", "name", "state", "age", "until", "records", "bytes", "holds"], options);
  if (info.targets.length > 0) {
    process.stdout.write("\n");
    print(info.targets, ["name", "partition", "records"], options);
  }
  if (info.holds.length === 0) return;
  process.stdout.write("\n");
  print(info.holds, ["queue", "subscription", "partition", "firstOffset", "count", "outcome"], options);
}
