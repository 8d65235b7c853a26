// One node, put together: the only place where the parts are made and connected. Opened in this order, closed in reverse.
// What turns out to be damaged as a whole is set aside, and the node comes up again without it.

import { crc32 } from "node:zlib";
import { CATALOG_GROUP, replicaId, toNodeId } from "../base/ids.ts";
import { CALLS_SLICE_MS, CALLS_WAITING_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_SLAB_BYTES, TAIL_CACHE_BYTES_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import { Pacer } from "../base/pacer.ts";
import { PayloadMemory } from "../base/payload-memory.ts";
import { Prng } from "../base/prng.ts";
import { LongestWork } from "../base/work.ts";
import { NodeBroker } from "../broker/broker.ts";
import { splitMembers } from "../broker/reshaper.ts";
import { advertisedHostOf, peersOf, type PeerAddress, type Settings } from "../config/settings.ts";
import { isNoSpace } from "../log/disk.ts";
import type { SegmentLog } from "../log/segment-log.ts";
import type { NodeRegistration } from "../machine/catalog/commands.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { PeerLinks } from "../peer/links.ts";
import { FitnessWatch } from "../replica/fitness.ts";
import { ReplicaHost } from "../replica/host.ts";
import { DURABILITY_FSYNC, HOST_DEFAULTS, type GroupDescriptor, type HostEvents } from "../replica/types.ts";
import { Checkpoints } from "../store/checkpoints.ts";
import { StoreDamagedError } from "../store/kv.ts";
import { archiveOf } from "./archive.ts";
import { Closers } from "./closers.ts";
import type { NodeEnvironment } from "./environment.ts";
import { LoopWatch } from "./loop-watch.ts";
import { Identity } from "./identity.ts";
import { Joining } from "./joining.ts";
import { renderMetrics } from "./metrics.ts";
import { makeLinks, startLinks, type PeeringComponents } from "./peering.ts";
import { Reserve } from "./reserve.ts";
import { Scrubbing } from "./scrubbing.ts";
import { forgetSetAside, LostError, setAside, type DataFolder } from "./set-aside.ts";
import { openStorage } from "./storage.ts";
import { tlsFilesOf } from "./tls.ts";

/**
 * A log is cut at checkpoints only, so what retention trims may stay for as long as the next one takes. With a part of a file
 * between two of them that never keeps a file by itself.
 */
const CHECKPOINTS_PER_SEGMENT = 4;
/**
 * A node's silence is noticed within a fifth more than `electionTimeoutMs`, for all its groups, whose members then stand in turn.
 * A group's own ticks count for longer, or some members would stand before, at the same time, and split the vote.
 */
const GROUP_TIMEOUT_FACTOR = 1.3;
/** Times that one start may find something else damaged. */
const RECOVERIES_MAX = 5;
/** Stalls of the event loop that are counted, beside those that endanger leaderships. */
const STALL_MS = 100;
export const VERSION = "0.1.0";

export type NodeComponents = {
  readonly logger: Logger;
  /** The node cannot go on; the process must end with a failure. */
  readonly fatal: (error: Error) => void;
};

export class FlotillaNode {
  /** What lives as long as the process, and what a restart within it replaces. */
  private readonly stack = new Closers();
  private parts = new Closers();
  private readonly settings: Settings;
  private readonly logger: Logger;
  private readonly components: NodeComponents;
  private readonly peers: readonly PeerAddress[];
  private readonly ended = new AbortController();
  private readonly environment: NodeEnvironment;
  private readonly memory = new PayloadMemory(PAYLOAD_SLAB_BYTES, PAYLOAD_BYTES_MAX);
  private readonly reserve: Reserve;
  private readonly longest = new LongestWork(() => this.environment.clock.monotonicMs());
  private readonly loop: LoopWatch;
  private readonly pacer: Pacer;
  private identity!: Identity;
  private host: ReplicaHost | null = null;
  private broker: NodeBroker | null = null;
  /** The API takes calls. */
  private isServing = false;
  /** All parts are being closed, to be opened again. */
  private isClosing = false;
  /** Times that everything stored was read. */
  private scrubRounds = 0;
  private logs: readonly [catalog: SegmentLog, data: SegmentLog] | null = null;
  private restarting: Promise<void> | null = null;
  /** A restart that was asked for and has yet to begin; the first start is under way. */
  private wanted: { readonly reason: string; readonly between: () => Promise<void> } | null = null;
  private isOpening = true;
  private stopping: Promise<void> | null = null;

  constructor(settings: Settings, components: NodeComponents, environment: NodeEnvironment) {
    const { clock, disk, cpuMs } = environment;
    this.environment = environment;
    this.settings = settings;
    this.components = components;
    this.logger = components.logger.child({ node: settings.nodeId });
    this.peers = peersOf(settings);
    this.reserve = new Reserve(settings.dataDir, settings.diskReserveBytes, { disk, clock, logger: this.logger });
    this.pacer = new Pacer({ sliceMs: CALLS_SLICE_MS, waitingMax: CALLS_WAITING_MAX }, clock);
    this.loop = new LoopWatch(
      {
        stallMs: [...new Set([STALL_MS, settings.electionTimeoutMs / 2, settings.electionTimeoutMs])],
        warnMs: settings.electionTimeoutMs / 2,
      },
      { clock, logger: this.logger, longest: this.longest, cpuMs },
    );
  }

  /** Resolves when the node listens; it serves calls as soon as the catalog has a leader. */
  async start(): Promise<void> {
    const { settings, logger } = this;
    const { disk, newStoreId, lock: lockDirectory, serveHttp } = this.environment;
    await disk.makeDirectory(settings.dataDir);
    const lock = await lockDirectory(settings.dataDir);
    this.stack.add(() => lock[Symbol.asyncDispose]());
    const identity = { directory: settings.dataDir, clusterId: settings.clusterId, nodeId: toNodeId(settings.nodeId) };
    this.identity = await this.withRoom(() => Identity.open(identity, { disk, newStoreId, logger }));
    const http = await serveHttp(
      { host: settings.host, port: settings.httpPort },
      {
        ready: () => this.isServing && this.broker?.ready === true,
        metrics: () => (this.host === null || this.broker === null ? "" : this.renderMetrics(this.host, this.broker)),
      },
    );
    this.loop.start();
    this.stack.add(() => this.loop.stop());
    this.stack.add(() => http[Symbol.asyncDispose]());
    await this.bringUp();
    this.isOpening = false;
    if (this.wanted !== null) this.restarting = this.restartWanted();
  }

  /** Moves leaders away, finishes what is under way, closes everything. */
  stop(): Promise<void> {
    this.stopping ??= (async () => {
      this.ended.abort(new Error("the node stops"));
      await this.restarting;
      this.broker?.stop();
      if (this.host !== null) {
        const left = await this.host.handOverLeaders(this.settings.drainTimeoutMs);
        if (left > 0) this.logger.warn({ groups: left }, "groups still led here at the end of the drain time");
      }
      await this.parts.close();
      await this.stack.close();
    })();
    return this.stopping;
  }

  /** Opens all parts; what is lost is set aside first, as often as it takes. */
  private async bringUp(): Promise<void> {
    for (let recoveries = 0; ; recoveries++) {
      try {
        await this.withRoom(() => this.open());
        return;
      } catch (error) {
        await this.closeParts();
        if (!(error instanceof LostError) || recoveries >= RECOVERIES_MAX) throw error;
        if (this.peers.length === 1 && error.what !== "store") throw error.cause;
        await this.withRoom(() => this.setAside(error));
      }
    }
  }

  /** Does it again, once there is space, when the disk was full. */
  private async withRoom<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isNoSpace(error)) throw error;
        await this.closeParts();
        await this.makeRoom();
      }
    }
  }

  private makeRoom(): Promise<void> {
    return this.reserve.makeRoom(() => this.environment.disk.freeBytes(this.settings.dataDir), this.ended.signal);
  }

  private async open(): Promise<void> {
    const { settings, logger } = this;
    const { clock, seed, serveApi, release } = this.environment;
    const random = new Prng(seed());
    const { kv, catalogLog, dataLog } = await openStorage(settings, {
      environment: this.environment,
      logger,
      random,
      parts: this.parts,
      isBegun: this.identity.meta.catalogLife !== null,
      isOnlyCopy: this.peers.length === 1,
    });
    this.logs = [catalogLog, dataLog];
    const { catalogLife } = this.identity.meta;
    const life = catalogLife ?? (await this.join(random));
    const links = this.links(random);
    const host = new ReplicaHost(
      {
        ...HOST_DEFAULTS,
        rulesVersion: release.rulesVersion,
        checkpointBytes: settings.segmentBytes / CHECKPOINTS_PER_SEGMENT,
        nodeId: toNodeId(settings.nodeId),
        tickMs: settings.tickMs,
        electionTicks: Math.max(2, Math.round((settings.electionTimeoutMs * GROUP_TIMEOUT_FACTOR) / settings.tickMs)),
        tailCacheBytesMax: TAIL_CACHE_BYTES_MAX,
        catchUpBytesPerSecond: settings.catchUpBytesPerSecond,
      },
      {
        catalogLog,
        dataLog,
        store: new Checkpoints(kv),
        transport: links,
        clock,
        random,
        logger,
        events: this.hostEvents(),
        machineOf: release.machineOf,
        crc32,
        worked: this.longest.worked,
      },
    );
    // A life that the cluster gave out after the log was read has never been here.
    await host.open({ ...this.catalogGroup(life), isFresh: catalogLife === null && life > 0 });
    const damage = host.quarantine.of(CATALOG_GROUP);
    if (damage !== undefined) throw new LostError("catalog replica", new Error(damage.reason));
    this.host = host;
    this.serve(host, links);
    host.start();
    this.parts.add(() => host.stop());
    this.parts.add(() => links[Symbol.asyncDispose]());
    await startLinks(links, settings.nodeId, this.peers);
    this.broker!.start();
    const broker = this.broker!;
    this.parts.add(() => broker.archivingStopped());
    await this.watchFitness(host);
    const api = await serveApi(
      { host: settings.host, port: settings.apiPort, tls: tlsFilesOf(settings) },
      { broker: this.broker!, logger, pacer: this.pacer, worked: this.longest.worked },
    );
    this.isServing = true;
    this.parts.add(() => api[Symbol.asyncDispose]());
    const { identity } = this;
    const scrubbing = new Scrubbing(
      { bytesPerSecond: settings.scrubBytesPerSecond, pauseMs: settings.scrubPauseMs },
      {
        clock,
        logger,
        fatal: this.fatal,
        ended: () => (this.scrubRounds += 1),
        tasks: [
          (pace) => kv.scrub(pace),
          (pace) => catalogLog.scrub(pace),
          (pace) => dataLog.scrub(pace),
          (pace) => host.scrub(pace),
          () => identity.scrub(),
        ],
      },
    );
    scrubbing.start();
    this.parts.add(() => scrubbing.stop());
    this.forgetSetAsideOnceKnown(host, this.broker!);
    logger.info({ apiPort: api.port, peerPort: links.port, httpPort: settings.httpPort, dataDir: settings.dataDir }, "node is up");
  }

  private renderMetrics(host: ReplicaHost, broker: NodeBroker): string {
    const { loop, memory, scrubRounds } = this;
    return renderMetrics({ host, broker, logs: this.logs!, loop, memory, scrubRounds });
  }

  private async watchFitness(host: ReplicaHost): Promise<void> {
    const { diskWatermarkBytes, slowWriteMs, electionTimeoutMs, dataDir } = this.settings;
    const watch = new FitnessWatch(
      { watermarkBytes: diskWatermarkBytes, slowWriteMs, stallMs: electionTimeoutMs / 2 },
      {
        clock: this.environment.clock,
        logger: this.logger,
        oldestWriteMs: () => host.oldestWriteMs(),
        loopDelayMs: () => this.loop.p99Ms,
        changed: (fitness) => this.broker?.fitnessChanged(fitness),
        freeBytes: async () => {
          const free = await this.environment.disk.freeBytes(dataDir);
          this.tellDisk(free);
          await this.reserve.fill(free - diskWatermarkBytes);
          return free;
        },
      },
    );
    await watch.start();
    this.parts.add(() => watch.stop());
  }

  private tellDisk(freeBytes: number): void {
    let logBytes = 0;
    let liveBytes = 0;
    for (const { bytesOnDisk, bytesLive } of (this.logs ?? []).map((log) => log.stats())) {
      logBytes += bytesOnDisk;
      liveBytes += bytesLive;
    }
    this.broker?.diskSeen({ logBytes, liveBytes, freeBytes });
  }

  /** Founds the cluster with the others, or gets a replica of its catalog; resolves with that replica's life. */
  private async join(random: Prng): Promise<number> {
    const { logger } = this;
    const { lostLife, mustJoin } = this.identity.meta;
    const joining = new Joining(
      { registration: this.registration, peers: this.peers.map(({ id }) => toNodeId(id)), lostLife, mustJoin },
      {
        clock: this.environment.clock,
        logger,
        links: (handler) =>
          makeLinks(this.settings, this.identity.meta, { ...this.peering(random), handler: { ...handler, onBulkUp: () => {} } }),
        start: (links) => startLinks(links, this.settings.nodeId, this.peers),
      },
    );
    const life = await joining.run(this.ended.signal);
    await this.identity.joined(life);
    logger.info({ life }, life === 0 ? "founds the cluster with the other nodes" : "joined the cluster");
    return life;
  }

  private links(random: Prng): PeerLinks {
    const { logger } = this;
    return makeLinks(this.settings, this.identity.meta, {
      ...this.peering(random),
      handler: {
        onFrame: (from, lane, frame) => this.host?.links.onFrame(from, lane, frame),
        onUp: (peer, greeting) => {
          logger.info({ peer, incarnation: greeting.incarnation }, "peer is up");
          this.host?.links.onUp(peer, greeting);
        },
        onBulkUp: (peer) => this.host?.links.onBulkUp(peer),
        onDown: (peer, reason) => {
          logger.warn({ peer, reason }, "peer is down");
          this.host?.links.onDown(peer);
        },
      },
    });
  }

  private peering(random: Prng): Omit<PeeringComponents, "handler"> {
    return {
      network: this.environment.network(tlsFilesOf(this.settings)),
      rulesVersion: this.environment.release.rulesVersion,
      clock: this.environment.clock,
      random,
      logger: this.logger,
      memory: this.memory,
      host: () => this.host,
      peers: this.peers,
      fatal: this.fatal,
    };
  }

  private serve(host: ReplicaHost, links: PeerLinks): void {
    this.broker = new NodeBroker(
      { clusterId: this.settings.clusterId, registration: this.registration, peers: new Set(this.peers.map(({ id }) => toNodeId(id))) },
      {
        host,
        transport: links,
        clock: this.environment.clock,
        logger: this.logger,
        memory: this.memory,
        pacer: this.pacer,
        fatal: this.fatal,
        acted: this.identity,
        archive: archiveOf(this.settings, this.environment),
        outrun: (incarnation) => this.restart("the cluster has seen a later start of this node", () => this.identity.outrun(incarnation)),
        replaced: (reason) => this.restart(reason, () => this.identity.lostStore(reason)),
      },
    );
  }

  private hostEvents(): HostEvents {
    const broker = (): NodeBroker | null => this.broker;
    return {
      worked: (group, news) => this.broker?.worked(group, news),
      advanced: (group) => broker()?.advanced(group),
      catalogChanged: () => broker()?.catalogChanged(),
      leaderChanged: (group, leader, term) => broker()?.leaderChanged(group, leader, term),
      damaged: (group, reason) => {
        if (group !== CATALOG_GROUP) broker()?.damaged();
        else if (this.host !== null) this.restart(reason, () => this.identity.lostCatalog(reason));
      },
      forwarded: (from, frame) => broker()?.forwarded(from, frame),
      peerUp: (peer) => broker()?.peerUp(peer),
      peerDown: (peer) => broker()?.peerDown(peer),
      fatal: this.fatal,
    };
  }

  /** A full disk is waited for, a damaged store set aside, as at the start; everything else ends the process. */
  private readonly fatal = (error: Error): void => {
    if (isNoSpace(error)) {
      this.restart("the disk is full", () => this.makeRoom());
      return;
    }
    const cause = [error, error.cause].find((one) => one instanceof StoreDamagedError);
    if (cause instanceof StoreDamagedError) this.restart(cause.message, () => this.setAside(new LostError("store", cause)));
    else this.components.fatal(error);
  };

  /** Closes all parts, does what is needed between, and opens them again; while they are being opened, right after that. */
  private restart(reason: string, between: () => Promise<void>): void {
    // What is wrong with parts that are being closed is not wrong with those that take their place, or they find it again.
    if (this.stopping !== null || this.isClosing) return;
    this.wanted ??= { reason, between };
    if (!this.isOpening) this.restarting ??= this.restartWanted();
  }

  private async restartWanted(): Promise<void> {
    try {
      while (this.wanted !== null && !this.ended.signal.aborted) {
        const { reason, between } = this.wanted;
        this.wanted = null;
        this.logger.warn({ reason }, "the node restarts its parts");
        this.broker?.stop();
        await this.closeParts();
        await this.withRoom(between);
        await this.withRoom(() => this.identity.startAgain());
        await this.bringUp();
      }
    } catch (error) {
      if (!this.ended.signal.aborted) this.components.fatal(error as Error);
    }
    this.restarting = null;
  }

  private async closeParts(): Promise<void> {
    const { parts } = this;
    this.parts = new Closers();
    this.isServing = false;
    this.isClosing = true;
    // Parts of which something is damaged need not close well: nothing of theirs is used again.
    await parts.close().catch((error: unknown) => this.logger.warn({ error: (error as Error).message }, "a part did not close cleanly"));
    // Not before: calls under way end well only while peers are heard and the groups led here go on.
    this.isClosing = false;
    this.broker = null;
    this.host = null;
    this.logs = null;
  }

  /** Only a catalog that is no older than this start knows of all topics that this node may be the last to hold. */
  private forgetSetAsideOnceKnown(host: ReplicaHost, broker: NodeBroker): void {
    let work = Promise.resolve();
    const unwatch = broker.watch(() => {
      const catalog = host.get(CATALOG_GROUP)?.machine as CatalogMachine | undefined;
      if (!broker.ready || catalog === undefined) return;
      unwatch();
      work = forgetSetAside(this.data, this.settings.nodeId, catalog).catch(this.fatal);
    });
    this.parts.add(() => {
      unwatch();
      return work;
    });
  }

  private setAside(lost: LostError): Promise<void> {
    return setAside(lost, this.data, { logger: this.logger, nowMs: this.environment.clock.wallMs() });
  }

  private get data(): DataFolder {
    return { disk: this.environment.disk, dataDir: this.settings.dataDir, identity: this.identity };
  }

  private get registration(): NodeRegistration {
    const { settings } = this;
    const { storeId, incarnation } = this.identity.meta;
    return {
      id: toNodeId(settings.nodeId),
      storeId,
      clientEndpoint: `${advertisedHostOf(settings)}:${settings.apiPort}`,
      peerEndpoint: `${advertisedHostOf(settings)}:${settings.peerPort}`,
      dc: settings.dc,
      zone: settings.zone,
      version: VERSION,
      incarnation,
    };
  }

  private catalogGroup(life: number): GroupDescriptor {
    const founders = this.peers.map(({ id }) => replicaId(toNodeId(id), 0));
    const self = replicaId(toNodeId(this.settings.nodeId), life);
    return {
      group: CATALOG_GROUP,
      kind: "catalog",
      self,
      members: life === 0 ? { ...splitMembers(founders), votersOutgoing: [], learnersNext: [], autoLeave: false } : null,
      preferred: founders[0] === self,
      durability: DURABILITY_FSYNC,
    };
  }
}
