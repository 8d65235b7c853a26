// At the end of a round, with the load at rest: every replica of every partition is made the leader in turn, read from its
// first record to its last, and held against the ledger and against the others.

import { setTimeout as delay } from "node:timers/promises";
import { decodeBatch, Flotilla, FlotillaError } from "../../src/client/index.ts";
import type { Ledger } from "./ledger.ts";
import { compareReplicas, Sweep } from "./sweep.ts";
import type { Verdict } from "./verdict.ts";

const FETCH_BYTES = 3 * 1024 * 1024;
const RETRY_MS = 100;
/** A replica that cannot be made the leader, or not be read, for so long is out of service. */
const PATIENCE_MS = 60_000;

export type JudgeParts = {
  readonly client: Flotilla;
  readonly topic: string;
  readonly ledger: Ledger;
  readonly verdict: Verdict;
  readonly progress: (text: string) => void;
};

/** Resolves with how many records were read. */
export async function judge(parts: JudgeParts): Promise<number> {
  const { client, topic, verdict, progress } = parts;
  const { partitions, nodes } = await patiently(() => client.cluster.resolve(topic));
  const total = partitions.reduce((sum, { replicas }) => sum + replicas.length, 0);
  const began = performance.now();
  let [read, replicasRead] = [0, 0];
  for (const { partition, replicas } of partitions) {
    const sweeps: { who: string; sweep: Sweep }[] = [];
    for (const node of [...replicas].sort((a, b) => a - b)) {
      const who = `node ${node}`;
      const endpoint = nodes.find(({ id }) => id === node)!.endpoint;
      try {
        await patiently(() => client.cluster.transferLeader({ topic, partition, toNode: node }));
        const sweep = await readReplica(parts, { partition, endpoint, who });
        sweeps.push({ who, sweep });
        read += sweep.next;
      } catch (error) {
        if (!(error instanceof FlotillaError)) throw error;
        verdict.report("R9", `partition ${partition} cannot be led and read on ${who}: ${error.code}: ${error.message}`);
      }
      replicasRead += 1;
      const seconds = (performance.now() - began) / 1_000;
      const left = (seconds / replicasRead) * (total - replicasRead);
      progress(
        `judging: replica ${replicasRead} of ${total}, ${read} records read, ${(read / seconds).toFixed(0)} records/s, ${left.toFixed(0)} s left`,
      );
    }
    compareReplicas(verdict, partition, sweeps);
  }
  return read;
}

async function readReplica(
  { topic, ledger, verdict }: JudgeParts,
  { partition, endpoint, who }: { readonly partition: number; readonly endpoint: string; readonly who: string },
): Promise<Sweep> {
  await using client = await patiently(() => Flotilla.connect({ endpoints: [endpoint] }));
  const sweep = new Sweep(ledger, verdict, partition, who);
  const offsets = await patiently(() => client.getOffsets(topic, { partitions: [partition] }));
  const end = offsets[0]?.endOffset ?? 0;
  ledger.endSeen(partition, end, ledger.endKnown(partition));
  while (sweep.next < end) {
    const { next } = sweep;
    const [answer] = await patiently(async () => {
      const answers = await client.fetch(topic, [{ partition, from: { offset: next } }], { maxBytes: FETCH_BYTES, maxWaitMs: 500 });
      const error = answers[0]?.error ?? null;
      if (error !== null) throw error;
      return answers;
    });
    const before = sweep.next;
    for (const { baseOffset, storedMs, bytes } of answer!.batches)
      for (const record of decodeBatch(bytes, { partition, baseOffset, storedMs })) if (record.offset >= next) sweep.record(record);
    if (sweep.next === before) break;
  }
  sweep.finish(end);
  return sweep;
}

/** Tries again while what fails may pass. */
export async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (const until = Date.now() + PATIENCE_MS; ; await delay(RETRY_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof FlotillaError) || !error.retryable || Date.now() > until) throw error;
    }
  }
}
