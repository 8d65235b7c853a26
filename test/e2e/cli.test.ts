import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { flotilla, type Finished } from "../support/run.ts";

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
}, 60_000);
afterAll(async () => cluster[Symbol.asyncDispose]());

async function run(args: string, input?: string): Promise<Finished> {
  return flotilla(cluster.endpoints[1]!, args.split(" "), input);
}

async function done(args: string, input?: string): Promise<string> {
  const { code, stdout, stderr } = await run(args, input);
  expect(code, `flotilla ${args}\n${stderr}`).toBe(0);
  return stdout.toString();
}

async function json(args: string): Promise<unknown> {
  return JSON.parse(await done(`${args} --output json`));
}

test("cli: a topic is created, listed, described, changed, expanded and deleted", async () => {
  expect(await done("topic create life --partitions 2 --retention-time 7d")).toMatch(/life +2 +3 +fsync +604800000/);
  expect((await run("topic create life --partitions 2 --retention-time 7d")).stderr).toContain("exists already");
  expect(await json("topic list")).toEqual(expect.arrayContaining([expect.objectContaining({ name: "life", partitions: 2, replicas: 3 })]));
  await done("topic update life --durability interval --flush-interval 200ms");
  await done("topic expand life --partitions 4");
  expect(await json("topic describe life")).toMatchObject({
    config: { durability: "interval", flushIntervalMs: 200, retentionMs: 604_800_000 },
    partitions: [0, 1, 2, 3].map((partition) => ({ partition, startOffset: 0, endOffset: 0, error: "" })),
  });
  await done("topic delete life");
  expect(await done("topic list")).not.toContain("life");
});

test("cli: what is published comes back, from where it is asked for, as lines or as json", async () => {
  await done("topic create lines --partitions 1");
  await done("publish lines --key k --quiet", "one\n\nthree");
  expect(await done("consume lines --from earliest --quiet")).toBe("one\n\nthree\n");
  expect(await done("consume lines --from 2 --quiet")).toBe("three\n");
  expect(await done("consume lines --from earliest --count 1 --quiet")).toBe("one\n");
  expect(await done("consume lines --from latest --quiet")).toBe("");
  const [first] = (await done("consume lines --from earliest --format json --quiet")).split("\n");
  expect(JSON.parse(first!)).toMatchObject({ partition: 0, offset: 0, key: "k", body: "one" });
  const before = JSON.parse(first!).storedMs as number;
  expect(await done(`consume lines --from @${before} --quiet`)).toBe("one\n\nthree\n");
  expect(await json(`offsets lines --time @${before + 3_600_000}`)).toMatchObject([{ startOffset: 0, endOffset: 3, records: 3 }]);
});

test("cli: a subscription goes on where it was, shows its lag, and is reset and deleted", async () => {
  await done("topic create work --partitions 1");
  await done("publish work --quiet", "a\nb\nc\n");
  expect(await done("consume work --group billing --from earliest --count 2 --quiet")).toBe("a\nb\n");
  expect(await json("offsets work --group billing")).toMatchObject([{ committedOffset: 2, lag: 1 }]);
  expect(await done("consume work --group billing --quiet")).toBe("c\n");
  expect(await done("subscription list work")).toContain("billing");
  await done("subscription reset work billing --to 1");
  expect(await done("consume work --group billing --quiet")).toBe("b\nc\n");
  await done("subscription delete work billing");
  expect(await done("subscription list work")).not.toContain("billing");
});

test("cli: a reader that has seen enough ends the command without a complaint", async () => {
  await done("topic create many --partitions 1");
  await done("publish many --quiet", "x".repeat(99).concat("\n").repeat(50_000));
  const main = join(import.meta.dirname, "../../dist/src/cli/main.js");
  const { runProgram } = await import("../support/run.ts");
  const script = `set -o pipefail; "$0" "$1" consume many --from earliest --quiet | head -1`;
  const { code, stdout, stderr } = await runProgram("bash", ["-c", script, process.execPath, main], {
    env: { FLOTILLA_ENDPOINTS: cluster.endpoints[0]! },
  });
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout.toString()).toBe(`${"x".repeat(99)}\n`);
});

test("cli: the cluster shows its nodes, and a partition's leader moves where it is told", async () => {
  expect(await done("cluster status")).toMatch(/cluster test: 3 nodes, .* 0 without a leader; controller is node [123]/);
  // Every node tells the others of its disk within seconds.
  let status = "?";
  while (status.includes("?")) status = await done("cluster status");
  expect(status).toMatch(/LOG +LIVE +FREE/);
  expect(status.match(/^[123] +up .* \d+\.\d [MG]iB +\d+(\.\d [KMG]i| )B +\d+\.\d [GT]iB/gm)).toHaveLength(3);
  await done("topic create moved --partitions 1");
  for (const node of [1, 2, 3]) {
    expect(await done(`cluster transfer moved --partition 0 --to ${node}`)).toContain(`node ${node} leads`);
  }
  expect(await done("cluster topology moved")).toMatch(/0 +\d+ +[123] +\d+ +\d,\d,\d/);
});

test("cli: mistakes are named, with what to do about them, and an exit code", async () => {
  const folder = cluster.directory;
  await writeFile(join(folder, "empty.txt"), "");
  await done("topic create here --partitions 2");
  const wrong: { args: string; code: number | null; stderr: string }[] = [];
  for (const [args, code, ...texts] of [
    ["nonsense", 2, "unknown command"],
    ["topic create", 2, "missing required argument"],
    ["topic create here --partitions 0", 2, "--partitions", "1"],
    ["topic create a/b", 2, "INVALID_NAME"],
    ["topic create big --replicas 5", 1, "--replicas"],
    ["topic create here --partitions 7", 1, "TOPIC_EXISTS"],
    ["topic describe nowhere", 3, "UNKNOWN_TOPIC", "topic list"],
    ["topic update here", 2, "nothing to change"],
    ["topic expand here --partitions 1", 1, "partitions"],
    ["publish nowhere", 3, "UNKNOWN_TOPIC", "topic create"],
    ["publish here --partition 9", 3, "UNKNOWN_PARTITION", "topic describe"],
    ["publish here --key-regex (", 2, "--key-regex"],
    [`publish here --file ${folder}/none.txt`, 2, "does not exist"],
    [`publish here --file ${folder}`, 2, "is a folder"],
    ["consume nowhere", 3, "UNKNOWN_TOPIC"],
    ["consume here --from yesterday", 2, "--from"],
    ["consume here --partition 9", 3, "UNKNOWN_PARTITION"],
    ["consume here --from 5", 1, "OFFSET_OUT_OF_RANGE", "--from earliest"],
    ["offsets here --time never", 2, "--time"],
    ["subscription describe here nobody", 3, "UNKNOWN_SUBSCRIPTION"],
    ["subscription reset here s --to 77", 1, "OFFSET_OUT_OF_RANGE"],
    ["cluster transfer here --to 9", 2, "9"],
    ["cluster status --endpoints 127.0.0.1:1", 4, "UNREACHABLE", "--endpoints"],
  ] as const) {
    const finished = await run(args, "line\n");
    const isRight = finished.code === code && texts.every((text) => finished.stderr.includes(text)) && !/\n +at /.test(finished.stderr);
    if (!isRight) wrong.push({ args, code: finished.code, stderr: finished.stderr });
  }
  expect(wrong).toEqual([]);
  expect(await done(`publish here --file ${folder}/empty.txt`)).toBe("");
});

test("cli: a transaction is prepared, listed, described, committed and rolled back, and what is delayed comes when it is told to", async () => {
  await done("queue create later");
  const id = (await done("publish later --prepare --transaction t1 --timeout 1h", "a\nb\n")).trim();
  const other = (await done("publish --exchange= --routing-key later --prepare", "c\n")).trim();
  expect(await json("transaction list")).toMatchObject([
    { id, name: "t1", state: "prepared", targets: [{ name: "later", partition: 0, records: 2 }] },
    { id: other, name: "", state: "prepared" },
  ]);
  expect(await done("transaction describe t1 --name")).toMatch(/later +0 +2/);
  expect(await done("peek later --output json")).toBe("[]\n");
  await done("transaction commit t1 --name");
  await done(`transaction rollback ${other}`);
  await expect.poll(() => json("transaction list"), { timeout: 10_000 }).toEqual([]);
  expect(await done("consume --queue later")).toBe("a\nb\n");
  expect((await run("transaction commit t1 --name")).code).toBe(3);
  expect((await run("publish later --transaction t1", "x\n")).code).toBe(2);
  await done("publish later --delay 1h --quiet", "x\ny\n");
  await done("queue recall later 3");
  await done("queue expedite later 2");
  expect(await done("consume --queue later --count 1")).toBe("x\n");
  expect((await run("queue expedite later 3")).code).toBe(3);
});

test("cli: every command explains itself with an example", async () => {
  for (const command of [
    "serve",
    "dev",
    "publish",
    "consume",
    "offsets",
    "topic create",
    "cluster transfer",
    "transaction commit",
    "queue expedite",
  ]) {
    expect(await done(`${command} --help`), command).toMatch(/Examples:\n {2}flotilla /);
  }
});
