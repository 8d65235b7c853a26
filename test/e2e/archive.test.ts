// Retention by schedule with archives, from the command line: what was published, trimmed and archived comes back from the files, once.

import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { flotilla, type Finished } from "../support/run.ts";

const WAIT_MS = 30_000;
const EVERY_SECOND = ["--retention-schedule", "* * * * * *"];

let cluster: TestCluster;
let client: Flotilla;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
}, 60_000);
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

function run(args: readonly string[], input?: string): Promise<Finished> {
  return flotilla(cluster.endpoints[0]!, args, input);
}

async function done(args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await run(args, input);
  expect(code, `flotilla ${args.join(" ")}\n${stderr}`).toBe(0);
  return stdout.toString();
}

const dirs = (): string[] => cluster.nodeIds.flatMap((node) => ["--dir", cluster.dataDir(node)]);
const lines = (from: number, end: number): string => Array.from({ length: end - from }, (_, at) => `line ${from + at}\n`).join("");

/** Nothing of the topic is held any more. */
async function trimmed(topic: string, records: number): Promise<void> {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const offsets = await client.getOffsets(topic);
    const gone = offsets.reduce((sum, { startOffset }) => sum + startOffset, 0);
    if (gone === records) return;
    expect(Date.now(), JSON.stringify(offsets)).toBeLessThan(deadline);
    await delay(100);
  }
}

test("archive: records that were trimmed come back from the files of all nodes, each once and in order", async () => {
  const config = ["--retention-time", "1ms", "--retention-policy", "archive", ...EVERY_SECOND];
  await done(["topic", "create", "logs", ...config]);
  await done(["publish", "logs", "--quiet"], lines(0, 500));
  await trimmed("logs", 500);
  // From here on the archive is another node's.
  const { partitions } = JSON.parse(await done(["topic", "describe", "logs", "--output", "json"])) as { partitions: { leader: number }[] };
  const next = (partitions[0]!.leader % 3) + 1;
  await done(["cluster", "transfer", "logs", "--partition", "0", "--to", String(next)]);
  await done(["publish", "logs", "--quiet"], lines(500, 900));
  await trimmed("logs", 900);

  expect(await done(["archive", "cat", ...dirs(), "--topic", "logs"])).toBe(lines(0, 900));
  const listed = JSON.parse(await done(["archive", "list", ...dirs(), "--output", "json"])) as {
    topic: string;
    endOffset: number;
    path: string;
  }[];
  expect(Math.max(...listed.map(({ endOffset }) => endOffset))).toBe(900);
  const [first] = (await done(["archive", "cat", ...dirs(), "--from", "700", "--count", "1", "--format", "json"])).split("\n");
  expect(JSON.parse(first!)).toMatchObject({ partition: 0, offset: 700, body: "line 700" });
  let files = 0;
  for (const node of cluster.nodeIds) files += await cluster.metric(node, "flotilla_archive_files_total");
  expect(files).toBe(listed.length);
});

test("archive: what two files have is printed once; a damaged file and a gap are said, and the rest is printed", async () => {
  await done(["topic", "create", "twice", "--retention-time", "1ms", "--retention-policy", "archive", ...EVERY_SECOND]);
  for (let round = 0; round < 3; round++) {
    await done(["publish", "twice", "--quiet"], lines(round * 10, round * 10 + 10));
    await trimmed("twice", round * 10 + 10);
  }
  const listed = JSON.parse(await done(["archive", "list", ...dirs(), "--topic", "twice", "--output", "json"])) as { path: string }[];
  const folder = join(cluster.directory, "copied");
  await mkdir(folder);
  for (const [at, { path }] of listed.entries()) for (const copy of [0, 1]) await copyFile(path, join(folder, `${at}-${copy}.records`));
  const cat = ["archive", "cat", "--dir", folder];
  expect(await done(cat)).toBe(lines(0, 30));
  // One of two copies is damaged: the other one has it.
  const victim = join(folder, `${listed.length - 1}-0.records`);
  const bytes = await readFile(victim);
  bytes[bytes.length - 40]! ^= 1;
  await writeFile(victim, bytes);
  const damaged = await run(cat);
  expect([damaged.code, damaged.stdout.toString()]).toEqual([1, lines(0, 30)]);
  expect(damaged.stderr).toContain("checksum");
  // Both copies of one in the middle are gone.
  const middle = (await readdir(folder)).filter((name) => name.startsWith("1-"));
  for (const name of middle) await rm(join(folder, name));
  const holed = await run(cat);
  expect(holed.stderr).toMatch(/offsets \d+ to \d+ of twice, partition 0, are in none of these files/);
  expect((await run(["archive", "list", "--dir", join(folder, "nowhere")])).code).toBe(3);
});

test("archive: MetaQ's words are taken, two that contradict each other are not", async () => {
  const policy = ["--delete-policy", "archive,168", "--delete-when", "0 0 6,18 * * ?"];
  const flush = ["--durability", "2", "--unflush-interval", "200", "--unflush-threshold", "1000"];
  await done(["topic", "create", "metaq", ...policy, ...flush]);
  const config = async (): Promise<unknown> =>
    (JSON.parse(await done(["topic", "describe", "metaq", "--output", "json"])) as { config: unknown }).config;
  expect(await config()).toEqual({
    durability: "interval",
    retentionMs: 168 * 3_600_000,
    retentionBytes: 0,
    flushIntervalMs: 200,
    flushMessages: 1_000,
    retentionSchedule: "0 0 6,18 * * ?",
    retentionTimeZone: "",
    retentionPolicy: "archive",
  });
  await done(["topic", "update", "metaq", "--durability", "1", "--delete-policy", "delete,30m", "--retention-schedule", ""]);
  expect(await config()).toMatchObject({
    durability: "fsync",
    retentionMs: 1_800_000,
    retentionPolicy: "delete",
    retentionSchedule: "",
    flushMessages: 1_000,
  });
  const wrong: [args: string[], text: string][] = [
    [["--delete-policy", "archive,168", "--retention-time", "7d"], "--retention-time and --delete-policy say two things"],
    [["--delete-policy", "keep,1"], "must be delete or archive"],
    [["--durability", "3"], "must be fsync, interval or os"],
    [["--delete-when", "now and then"], "is no expression"],
    [["--retention-time-zone", "Mars/Olympus"], "is none that is known"],
  ];
  // The first one says the same in two ways.
  expect((await run(["topic", "update", "metaq", ...wrong[0]![0]])).code).toBe(0);
  wrong[0]![0][3] = "8d";
  for (const [args, text] of wrong) {
    const { code, stderr } = await run(["topic", "update", "metaq", ...args]);
    expect([code, stderr.includes(text)], `${args.join(" ")}\n${stderr}`).toEqual([2, true]);
  }
});
