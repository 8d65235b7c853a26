// The damage matrix: every kind of file of one node x what can happen to it, at rest and while the node runs. Each cell
// must heal by itself, under load, and no record may be lost or served wrong. FLOTILLA_DAMAGE=all runs every cell.

import { cp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";

const VICTIM = 2;
const TOPIC = "orders";
const PARTITIONS = 4;
const HEAL_MS = 60_000;

/** Where each kind of file is; the newest of them unless said otherwise. */
const kinds: Readonly<Record<string, (names: readonly string[]) => string | undefined>> = {
  "sealed segment": (names) => segments(names, "log").at(0),
  "active segment": (names) => segments(names, "log").at(-2),
  "spare segment": (names) => segments(names, "log").at(-1),
  "catalog segment": (names) => segments(names, "catalog").at(0),
  "store table": (names) => names.filter((name) => name.endsWith(".ldb")).at(0),
  "store log": (names) => names.filter((name) => /^store\/\d+\.log$/.test(name)).at(-1),
  "store manifest": (names) => names.find((name) => name.startsWith("store/MANIFEST")),
  "store CURRENT": (names) => names.find((name) => name === "store/CURRENT"),
  "node.json": (names) => names.find((name) => name === "node.json"),
};

type Damage = (path: string, older: string) => Promise<void>;
const damages: Readonly<Record<string, Damage>> = {
  "flip at the start": (path) => flip(path, () => 6),
  "flip in the middle": (path) => flip(path, (length) => length >> 1),
  "flip at the end": (path) => flip(path, (length) => length - 20),
  "flip in 20 places": async (path) => {
    for (let at = 0; at < 20; at++) await flip(path, (length) => Math.floor((at * length) / 20) + 7);
  },
  cut: async (path) => truncate(path, Math.floor((await used(path)) / 2)),
  empty: (path) => truncate(path, 0),
  delete: (path) => rm(path),
  "older copy": (path, older) => cp(older, path),
};
const DAILY: readonly string[] = ["flip in 20 places", "delete"];

let cluster: TestCluster;
let client: Flotilla;
let load: NumberedLoad;
const table: string[] = [];

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3, env: { FLOTILLA_SEGMENT_BYTES: String(256 * 1024) } });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: TOPIC, partitions: PARTITIONS, replicas: 3 });
  load = new NumberedLoad(await client.producer(TOPIC, { lingerMs: 2 }), 20);
  load.start();
  await load.progress(20_000);
}, 60_000);
afterAll(async () => {
  process.stdout.write(`${table.join("\n")}\n`);
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

for (const kind of Object.keys(kinds)) {
  for (const damage of Object.keys(damages)) {
    if (process.env["FLOTILLA_DAMAGE"] !== "all" && !DAILY.includes(damage)) continue;
    test(`damage at rest: ${kind}, ${damage}`, { timeout: 120_000 }, async () => {
      await cluster.kill(VICTIM);
      const path = await find(kind);
      if (path === null) {
        cluster.start(VICTIM);
        await cluster.ready(VICTIM);
        table.push(`${kind} | ${damage} | there is none`);
        return;
      }
      const older = join(cluster.directory, "older");
      const isThere = await readFile(join(older, path)).catch(() => null);
      await damages[damage]!(join(cluster.dataDir(VICTIM), path), isThere === null ? "/dev/null" : join(older, path));
      const began = Date.now();
      cluster.start(VICTIM);
      await cluster.ready(VICTIM);
      await healed();
      table.push(
        `${kind} | ${damage} | healed after ${((Date.now() - began) / 1000).toFixed(1)} s | ${outcomeOf(cluster.outputOf(VICTIM))}`,
      );
      await leadsAll();
      await load.progress(500);
      // For the cells with older copies: as it was before the next one.
      await rm(older, { recursive: true, force: true });
      await cp(cluster.dataDir(VICTIM), older, { recursive: true });
    });
  }
}

test("damage: nothing is lost, doubled or out of order, through any node", { timeout: 60_000 }, async () => {
  await load.stop();
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, TOPIC))).toEqual([]);
});

/** No replica is on its way any more, and every partition is led. */
async function healed(): Promise<void> {
  const deadline = Date.now() + HEAL_MS;
  for (;;) {
    const moves = await client.cluster.listMoves().catch(() => null);
    const info = await client.cluster.describe().catch(() => null);
    if (moves?.length === 0 && info?.leaderlessGroups === 0 && info.nodes.every(({ alive }) => alive)) return;
    if (Date.now() > deadline) throw new Error(`not healed: ${JSON.stringify(moves)} ${JSON.stringify(info)}\n${cluster.outputOf(VICTIM)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The healed node must be as good as any: it leads every partition, serves all of it, and gives the leadership back. */
async function leadsAll(): Promise<void> {
  const before = (await client.cluster.resolve(TOPIC)).partitions.map(({ leader }) => leader);
  for (let partition = 0; partition < PARTITIONS; partition++) {
    await client.cluster.transferLeader({ topic: TOPIC, partition, toNode: VICTIM });
  }
  const acked = [...load.acked];
  const received = await readAll(cluster.endpoints[VICTIM - 1]!, TOPIC);
  expect(violations(acked, received)).toEqual([]);
  for (const [partition, leader] of before.entries()) await client.cluster.transferLeader({ topic: TOPIC, partition, toNode: leader });
}

async function find(kind: string): Promise<string | null> {
  const directory = cluster.dataDir(VICTIM);
  const names = (await readdir(directory, { recursive: true })).sort();
  return kinds[kind]!(names) ?? null;
}

function segments(names: readonly string[], folder: string): string[] {
  return names.filter((name) => name.startsWith(`${folder}/`) && name.endsWith(".seg"));
}

/** Bytes up to the last one that is not zero. */
async function used(path: string): Promise<number> {
  const bytes = await readFile(path);
  let length = bytes.length;
  while (length > 0 && bytes[length - 1] === 0) length -= 1;
  return length;
}

async function flip(path: string, place: (length: number) => number): Promise<void> {
  const { size } = await stat(path);
  const bytes = await readFile(path);
  const at = Math.max(0, Math.min(size - 1, place(await used(path))));
  if (bytes.length === 0) return;
  bytes[at]! ^= 0x10;
  await writeFile(path, bytes);
}

/** What the node did about it, from its log. */
function outcomeOf(output: string): string {
  const found = [
    "is damaged and out of service",
    "damaged data is set aside",
    "joins again",
    "fetched again from the other",
    "is written again",
    "restarts its parts",
  ];
  const said = found.filter((words) => output.includes(words));
  const reason = /"reason":"([^"]*)"/.exec(output)?.[1];
  return said.length === 0 ? "no harm" : `${said.join(", ")}: ${reason ?? ""}`;
}
