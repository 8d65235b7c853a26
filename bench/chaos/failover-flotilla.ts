// Flotilla under the failover series: three real nodes; with links through proxies where those are to be cut.

import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Flotilla, type FlotillaError, type Producer } from "../../src/client/index.ts";
import { Nodes, NODES } from "../nodes.ts";
import { payload } from "../system.ts";
import type { Outcome } from "./failover-probes.ts";
import { LINK_KINDS, PROCESS_KINDS, type FailoverKind, type FailoverTarget, type Parts } from "./failover-target.ts";
import { Network } from "./network.ts";
import { linksOf, type DirectedPair } from "./shapes.ts";

const TOPIC = "failover";
const BODY = payload(128);
const STOP_GRACE_MS = 20_000;
/** Of the client that never tries again. */
const ONCE_DEADLINE_MS = 2_000;
const TRANSFER_MS = 20_000;
const SETTLE_MS_MAX = 60_000;
const POLL_MS = 50;

type LogLine = { readonly time: string; readonly msg: string; readonly peer?: number; readonly group?: number };

export class FlotillaFailover implements FailoverTarget {
  readonly name = "flotilla";
  readonly version = "0.1.0";
  readonly settings = "replication 3, fsync on a majority, electionTimeoutMs 500: the defaults";
  readonly partitions: number;
  readonly kinds: ReadonlySet<FailoverKind>;
  private readonly nodes: Nodes;
  private readonly network: Network | null;
  private readonly logs: string;
  /** Asks and orders. */
  private readonly client: Flotilla;
  /** One per partition, as if each were an application of its own. */
  private readonly clients: readonly Flotilla[];
  private readonly producers: readonly Producer[];
  private readonly once: Flotilla;
  /** By partition. */
  private readonly groups: readonly number[];

  /** `hasProxies`: links between nodes can be cut; what passes goes through this process. */
  static async start(
    directory: string,
    { partitions, hasProxies }: { readonly partitions: number; readonly hasProxies: boolean },
  ): Promise<FlotillaFailover> {
    const logs = join(directory, "logs");
    mkdirSync(logs, { recursive: true });
    let network: Network | null = null;
    const nodes = await Nodes.make(directory, {
      logs,
      env: { FLOTILLA_LOG_LEVEL: "debug" },
      nodeEnv: (node, { peer }) =>
        network === null
          ? {}
          : { FLOTILLA_PEERS: NODES.map((other) => `${other}=127.0.0.1:${other === node ? peer : network!.port(node, other)}`).join(",") },
    });
    if (hasProxies) network = await proxiesFor(nodes);
    for (const node of NODES) nodes.launch(node);
    for (const node of NODES) await nodes.ready(node);
    const { endpoints } = nodes;
    const client = await Flotilla.connect({ endpoints, deadlineMs: TRANSFER_MS });
    await client.admin.createTopic({ name: TOPIC, partitions, replicas: 3 });
    const groups = (await client.cluster.resolve(TOPIC)).partitions.map(({ group }) => group);
    const clients: Flotilla[] = [];
    const producers: Producer[] = [];
    for (let partition = 0; partition < partitions; partition++) {
      // Each of them hears its news from another node first.
      const at = (partition + Math.floor(partition / NODES.length)) % NODES.length;
      const one = await Flotilla.connect({ endpoints: [...endpoints.slice(at), ...endpoints.slice(0, at)] });
      clients.push(one);
      producers.push(await one.producer(TOPIC, { lingerMs: 0 }));
    }
    const once = await Flotilla.connect({ endpoints, deadlineMs: ONCE_DEADLINE_MS });
    return new FlotillaFailover({ nodes, network, logs, client, clients, producers, once, groups });
  }

  private constructor(parts: {
    nodes: Nodes;
    network: Network | null;
    logs: string;
    client: Flotilla;
    clients: readonly Flotilla[];
    producers: readonly Producer[];
    once: Flotilla;
    groups: readonly number[];
  }) {
    this.nodes = parts.nodes;
    this.network = parts.network;
    this.logs = parts.logs;
    this.client = parts.client;
    this.clients = parts.clients;
    this.producers = parts.producers;
    this.once = parts.once;
    this.groups = parts.groups;
    this.partitions = parts.producers.length;
    this.kinds = parts.network === null ? PROCESS_KINDS : LINK_KINDS;
  }

  readonly send = (partition: number, done: Outcome): void => {
    try {
      this.producers[partition]!.append({ body: BODY }, (error) => done(error === null ? null : error.code), partition);
    } catch (error) {
      done((error as FlotillaError).code);
    }
  };

  readonly sendOnce = (partition: number, done: Outcome): void => {
    this.once.publish(TOPIC, [{ body: BODY }], { partition }).then(
      () => done(null),
      (error: unknown) => done((error as FlotillaError).code),
    );
  };

  async leaders(): Promise<readonly number[]> {
    return (await this.client.cluster.resolve(TOPIC)).partitions.map(({ leader }) => leader);
  }

  async settle(): Promise<void> {
    for (const node of NODES) await this.nodes.ready(node);
    const { partitions } = await this.client.cluster.resolve(TOPIC);
    for (const { partition, leader, replicas } of partitions)
      if (leader !== replicas[0]) await this.client.cluster.transferLeader({ topic: TOPIC, partition, toNode: replicas[0]! });
    // The catalog's leader, too, is lost now and then; it is spread by chance.
    const deadlineMs = performance.now() + SETTLE_MS_MAX;
    for (let peers = 0; peers < NODES.length * (NODES.length - 1);) {
      if (performance.now() > deadlineMs) throw new Error(`the nodes did not find each other within ${SETTLE_MS_MAX} ms`);
      peers = 0;
      for (const node of NODES) peers += await this.nodes.metric(node, "flotilla_peers_up");
      if (peers < NODES.length * (NODES.length - 1)) await delay(POLL_MS);
    }
  }

  strike(kind: FailoverKind, node: number): { readonly over: Promise<void> } {
    const { nodes } = this;
    switch (kind) {
      case "kill":
        nodes.kill(node);
        return { over: nodes.gone(node) };
      case "stop":
        nodes.signal(node, "SIGSTOP");
        return { over: Promise.resolve() };
      case "term":
        return { over: nodes.end(node, STOP_GRACE_MS) };
      case "cut":
      case "mute":
      case "deaf":
        this.network!.hold(pairsOf(kind, node));
        return { over: Promise.resolve() };
    }
  }

  async heal(kind: FailoverKind, node: number): Promise<void> {
    if (kind === "stop") this.nodes.signal(node, "SIGCONT");
    else if (LINK_KINDS.has(kind)) this.network!.release(pairsOf(kind, node));
    else this.nodes.launch(node);
    await this.nodes.ready(node);
  }

  parts(node: number, faultWallMs: number, partitions: readonly number[]): ReadonlyMap<number, Parts> {
    const lines = NODES.filter((other) => other !== node).map((other) => this.loggedSince(other, faultWallMs));
    const noticed = lines.map((of) => of.find(({ msg, peer }) => msg === "peer is down" && peer === node)?.time);
    const since = (time: string | undefined): number => (time === undefined ? Number.NaN : Date.parse(time) - faultWallMs);
    const parts = new Map<number, Parts>();
    for (const partition of partitions) {
      const group = this.groups[partition];
      const led = lines.flatMap((of) =>
        of.filter((line) => line.msg === "leads the group" && line.group === group).map(({ time }) => since(time)),
      );
      const notices = noticed.map(since);
      parts.set(partition, { noticedMs: Math.min(...notices), allNoticedMs: Math.max(...notices), ledMs: Math.min(...led) });
    }
    return parts;
  }

  async stop(): Promise<void> {
    for (const producer of this.producers) void producer.close().catch(() => {});
    for (const client of [this.client, ...this.clients, this.once]) await client.close();
    await this.nodes.stop();
    await this.network?.close();
  }

  /** Of the end of its log: a fault has few lines. */
  private loggedSince(node: number, wallMs: number): LogLine[] {
    const file = join(this.logs, `node-${node}.log`);
    const text = statSync(file, { throwIfNoEntry: false }) === undefined ? "" : readFileSync(file, "utf8").slice(-200_000);
    return text.split("\n").flatMap((line) => {
      if (!line.startsWith("{")) return [];
      try {
        const parsed = JSON.parse(line) as LogLine;
        return Date.parse(parsed.time) >= wallMs ? [parsed] : [];
      } catch {
        // The end of a line that was cut, or one that is still being written.
        return [];
      }
    });
  }
}

/** The nodes' ports are free until they start: a proxy must not be given one of them. */
async function proxiesFor(nodes: Nodes): Promise<Network> {
  const taken = new Set(NODES.flatMap((node) => Object.values(nodes.portsOf(node))));
  for (;;) {
    const network = await Network.between(NODES, (node) => nodes.portsOf(node).peer);
    if (!linksOf(NODES, null).some(([from, to]) => taken.has(network.port(from, to)))) return network;
    await network.close();
  }
}

/** Between which nothing passes. */
function pairsOf(kind: FailoverKind, node: number): DirectedPair[] {
  return linksOf(NODES, node).filter(([from, to]) => (kind === "mute" ? from === node : kind === "deaf" ? to === node : true));
}
