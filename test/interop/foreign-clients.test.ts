// Programs in other languages, built with their stock tools from the shipped .proto files, against a follower.

import { cp, mkdtemp, rm } from "node:fs/promises";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { runProgram } from "../support/run.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const protos = fileURLToPath(new URL("../../proto", import.meta.url));
const protoFiles = readdirSync(join(protos, "flotilla/v1")).map((name) => `flotilla/v1/${name}`);
const COUNT = 20;
const MINUTES_5 = 300_000;

const has = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;
const hasPython = has("python3", "-m", "venv", "--help");
const hasGo = has("go", "version");
if (!hasPython) console.warn("python3 with venv is not installed: the Python client is skipped");
if (!hasGo || !hasPython) console.warn("go, or python3 for the protobuf compiler, is not installed: the Go client is skipped");

let cluster: TestCluster;
let work: string;
let python: string;

async function must(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<string> {
  const { code, stdout, stderr } = await runProgram(command, args, options);
  expect(code, `${command} ${args.join(" ")}\n${stderr.slice(-3_000)}`).toBe(0);
  return stdout.toString();
}

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "flotilla-interop-"));
  if (!hasPython) return;
  python = join(work, "venv/bin/python");
  await must("python3", ["-m", "venv", join(work, "venv")]);
  await must(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "grpcio", "grpcio-tools"]);
  cluster = await startCluster({ nodes: 3 });
}, MINUTES_5);
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true, maxRetries: 3 });
});

/** A node that does not lead the only partition of the topic that the program is about to make. */
async function follower(topic: string): Promise<string> {
  await must(process.execPath, [
    fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url)),
    "topic",
    "create",
    topic,
    "--replicas",
    "3",
    "--endpoints",
    cluster.endpoints[0]!,
  ]);
  const leader = await cluster.leaderOf(topic, 0);
  return cluster.endpoints[leader % cluster.endpoints.length]!;
}

function expected(language: string): string[] {
  return [...Array.from({ length: 2 * COUNT }, (_, at) => `0 ${at} ${language} ${at}`)];
}

test.skipIf(!hasPython)(
  "interop: a Python program with stock grpcio publishes and fetches through a follower",
  { timeout: MINUTES_5 },
  async () => {
    await cp(join(here, "python"), work, { recursive: true });
    await must(python, ["-m", "grpc_tools.protoc", `-I${protos}`, `--python_out=${work}`, `--grpc_python_out=${work}`, ...protoFiles]);
    const output = await must(python, ["client.py", await follower("from-python"), "from-python", String(COUNT)], { cwd: work });
    expect(output.trim().split("\n")).toEqual([...expected("python"), "error NOT_FOUND"]);
  },
);

test.skipIf(!hasGo || !hasPython)(
  "interop: a Go program with stock grpc-go publishes and fetches through a follower",
  { timeout: MINUTES_5 },
  async () => {
    const folder = join(work, "go");
    const bin = join(work, "bin");
    const env = { GOBIN: bin, GOFLAGS: "-mod=mod", GOTOOLCHAIN: "local" };
    await cp(join(here, "go"), folder, { recursive: true });
    await must("go", ["install", "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.8"], { cwd: folder, env });
    await must("go", ["install", "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1"], { cwd: folder, env });
    const path = { PATH: `${bin}:${process.env["PATH"] ?? ""}` };
    const options = [
      `--go_out=${folder}`,
      "--go_opt=module=flotilla.dev/interop",
      `--go-grpc_out=${folder}`,
      "--go-grpc_opt=module=flotilla.dev/interop",
    ];
    const packages = protoFiles.flatMap((file) => [
      `--go_opt=M${file}=flotilla.dev/interop/flotillav1`,
      `--go-grpc_opt=M${file}=flotilla.dev/interop/flotillav1`,
    ]);
    await must(python, ["-m", "grpc_tools.protoc", `-I${protos}`, ...options, ...packages, ...protoFiles], { env: path });
    await must("go", ["build", "-o", join(work, "interop"), "."], { cwd: folder, env });
    const output = await must(join(work, "interop"), [await follower("from-go"), "from-go", String(COUNT)]);
    expect(output.trim().split("\n")).toEqual([...expected("go"), "error NotFound"]);
  },
);
