// System calls of a running node that fail or take long, by strace's injection.

import { type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { run, type Running } from "../processes.ts";

const ATTACH_MS_MAX = 5_000;
const DETACH_MS_MAX = 3_000;

export class Tracer {
  private readonly file: string;
  private readonly running: Running;

  /** `injection` as strace has it: "fdatasync:error=EIO". What it does stands in `file` meanwhile. */
  constructor(pid: number, injection: string, file: string) {
    this.file = file;
    const call = injection.split(":")[0]!;
    this.running = run("strace", ["-f", "-q", "-o", file, "-e", `trace=${call}`, "-e", `inject=${injection}`, "-p", String(pid)]);
  }

  /** Resolves when the kernel says that the process is traced. */
  async attached(pid: number): Promise<void> {
    for (const until = Date.now() + ATTACH_MS_MAX; Date.now() < until;) {
      if (!/^TracerPid:\s+0$/m.test(statusOf(pid))) return;
      await delay(10);
    }
    throw new Error(`strace did not attach to process ${pid}:\n${this.running.output()}`);
  }

  /** Lets go; resolves with how many calls were tampered with. */
  async end(): Promise<number> {
    const { child } = this.running;
    if (!hasEnded(child)) {
      const ended = once(child, "exit");
      child.kill("SIGINT");
      await Promise.race([ended, delay(DETACH_MS_MAX, undefined, { ref: false })]);
      if (!hasEnded(child)) {
        child.kill("SIGKILL");
        await ended;
      }
    }
    const lines = readFileSync(this.file, "utf8").split("\n");
    rmSync(this.file, { force: true });
    return lines.filter((line) => line.includes("(INJECTED)") || line.includes("(DELAYED)")).length;
  }
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return "";
  }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
