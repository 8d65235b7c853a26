// What thousands of groups cost: `npm run bench -- --groups 10000`. Three nodes, every group with three replicas: made in
// bulk, at rest, one node killed and started again, one stopped and started again, all deleted. Each figure stands beside
// the one that is wanted.

import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Flotilla } from "../src/client/index.ts";
import { costOf } from "./accounting.ts";
import type { Figure, FigureRun } from "./figures.ts";
import { Nodes, NODES } from "./nodes.ts";

type GroupsPlan = {
  readonly groups: number;
  /** How long the processor time at rest is taken. */
  readonly restSeconds: number;
  readonly progress: (text: string) => void;
};
export type GroupsReport = { readonly groups: number; readonly topics: number };

const TOPICS = 10;
const PARTITIONS_MAX = 1_000;
/** Calls under way at one time. */
const CALLS = 4;
const POLL_MS = 20;
const PHASE_TIMEOUT_MS = 60_000;
const MIB = 1024 * 1024;

export async function runGroups(directory: string, plan: GroupsPlan): Promise<FigureRun> {
  const folder = join(directory, "groups");
  mkdirSync(folder);
  const nodes = await Nodes.start(folder, { settles: true });
  try {
    const client = await Flotilla.connect({ endpoints: nodes.endpoints, deadlineMs: PHASE_TIMEOUT_MS });
    try {
      return await new GroupsBench(nodes, client, plan).run();
    } finally {
      await client.close();
    }
  } finally {
    await nodes.stop();
  }
}

class GroupsBench {
  private readonly nodes: Nodes;
  private readonly client: Flotilla;
  private readonly plan: GroupsPlan;
  private readonly topics: { readonly name: string; readonly partitions: number }[] = [];
  private readonly figures: Figure[] = [];

  constructor(nodes: Nodes, client: Flotilla, plan: GroupsPlan) {
    this.nodes = nodes;
    this.client = client;
    this.plan = plan;
    const count = Math.min(plan.groups, Math.max(TOPICS, Math.ceil(plan.groups / PARTITIONS_MAX)));
    for (let at = 0; at < count; at++)
      this.topics.push({ name: `groups-${at}`, partitions: Math.floor(plan.groups / count) + (at < plan.groups % count ? 1 : 0) });
  }

  async run(): Promise<FigureRun> {
    const emptyMemory = await Promise.all(NODES.map((node) => this.nodes.settledBytes(node)));
    const emptyDisk = NODES.map((node) => this.diskBytes(node));
    await this.create();
    await this.rest(emptyMemory);
    await this.listings();
    await this.loss();
    await this.gracefulRestart(emptyMemory);
    await this.deleteAll(emptyMemory, emptyDisk);
    const report: GroupsReport = { groups: this.plan.groups, topics: this.topics.length };
    const head = `${report.groups} groups (${report.topics} topics), three replicas each, on three nodes\n`;
    return { report, figures: this.figures, head };
  }

  private async create(): Promise<void> {
    const { admin } = this.client;
    const start = performance.now();
    const left = [...this.topics];
    const caller = async (): Promise<void> => {
      for (let topic = left.shift(); topic !== undefined; topic = left.shift()) await admin.createTopic({ ...topic, replicas: 3 });
    };
    const calls = Promise.all(Array.from({ length: CALLS }, caller));
    await Promise.all([calls, this.allLed("creating groups", NODES)]);
    this.figure("created, every partition led as every node sees it", "s", seconds(start), 20);
  }

  private async rest(emptyMemory: readonly number[]): Promise<void> {
    const start = performance.now();
    // The catalog's own group never rests for long: it hears of each node's news.
    await this.every("coming to rest", NODES, "flotilla_groups_resting", (resting) => resting, this.plan.groups);
    this.figure("all at rest after that", "s", seconds(start), null);
    this.plan.progress(`measuring ${this.plan.restSeconds} s at rest`);
    const before = NODES.map((node) => costOf([this.nodes.pid(node)]).cpuSeconds);
    const since = performance.now();
    await delay(this.plan.restSeconds * 1_000);
    const passed = seconds(since);
    const used = NODES.map((node, at) => costOf([this.nodes.pid(node)]).cpuSeconds - before[at]!);
    this.figure("processor time at rest, of one core, the busiest node", "%", (Math.max(...used) / passed) * 100, 3);
    const memory = await Promise.all(NODES.map((node) => this.nodes.settledBytes(node)));
    const perGroup = memory.map((bytes, at) => (bytes - emptyMemory[at]!) / this.plan.groups / 1024);
    this.figure("resident memory of one idle group, the largest node", "KiB", Math.max(...perGroup), 10);
  }

  /** What people and scrapers ask for stays quick and small. */
  private async listings(): Promise<void> {
    const { name } = this.topics[0]!;
    let start = performance.now();
    const page = await (await this.nodes.get(1, "metrics")).text();
    this.figure("the metrics page", "ms", performance.now() - start, 100);
    this.figure("its size", "KiB", page.length / 1024, 64);
    start = performance.now();
    await this.client.admin.listTopics();
    this.figure("listing the topics", "ms", performance.now() - start, null);
    start = performance.now();
    const { partitions } = await this.client.admin.describeTopic(name);
    this.figure(`describing a topic of ${partitions.length} partitions`, "ms", performance.now() - start, 1_000);
  }

  private async loss(): Promise<void> {
    const { nodes } = this;
    const victim = NODES[1];
    const survivors = NODES.filter((node) => node !== victim);
    const led = await nodes.metric(victim, "flotilla_groups_leading");
    this.figure("led by the node that is killed", "groups", led, null);
    let start = performance.now();
    nodes.kill(victim);
    await this.allLed("after SIGKILL", survivors);
    this.figure("after SIGKILL: all led again as every survivor sees it", "s", seconds(start), 3);
    start = performance.now();
    nodes.launch(victim);
    await this.serving(victim);
    this.figure("the killed node started again: serves, all replicas open", "s", seconds(start), 10);
    start = performance.now();
    const wanted = await this.preferredOn(victim);
    await this.every("leaders go home", [victim], "flotilla_groups_leading", (leading) => leading, wanted);
    this.figure("its leaderships back where they are wanted", "s", seconds(start), null);
  }

  /** Groups that the node is to lead. */
  private async preferredOn(node: number): Promise<number> {
    let count = 0;
    for (const { name } of this.topics)
      for (const { replicas } of (await this.client.cluster.resolve(name)).partitions) if (replicas[0] === node) count += 1;
    return count;
  }

  private async gracefulRestart(emptyMemory: readonly number[]): Promise<void> {
    const { nodes } = this;
    const node = NODES[2];
    let start = performance.now();
    await nodes.end(node, PHASE_TIMEOUT_MS);
    this.figure("a node stopped with SIGTERM", "s", seconds(start), 12);
    start = performance.now();
    await this.allLed(
      "after SIGTERM",
      NODES.filter((other) => other !== node),
    );
    this.figure("all led as the others see it, after its end", "s", seconds(start), 3);
    start = performance.now();
    nodes.launch(node);
    await this.serving(node);
    this.figure("the stopped node started again: serves, all replicas open", "s", seconds(start), 10);
    await this.every("coming to rest", [node], "flotilla_groups_resting", (resting) => resting, this.plan.groups);
    const memory = (await this.nodes.settledBytes(node)) - emptyMemory[node - 1]!;
    this.figure("resident memory of one idle group, on a node started anew", "KiB", memory / this.plan.groups / 1024, 10);
  }

  private async deleteAll(emptyMemory: readonly number[], emptyDisk: readonly number[]): Promise<void> {
    const start = performance.now();
    for (const { name } of this.topics) await this.client.admin.deleteTopic(name);
    await this.every("deleting", NODES, "flotilla_groups", (groups) => this.plan.groups + 1 - groups, this.plan.groups);
    this.figure("deleted, no replica left on any node", "s", seconds(start), 20);
    // What was deleted is dead in the log once it is written there, and gone from the store after its next tidying.
    await delay(3_000);
    const memory = await Promise.all(NODES.map((node) => this.nodes.settledBytes(node)));
    // V8 gives its pages back; of what LevelDB and Node took for many small reads at once, the C library keeps some.
    this.figure(
      "memory above the empty node, the largest",
      "MiB",
      Math.max(...memory.map((bytes, at) => bytes - emptyMemory[at]!)) / MIB,
      64,
    );
    const disk = NODES.map((node, at) => this.diskBytes(node) - emptyDisk[at]!);
    this.figure("disk above the empty node, the largest", "MiB", Math.max(...disk) / MIB, 16);
  }

  private figure(name: string, unit: string, measured: number, most: number | null): void {
    this.figures.push({ name, unit, measured, wanted: most === null ? null : { atMost: most } });
    this.plan.progress(`${name}: ${measured.toFixed(2)} ${unit}`);
  }

  /** Each of the groups, the catalog's among them, is led by one of `nodes`, and every one of them knows who leads each. */
  private async allLed(what: string, nodes: readonly number[]): Promise<void> {
    const all = this.plan.groups + 1;
    await this.until(
      what,
      async () => {
        const leading = await Promise.all(nodes.map((node) => this.nodes.metric(node, "flotilla_groups_leading")));
        const leaderless = await Promise.all(nodes.map((node) => this.nodes.metric(node, "flotilla_groups_leaderless")));
        const led = leading.reduce((sum, count) => sum + count, 0);
        return led >= all && leaderless.every((count) => count === 0) ? all : Math.min(led, all - 1);
      },
      all,
    );
  }

  private async serving(node: number): Promise<void> {
    await this.nodes.ready(node);
    await this.every("opening replicas", [node], "flotilla_groups", (groups) => groups, this.plan.groups + 1);
  }

  /** Waits until `done` of the metric is at least `all` on each node. */
  private async every(what: string, nodes: readonly number[], metric: string, done: (value: number) => number, all: number): Promise<void> {
    await this.until(
      what,
      async () => Math.min(...(await Promise.all(nodes.map(async (node) => done(await this.nodes.metric(node, metric)))))),
      all,
    );
  }

  /** Waits until `count` reaches `all`, and says once a second how far it is and how long it may take. */
  private async until(what: string, count: () => Promise<number>, all: number): Promise<void> {
    const start = performance.now();
    let told = start;
    for (;;) {
      const done = await count().catch(() => Number.NaN);
      if (done >= all) return;
      const now = performance.now();
      if (now - start > PHASE_TIMEOUT_MS)
        throw new Error(
          `${what}: ${done} of ${all} after ${PHASE_TIMEOUT_MS / 1_000} s\n${NODES.map((node) => this.nodes.outputOf(node)).join("\n")}`,
        );
      if (now - told > 1_000) {
        told = now;
        const eta = done > 0 ? ((now - start) / done) * (all - done) : Number.NaN;
        this.plan.progress(`${what}: ${done} of ${all}${Number.isFinite(eta) ? `, about ${(eta / 1_000).toFixed(0)} s left` : ""}`);
      }
      await delay(POLL_MS);
    }
  }

  /** Bytes that the node's files occupy. */
  private diskBytes(node: number): number {
    let bytes = 0;
    for (const entry of readdirSync(this.nodes.dataDir(node), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      try {
        bytes += statSync(join(entry.parentPath, entry.name)).blocks * 512;
      } catch {
        // Gone meanwhile.
      }
    }
    return bytes;
  }
}

function seconds(startMs: number): number {
  return (performance.now() - startMs) / 1_000;
}
