// Whatever clients ask, and however often: the event loops of the nodes stay quick enough that nobody is elected, and the
// load of everybody else goes on. And a node that is stopped for a while costs those groups an election that it led, no more.

import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { spawn } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { attacks, type Targets } from "../../bench/attacks.ts";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { NumberedLoad, readAll, violations } from "../support/load.ts";

const ATTACK = fileURLToPath(new URL("../../dist/bench/attack.js", import.meta.url));
const TARGETS: Targets = { topic: "victim", wide: "wide", partitions: 60, tiny: "tiny" };
const TOPIC = "load";
const ELECTION_TIMEOUT_MS = 1_000;

let cluster: TestCluster;
let client: Flotilla;
let load: NumberedLoad;

beforeAll(async () => {
  // Twice the default: the cores are shared with those who ask, and with other tests. What a request without bounds does to
  // an event loop takes many times as long.
  cluster = await startCluster({ nodes: 3, env: { FLOTILLA_ELECTION_TIMEOUT_MS: String(ELECTION_TIMEOUT_MS) } });
  client = await Flotilla.connect({ endpoints: cluster.endpoints });
  for (const [name, partitions] of [
    [TOPIC, 3],
    [TARGETS.topic, 3],
    [TARGETS.wide, TARGETS.partitions],
    [TARGETS.tiny, 1],
  ] as const)
    await client.admin.createTopic({ name, partitions });
  await attack(1, 1.5, { ...TARGETS, topic: TARGETS.tiny }, ["PublishStream, frames of 1,024 batches"]);
  await settled();
  load = new NumberedLoad(await client.producer(TOPIC, { lingerMs: 1 }), 4, 4);
  load.start();
});
afterAll(async () => {
  await client.close();
  await cluster[Symbol.asyncDispose]();
});

/** Sends them to a node, in turn; resolves with the calls that ended, by name and gRPC status. */
async function attack(
  node: number,
  seconds: number,
  targets: Targets,
  names: readonly string[],
): Promise<Record<string, Record<string, number>>> {
  const child = spawn(process.execPath, [ATTACK, cluster.endpoints[node - 1]!, String(seconds), JSON.stringify(targets), ...names]);
  let [output, complaints] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (complaints += chunk.toString()));
  const [code] = (await once(child, "close")) as [number];
  expect(code, complaints).toBe(0);
  return JSON.parse(output) as Record<string, Record<string, number>>;
}

/** The terms of all groups, and the elections that every node saw, those of the catalog among them. */
async function elections(): Promise<{
  readonly terms: Record<string, number>;
  readonly leaders: Record<string, number>;
  readonly seen: number[];
}> {
  const terms: Record<string, number> = {};
  const leaders: Record<string, number> = {};
  for (const topic of [TOPIC, TARGETS.topic, TARGETS.wide, TARGETS.tiny]) {
    for (const { partition, term, leader } of (await client.cluster.resolve(topic)).partitions) {
      terms[`${topic}/${partition}`] = Number(term);
      leaders[`${topic}/${partition}`] = leader;
    }
  }
  const seen = await Promise.all(cluster.nodeIds.map(async (node) => (await metrics(node)).get("flotilla_terms_begun_total")!));
  return { terms, leaders, seen };
}

/** Every group has the leader that its placement wants, so that none moves by itself any more. */
async function settled(): Promise<void> {
  for (;;) {
    let isSettled = true;
    for (const topic of [TOPIC, TARGETS.topic, TARGETS.wide, TARGETS.tiny])
      for (const { leader, replicas } of (await client.cluster.resolve(topic)).partitions) if (leader !== replicas[0]) isSettled = false;
    if (isSettled) return;
    await delay(100);
  }
}

async function metrics(node: number): Promise<ReadonlyMap<string, number>> {
  const lines = (await cluster.metrics(node)).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}

test("event loop: no request, legal or not, however often, makes anybody be elected or the load stop", { timeout: 120_000 }, async () => {
  const before = await elections();
  const acked = load.acked.length;
  const names = attacks(TARGETS).map(({ name }) => name);
  const outcomes = await Promise.all([attack(1, 10, TARGETS, names), attack(2, 10, TARGETS, [...names].reverse())]);
  await load.progress(100);
  expect(await elections()).toEqual(before);
  expect(load.acked.length - acked).toBeGreaterThan(500);
  for (const { name, isLegal, more } of attacks(TARGETS)) {
    for (const outcome of outcomes) {
      const ended = outcome[name]!;
      const statuses = Object.keys(ended).filter((status) => status !== "");
      if (more === undefined) expect(statuses.length, name).toBeGreaterThan(0);
      if (!isLegal) expect(statuses, `${name} was served`).not.toContain("0");
    }
  }
});

test("event loop: its delay is a histogram of the metrics that only grows", async () => {
  const [first, second] = [await metrics(1), await delay(200).then(() => metrics(1))];
  const count = "flotilla_event_loop_delay_seconds_count";
  expect(second.get(count)!).toBeGreaterThan(first.get(count)!);
  expect(second.get('flotilla_event_loop_delay_seconds_bucket{le="+Inf"}')).toBe(second.get(count));
  expect(second.get("flotilla_event_loop_delay_seconds_sum")!).toBeGreaterThanOrEqual(first.get("flotilla_event_loop_delay_seconds_sum")!);
  for (const name of ['flotilla_event_loop_stalls_total{at_least="0.5"}', "flotilla_event_loop_delay_p99_seconds"])
    expect(second.has(name), name).toBe(true);
});

test("event loop: beside it stand the times of writes and of commits", async () => {
  await load.progress(100);
  const nodes = await Promise.all(cluster.nodeIds.map(metrics));
  for (const metric of nodes) {
    const writes = metric.get('flotilla_log_write_seconds_count{log="data"}')!;
    expect(writes).toBeGreaterThan(0);
    expect(metric.get('flotilla_log_write_seconds_bucket{log="data",le="+Inf"}')).toBe(writes);
  }
  const sum = (name: string): number => nodes.reduce((all, metric) => all + metric.get(name)!, 0);
  expect(sum("flotilla_commit_seconds_count")).toBeGreaterThan(0);
  // A commit takes a write, here or on a majority of the others.
  const mean = (name: string, labels = ""): number => sum(`${name}_sum${labels}`) / sum(`${name}_count${labels}`);
  expect(mean("flotilla_commit_seconds")).toBeGreaterThan(mean("flotilla_log_write_seconds", '{log="data"}') / 4);
});

test("event loop: nodes that stop at the same time, for six election timeouts, elect nobody when they go on", async () => {
  const before = await elections();
  for (const node of cluster.nodeIds) cluster.signal(node, "SIGSTOP");
  await delay(6 * ELECTION_TIMEOUT_MS);
  for (const node of cluster.nodeIds) cluster.signal(node, "SIGCONT");
  await load.progress(100);
  await delay(1_000);
  expect(await elections()).toEqual(before);
  expect(cluster.nodeIds.map((node) => cluster.outputOf(node)).join("")).toContain("the event loop stalled");
});

test("event loop: a node that stops for six election timeouts disturbs no group that it does not lead", async () => {
  const before = await elections();
  cluster.signal(3, "SIGSTOP");
  await delay(6 * ELECTION_TIMEOUT_MS);
  cluster.signal(3, "SIGCONT");
  await load.progress(100);
  await delay(1_000);
  const after = await elections();
  for (const [group, leader] of Object.entries(before.leaders)) {
    if (leader !== 3) expect(after.terms[group], group).toBe(before.terms[group]);
  }
});

test("event loop: after all that nothing is lost, doubled or out of order", async () => {
  await load.stop();
  expect(violations(load.acked, await readAll(cluster.endpoints[0]!, TOPIC))).toEqual([]);
});
