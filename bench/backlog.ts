// Millions of messages in one queue that nobody takes: what they cost a node in memory, what they cost who publishes, and how long a node
// takes to come back with them.

import { setTimeout as delay } from "node:timers/promises";
import { Flotilla } from "../src/client/index.ts";
import type { Figure, FigureRun } from "./figures.ts";
import { publishRecords } from "./flow.ts";
import { Nodes, NODES } from "./nodes.ts";
import { Pace } from "./pace.ts";
import { payload } from "./system.ts";

const BYTES = 128;
const BATCH_BYTES = 128 * 1024;
const QUEUE = "backlog";
/** The rate of the first and the last so many of all messages is compared. */
const PART = 0.2;
const VICTIM = 2;
const POLL_MS = 20;
const WAIT_MS_MAX = 120_000;
const MIB = 2 ** 20;

export type BacklogReport = {
  readonly messages: number;
  /** Of one node, just started, without any messages and with all of them. */
  readonly freshBytes: number;
  readonly restartedBytes: number;
  /** Of each node, in service: once as many messages have passed through, and with all of them there. */
  readonly emptyBytes: readonly number[];
  readonly fullBytes: readonly number[];
  /** Acknowledged messages a second. */
  readonly firstRate: number;
  readonly lastRate: number;
  readonly restartMs: number;
  /** When all were taken in the end: how many were not the next one, and how many the queue still had after that. */
  readonly misplaced: number;
  readonly left: number;
};

export async function runBacklog(directory: string, messages: number, progress: (text: string) => void): Promise<FigureRun> {
  progress("starting three nodes");
  const nodes = await Nodes.start(directory, { settles: true });
  try {
    await using client = await Flotilla.connect({ endpoints: nodes.endpoints });
    await client.queues.createQueue({ name: QUEUE });
    const freshBytes = await nodes.settledBytes(VICTIM);
    // As much traffic with nothing left of it: what is above that afterwards is the backlog's, and not what any load leaves behind.
    await publish(client, messages, paced("warming up", messages, progress));
    await client.queues.purgeQueue(QUEUE);
    const emptyBytes = await memoryOf(nodes);
    const { firstRate, lastRate } = await fill(client, messages, progress);
    const fullBytes = await memoryOf(nodes);
    const restartMs = await restart(nodes, progress);
    const restartedBytes = await nodes.settledBytes(VICTIM);
    const { misplaced, left } = await drain(client, messages, progress);
    const report: BacklogReport = {
      messages,
      freshBytes,
      restartedBytes,
      emptyBytes,
      fullBytes,
      firstRate,
      lastRate,
      restartMs,
      misplaced,
      left,
    };
    return { report, figures: figuresOf(report) };
  } finally {
    await nodes.stop();
  }
}

async function fill(
  client: Flotilla,
  messages: number,
  progress: (text: string) => void,
): Promise<{ firstRate: number; lastRate: number }> {
  const say = paced("publishing", messages, progress);
  const part = Math.floor(messages * PART);
  const began = performance.now();
  let [firstMs, lastSince] = [0, 0];
  await publish(client, messages, (acked) => {
    if (acked === part) firstMs = performance.now() - began;
    if (acked === messages - part) lastSince = performance.now();
    say(acked);
  });
  return { firstRate: part / (firstMs / 1_000), lastRate: part / ((performance.now() - lastSince) / 1_000) };
}

function paced(what: string, messages: number, progress: (text: string) => void): (count: number) => void {
  const pace = new Pace(what, messages * BYTES, progress);
  return (count) => {
    if (count % 10_000 === 0) pace.update(count * BYTES);
  };
}

function publish(client: Flotilla, messages: number, acked: (count: number) => void): Promise<void> {
  const body = payload(BYTES);
  const recordAt = (at: number): { body: Buffer } => {
    body.writeUInt32LE(at);
    return { body };
  };
  return publishRecords(client, QUEUE, { count: messages, recordAt, batchBytes: BATCH_BYTES, acked });
}

function memoryOf(nodes: Nodes): Promise<number[]> {
  return Promise.all(NODES.map((node) => nodes.settledBytes(node)));
}

/** Until a node that was killed serves again, with all that is in the queue. */
async function restart(nodes: Nodes, progress: (text: string) => void): Promise<number> {
  progress(`node ${VICTIM} is killed and started again`);
  nodes.kill(VICTIM);
  await nodes.gone(VICTIM);
  const began = performance.now();
  nodes.launch(VICTIM);
  await nodes.ready(VICTIM);
  const isThere = async (): Promise<boolean> =>
    (await nodes.metric(VICTIM, "flotilla_groups")) === 2 && (await nodes.metric(VICTIM, "flotilla_groups_unapplied")) === 0;
  while (!(await isThere())) {
    if (performance.now() - began > WAIT_MS_MAX) throw new Error(`the node is not back after ${WAIT_MS_MAX / 1_000} s`);
    await delay(POLL_MS);
  }
  return performance.now() - began;
}

/** Takes all of it: a backlog that cannot be worked off is none. Returns how many came that were not the next one, and how many are left. */
async function drain(client: Flotilla, messages: number, progress: (text: string) => void): Promise<{ misplaced: number; left: number }> {
  const pace = new Pace("taking", messages * BYTES, progress);
  const consumer = await client.queueConsumer(QUEUE, { prefetch: 1_000 });
  let [taken, misplaced] = [0, 0];
  const acked: Promise<void>[] = [];
  while (taken < messages) {
    const batch = await consumer.nextBatch();
    if (batch.length === 0) throw new Error("the consumer was closed");
    for (const { body } of batch) {
      if (Buffer.from(body.buffer, body.byteOffset, 4).readUInt32LE() !== taken) misplaced += 1;
      taken += 1;
    }
    acked.push(consumer.ackAll(batch));
    if (acked.length > 100) await Promise.all(acked.splice(0));
    pace.update(taken * BYTES);
  }
  await Promise.all(acked);
  await consumer.close();
  const { counts } = (await client.queues.describeQueue(QUEUE)).queue;
  if (counts === null) throw new Error("nobody leads the queue: how many are left cannot be told");
  return { misplaced, left: counts.ready + counts.leased + counts.dead };
}

function figuresOf(report: BacklogReport): Figure[] {
  const { messages, freshBytes, restartedBytes, emptyBytes, fullBytes, firstRate, lastRate, restartMs, misplaced, left } = report;
  const name = `with ${(messages / 1e6).toLocaleString("en")} million messages`;
  return [
    {
      name: `a node just started ${name}: memory above one without`,
      unit: "MiB",
      measured: (restartedBytes - freshBytes) / MIB,
      wanted: { atMost: 64 },
      note: `${(freshBytes / MIB).toFixed(0)} MiB without`,
    },
    ...fullBytes.map((bytes, at) => ({
      name: `node ${NODES[at]}, in service ${name}: memory above what it takes once as many have passed`,
      unit: "MiB",
      measured: (bytes - emptyBytes[at]!) / MIB,
      // It varies by what the allocator keeps of memory that is free: nothing is asked of it.
      wanted: null,
      note: `${(emptyBytes[at]! / MIB).toFixed(0)} MiB without`,
    })),
    {
      name: "publish rate of the last fifth, of the first fifth's",
      unit: "",
      measured: lastRate / firstRate,
      wanted: { atLeast: 0.8 },
      note: `${rounded(firstRate)} and ${rounded(lastRate)} msg/s`,
    },
    { name: `a killed node is back ${name}`, unit: "s", measured: restartMs / 1_000, wanted: { atMost: 10 } },
    { name: "taken in the end: not the next one, or left over", unit: "", measured: misplaced + left, wanted: { atMost: 0 } },
  ];
}

function rounded(rate: number): string {
  return Math.round(rate).toLocaleString("en");
}
