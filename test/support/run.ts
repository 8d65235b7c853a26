// Runs a program to its end and keeps what it printed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export type Finished = { readonly code: number | null; readonly stdout: Buffer; readonly stderr: string };

export async function runProgram(
  command: string,
  args: readonly string[],
  options: { env?: Readonly<Record<string, string>>; input?: string | Buffer; cwd?: string } = {},
): Promise<Finished> {
  const child = spawn(command, args, { env: { ...process.env, ...options.env }, stdio: ["pipe", "pipe", "pipe"], cwd: options.cwd });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on("error", () => {}); // A program that ends before it has read everything.
  child.stdin.end(options.input);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

/** The `flotilla` command against one node. */
export function flotilla(endpoint: string, args: readonly string[], input?: string | Buffer): Promise<Finished> {
  const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
  return runProgram(process.execPath, [main, ...args], {
    env: { FLOTILLA_ENDPOINTS: endpoint },
    ...(input === undefined ? {} : { input }),
  });
}
