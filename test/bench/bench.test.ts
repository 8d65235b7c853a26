// Every scenario of `npm run bench`, tiny: that it runs, and that what it reports was measured. Says nothing of speed.

import { readFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { FailoverReport } from "../../bench/chaos/failover-report.ts";
import type { FigureReport } from "../../bench/figures.ts";
import type { LaggardReport } from "../../bench/laggard.ts";
import type { GroupsReport } from "../../bench/groups.ts";
import { attacks } from "../../bench/attacks.ts";
import { endAll, run } from "../../bench/processes.ts";
import type { Report } from "../../bench/report.ts";
import { runProgram } from "../support/run.ts";

const MAIN = fileURLToPath(new URL("../../dist/bench/main.js", import.meta.url));
const PUBLISHING = [
  "publish 128 B, 1 partition",
  "publish 128 B, 3 partitions",
  "publish 16 KiB, 1 partition",
  "publish 16 KiB, 3 partitions",
  "publish 128 B, 1 partition, unbatched",
];
const HALF = ["128 B at half of the peak rate, p50", "128 B at half of the peak rate, p99"];
const SEQUENTIAL = ["sequential 128 B, p50", "sequential 128 B, p99"];
const REPLAY = ["replay 1 KiB, 10 partitions"];
/** Each with what is wanted of it. */
const FIGURES = [
  "publish 128 B, 1 partition: times the better peer",
  "publish 16 KiB, 1 partition: times the better peer",
  "publish 16 KiB, 1 partition: of the ceiling",
  "publish 128 B, 3 partitions: times the better peer",
  "publish 16 KiB, 3 partitions: times the better peer",
  "publish 16 KiB, 3 partitions: of the ceiling",
  "publish 128 B, 1 partition, unbatched: times the better peer",
  "128 B at half of the peak rate, p99",
  "sequential 128 B, p50: of RabbitMQ's",
  "replay 1 KiB, 10 partitions",
];

test("every scenario runs on Flotilla and on the peers that are installed", { timeout: 180_000 }, async ({ annotate }) => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-test-"));
  try {
    const file = join(directory, "report.json");
    const { code, stdout, stderr } = await runProgram(process.execPath, [
      MAIN,
      ...["--tiny", "--against", "rabbitmq,nats", "--json", file, "--directory", directory],
    ]);
    expect(code, stderr).toBe(0);
    const report = JSON.parse(await readFile(file, "utf8")) as Report & FigureReport;
    const names = report.systems.map(({ name }) => name);
    for (const peer of ["rabbitmq", "nats"]) {
      if (names.includes(peer)) continue;
      // Only what is not installed may be missing, and the bench says so.
      expect(stderr).toContain(`${peer} is not installed`);
      await annotate(`${peer} is not installed: its scenarios did not run`);
    }
    for (const name of names) {
      const points = report.points.filter(({ system }) => system === name);
      const expected = [...PUBLISHING, ...SEQUENTIAL, ...(name === "flotilla" ? [...HALF, ...REPLAY] : [])];
      expect(points.map(({ scenario }) => scenario).sort()).toEqual(expected.sort());
      for (const { scenario, min, median, max, costs } of points) {
        expect(median, `${name}: ${scenario}`).toBeGreaterThan(0);
        expect(min).toBeLessThanOrEqual(max);
        expect(stdout.toString()).toContain(scenario);
        if (!PUBLISHING.includes(scenario)) continue;
        const { servers, payloadBytes } = costs![0]!;
        expect(servers.cpuSeconds).toBeGreaterThan(0);
        // Three durable copies of what was acknowledged cannot be less than that; NATS may keep the last of it in memory.
        if (name === "flotilla") expect(servers.writtenBytes).toBeGreaterThanOrEqual(2 * payloadBytes);
      }
    }
    expect(report.ceiling.payloadBytesPerSecond).toBeGreaterThan(0);
    const hasPeers = names.length > 1;
    expect(report.figures.map(({ name }) => name)).toEqual(FIGURES);
    for (const { name, measured, wanted } of report.figures) {
      expect(stdout.toString()).toContain(name);
      if (name.includes("peer") && !hasPeers) expect(measured, name).toBeNull();
      else if (!name.includes("RabbitMQ") || names.includes("rabbitmq")) expect(measured, name).toBeGreaterThan(0);
      expect(wanted, name).not.toBeNull();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test(
  "the failover series strikes nodes and links, and reports the time without acks of every partition",
  { timeout: 120_000 },
  async () => {
    const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-test-"));
    try {
      const [file, page] = [join(directory, "report.json"), join(directory, "report.html")];
      const { code, stdout, stderr } = await runProgram(process.execPath, [
        MAIN,
        ...["--failover", "1", "--tiny", "--kinds", "kill,term,mute,many", "--json", file, "--html", page, "--directory", directory],
      ]);
      expect(code, stderr).toBe(0);
      const { runs, many, partitions } = JSON.parse(await readFile(file, "utf8")) as FailoverReport;
      expect(runs.map(({ kind }) => kind).sort()).toEqual(["kill", "mute", "term"]);
      for (const { kind, gaps, errors } of runs) {
        expect(gaps).toHaveLength(partitions);
        expect(gaps.filter(({ wasLedThere }) => wasLedThere)).toHaveLength(partitions / 3);
        for (const { ms, isOver } of gaps) expect([ms > 0, isOver], kind).toEqual([true, true]);
        expect(errors, kind).toEqual({});
      }
      // Nobody noticed the silence before it lasted for the election timeout.
      const silent = runs.find(({ kind }) => kind === "mute")!.gaps.filter(({ wasLedThere }) => wasLedThere);
      for (const { ms, parts } of silent) expect([ms > 400, parts!.noticedMs > 300]).toEqual([true, true]);
      expect(many).toHaveLength(1);
      expect(many[0]).toMatchObject({ partitions: 20, errors: 0 });
      expect(many[0]!.lastMs).toBeGreaterThan(0);
      for (const row of ["SIGKILL", "SIGTERM", "not heard"]) expect(stdout.toString()).toMatch(new RegExp(`^${row}.* flotilla `, "m"));
      expect(await readFile(page, "utf8")).toContain("<circle");
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
);

test("the budget names where the time of a batch goes, in every process", { timeout: 60_000 }, async () => {
  const { code, stdout, stderr } = await runProgram(process.execPath, [MAIN, "--budget", "--tiny", "--sizes", "1024"]);
  expect(code, stderr).toBe(0);
  for (const role of ["client", "leader", "follower"]) expect(stdout.toString()).toMatch(new RegExp(`^${role} +in all +[1-9]\\d+ `, "m"));
  expect(stdout.toString()).toContain("flotilla replica");
});

test("the laggard bench stops a follower and reports memory, rates and the time until it has caught up", { timeout: 120_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-test-"));
  try {
    const file = join(directory, "report.json");
    const { code, stdout, stderr } = await runProgram(process.execPath, [
      MAIN,
      ...["--laggard", "1", "--tiny", "--json", file, "--directory", directory],
    ]);
    expect(code, stderr).toBe(0);
    expect(stdout.toString()).toContain("catching up");
    const report = JSON.parse(await readFile(file, "utf8")) as LaggardReport & FigureReport;
    const { before, stopped, catchingUp, bytesMissed, settled } = report;
    for (const bytes of settled.flatMap((one) => [one.before, one.stopped])) expect(bytes).toBeGreaterThan(1024 * 1024);
    for (const { name, measured } of report.figures) expect(Number.isFinite(measured), name).toBe(true);
    for (const { seconds, recordsPerSecond, peakRssBytes } of [before, stopped, catchingUp]) {
      expect(seconds).toBeGreaterThan(0);
      expect(recordsPerSecond).toBeGreaterThan(0);
      expect(peakRssBytes).toBeGreaterThan(1024 * 1024);
    }
    expect(bytesMissed).toBeGreaterThan(0);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("the groups bench measures every figure of a tiny fleet", { timeout: 120_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-bench-test-"));
  try {
    const file = join(directory, "report.json");
    const { code, stdout, stderr } = await runProgram(process.execPath, [
      MAIN,
      ...["--groups", "60", "--tiny", "--json", file, "--directory", directory],
    ]);
    expect(code, stderr).toBe(0);
    const { groups, topics, figures } = JSON.parse(await readFile(file, "utf8")) as GroupsReport & FigureReport;
    expect({ groups, topics }).toEqual({ groups: 60, topics: 10 });
    expect(figures.length).toBeGreaterThan(12);
    for (const { name, measured } of figures) {
      expect(Number.isFinite(measured), name).toBe(true);
      expect(stdout.toString()).toContain(name);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("the stalls bench sends every request, and each is served or refused as it should be", { timeout: 120_000 }, async () => {
  const { code, stdout, stderr } = await runProgram(process.execPath, [MAIN, "--stalls", "0.1", "--wide", "4"]);
  expect(code, stderr).toBe(0);
  const rows = stdout.toString().split("\n");
  for (const { name } of attacks({ topic: "t", wide: "w", partitions: 4, tiny: "t" }))
    expect(
      rows.filter((row) => row.startsWith(`${name} `)),
      name,
    ).toHaveLength(1);
});

test("what still runs when a benchmark fails has ended before its folder is removed", async () => {
  const running = run(process.execPath, ["--eval", "setInterval(() => {}, 1000)"]);
  await endAll();
  expect(running.child.signalCode).toBe("SIGKILL");
});

test("an unknown peer is named, before anything is started", async () => {
  const { code, stderr } = await runProgram(process.execPath, [MAIN, "--tiny", "--against", "zeromq"]);
  expect(code).not.toBe(0);
  expect(stderr).toContain("--against knows rabbitmq and nats, not zeromq");
  expect(stderr).not.toContain("starting");
});
