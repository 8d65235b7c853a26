#!/usr/bin/env node
import { Command } from "commander";
import { archiveCommand } from "./archive.ts";
import { chaosCommand } from "./chaos.ts";
import { clusterCommand } from "./cluster.ts";
import { consumeCommand } from "./consume.ts";
import { devCommand } from "./dev.ts";
import { letHeapGrow } from "./heap.ts";
import { offsetsCommand } from "./offsets.ts";
import { publishCommand } from "./publish.ts";
import { definitionsCommand, policyCommand, scheduleCommand } from "./declarations.ts";
import { peekCommand, purgeCommand, queueCommand, redriveCommand } from "./queue.ts";
import { bindingCommand, exchangeCommand, explainCommand, vhostCommand } from "./routing.ts";
import { serveCommand } from "./serve.ts";
import { subscriptionCommand } from "./subscription.ts";
import { topicCommand } from "./topic.ts";
import { transactionCommand } from "./transaction.ts";

letHeapGrow();
const program = new Command("flotilla")
  .description("Flotilla: a message broker of many small Raft groups")
  .version("0.1.0")
  .showHelpAfterError("(--help shows how it is used)")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .addHelpText(
    "after",
    `
Exit codes: 0 done, 1 failed (cluster status: something is down), 2 wrong usage, 3 no such thing,
4 no node reached, no leader or no answer in time, 130 interrupted before the end of the input.

Examples:
  flotilla dev --nodes 3
  flotilla topic create logs --partitions 10 --replicas 3
  flotilla publish logs --file access.log --key-regex '^(\\S+)'
  flotilla consume logs --from earliest --count 10
  flotilla queue create orders
  echo hello | flotilla publish orders
  flotilla consume --queue orders`,
  );
for (const command of [
  serveCommand(),
  devCommand(),
  topicCommand(),
  publishCommand(),
  consumeCommand(),
  offsetsCommand(),
  subscriptionCommand(),
  queueCommand(),
  peekCommand(),
  purgeCommand(),
  redriveCommand(),
  exchangeCommand(),
  bindingCommand(),
  vhostCommand(),
  policyCommand(),
  scheduleCommand(),
  transactionCommand(),
  definitionsCommand(),
  explainCommand(),
  archiveCommand(),
  clusterCommand(),
]) {
  program.addCommand(command);
  inherit(command, program);
}
// It passes everything on, what is wrong and the wish for help as well.
program.addCommand(chaosCommand());
// A reader that has seen enough (`| head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});
await program.parseAsync();

/** Commands that were made apart do not take over how the program ends and explains itself. */
function inherit(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  for (const child of command.commands) inherit(child, command);
}
