import { Flotilla } from "../src/client/index.ts";
import { LatencyParts } from "./latency-parts.ts";
import { Nodes, NODES, type NodesOptions } from "./nodes.ts";
import { payload, UNBATCHED_INFLIGHT, type PublishRequest, type System, type Target } from "./system.ts";

const BATCH_BYTES = 128 * 1024;
const PACED_BATCH_BYTES = 512 * 1024;
const BUFFER_BYTES = 24 * 1024 * 1024;

/** Three nodes, replication 3, acknowledged after fdatasync on a majority: the product's defaults. */
export class FlotillaSystem implements System {
  readonly name = "flotilla";
  readonly version = "0.1.0";
  readonly settings = `replication 3, fsync on a majority; client batches of at most ${BATCH_BYTES / 1024} KiB, linger 1 ms; at half of the peak ${PACED_BATCH_BYTES / 1024} KiB, no linger`;
  readonly nodes: Nodes;
  private readonly client: Flotilla;
  private next = 1;

  static async start(directory: string, options: NodesOptions = {}): Promise<FlotillaSystem> {
    const nodes = await Nodes.start(directory, options);
    return new FlotillaSystem(nodes, await Flotilla.connect({ endpoints: nodes.endpoints }));
  }

  private constructor(nodes: Nodes, client: Flotilla) {
    this.nodes = nodes;
    this.client = client;
  }

  get pids(): readonly number[] {
    return this.nodes.pids;
  }

  /** `retentionBytes` of each partition; 0 = all is kept. */
  async createTarget(partitions: number, retentionBytes = 0): Promise<Target> {
    const name = `bench-${this.next++}`;
    await this.client.admin.createTopic({ name, partitions, replicas: 3, config: { retentionBytes } });
    return { name, partitions };
  }

  /** The node that leads the target's first partition. */
  async leaderOf(target: Target): Promise<number> {
    return (await this.client.cluster.resolve(target.name)).partitions[0]!.leader;
  }

  /** What every node says of itself, by the sample's name with its labels. */
  async metrics(): Promise<ReadonlyMap<string, number>[]> {
    return Promise.all(
      NODES.map(async (node) => {
        const text = await (await this.nodes.get(node, "metrics")).text();
        const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
        return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
      }),
    );
  }

  async deleteTarget(target: Target): Promise<void> {
    await this.client.admin.deleteTopic(target.name);
  }

  async publish(request: PublishRequest): Promise<void> {
    if (request.unbatched === true) return this.publishUnbatched(request);
    const { target, bytes, seconds, acked, stopped } = request;
    const producer = await this.client.producer(target.name, { lingerMs: 1, batchBytes: BATCH_BYTES, bufferBytesMax: BUFFER_BYTES });
    const body = payload(bytes);
    const record = { body };
    let failure: Error | null = null;
    const done = (error: Error | null): void => {
      if (error === null) acked(1);
      else failure = error;
    };
    const until = Date.now() + seconds * 1000;
    while (Date.now() < until && failure === null && stopped?.() !== true) {
      for (let count = 0; count < 200; count++) if (!producer.append(record, done)) await producer.ready();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await producer.close();
    if (failure !== null) throw failure;
  }

  private async publishUnbatched({ target, bytes, seconds, acked }: PublishRequest): Promise<void> {
    const producer = await this.client.producer(target.name, {
      lingerMs: 0,
      batchRecords: 1,
      inflightBatchesMax: UNBATCHED_INFLIGHT,
    });
    const record = { body: payload(bytes) };
    const until = Date.now() + seconds * 1000;
    await new Promise<void>((resolve, reject) => {
      let inflight = 0;
      const done = (error: Error | null): void => {
        if (error !== null) return reject(error);
        acked(1);
        inflight -= 1;
        if (inflight <= UNBATCHED_INFLIGHT / 2) fill();
      };
      const fill = (): void => {
        if (Date.now() >= until) {
          if (inflight === 0) resolve();
          return;
        }
        for (; inflight < UNBATCHED_INFLIGHT; inflight++) producer.append(record, done);
      };
      fill();
    });
    await producer.close();
  }

  async observe(target: Target): Promise<() => Promise<string>> {
    const parts = await LatencyParts.begin(this.pids, () => this.metrics());
    return async () => parts.text(await this.leaderOf(target));
  }

  async paced({ target, bytes, rate, seconds }: { target: Target; bytes: number; rate: number; seconds: number }): Promise<number[]> {
    // What comes in while a batch is under way is the next one: that is what an application that wants low latency sets.
    const producer = await this.client.producer(target.name, {
      lingerMs: 0,
      batchBytes: PACED_BATCH_BYTES,
      bufferBytesMax: 4 * BUFFER_BYTES,
    });
    const record = { body: payload(bytes) };
    const latencies: number[] = [];
    let failure: Error | null = null;
    const start = performance.now();
    const total = Math.floor(rate * seconds);
    for (let sent = 0; sent < total && failure === null;) {
      const dueNow = Math.min(total, Math.floor(((performance.now() - start) / 1000) * rate));
      for (; sent < dueNow; sent++) {
        const dueMs = start + (sent / rate) * 1000;
        producer.append(record, (error) => {
          if (error !== null) failure = error;
          else latencies.push(performance.now() - dueMs);
        });
      }
      // Looking all the time would take a core from those that are measured.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await producer.close();
    if (failure !== null) throw failure;
    return latencies;
  }

  async sequential({ target, bytes, seconds }: { target: Target; bytes: number; seconds: number }): Promise<number[]> {
    const producer = await this.client.producer(target.name, { lingerMs: 0 });
    const body = payload(bytes);
    const latencies: number[] = [];
    const until = Date.now() + seconds * 1000;
    while (Date.now() < until) {
      const start = performance.now();
      await producer.send({ body });
      latencies.push(performance.now() - start);
    }
    await producer.close();
    return latencies;
  }

  async replay(target: Target): Promise<{ messages: number; bytes: number }> {
    const offsets = await this.client.getOffsets(target.name);
    const left = new Map(
      offsets.filter(({ startOffset, endOffset }) => endOffset > startOffset).map(({ partition, endOffset }) => [partition, endOffset]),
    );
    const consumer = await this.client.consumer(target.name, {
      from: "earliest",
      partitions: [...left.keys()],
      maxBytes: 4_000_000,
      readAheadBytes: 32 * 1024 * 1024,
    });
    let messages = 0;
    let bytes = 0;
    for await (const batch of consumer.batches()) {
      messages += batch.records.length;
      for (const { body } of batch.records) bytes += body.length;
      if (batch.nextOffset >= (left.get(batch.partition) ?? 0)) left.delete(batch.partition);
      if (left.size === 0) break;
    }
    await consumer.close();
    return { messages, bytes };
  }

  /** Resolves when the node leads nothing: it is a follower everywhere. */
  async drain(node: number): Promise<void> {
    await this.client.cluster.drainNode(node);
    const leads = async (): Promise<boolean> =>
      (await this.client.cluster.describe()).nodes.some(({ id, leaders }) => id === node && leaders > 0);
    while (await leads()) await new Promise((resolve) => setTimeout(resolve, 100));
  }

  async stop(): Promise<void> {
    await this.client.close();
    await this.nodes.stop();
  }
}
