// All partitions of a killed node: how long until the last of a thousand is served again. One record for each of them is
// published right after the kill, through the client that tries again.

import { mkdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Flotilla, type Producer } from "../../src/client/index.ts";
import { Nodes, NODES } from "../nodes.ts";
import { payload } from "../system.ts";
import { distributionOf } from "./failover-gaps.ts";
import { MachineWatch, type Disturbance } from "./failover-machine.ts";

const PARTITIONS_PER_TOPIC = 1_000;
const BODY = payload(128);
const HOME_MS_MAX = 120_000;
const SERVED_MS_MAX = 60_000;
const POLL_MS = 100;
const DEADLINE_MS = 60_000;

export type ManyRun = {
  readonly node: number;
  /** Led by the node that was killed. */
  readonly partitions: number;
  /** Until half, 99 of 100, and all of them were served again, since the kill. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly lastMs: number;
  readonly errors: number;
  readonly disturbance: Disturbance;
};

export type ManyPlan = {
  /** Led by each node. */
  readonly perNode: number;
  readonly runs: number;
  readonly progress: (text: string) => void;
};

type Led = { readonly producer: Producer; readonly partition: number };

export async function runMany(directory: string, plan: ManyPlan): Promise<ManyRun[]> {
  mkdirSync(directory, { recursive: true });
  const nodes = await Nodes.start(directory);
  try {
    const client = await Flotilla.connect({ endpoints: nodes.endpoints, deadlineMs: DEADLINE_MS });
    try {
      return await new Many(nodes, client, plan).run();
    } finally {
      await client.close();
    }
  } finally {
    await nodes.stop();
  }
}

class Many {
  private readonly nodes: Nodes;
  private readonly client: Flotilla;
  private readonly plan: ManyPlan;
  private readonly topics: { readonly name: string; readonly partitions: number }[] = [];

  constructor(nodes: Nodes, client: Flotilla, plan: ManyPlan) {
    this.nodes = nodes;
    this.client = client;
    this.plan = plan;
    for (let left = plan.perNode * NODES.length; left > 0; left -= PARTITIONS_PER_TOPIC)
      this.topics.push({ name: `many-${this.topics.length}`, partitions: Math.min(left, PARTITIONS_PER_TOPIC) });
  }

  async run(): Promise<ManyRun[]> {
    const { client, plan } = this;
    for (const topic of this.topics) await client.admin.createTopic({ ...topic, replicas: 3 });
    const producers: Producer[] = [];
    for (const { name } of this.topics) producers.push(await client.producer(name, { lingerMs: 0 }));
    const runs: ManyRun[] = [];
    const machine = new MachineWatch();
    try {
      for (let run = 0; run < plan.runs; run++) {
        await this.home();
        const one = await this.kill(NODES[run % NODES.length]!, producers, machine);
        runs.push(one);
        plan.progress(
          `all ${one.partitions} partitions of killed node ${one.node} served again after ${one.lastMs.toFixed(0)} ms, half of them after ${one.p50Ms.toFixed(0)} ms; ${run + 1} of ${plan.runs}`,
        );
        this.nodes.launch(one.node);
        await this.nodes.ready(one.node);
      }
    } finally {
      machine.stop();
    }
    for (const producer of producers) await producer.close();
    return runs;
  }

  private async kill(node: number, producers: readonly Producer[], machine: MachineWatch): Promise<ManyRun> {
    const led = await this.ledBy(node, producers);
    // All connections stand, and every partition knows its producer.
    for (const { producer, partition } of led) producer.append({ body: BODY }, undefined, partition);
    for (const producer of producers) await producer.flush();
    machine.begin();
    const servedMs: number[] = [];
    let errors = 0;
    let answered = 0;
    const faultMs = performance.now();
    this.nodes.kill(node);
    for (const { producer, partition } of led)
      producer.append(
        { body: BODY },
        (error) => {
          answered += 1;
          if (error === null) servedMs.push(performance.now() - faultMs);
          else errors += 1;
        },
        partition,
      );
    await this.until("all served", SERVED_MS_MAX, () => Promise.resolve(answered === led.length), 5);
    const disturbance = machine.end();
    const { p50, p99, max } = distributionOf(servedMs)!;
    return { node, partitions: led.length, p50Ms: p50, p99Ms: p99, lastMs: max, errors, disturbance };
  }

  private async ledBy(node: number, producers: readonly Producer[]): Promise<Led[]> {
    const led: Led[] = [];
    for (const [at, { name }] of this.topics.entries())
      for (const { partition, leader } of (await this.client.cluster.resolve(name)).partitions)
        if (leader === node) led.push({ producer: producers[at]!, partition });
    return led;
  }

  /** Every partition is led where it is wanted, and rests. */
  private async home(): Promise<void> {
    const all = this.plan.perNode * NODES.length;
    await this.until("leaders at home", HOME_MS_MAX, async () => {
      let strays = 0;
      for (const { name } of this.topics)
        for (const { leader, replicas } of (await this.client.cluster.resolve(name)).partitions) if (leader !== replicas[0]) strays += 1;
      return strays === 0;
    });
    await this.until("all at rest", HOME_MS_MAX, async () => {
      const resting = await Promise.all(NODES.map((node) => this.nodes.metric(node, "flotilla_groups_resting")));
      return resting.every((count) => count >= all);
    });
  }

  private async until(what: string, timeoutMs: number, holds: () => Promise<boolean>, pollMs = POLL_MS): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!(await holds())) {
      if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
      await delay(pollMs);
    }
  }
}
