// Servers that speak the public protocol over real sockets and keep everything in memory, and that fail on demand: what
// the client library is held against. Messages go through the generic codec, so the client's own codecs are checked too.

import { EventEmitter, once } from "node:events";
import { createServer, type Server as NetServer } from "node:net";
import { fileURLToPath } from "node:url";
import {
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { toStatus } from "../../src/api/status.ts";
import { BrokerError, type ErrorCode } from "../../src/base/errors.ts";
import { STREAM_DUPLICATE, STREAM_FENCED, STREAM_OK, STREAM_OUT_OF_SEQUENCE } from "../../src/machine/stream/codes.ts";
import { Producers } from "../../src/machine/stream/producers.ts";

export type MemoryRecord = {
  key?: Buffer;
  body: Buffer;
  headers: { name: string; value: Buffer }[];
  timeMs: number;
  contentType: string;
  correlationId: string;
};
type Batch = { id: number; partition: number; sequence: number; count: number; records: { records: MemoryRecord[] } };
type Ack = { firstId: number; batches: number; partition: number; baseOffset: number; count: number; duplicate: boolean; error?: object };
type Open = { topic: string; producerId: number; producerEpoch: number };
type PublishCall = ServerDuplexStream<{ open: Open | null; batches: Batch[] }, { acks: Ack[] }>;
type Stored = { baseOffset: number; count: number; timeMs: number; records: { records: MemoryRecord[] } };

/** What becomes of a batch that arrives. */
export type Fate =
  /** Stored and acknowledged. */
  | "store"
  /** Stored, and the connection's stream ends before the acknowledgement. */
  | "store, then drop"
  | "drop"
  /** Stored, and acknowledged when `release` is called. */
  | "store, then hold"
  /** Neither stored nor answered. */
  | "ignore"
  /** Not stored, answered with an error. */
  | { readonly error: ErrorCode }
  /** Stored all the same. */
  | { readonly error: ErrorCode; readonly isStored: true };

export type Arrival = {
  readonly node: number;
  readonly partition: number;
  readonly sequence: number;
  readonly count: number;
  readonly producerId: number;
  readonly epoch: number;
};

export class MemoryPartition {
  leader = 1;
  term = 1;
  startOffset = 0;
  endOffset = 0;
  producers = new Producers();
  readonly batches: Stored[] = [];
  readonly committed = new Map<string, number>();

  /** The bodies of all records, in order. */
  bodies(): string[] {
    return this.batches.flatMap(({ records }) => records.records.map(({ body }) => body.toString()));
  }
}

const services = loadSync(
  ["messaging", "cluster", "admin"].map((name) => `flotilla/v1/${name}.proto`),
  {
    includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))],
    longs: Number,
    defaults: true,
    arrays: true,
    oneofs: true,
    enums: Number,
  },
);

/** Deals out fates; the default stores everything. */
export type Script = (arrival: Arrival) => Fate;

export class MemoryCluster {
  readonly topics = new Map<string, MemoryPartition[]>();
  /** Every batch that arrived, whatever became of it. */
  readonly arrivals: Arrival[] = [];
  /** Fetches that each node served. */
  readonly fetches: { node: number; positions: number[] }[] = [];
  script: Script = () => "store";
  /** Answers of the next fetches: an error per partition until it is removed. */
  readonly fetchErrors = new Map<number, ErrorCode>();
  readonly offsetErrors = new Map<number, ErrorCode>();
  private readonly servers = new Map<number, Server>();
  private readonly ports: number[] = [];
  private readonly changes = new EventEmitter().setMaxListeners(0);
  private readonly frozen = new Set<number>();
  private readonly mute: NetServer[] = [];
  /** What a node that is cut off from the others knew of the leaders of each topic. */
  private readonly cutOff = new Map<number, ReadonlyMap<string, object[]>>();
  private held: { partition: number; send: () => void }[] = [];

  static async start(nodes: number): Promise<MemoryCluster> {
    const cluster = new MemoryCluster();
    for (let node = 1; node <= nodes; node++) await cluster.startNode(node);
    return cluster;
  }

  get endpoints(): string[] {
    return this.ports.map((port) => `127.0.0.1:${port}`);
  }

  createTopic(name: string, partitions: number): MemoryPartition[] {
    const made = Array.from({ length: partitions }, () => new MemoryPartition());
    this.topics.set(name, made);
    return made;
  }

  async startNode(node: number): Promise<void> {
    const server = new Server({ "grpc.max_receive_message_length": 8 * 1024 * 1024 });
    const service = (name: string): ServiceDefinition => services[`flotilla.v1.${name}`] as ServiceDefinition;
    server.addService(service("Messaging"), {
      Publish: this.unary(node, (request) => this.publish(node, request as never)),
      PublishStream: (call: PublishCall) => this.publishStream(node, call),
      Fetch: this.unary(node, (request) => this.fetch(node, request as never)),
      GetOffsets: this.unary(node, (request) => this.getOffsets(request as never)),
      CommitOffsets: this.unary(node, (request) => this.commitOffsets(request as never)),
    });
    server.addService(service("Cluster"), {
      DescribeCluster: this.unary(node, async () => ({ clusterId: "memory", nodeId: node, controllerId: 1, nodes: this.nodes(node) })),
      Resolve: this.unary(node, async (request) => ({ topology: this.topology((request as { topic: string }).topic, node) })),
      WatchTopology: (call: ServerWritableStream<{ topic: string }, object>) => this.watchTopology(node, call),
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`127.0.0.1:${this.ports[node - 1] ?? 0}`, ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    this.ports[node - 1] = port;
    this.servers.set(node, server);
    this.changes.emit("change");
  }

  /** The node is gone, its connections with it. */
  stopNode(node: number): void {
    this.servers.get(node)!.forceShutdown();
    this.servers.delete(node);
    this.changes.emit("change");
  }

  /** Its connections stand, and nothing answers on them any more; the others see that it is gone. */
  freezeNode(node: number): void {
    this.frozen.add(node);
    this.changes.emit("change");
  }

  /** New connections to it are taken and nothing is said on them, old ones are gone; the others see it as before. */
  async muteNode(node: number): Promise<void> {
    this.servers.get(node)!.forceShutdown();
    const server = createServer((socket) => socket.on("error", () => socket.destroy()));
    this.mute.push(server);
    await once(server.listen(this.ports[node - 1], "127.0.0.1"), "listening");
  }

  /** It answers as before. */
  thawNode(node: number): void {
    this.frozen.delete(node);
    this.changes.emit("change");
  }

  /** Clients reach it as before; the other nodes and it take each other for down, and it hears of no leader any more. */
  cutOffNode(node: number): void {
    this.cutOff.set(node, new Map([...this.topics.keys()].map((topic) => [topic, this.partitionRows(topic)])));
    this.changes.emit("change");
  }

  moveLeader(topic: string, partition: number, to: number): void {
    const target = this.topics.get(topic)![partition]!;
    target.leader = to;
    target.term += 1;
    this.changes.emit("change");
  }

  /** Acknowledges what was held, in the given order of the partitions; each partition keeps its own order. */
  release(order: readonly number[]): void {
    const held = this.held;
    this.held = [];
    for (const partition of order) for (const one of held) if (one.partition === partition) one.send();
  }

  get heldCount(): number {
    return this.held.length;
  }

  /** Resolves as soon as `holds` does; looked at after every event here. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.changes.once("change", resolve));
  }

  store(topic: string, partition: number, records: readonly { body: string; key?: string }[]): void {
    const full = records.map(({ body, key }) => ({
      body: Buffer.from(body),
      ...(key === undefined ? {} : { key: Buffer.from(key) }),
      headers: [],
      timeMs: 0,
      contentType: "",
      correlationId: "",
    }));
    append(this.topics.get(topic)![partition]!, full);
    this.changes.emit("change");
  }

  [Symbol.dispose](): void {
    for (const server of this.mute) server.close();
    for (const server of this.servers.values()) server.forceShutdown();
  }

  private unary(node: number, work: (request: object) => Promise<object>) {
    return (call: ServerUnaryCall<object, object>, done: sendUnaryData<object>): void => {
      if (this.frozen.has(node)) return;
      work(call.request).then(
        (answer) => done(null, answer),
        (error: unknown) => done(error instanceof BrokerError ? toStatus(error) : { code: 13, details: String(error) }),
      );
    };
  }

  private partitionsOf(topic: string): MemoryPartition[] {
    const partitions = this.topics.get(topic);
    if (partitions === undefined) throw new BrokerError("UNKNOWN_TOPIC", `there is no topic ${topic}`);
    return partitions;
  }

  /** As `by` sees them. */
  private nodes(by: number): object[] {
    return this.ports.map((port, at) => {
      const isThere = this.servers.has(at + 1) && !this.frozen.has(at + 1);
      const isSeen = by === at + 1 || !(this.cutOff.has(at + 1) || this.cutOff.has(by));
      return { id: at + 1, endpoint: `127.0.0.1:${port}`, alive: isThere && isSeen };
    });
  }

  private topology(topic: string, by: number): object {
    return { nodes: this.nodes(by), partitions: this.cutOff.get(by)?.get(topic) ?? this.partitionRows(topic) };
  }

  private partitionRows(topic: string): object[] {
    return this.partitionsOf(topic).map(({ leader, term }, partition) => ({
      partition,
      group: partition + 1,
      leader,
      term,
      replicas: [1],
    }));
  }

  private watchTopology(node: number, call: ServerWritableStream<{ topic: string }, object>): void {
    const tell = (): void => {
      if (this.topics.has(call.request.topic) && !this.frozen.has(node)) call.write({ topology: this.topology(call.request.topic, node) });
    };
    tell();
    this.changes.on("change", tell);
    call.on("cancelled", () => this.changes.off("change", tell));
  }

  private async publish(
    node: number,
    request: { topic: string; partition?: number; records: { records: MemoryRecord[] }; count: number },
  ): Promise<object> {
    const partition = request.partition ?? 0;
    const target = this.partitionsOf(request.topic)[partition]!;
    const count = request.records.records.length;
    const arrival = { node, partition, sequence: 0, count, producerId: 0, epoch: 0 };
    this.arrivals.push(arrival);
    const fate = this.script(arrival);
    if (typeof fate === "object") throw new BrokerError(fate.error, "as the script wants it");
    const baseOffset = append(target, request.records.records);
    if (fate === "store, then drop") this.stopNode(node);
    return { partition, baseOffset, count };
  }

  private publishStream(node: number, call: PublishCall): void {
    let open: Open | null = null;
    let nextId = 1;
    let isOver = false;
    call.on("cancelled", () => (isOver = true));
    call.on("error", () => (isOver = true));
    call.on("end", () => call.end());
    call.on("data", (frame) => {
      if (this.frozen.has(node)) return;
      open ??= frame.open;
      for (const batch of frame.batches) {
        if (isOver) return;
        if (batch.id !== nextId++ || batch.count !== batch.records.records.length)
          throw new Error(`batch ${batch.id} is not as the protocol wants it`);
        const { topic, producerId, producerEpoch } = open!;
        const { partition, sequence, count } = batch;
        const arrival = { node, partition, sequence, count, producerId, epoch: producerEpoch };
        this.arrivals.push(arrival);
        const fate = this.script(arrival);
        const isStored =
          fate === "store" ||
          fate === "store, then drop" ||
          fate === "store, then hold" ||
          (typeof fate === "object" && "isStored" in fate);
        const ack = isStored ? this.judge(this.topics.get(topic)![partition]!, arrival, batch) : null;
        if (fate === "drop" || fate === "store, then drop") {
          isOver = true;
          call.emit("error", { code: 14, details: "the script drops the stream" });
        } else if (typeof fate === "object") call.write({ acks: [errorAck(batch, fate.error)] });
        else if (fate === "store, then hold") this.held.push({ partition, send: () => isOver || call.write({ acks: [ack!] }) });
        else if (fate === "store") call.write({ acks: [ack!] });
        this.changes.emit("change");
      }
    });
  }

  private judge(target: MemoryPartition, { producerId, epoch, sequence, count }: Arrival, batch: Batch): Ack {
    const header = { count, producerId, producerEpoch: epoch, sequence };
    const { code, offset } = producerId === 0 ? { code: STREAM_OK, offset: -1 } : target.producers.judge(header);
    const ack = { firstId: batch.id, batches: 1, partition: batch.partition, count, duplicate: code === STREAM_DUPLICATE };
    if (code === STREAM_DUPLICATE) return { ...ack, baseOffset: Math.max(offset, 0) };
    if (code !== STREAM_OK)
      return errorAck(
        batch,
        code === STREAM_FENCED ? "FENCED_PRODUCER" : code === STREAM_OUT_OF_SEQUENCE ? "OUT_OF_SEQUENCE" : "PRODUCER_UNKNOWN",
      );
    const baseOffset = append(target, batch.records.records);
    if (producerId !== 0) target.producers.accept(header, baseOffset, 0);
    return { ...ack, baseOffset };
  }

  private async fetch(
    node: number,
    request: {
      topic: string;
      positions: { partition: number; from: string; offset: number; earliest: boolean; latest: boolean }[];
      maxWaitMs: number;
    },
  ): Promise<object> {
    const targets = this.partitionsOf(request.topic);
    const { positions, maxWaitMs } = request;
    this.fetches.push({ node, positions: positions.map(({ partition }) => partition) });
    this.changes.emit("change");
    const from = positions.map(({ partition, from: kind, offset }) =>
      kind === "offset" ? offset : kind === "latest" ? targets[partition]!.endOffset : targets[partition]!.startOffset,
    );
    const hasNews = (): boolean =>
      positions.some(({ partition }, at) => targets[partition]!.endOffset !== from[at] || this.fetchErrors.has(partition));
    if (!hasNews() && maxWaitMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(end, maxWaitMs);
        const look = (): void => void (hasNews() && end());
        const { changes } = this;
        changes.on("change", look);
        function end(): void {
          clearTimeout(timer);
          changes.off("change", look);
          resolve();
        }
      });
    }
    return { partitions: positions.map(({ partition }, at) => this.fetched(targets[partition]!, partition, from[at]!)) };
  }

  private fetched(target: MemoryPartition, partition: number, from: number): object {
    const { startOffset, endOffset } = target;
    const fault = this.fetchErrors.get(partition);
    if (fault !== undefined) return { partition, startOffset, endOffset, error: partError(fault) };
    if (from < startOffset || from > endOffset) return { partition, startOffset, endOffset, error: partError("OFFSET_OUT_OF_RANGE") };
    const batches = target.batches.filter(({ baseOffset, count }) => baseOffset + count > from).slice(0, 4);
    const last = batches.at(-1);
    return { partition, startOffset, endOffset, nextOffset: last === undefined ? from : last.baseOffset + last.count, batches };
  }

  private async getOffsets({
    topic,
    subscription,
    partitions,
  }: {
    topic: string;
    subscription: string;
    partitions: number[];
  }): Promise<object> {
    const targets = this.partitionsOf(topic);
    const wanted = partitions.length === 0 ? targets.map((_, partition) => partition) : partitions;
    return {
      partitions: wanted.map((partition) => {
        const fault = this.offsetErrors.get(partition);
        if (fault !== undefined) {
          this.offsetErrors.delete(partition);
          return { partition, error: partError(fault) };
        }
        const { startOffset, endOffset, committed } = targets[partition]!;
        const offset = committed.get(subscription);
        return { partition, startOffset, endOffset, ...(offset === undefined ? {} : { committedOffset: offset }) };
      }),
    };
  }

  private async commitOffsets({
    topic,
    subscription,
    offsets,
  }: {
    topic: string;
    subscription: string;
    offsets: { partition: number; offset: number; reset: boolean }[];
  }): Promise<object> {
    const targets = this.partitionsOf(topic);
    return {
      partitions: offsets.map(({ partition, offset, reset }) => {
        const { committed } = targets[partition]!;
        if (!reset && offset < (committed.get(subscription) ?? 0)) return { partition, error: partError("OFFSET_WOULD_GO_BACK") };
        committed.set(subscription, offset);
        this.changes.emit("change");
        return { partition };
      }),
    };
  }
}

function append(target: MemoryPartition, records: readonly MemoryRecord[]): number {
  const baseOffset = target.endOffset;
  target.batches.push({ baseOffset, count: records.length, timeMs: 1_000 + baseOffset, records: { records: [...records] } });
  target.endOffset += records.length;
  return baseOffset;
}

function errorAck(batch: Batch, code: ErrorCode): Ack {
  return { firstId: batch.id, batches: 1, partition: batch.partition, baseOffset: 0, count: 0, duplicate: false, error: partError(code) };
}

function partError(code: ErrorCode): object {
  const { retryable, maybeApplied } = new BrokerError(code, "");
  return { reason: code, message: "as the script wants it", retryable, maybeApplied, metadata: {} };
}
