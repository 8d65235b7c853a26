// A disk that is full, that comes and goes, that does not finish its writes: the others go on, nothing is lost, and service
// resumes by itself. Needs root for a small file system of its own, and strace to slow syncs down.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open, readdir, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";

const run = promisify(execFile);
const VICTIM = 2;
const TOPIC = "orders";
const PARTITIONS = 3;
const DISK_MIB = 96;
const MIB = 1024 * 1024;
const WAIT_MS = 30_000;

const canMount = process.getuid?.() === 0 && process.platform === "linux";
const hasStrace =
  canMount &&
  (await run("strace", ["-V"]).then(
    () => true,
    () => false,
  ));

let cluster: TestCluster;
let client: Flotilla;
let load: NumberedLoad;

beforeAll(async () => {
  if (!canMount) return;
  cluster = await startCluster({
    nodes: 3,
    env: {
      FLOTILLA_SEGMENT_BYTES: String(MIB),
      FLOTILLA_DISK_WATERMARK_BYTES: String(24 * MIB),
      FLOTILLA_DISK_RESERVE_BYTES: String(4 * MIB),
      FLOTILLA_SLOW_WRITE_MS: "500",
    },
    // Of the victim's own, so that nobody else's disk gets full.
    prepare: async (node, directory) => {
      if (node !== VICTIM) return;
      await mkdir(directory, { recursive: true });
      await run("mount", ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", directory]);
    },
  });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: TOPIC, partitions: PARTITIONS, replicas: 3 });
  load = new NumberedLoad(await client.producer(TOPIC, { lingerMs: 2 }), 10);
  load.start();
  await load.progress(1_000);
}, 60_000);
afterAll(async () => {
  if (!canMount) return;
  await client.close();
  await Promise.all(cluster.nodeIds.map((node) => cluster.kill(node)));
  await run("umount", [cluster.dataDir(VICTIM)]);
  await cluster[Symbol.asyncDispose]();
});

/** Fills the victim's disk until so much is free. */
async function fill(freeBytes: number): Promise<void> {
  const directory = cluster.dataDir(VICTIM);
  const { bavail, bsize } = await statfs(directory);
  const file = await open(join(directory, "filler"), "a");
  try {
    for (let left = bavail * bsize - freeBytes; left > 0; left -= MIB) await file.write(Buffer.alloc(Math.min(MIB, left)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    await file.close();
  }
}

const empty = (): Promise<void> => rm(join(cluster.dataDir(VICTIM), "filler"), { force: true });

async function until(condition: () => Promise<boolean> | boolean, what: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what} did not happen:\n${cluster.outputOf(VICTIM)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const leaders = async (): Promise<readonly number[]> => (await client.cluster.resolve(TOPIC)).partitions.map(({ leader }) => leader);
const said = (sinceMs: number, words: string): boolean => cluster.loggedSince(VICTIM, sinceMs).some((line) => line.includes(words));
const leadsSomething = async (): Promise<boolean> => (await leaders()).includes(VICTIM);
/** The victim has everything: it takes a leadership over. */
async function leadsAgain(): Promise<void> {
  await cluster.ready(VICTIM);
  for (let partition = 0; partition < PARTITIONS; partition++)
    await client.cluster.transferLeader({ topic: TOPIC, partition, toNode: VICTIM });
  await load.progress(500);
}

test.skipIf(!canMount)("disk: near its end a node leads nothing, and does again when there is space", { timeout: 90_000 }, async () => {
  await until(leadsSomething, "the victim leads");
  const began = Date.now();
  await fill(16 * MIB);
  await until(async () => said(began, '"fitness":"full"') && !(await leadsSomething()), "leaders leave a full disk");
  await load.progress(500);
  await empty();
  await until(() => said(began, "fit again"), "the disk is fit again");
  await leadsAgain();
});

test.skipIf(!canMount)(
  "disk: when it is full in the middle of a write the node waits, and goes on by itself",
  { timeout: 90_000 },
  async () => {
    for (let round = 0; round < 3; round++) {
      const began = Date.now();
      await until(async () => {
        // What the reserve and freed files give back goes, too.
        await fill(0);
        return said(began, "waits for space");
      }, "the disk is full");
      await load.progress(1_000);
      await empty();
      await leadsAgain();
    }
  },
);

test.skipIf(!canMount)(
  "disk: with most disks near their end records are refused, and offsets still taken",
  { timeout: 60_000 },
  async () => {
    await using small = await startCluster({ nodes: 1, env: { FLOTILLA_DISK_WATERMARK_BYTES: String(2 ** 50) } });
    await using lonely = await Flotilla.connect({ endpoints: small.endpoints });
    await lonely.admin.createTopic({ name: TOPIC, partitions: 1, replicas: 1 });
    await expect(lonely.publish(TOPIC, [{ body: "no room" }], { partition: 0 })).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(await lonely.commitOffsets(TOPIC, "reader", [{ partition: 0, offset: 0 }])).toEqual([]);
  },
);

test.skipIf(!hasStrace)(
  "disk: leaders leave a node whose syncs take too long, and come back when they are quick",
  { timeout: 90_000 },
  async () => {
    await until(leadsSomething, "the victim leads");
    const began = Date.now();
    const tracer = spawn("strace", [
      "-f",
      "-q",
      "-o",
      "/dev/null",
      "-e",
      "trace=fdatasync",
      "-e",
      "inject=fdatasync:delay_enter=1500000",
      "-p",
      String(cluster.pid(VICTIM)),
    ]);
    const ended = once(tracer, "exit");
    try {
      await until(async () => said(began, '"fitness":"slow"') && !(await leadsSomething()), "leaders leave a slow disk");
      await load.progress(500);
    } finally {
      tracer.kill("SIGINT");
      await ended;
    }
    await until(() => said(began, "fit again"), "the disk is fit again");
    await leadsAgain();
  },
);

test.skipIf(!hasStrace)(
  "disk: a sync that fails ends the process at once, and a new start has everything",
  { timeout: 60_000 },
  async () => {
    const arguments_ = ["-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"];
    const tracer = spawn("strace", [...arguments_, "-p", String(cluster.pid(VICTIM))]);
    const ended = once(tracer, "exit");
    // After a failed sync nobody knows what is on disk: trying again could take for durable what is not.
    expect(await cluster.exited(VICTIM)).toBe(70);
    expect(cluster.outputOf(VICTIM)).toContain("EIO");
    await ended;
    await load.progress(500);
    cluster.start(VICTIM);
    await cluster.ready(VICTIM);
    await leadsAgain();
  },
);

// Found by seed 77: the node took it for damage of what was there, set its store aside and had all replicas fetched anew.
test.skipIf(!hasStrace)(
  "disk: a write to the store that fails ends the process, and costs nothing of what is there",
  { timeout: 60_000 },
  async () => {
    const began = cluster.outputOf(VICTIM).length;
    const store = join(cluster.dataDir(VICTIM), "store");
    const journals = (await readdir(store)).filter((name) => name.endsWith(".log")).sort();
    const paths = ["-P", join(store, journals[journals.length - 1]!)];
    const inject = ["-e", "trace=write", "-e", "inject=write:error=EIO:when=1"];
    const tracer = spawn("strace", ["-f", "-q", "-o", "/dev/null", ...paths, ...inject, "-p", String(cluster.pid(VICTIM))]);
    const ended = once(tracer, "exit");
    expect(await cluster.exited(VICTIM)).toBe(70);
    await ended;
    expect(cluster.outputOf(VICTIM).slice(began)).toContain("Input/output error");
    cluster.start(VICTIM);
    await cluster.ready(VICTIM);
    await leadsAgain();
    expect(cluster.outputOf(VICTIM).slice(began)).not.toMatch(/set aside|out of service/);
  },
);

test.skipIf(!canMount)("disk: after all that nothing is lost, doubled or out of order, through any node", { timeout: 60_000 }, async () => {
  await load.stop();
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, TOPIC))).toEqual([]);
});
