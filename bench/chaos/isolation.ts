// Namespaces of the harness's own, where root: what it mounts and what its firewall drops nobody else sees, and all of it goes
// with the last process, however that ends.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

const INSIDE = "FLOTILLA_CHAOS_INSIDE";

/** This process is in namespaces of its own already. */
export function isIsolated(): boolean {
  return process.env[INSIDE] !== undefined;
}

/** The machine lets us make them. */
export function canIsolate(): boolean {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return false;
  try {
    execFileSync("unshare", ["--mount", "--net", "ip", "link", "set", "lo", "up"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Runs this very command again in namespaces of its own; resolves with its exit code. */
export async function runIsolated(): Promise<number> {
  const again = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  // unshare becomes the shell, and that becomes us: signals reach the process that they are meant for.
  const child = spawn("unshare", ["--mount", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", ...again], {
    stdio: "inherit",
    env: { ...process.env, [INSIDE]: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    // Nothing but that process is to be ended. A terminal tells its whole foreground group; whoever uses kill tells us alone.
    process.removeAllListeners(signal);
    process.on(signal, () => {
      if (signal === "SIGTERM" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  return code ?? (signal === null ? 1 : 130);
}
