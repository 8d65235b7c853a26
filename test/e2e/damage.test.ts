// The damage matrix: every kind of file of one node x what can happen to it, at rest and while the node runs. Each cell
// must heal by itself, under load, and no record may be lost or served wrong. FLOTILLA_DAMAGE=all runs every cell.

import { cp, open, readdir, readFile, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";

const VICTIM = 2;
const TOPIC = "orders";
const PARTITIONS = 4;
const HEAL_MS = 60_000;

type Files = { readonly names: readonly string[]; readonly segments: (folder: string) => { used: string[]; spare: string[] } };

/** Where each kind of file is. */
const kinds: Readonly<Record<string, (files: Files) => string | undefined>> = {
  "sealed segment": ({ segments }) => segments("log").used.at(-2),
  "active segment": ({ segments }) => segments("log").used.at(-1),
  "spare segment": ({ segments }) => segments("log").spare.at(-1),
  "catalog segment": ({ segments }) => segments("catalog").used.at(-1),
  "store table": ({ names }) => names.find((name) => name.endsWith(".ldb")),
  "store log": ({ names }) => names.filter((name) => /^store\/\d+\.log$/.test(name)).at(-1),
  "store manifest": ({ names }) => names.find((name) => name.startsWith("store/MANIFEST")),
  "store CURRENT": ({ names }) => names.find((name) => name === "store/CURRENT"),
  "node.json": ({ names }) => names.find((name) => name === "node.json"),
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
const isDaily = process.env["FLOTILLA_DAMAGE"] !== "all";

const SETTINGS = {
  FLOTILLA_SEGMENT_BYTES: String(256 * 1024),
  FLOTILLA_SCRUB_BYTES_PER_SECOND: String(256 * 1024 * 1024),
  FLOTILLA_SCRUB_PAUSE_MS: "200",
  FLOTILLA_LOG_LEVEL: "debug",
};

let cluster: TestCluster;
let client: Flotilla;
let load: NumberedLoad;
const table: string[] = [];

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3, env: SETTINGS });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  await client.admin.createTopic({ name: TOPIC, partitions: PARTITIONS, replicas: 3 });
  load = new NumberedLoad(await client.producer(TOPIC, { lingerMs: 2 }), 20, 20);
  load.start();
  await load.progress(10_000);
}, 60_000);
afterAll(async () => {
  process.stdout.write(`${table.join("\n")}\n`);
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

for (const kind of Object.keys(kinds)) {
  for (const damage of Object.keys(damages)) {
    if (isDaily && !DAILY.includes(damage)) continue;
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
      table.push(`${kind} | ${damage} | healed after ${((Date.now() - began) / 1000).toFixed(1)} s | ${outcomeOf(began)}`);
      await leadsAll();
      await load.progress(200);
      // For the cells with older copies: as it was before the next one.
      await rm(older, { recursive: true, force: true });
      await cp(cluster.dataDir(VICTIM), older, { recursive: true });
    });
  }
}

/** Found by reading or by the scrubber, or made up for by writing again; what nobody reads until a restart is dealt with then. */
for (const kind of Object.keys(kinds)) {
  for (const damage of Object.keys(damages)) {
    if (damage === "older copy" || (isDaily && damage !== "flip in 20 places")) continue;
    test(`damage while running: ${kind}, ${damage}`, { timeout: 120_000 }, async () => {
      const path = await find(kind);
      if (path === null) {
        table.push(`${kind} | ${damage} while running | there is none`);
        return;
      }
      const began = Date.now();
      await damages[damage]!(join(cluster.dataDir(VICTIM), path), "");
      await scrubbed();
      await healed();
      const found = outcomeOf(began);
      table.push(`${kind} | ${damage} while running | healed after ${((Date.now() - began) / 1000).toFixed(1)} s | ${found}`);
      await leadsAll();
      await cluster.kill(VICTIM);
      cluster.start(VICTIM);
      await cluster.ready(VICTIM);
      await healed();
      await leadsAll();
      await load.progress(200);
    });
  }
}

test("damage: nothing is lost, doubled or out of order, through any node", { timeout: 60_000 }, async () => {
  await load.stop();
  for (const endpoint of cluster.endpoints) expect(violations(load.acked, await readAll(endpoint, TOPIC))).toEqual([]);
});

/** The victim has read everything once more, from beginning to end. */
async function scrubbed(): Promise<void> {
  const began = Date.now();
  const rounds = (): number => cluster.loggedSince(VICTIM, began).filter((line) => line.includes("everything was read once")).length;
  const deadline = Date.now() + HEAL_MS;
  while (rounds() < 2) {
    if (Date.now() > deadline) throw new Error(`not scrubbed:\n${cluster.outputOf(VICTIM)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

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
  const headers = new Map<string, Buffer>();
  for (const name of names.filter((one) => one.endsWith(".seg"))) {
    // A running node may take a spare file into use meanwhile.
    const bytes = await readFile(join(directory, name)).catch(() => null);
    if (bytes !== null) headers.set(name, bytes.subarray(0, 32));
  }
  const segments = (folder: string): { used: string[]; spare: string[] } => {
    const files = [...headers.keys()].filter((name) => name.startsWith(`${folder}/`));
    // A file in use says its own number; what a former life left says another.
    const isUsed = (name: string): boolean =>
      headers.get(name)!.toString("latin1", 0, 4) === "FLSG" &&
      name.includes(`/${String(headers.get(name)!.readUInt32LE(8)).padStart(10, "0")}.`);
    return { used: files.filter(isUsed), spare: files.filter((name) => !isUsed(name)) };
  };
  return kinds[kind]!({ names, segments }) ?? null;
}

/** Bytes up to the last one that is not zero. */
async function used(path: string): Promise<number> {
  const bytes = await readFile(path);
  let length = bytes.length;
  while (length > 0 && bytes[length - 1] === 0) length -= 1;
  return length;
}

/** Changes one bit where it stands, under whoever has the file open. */
async function flip(path: string, place: (length: number) => number): Promise<void> {
  const length = await used(path);
  if (length === 0) return;
  const file = await open(path, "r+");
  try {
    const at = Math.max(0, Math.min(length - 1, place(length)));
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0]! ^= 0x10;
    await file.write(byte, 0, 1, at);
  } finally {
    await file.close();
  }
}

/** What the node did about it, from its log. */
function outcomeOf(sinceMs: number): string {
  const output = cluster.loggedSince(VICTIM, sinceMs).join("\n");
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
