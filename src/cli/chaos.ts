import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command } from "commander";

/** From the built program; a program of its own, as it ends what it started whatever happens to it. */
const PROGRAM = fileURLToPath(new URL("../../bench/chaos/main.js", import.meta.url));

/** `flotilla chaos`: torments a cluster of its own, or yours, and judges it. The program itself knows its options. */
export function chaosCommand(): Command {
  return new Command("chaos")
    .description("torment a cluster under load, read everything back, and decide whether it kept its promises (--help)")
    .helpOption(false)
    .allowUnknownOption()
    .argument("[options...]")
    .action(async (args: string[]) => {
      process.exitCode = await chaos(args);
    });
}

async function chaos(args: readonly string[]): Promise<number> {
  if (!existsSync(PROGRAM)) {
    process.stderr.write(`flotilla: ${PROGRAM} is missing from this installation; npm run build makes it\n`);
    return 1;
  }
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: "inherit" });
  // A terminal tells its whole foreground group; whoever uses kill tells us alone.
  process.on("SIGINT", () => {
    if (!process.stdin.isTTY) child.kill("SIGINT");
  });
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  const [code] = (await once(child, "exit")) as [number | null];
  return code ?? 130;
}
