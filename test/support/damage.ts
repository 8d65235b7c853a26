// What can happen to the files of a node, and a cluster on which it happens, cell by cell of a matrix: every kind of file of
// one node x every kind of damage. Each must heal by itself, under load, and no record may be lost or served wrong.
// FLOTILLA_DAMAGE=all runs every cell. A line says what each came to as it ends.

import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { DAMAGES, find, KINDS } from "../../bench/damaged-files.ts";
import { Flotilla } from "../../src/client/index.ts";
import { startCluster, type TestCluster } from "./cluster.ts";
import { NumberedLoad, readAll, violations } from "./load.ts";

const VICTIM = 2;
const PARTITIONS = 4;
const HEAL_MS = 60_000;
/** Again and again until there are sealed segments. */
const RECORDS_FIRST = 500;
/** After each cell. */
const RECORDS_MORE = 100;

export { DAMAGES, KINDS };

export const isDaily = process.env["FLOTILLA_DAMAGE"] !== "all";

const SETTINGS = {
  FLOTILLA_SEGMENT_BYTES: String(256 * 1024),
  FLOTILLA_SCRUB_BYTES_PER_SECOND: String(256 * 1024 * 1024),
  FLOTILLA_SCRUB_PAUSE_MS: "100",
  FLOTILLA_LOG_LEVEL: "debug",
};

export class DamageBench {
  private readonly cluster: TestCluster;
  private readonly client: Flotilla;
  /** A topic per kind of file: neither the data nor what the load remembers of it grows with the matrix. */
  private topic = "";
  private load!: NumberedLoad;

  static async start(): Promise<DamageBench> {
    const cluster = await startCluster({ nodes: 3, env: SETTINGS });
    return new DamageBench(cluster, await Flotilla.connect({ endpoints: cluster.endpoints }));
  }

  private constructor(cluster: TestCluster, client: Flotilla) {
    this.cluster = cluster;
    this.client = client;
  }

  /** Load on a topic of its own. */
  async begin(kind: string): Promise<void> {
    this.topic = kind.replaceAll(" ", "-");
    await this.client.admin.createTopic({ name: this.topic, partitions: PARTITIONS, replicas: 3 });
    this.load = new NumberedLoad(await this.client.producer(this.topic, { lingerMs: 2 }), 20, 10);
    this.load.start();
    do await this.load.progress(RECORDS_FIRST);
    while (!(await this.has("sealed segment")));
    await this.keepCopy();
  }

  /** Nothing is lost, doubled or out of order, through any node. */
  async judge(): Promise<void> {
    await this.load.stop();
    for (const endpoint of this.cluster.endpoints) expect(violations(this.load.acked, await readAll(endpoint, this.topic))).toEqual([]);
  }

  async finish(): Promise<void> {
    await this.load.stop();
    await this.client.admin.deleteTopic(this.topic);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
    await this.cluster[Symbol.asyncDispose]();
  }

  async atRest(kind: string, damage: string): Promise<void> {
    if (!(await this.has(kind))) await this.restart();
    await this.cluster.kill(VICTIM);
    const isThere = await this.damage(kind, damage);
    const began = Date.now();
    this.cluster.start(VICTIM);
    await this.cluster.ready(VICTIM);
    if (!isThere) return say(`${kind} | ${damage} | there is none`);
    await this.healed();
    const healedMs = Date.now() - began;
    await this.leadsAll();
    // What nobody reads at a start is read by the scrubber.
    await this.scrubbed(began, 1);
    await this.healed();
    say(`${kind} | ${damage} | healed after ${(healedMs / 1000).toFixed(1)} s | ${this.outcome(began)}`);
    await this.load.progress(RECORDS_MORE);
    await this.keepCopy();
  }

  /** Found by reading or by the scrubber, or made up for by writing again; what nobody reads until a restart is dealt with then. */
  async running(kind: string, damage: string): Promise<void> {
    if (!(await this.has(kind))) await this.restart();
    const began = Date.now();
    if (!(await this.damage(kind, damage))) return say(`${kind} | ${damage} while running | there is none`);
    // The round under way may be past it.
    const hasLived = await this.scrubbed(began, 2);
    await this.healed();
    const healedMs = Date.now() - began;
    await this.leadsAll();
    await this.healed();
    const outcome = hasLived ? this.outcome(began) : "ended, and was started again";
    const restarted = Date.now();
    await this.restart();
    await this.healed();
    await this.leadsAll();
    say(
      `${kind} | ${damage} while running | healed after ${(healedMs / 1000).toFixed(1)} s | ${outcome} | after a restart: ${this.outcome(restarted)}`,
    );
    await this.load.progress(RECORDS_MORE);
  }

  private async has(kind: string): Promise<boolean> {
    return (await find(kind, this.cluster.dataDir(VICTIM))) !== null;
  }

  /** The store makes a table of its log only then. */
  private async restart(): Promise<void> {
    await this.cluster.kill(VICTIM);
    this.cluster.start(VICTIM);
    await this.cluster.ready(VICTIM);
  }

  /** False when the victim has no such file. */
  private async damage(kind: string, damage: string): Promise<boolean> {
    const path = await find(kind, this.cluster.dataDir(VICTIM));
    const older = await find(kind, this.olderDir);
    if (path === null || (older === null && damage === "older copy")) return false;
    await DAMAGES[damage]!(join(this.cluster.dataDir(VICTIM), path), join(this.olderDir, older ?? ""));
    return true;
  }

  private get olderDir(): string {
    return join(this.cluster.directory, "older");
  }

  /** For the cells with older copies: as it is before the next one. */
  private async keepCopy(): Promise<void> {
    await rm(this.olderDir, { recursive: true, force: true });
    // What a running node removes meanwhile is no part of it.
    await cp(this.cluster.dataDir(VICTIM), this.olderDir, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
  }

  /** The victim has ended so many rounds of reading everything. False: it ended itself, and was started again. */
  private async scrubbed(sinceMs: number, rounds: number): Promise<boolean> {
    const deadline = Date.now() + HEAL_MS;
    let hasLived = true;
    let since = sinceMs;
    for (;;) {
      const done = this.cluster.loggedSince(VICTIM, since).filter((line) => line.includes("everything was read once")).length;
      if (done >= rounds) return hasLived;
      if (!this.cluster.isRunning(VICTIM)) {
        if (!hasLived) throw new Error(`it ended a second time:\n${this.cluster.outputOf(VICTIM)}`);
        hasLived = false;
        since = Date.now();
        this.cluster.start(VICTIM);
        await this.cluster.ready(VICTIM);
      }
      if (Date.now() > deadline) throw new Error(`not scrubbed:\n${this.cluster.outputOf(VICTIM)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** No replica is on its way any more, and every partition is led. */
  private async healed(): Promise<void> {
    const { cluster } = this.client;
    const deadline = Date.now() + HEAL_MS;
    for (;;) {
      const moves = await cluster.listMoves().catch(() => null);
      const info = await cluster.describe().catch(() => null);
      if (moves?.length === 0 && info?.leaderlessGroups === 0 && info.nodes.every(({ alive }) => alive)) return;
      if (Date.now() > deadline)
        throw new Error(`not healed: ${JSON.stringify(moves)} ${JSON.stringify(info)}\n${this.cluster.outputOf(VICTIM)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The healed node must be as good as any: it leads every partition, serves all of it, and gives the leadership back. */
  private async leadsAll(): Promise<void> {
    const { topic } = this;
    const { cluster } = this.client;
    const before = (await cluster.resolve(topic)).partitions.map(({ leader }) => leader);
    for (let partition = 0; partition < PARTITIONS; partition++) await cluster.transferLeader({ topic, partition, toNode: VICTIM });
    const acked = [...this.load.acked];
    const received = await readAll(this.cluster.endpoints[VICTIM - 1]!, topic);
    expect(violations(acked, received)).toEqual([]);
    for (const [partition, leader] of before.entries()) await cluster.transferLeader({ topic, partition, toNode: leader });
  }

  /** What the node did about it, from its log. */
  private outcome(sinceMs: number): string {
    const output = this.cluster.loggedSince(VICTIM, sinceMs).join("\n");
    const found = [
      "is damaged and out of service",
      "damaged data is set aside",
      "joins again",
      "fetched again from the other",
      "is written again",
      "restarts its parts",
    ];
    const said = found.filter((words) => output.includes(words));
    const reason = /"reason":"([^"]*)"/.exec(output)?.[1]?.replaceAll(`${this.cluster.directory}/`, "");
    return said.length === 0 ? "no harm" : `${said.join(", ")}: ${reason ?? ""}`;
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
