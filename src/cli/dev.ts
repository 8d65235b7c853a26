import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import { Command, InvalidArgumentError } from "commander";

const NODES_MAX = 9;
const PORT_STEP = 10;
const READY_TIMEOUT_MS = 30_000;

/** `flotilla dev`: a cluster of real processes on this machine. */
export function devCommand(): Command {
  return new Command("dev")
    .description("run a local cluster of real node processes, for development")
    .option("--nodes <n>", `nodes, 1..${NODES_MAX}`, whole(1, NODES_MAX), 3)
    .option("--data-dir <dir>", "where the nodes keep their data", "data")
    .option("--port <port>", "API port of node 1; its peer and HTTP ports follow, each further node adds 10", whole(1, 65_000), 7440)
    .option("--log-level <level>", "log level of the nodes", "warn")
    .addHelpText(
      "after",
      "\nExamples:\n  flotilla dev\n  flotilla dev --nodes 1 --data-dir /tmp/flotilla\n\nCtrl-C stops all nodes gracefully; their data stays.",
    )
    .action(async (options: { nodes: number; dataDir: string; port: number; logLevel: string }) => {
      process.exitCode = await dev(options);
    });
}

async function dev(options: { nodes: number; dataDir: string; port: number; logLevel: string }): Promise<number> {
  const main = fileURLToPath(new URL("./main.js", import.meta.url));
  const ids = Array.from({ length: options.nodes }, (_, at) => at + 1);
  const portOf = (id: number, which: number): number => options.port + (id - 1) * PORT_STEP + which;
  const peers = ids.map((id) => `${id}=127.0.0.1:${portOf(id, 1)}`).join(",");
  const started = Date.now();
  const children = ids.map((id) => {
    const dataDir = resolve(options.dataDir, `node-${id}`);
    mkdirSync(dataDir, { recursive: true });
    const flags = [
      "--node-id",
      id,
      "--cluster-id",
      "dev",
      "--data-dir",
      dataDir,
      "--api-port",
      portOf(id, 0),
      "--peer-port",
      portOf(id, 1),
      "--http-port",
      portOf(id, 2),
      "--peers",
      peers,
      "--log-level",
      options.logLevel,
    ];
    // A process group of their own: Ctrl-C reaches them through us, once.
    return spawn(process.execPath, [main, "serve", ...flags.map(String)], { stdio: ["ignore", "inherit", "inherit"], detached: true });
  });
  let stopping = false;
  const stop = (): void => {
    stopping = true;
    for (const child of children) child.kill("SIGTERM");
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  const exits = children.map((child, at) => watch(child, at + 1, () => stopping));
  const ready = await allReady(
    ids.map((id) => `http://127.0.0.1:${portOf(id, 2)}/readyz`),
    () => stopping || children.some(({ exitCode }) => exitCode !== null),
  );
  if (ready) {
    process.stdout.write(
      `flotilla: ${options.nodes} node${options.nodes === 1 ? "" : "s"} ready after ${((Date.now() - started) / 1000).toFixed(1)} s\n`,
    );
    for (const id of ids)
      process.stdout.write(
        `  node ${id}  pid ${children[id - 1]!.pid}  API 127.0.0.1:${portOf(id, 0)}  health http://127.0.0.1:${portOf(id, 2)}/readyz\n`,
      );
  } else if (!stopping) {
    process.stderr.write("flotilla: the cluster did not become ready; the nodes' messages above say why\n");
    stop();
  }
  const codes = await Promise.all(exits);
  return ready && codes.every((code) => code === 0) ? 0 : 1;
}

/** A node that dies by itself is reported; the others go on, as they would in production. */
async function watch(child: ChildProcess, id: number, isStopping: () => boolean): Promise<number> {
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  if (!isStopping()) process.stderr.write(`flotilla: node ${id} ended (${signal ?? `exit code ${code}`}); the others go on\n`);
  return code ?? 1;
}

async function allReady(urls: readonly string[], giveUp: () => boolean): Promise<boolean> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  const open = new Set(urls);
  while (open.size > 0) {
    if (giveUp() || Date.now() > deadline) return false;
    for (const url of [...open]) {
      const response = await fetch(url).catch(() => null);
      if (response?.ok === true) open.delete(url);
    }
    if (open.size > 0) await delay(50);
  }
  return true;
}

function whole(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < minimum || value > maximum) throw new InvalidArgumentError(`must be ${minimum}..${maximum}`);
    return value;
  };
}
