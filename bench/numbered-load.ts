// A load that knows what must come back: numbered records per key, and what the cluster acknowledged of them.

import { Flotilla, type Producer, type ReceivedRecord } from "../src/client/index.ts";

export type Acked = { readonly key: string; readonly number: number; readonly partition: number; readonly offset: number };

/** What is acknowledged is remembered to the end; with more the load ends with a failure. */
const RECORDS_MAX = 5_000_000;

export class NumberedLoad {
  readonly acked: Acked[] = [];
  /** Largest time between two acknowledgements of one partition, in ms. */
  longestGapMs = 0;
  private readonly producer: Producer;
  private readonly keys: number;
  private readonly next: number[];
  /** By partition, of those that the keys lead to. */
  private readonly lastAckMs: number[] = [];
  private running = true;
  /** The producer gave up; everybody who waits for the load is told. */
  private failure: Error | null = null;
  private loop: Promise<void> = Promise.resolve();

  private readonly pauseMs: number;

  /** A record of every key, then a pause. */
  constructor(producer: Producer, keys: number, pauseMs = 2) {
    this.producer = producer;
    this.pauseMs = pauseMs;
    this.keys = keys;
    this.next = Array.from({ length: keys }, () => 0);
  }

  start(): void {
    this.loop = this.run();
  }

  /** Ends the load when every record has its outcome. */
  async stop(): Promise<void> {
    this.running = false;
    await this.loop;
    await this.producer.flush();
    if (this.failure !== null) throw this.failure;
  }

  /** Time since the last acknowledgement of the partition that waits for longest, in ms. */
  get silentMs(): number {
    const now = Date.now();
    return this.lastAckMs.reduce((longest, last) => Math.max(longest, now - last), 0);
  }

  /** Resolves after `count` more acknowledgements. */
  async progress(count: number): Promise<void> {
    const target = this.acked.length + count;
    while (this.acked.length < target) {
      if (this.failure !== null) throw this.failure;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  private async run(): Promise<void> {
    while (this.running && this.failure === null) {
      for (let key = 0; key < this.keys; key++) this.append(key);
      if (this.acked.length > RECORDS_MAX) this.failure ??= new Error(`the load remembers no more than ${RECORDS_MAX} records`);
      await new Promise((resolve) => setTimeout(resolve, this.pauseMs));
      await this.producer.ready();
    }
  }

  private append(key: number): void {
    const number = this.next[key]!++;
    const name = `key-${key}`;
    this.producer.append({ key: name, body: `${name} ${number}` }, (error, partition, offset) => {
      if (error !== null) {
        this.failure ??= error;
        return;
      }
      const now = Date.now();
      this.longestGapMs = Math.max(this.longestGapMs, now - (this.lastAckMs[partition] ?? now));
      this.lastAckMs[partition] = now;
      this.acked.push({ key: name, number, partition, offset });
    });
  }
}

/** Everything in the topic, from the first offset to the present end, through the given node. */
export async function readAll(endpoint: string, topic: string): Promise<ReceivedRecord[]> {
  await using client = await Flotilla.connect({ endpoints: [endpoint] });
  const ends = new Map(
    (await client.getOffsets(topic)).map(({ partition, startOffset, endOffset }) => [partition, { startOffset, endOffset }]),
  );
  const left = new Set([...ends].filter(([, { startOffset, endOffset }]) => startOffset < endOffset).map(([partition]) => partition));
  const records: ReceivedRecord[] = [];
  if (left.size === 0) return records;
  const consumer = await client.consumer(topic, { from: "earliest", partitions: [...left], maxWaitMs: 100 });
  for await (const batch of consumer.batches()) {
    records.push(...batch.records);
    if (batch.nextOffset >= ends.get(batch.partition)!.endOffset) left.delete(batch.partition);
    if (left.size === 0) break;
  }
  return records;
}

/**
 * Holds what came back against what was acknowledged (invariants L0-L4): nothing lost, nothing twice, no gaps in the
 * offsets, the order of each key kept. Returns the violations in words.
 */
export function violations(acked: readonly Acked[], received: readonly ReceivedRecord[]): string[] {
  const problems: string[] = [];
  const seen = new Map<string, { partition: number; offset: number }>();
  const nextOffset = new Map<number, number>();
  const nextNumber = new Map<string, number>();
  for (const { partition, offset, body } of received) {
    const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();
    if (seen.has(text)) problems.push(`L2: ${text} stands twice`);
    seen.set(text, { partition, offset });
    if (offset !== (nextOffset.get(partition) ?? 0))
      problems.push(`L4: partition ${partition} has offset ${offset} after ${(nextOffset.get(partition) ?? 0) - 1}`);
    nextOffset.set(partition, offset + 1);
    const [key, number] = text.split(" ");
    if (Number(number) !== (nextNumber.get(key!) ?? 0)) problems.push(`L3: ${text} follows number ${(nextNumber.get(key!) ?? 0) - 1}`);
    nextNumber.set(key!, Number(number) + 1);
  }
  for (const { key, number, partition, offset } of acked) {
    const place = seen.get(`${key} ${number}`);
    if (place === undefined) problems.push(`L0: ${key} ${number} was acknowledged and is lost`);
    else if (place.partition !== partition || (offset >= 0 && place.offset !== offset))
      problems.push(`L4: ${key} ${number} was acknowledged at ${partition}/${offset} and stands at ${place.partition}/${place.offset}`);
  }
  return problems.slice(0, 20);
}
