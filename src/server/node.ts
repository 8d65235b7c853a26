// One node, put together: the only place where the parts are made and connected. Opened in this order, closed in reverse.

import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { GrpcApi } from "../api/grpc-server.ts";
import { CATALOG_GROUP, replicaId, toNodeId, type NodeId } from "../base/ids.ts";
import { TAIL_CACHE_BYTES_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import { Prng } from "../base/prng.ts";
import { NodeBroker } from "../broker/broker.ts";
import { splitMembers } from "../broker/reshaper.ts";
import { advertisedHostOf, peersOf, type PeerAddress, type Settings } from "../config/settings.ts";
import { DirectoryLock } from "../log/directory-lock.ts";
import { NodeDisk } from "../log/node-disk.ts";
import { SegmentLog } from "../log/segment-log.ts";
import { machineFor } from "../machine/registry.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import { PeerLinks } from "../peer/links.ts";
import type { PeerHandler } from "../peer/transport.ts";
import { ReplicaHost } from "../replica/host.ts";
import { DURABILITY_FSYNC, HOST_DEFAULTS, type GroupDescriptor, type HostEvents } from "../replica/types.ts";
import { Checkpoints } from "../store/checkpoints.ts";
import { LOG_CATALOG, LOG_DATA, segmentKeys, type LogId } from "../store/keys.ts";
import { LevelKv } from "../store/level-kv.ts";
import { openNodeMeta, type NodeMeta } from "../store/node-meta.ts";
import { HttpEndpoint } from "./http.ts";
import { renderMetrics } from "./metrics.ts";
import { systemClock } from "./system-clock.ts";
import { tlsFilesOf } from "./tls.ts";

/** The catalog's log is small: a few rows per topic. */
const CATALOG_SEGMENT_BYTES = 8 * 1024 * 1024;
export const VERSION = "0.1.0";

export type NodeComponents = {
  readonly logger: Logger;
  /** The node cannot go on; the process must end with a failure. */ readonly fatal: (error: Error) => void;
};

export class FlotillaNode {
  private readonly stack = new Closers();
  private readonly settings: Settings;
  private readonly logger: Logger;
  private readonly fatal: (error: Error) => void;
  private host: ReplicaHost | null = null;
  private broker: NodeBroker | null = null;
  private stopping: Promise<void> | null = null;

  constructor(settings: Settings, components: NodeComponents) {
    this.settings = settings;
    this.logger = components.logger.child({ node: settings.nodeId });
    this.fatal = components.fatal;
  }

  /** Resolves when the node listens; it serves calls as soon as the catalog has a leader. */
  async start(): Promise<void> {
    const { settings, logger } = this;
    const nodeId = toNodeId(settings.nodeId);
    const peers = peersOf(settings);
    const disk = new NodeDisk();
    await mkdir(settings.dataDir, { recursive: true });
    const lock = await DirectoryLock.acquire(settings.dataDir);
    this.stack.add(() => lock[Symbol.asyncDispose]());
    const meta = await openNodeMeta({ directory: settings.dataDir, clusterId: settings.clusterId, nodeId });
    const kv = await LevelKv.open(join(settings.dataDir, "store"));
    this.stack.add(() => kv.close());
    const random = new Prng(randomBytes(4).readUInt32LE());
    const openLog = async (name: string, id: LogId, segmentBytes: number): Promise<SegmentLog> => {
      const log = await SegmentLog.open(
        { directory: join(settings.dataDir, name), segmentBytes },
        { disk, store: kv, keys: segmentKeys(id), random, logger },
      );
      this.stack.add(() => log.close());
      return log;
    };
    const catalogLog = await openLog("catalog", LOG_CATALOG, CATALOG_SEGMENT_BYTES);
    const dataLog = await openLog("log", LOG_DATA, settings.segmentBytes);
    const links = this.makeLinks(meta, peers, random);
    const events = this.hostEvents();
    const host = new ReplicaHost(
      {
        ...HOST_DEFAULTS,
        nodeId,
        tickMs: settings.tickMs,
        electionTicks: Math.max(2, Math.round(settings.electionTimeoutMs / settings.tickMs)),
        tailCacheBytesMax: TAIL_CACHE_BYTES_MAX,
      },
      {
        catalogLog,
        dataLog,
        store: new Checkpoints(kv),
        transport: links,
        clock: systemClock,
        random,
        logger,
        events,
        machineOf: machineFor,
        crc32,
      },
    );
    this.host = host;
    await host.open(catalogGroup(nodeId, peers));
    const broker = new NodeBroker(
      {
        clusterId: settings.clusterId,
        registration: {
          id: nodeId,
          storeId: meta.storeId,
          clientEndpoint: `${advertisedHostOf(settings)}:${settings.apiPort}`,
          peerEndpoint: `${advertisedHostOf(settings)}:${settings.peerPort}`,
          dc: settings.dc,
          zone: settings.zone,
          version: VERSION,
          incarnation: meta.incarnation,
        },
      },
      { host, transport: links, clock: systemClock, logger, fatal: this.fatal },
    );
    this.broker = broker;
    host.start();
    this.stack.add(() => host.stop());
    await links.start();
    this.stack.add(() => links[Symbol.asyncDispose]());
    for (const peer of peers) if (peer.id !== nodeId) links.setPeer(toNodeId(peer.id), peer.host, peer.port);
    broker.start();
    const api = new GrpcApi({ host: settings.host, port: settings.apiPort, tls: tlsFilesOf(settings) }, { broker, logger });
    await api.start();
    this.stack.add(() => api[Symbol.asyncDispose]());
    const http = new HttpEndpoint(
      { host: settings.host, port: settings.httpPort },
      { ready: () => broker.ready, metrics: () => renderMetrics(host, broker, [catalogLog, dataLog]) },
    );
    await http.start();
    this.stack.add(() => http[Symbol.asyncDispose]());
    logger.info({ apiPort: api.port, peerPort: links.port, httpPort: settings.httpPort, dataDir: settings.dataDir }, "node is up");
  }

  /** Moves leaders away, finishes what is under way, closes everything. */
  stop(): Promise<void> {
    this.stopping ??= (async () => {
      this.broker?.stop();
      if (this.host !== null) {
        const left = await this.host.handOverLeaders(this.settings.drainTimeoutMs);
        if (left > 0) this.logger.warn({ groups: left }, "groups still led here at the end of the drain time");
      }
      await this.stack.close();
    })();
    return this.stopping;
  }

  private hostEvents(): HostEvents {
    const broker = (): NodeBroker | null => this.broker;
    return {
      advanced: (group) => broker()?.advanced(group),
      catalogChanged: () => broker()?.catalogChanged(),
      leaderChanged: (group, leader, term) => broker()?.leaderChanged(group, leader, term),
      damaged: () => broker()?.damaged(),
      forwarded: (from, frame) => broker()?.forwarded(from, frame),
      peerUp: (peer) => broker()?.peerUp(peer),
      peerDown: (peer) => broker()?.peerDown(peer),
      fatal: this.fatal,
    };
  }

  private makeLinks(meta: NodeMeta, peers: readonly PeerAddress[], random: Prng): PeerLinks {
    const { settings, logger } = this;
    const handler: PeerHandler = {
      onFrame: (from, lane, frame) => this.host?.onFrame(from, lane, frame),
      onUp: (peer, incarnation) => {
        logger.info({ peer, incarnation }, "peer is up");
        this.host?.onUp(peer);
      },
      onDown: (peer, reason) => {
        logger.warn({ peer, reason }, "peer is down");
        this.host?.onDown(peer);
      },
      onDrain: () => {},
      onRefused: (peer, code, reason) => {
        logger.error({ peer, code, reason }, "peer link refused");
        // The others are right about us: another cluster, our number taken, or an emptied disk. Going on can only harm.
        if (peer !== null && (code === "WRONG_CLUSTER" || code === "DUPLICATE_NODE" || code === "STORE_MISMATCH")) {
          this.fatal(new Error(`node ${peer} refused this node (${code}): ${reason}`));
        }
      },
    };
    const known = new Set(peers.map(({ id }) => id));
    return new PeerLinks(
      {
        clusterId: settings.clusterId,
        nodeId: toNodeId(settings.nodeId),
        storeId: meta.storeId,
        incarnation: meta.incarnation,
        listenHost: settings.host,
        listenPort: settings.peerPort,
        livenessTimeoutMs: settings.electionTimeoutMs,
        tls: tlsFilesOf(settings),
      },
      { clock: systemClock, random, logger, handler, admit: (peer, storeId) => this.admit(known, peer, storeId) },
    );
  }

  /** Whether a peer that says hello is who the catalog knows under its number. */
  private admit(
    known: ReadonlySet<number>,
    peer: NodeId,
    storeId: string,
  ): { code: "UNKNOWN_NODE" | "STORE_MISMATCH"; reason: string } | null {
    const catalog = this.host?.get(CATALOG_GROUP)?.machine as CatalogMachine | undefined;
    const row = catalog?.node(peer);
    if (row !== undefined && row.storeId !== storeId) {
      return {
        code: "STORE_MISMATCH",
        reason: `node ${peer} joined with another data directory; an emptied disk must come back under a new node id`,
      };
    }
    if (row === undefined && !known.has(peer))
      return { code: "UNKNOWN_NODE", reason: `node ${peer} is not among the peers of this cluster` };
    return null;
  }
}

function catalogGroup(nodeId: NodeId, peers: readonly PeerAddress[]): GroupDescriptor {
  const replicas = peers.map(({ id }) => replicaId(toNodeId(id), 0));
  const { voters, learners } = splitMembers(replicas);
  return {
    group: CATALOG_GROUP,
    kind: "catalog",
    self: replicaId(nodeId, 0),
    members: {
      voters,
      votersOutgoing: [],
      learners,
      learnersNext: [],
      autoLeave: false,
    },
    preferred: replicas[0] === replicaId(nodeId, 0),
    durability: DURABILITY_FSYNC,
  };
}

/** What was opened is closed in reverse; every closer gets its turn even if one fails. */
class Closers {
  private closers: (() => Promise<void> | void)[] = [];

  add(closer: () => Promise<void> | void): void {
    this.closers.push(closer);
  }

  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const closer of this.closers.reverse()) {
      try {
        await closer();
      } catch (error) {
        errors.push(error);
      }
    }
    this.closers = [];
    if (errors.length > 0) throw new AggregateError(errors, "the node did not close cleanly");
  }
}
