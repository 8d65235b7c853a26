// Child processes of a benchmark: started with their output kept, ended by process id whatever happens.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    for (const child of living) child.kill("SIGKILL");
    process.exit(130);
  });
}

export type Running = { readonly child: ChildProcess; readonly pid: number; /** The last of what it printed. */ output(): string };

/** `cwd`: where it may leave what it likes. */
export function run(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd?: string): Running {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"], cwd });
  living.add(child);
  child.once("exit", () => living.delete(child));
  child.once("error", () => living.delete(child));
  const lines: string[] = [];
  const keep = (chunk: Buffer): void => {
    lines.push(chunk.toString());
    if (lines.length > 200) lines.shift();
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  return { child, pid: child.pid ?? 0, output: () => lines.join("").slice(-3_000) };
}

export async function end(running: Running, signal: NodeJS.Signals = "SIGTERM", graceMs = 5_000): Promise<void> {
  const { child } = running;
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  const late = await Promise.race([exited.then(() => false), delay(graceMs).then(() => true)]);
  if (!late) return;
  child.kill("SIGKILL");
  await exited;
}

/** Kills whatever still runs, and waits for its end: after that nobody writes into their folders any more. */
export async function endAll(): Promise<void> {
  await Promise.all(
    [...living].map(async (child) => {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }),
  );
}

/** Calls `check` until it holds; fails with the output of the processes when it does not in time. */
export async function until(what: string, check: () => Promise<boolean>, processes: readonly Running[], timeoutMs = 60_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (await check().catch(() => false)) return;
    const dead = processes.find(({ child }) => child.exitCode !== null);
    if (dead !== undefined || Date.now() > deadline) throw new Error(`${what} did not happen:\n${(dead ?? processes[0])?.output() ?? ""}`);
    await delay(50);
  }
}

/** The first line that a program prints about its version; undefined when it is not installed. */
export async function versionOf(command: string, args: readonly string[]): Promise<string | undefined> {
  const running = run(command, args);
  const [code] = await Promise.race([once(running.child, "exit"), once(running.child, "error").then(() => [-1])]);
  return code === 0 ? running.output().trim().split("\n")[0] : undefined;
}
