// Where the partitions of one topic are led, kept up to date by a watch on whichever node answers.

import type { ClientReadableStream } from "@grpc/grpc-js";
import type { Channels } from "./channels.ts";

export type NodeInfo = {
  readonly id: number;
  readonly endpoint: string;
  readonly peerEndpoint: string;
  readonly alive: boolean;
  readonly dc: string;
  readonly zone: string;
  readonly leaders: number;
  readonly replicas: number;
  readonly version: string;
  /** Gets neither leaders nor new replicas. */ readonly drained: boolean;
};
export type PartitionInfo = {
  readonly partition: number;
  readonly group: number;
  /** 0 = none at the moment. */ readonly leader: number;
  readonly term: number;
  readonly replicas: readonly number[];
};
export type Topology = { readonly nodes: readonly NodeInfo[]; readonly partitions: readonly PartitionInfo[] };

const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;
/** A node tells what it knows at once; one that does not is stopped or cut off. */
const FIRST_ANSWER_MS = 3_000;

export class TopologyWatch {
  private readonly channels: Channels;
  private readonly vhost: string;
  private readonly topic: string;
  private readonly changed: () => void;
  private readonly isSilent: (endpoint: string) => boolean;
  private topology: Topology;
  private stream: ClientReadableStream<object> | null = null;
  private endpoint = "";
  private timer: NodeJS.Timeout | null = null;
  private turn = 0;
  /** Watches in a row that ended without an answer. */
  private failures = 0;
  /** Another node is asked soon. */
  private isLeaving = false;
  private isClosed = false;

  /**
   * Resolves the topic, then watches it; `changed` is called after every change. Nodes of which `isSilent` says that they do
   * not answer are watched last.
   */
  static async open(
    channels: Channels,
    vhost: string,
    topic: string,
    changed: () => void,
    isSilent: (endpoint: string) => boolean = () => false,
  ): Promise<TopologyWatch> {
    const { topology } = await channels.call<object, { topology: Topology }>("flotilla.v1.Cluster", "Resolve", { vhost, topic });
    return new TopologyWatch(channels, { vhost, topic }, topology, changed, isSilent);
  }

  private constructor(
    channels: Channels,
    { vhost, topic }: { readonly vhost: string; readonly topic: string },
    topology: Topology,
    changed: () => void,
    isSilent: (endpoint: string) => boolean,
  ) {
    this.channels = channels;
    this.isSilent = isSilent;
    this.vhost = vhost;
    this.topic = topic;
    this.topology = topology;
    this.changed = changed;
    this.take(topology);
    this.watch();
  }

  /** As known now. */
  get current(): Topology {
    return this.topology;
  }

  get partitions(): number {
    return this.topology.partitions.length;
  }

  /** The address of the node that leads; undefined while none is known or it is down. */
  leaderEndpoint(partition: number): string | undefined {
    const leader = this.topology.partitions[partition]?.leader ?? 0;
    const node = this.topology.nodes.find(({ id }) => id === leader);
    return node?.alive === true && node.endpoint !== "" ? node.endpoint : undefined;
  }

  /** Addresses of nodes that are up, as far as known. */
  aliveEndpoints(): string[] {
    return this.topology.nodes.filter(({ alive, endpoint }) => alive && endpoint !== "").map(({ endpoint }) => endpoint);
  }

  /** The cluster takes the node at this address for down. */
  isDown(endpoint: string): boolean {
    return this.topology.nodes.some((node) => node.endpoint === endpoint && !node.alive);
  }

  /** The node at this address does not answer: what it told is old. Another one is asked at once. */
  leave(endpoint: string): void {
    if (this.stream !== null && this.endpoint === endpoint) this.watch();
  }

  close(): void {
    this.isClosed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.stream?.cancel();
  }

  /** In turn, and not the same again if there is another one; those that can be asked at once first. */
  private next(): string {
    const known = this.channels.endpoints();
    const from = this.turn++ % known.length;
    const inTurn = [...known.slice(from), ...known.slice(0, from)].filter((endpoint) => endpoint !== this.endpoint);
    const speaking = inTurn.filter((endpoint) => !this.isSilent(endpoint));
    return speaking.find((endpoint) => this.channels.isConnected(endpoint)) ?? speaking[0] ?? inTurn[0] ?? this.endpoint;
  }

  /** Another node, after a pause that grows with each one that was of no use. */
  private watchElsewhereLater(): void {
    this.isLeaving = true;
    this.failures += 1;
    const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.failures - 1, 10));
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => this.watch(), ceiling / 2 + Math.random() * (ceiling / 2));
    this.timer.unref();
  }

  private take(topology: Topology): void {
    this.topology = merge(this.topology, topology);
    this.channels.learn(this.aliveEndpoints());
  }

  private watch(): void {
    if (this.isClosed) return;
    if (this.timer !== null) clearTimeout(this.timer);
    this.isLeaving = false;
    this.stream?.cancel();
    const endpoint = this.next();
    this.endpoint = endpoint;
    const stream = this.channels.readable(endpoint, "flotilla.v1.Cluster", "WatchTopology", { vhost: this.vhost, topic: this.topic });
    this.stream = stream;
    this.timer = setTimeout(() => stream.cancel(), FIRST_ANSWER_MS);
    this.timer.unref();
    stream.on("data", (message: object) => {
      if (this.stream !== stream) return;
      const { topology } = message as { topology: Topology };
      if (!isCutOff(topology)) {
        if (this.timer !== null) clearTimeout(this.timer);
        this.isLeaving = false;
        this.failures = 0;
      } else if (!this.isLeaving) this.watchElsewhereLater();
      this.take(topology);
      this.changed();
    });
    const end = (): void => {
      if (this.isClosed || this.stream !== stream) return;
      this.stream = null;
      this.watchElsewhereLater();
    };
    stream.on("error", end);
    stream.on("end", end);
  }
}

/**
 * The newer of two views, by partition: a node that lags behind must not take us back. Terms only grow within a group;
 * another group means that the topic was made anew.
 */
function merge(known: Topology, next: Topology): Topology {
  const isSameTopic = known.partitions[0]?.group === next.partitions[0]?.group;
  if (!isSameTopic) return next;
  const count = Math.max(known.partitions.length, next.partitions.length);
  const partitions: PartitionInfo[] = [];
  for (let partition = 0; partition < count; partition++) {
    const before = known.partitions[partition];
    const after = next.partitions[partition];
    partitions.push(after === undefined || (before !== undefined && before.term > after.term) ? before! : after);
  }
  return { nodes: isCutOff(next) ? known.nodes : next.nodes, partitions };
}

/** Who told this sees less than half of the nodes: it is itself cut off from the others, and cannot tell which of them are up. */
function isCutOff({ nodes }: Topology): boolean {
  let alive = 0;
  for (const node of nodes) if (node.alive) alive += 1;
  return alive * 2 < nodes.length;
}
