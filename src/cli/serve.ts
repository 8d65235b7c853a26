import { Command } from "commander";
import { kebab, loadSettings } from "../config/load.ts";
import { settingsSchema, SettingsError } from "../config/settings.ts";

/** `flotilla serve`: one node in this process, until a signal ends it. */
export function serveCommand(): Command {
  const command = new Command("serve").description("run one node").option("--config <file>", "YAML file with settings");
  for (const name of Object.keys(settingsSchema.shape)) command.option(`--${kebab(name)} <value>`, `setting ${name}`);
  command.addHelpText(
    "after",
    `
Settings come from --config, then FLOTILLA_* variables (apiPort is FLOTILLA_API_PORT), then flags; later ones win.

Examples:
  flotilla serve --data-dir /var/lib/flotilla
  flotilla serve --node-id 2 --peers 1=a:7441,2=b:7441,3=c:7441 --host 0.0.0.0 --advertised-host b`,
  );
  command.action(async (options: Record<string, string | undefined>) => {
    const { config, ...flags } = options;
    // All other commands start faster without a node's libraries.
    const { serve } = await import("../server/main.ts");
    try {
      process.exitCode = await serve(loadSettings({ file: config, env: process.env, flags }));
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      process.stderr.write(`flotilla: ${error.message}\n`);
      process.exitCode = 2;
    }
    // Handles of libraries must not keep a stopped node's process alive.
    process.exit();
  });
  return command;
}
