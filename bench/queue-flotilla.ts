// Flotilla's queues under the bench.

import { Flotilla, type Producer } from "../src/client/index.ts";
import { Nodes, type NodesOptions } from "./nodes.ts";
import { byTheClock, dueBody, PREFETCH, type Flood, type Pacing, type QueueSystem, type Taking } from "./queue-system.ts";
import { payload } from "./system.ts";

const BATCH_BYTES = 128 * 1024;
const BUFFER_BYTES = 24 * 1024 * 1024;
/** Records that a queue is given before the next one has its turn. */
const TURN_RECORDS = 50;

export class FlotillaQueues implements QueueSystem {
  readonly name = "flotilla";
  readonly version = "0.1.0";
  readonly settings = `3 replicas, fsync on a majority; client batches of at most ${BATCH_BYTES / 1024} KiB, linger 1 ms (paced: none); prefetch ${PREFETCH}, acknowledgements of a turn as one (ackAll), answered`;
  readonly nodes: Nodes;
  private readonly client: Flotilla;
  private next = 1;

  static async start(directory: string, options: NodesOptions = {}): Promise<FlotillaQueues> {
    const nodes = await Nodes.start(directory, options);
    return new FlotillaQueues(nodes, await Flotilla.connect({ endpoints: nodes.endpoints }));
  }

  private constructor(nodes: Nodes, client: Flotilla) {
    this.nodes = nodes;
    this.client = client;
  }

  get pids(): readonly number[] {
    return this.nodes.pids;
  }

  async create(queues: number): Promise<readonly string[]> {
    const names = Array.from({ length: queues }, () => `bench-${this.next++}`);
    for (const name of names) await this.client.queues.createQueue({ name });
    return names;
  }

  async remove(queues: readonly string[]): Promise<void> {
    for (const name of queues) await this.client.queues.deleteQueue(name);
  }

  async flood({ queues, bytes, isOver, acked }: Flood): Promise<void> {
    const record = { body: payload(bytes) };
    let failure: Error | null = null;
    const done = (error: Error | null): void => {
      if (error === null) acked();
      else failure = error;
    };
    const fill = async (producer: Producer): Promise<void> => {
      while (!isOver() && failure === null) {
        for (let count = 0; count < TURN_RECORDS; count++) if (!producer.append(record, done)) await producer.ready();
        await new Promise((resolve) => setImmediate(resolve));
      }
      await producer.close();
    };
    const producers = await this.producers(queues, { lingerMs: 1, bufferBytesMax: Math.floor(BUFFER_BYTES / queues.length) });
    await Promise.all(producers.map(fill));
    if (failure !== null) throw failure;
  }

  async pace(pacing: Pacing): Promise<void> {
    const template = payload(pacing.bytes);
    const producers = await this.producers(pacing.queues, { lingerMs: 0, bufferBytesMax: BUFFER_BYTES });
    let failure: Error | null = null;
    await byTheClock(pacing, (at, dueMs) =>
      producers[at % producers.length]!.append({ body: dueBody(template, dueMs) }, (error) => (failure ??= error)),
    );
    await Promise.all(producers.map((producer) => producer.close()));
    if (failure !== null) throw failure as Error;
  }

  async take({ queues, taken, settled }: Taking): Promise<() => Promise<void>> {
    const consumers = await Promise.all(queues.map((name) => this.client.queueConsumer(name, { prefetch: PREFETCH })));
    let failure: Error | null = null;
    const failed = (error: Error): void => void (failure = error);
    const running = consumers.map(async (consumer) => {
      for (let batch = await consumer.nextBatch(); batch.length > 0; batch = await consumer.nextBatch()) {
        for (const message of batch) taken(message.body);
        const { length } = batch;
        consumer.ackAll(batch).then(() => {
          for (let count = 0; count < length; count++) settled();
        }, failed);
      }
    });
    return async () => {
      await Promise.all(consumers.map((consumer) => consumer.close()));
      await Promise.all(running);
      if (failure !== null) throw failure;
    };
  }

  async stop(): Promise<void> {
    await this.client.close();
    await this.nodes.stop();
  }

  private producers(queues: readonly string[], options: { lingerMs: number; bufferBytesMax: number }): Promise<Producer[]> {
    return Promise.all(queues.map((name) => this.client.producer(name, { ...options, batchBytes: BATCH_BYTES })));
  }
}
