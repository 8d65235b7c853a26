// Replica hosts in one process, over everything real below them: segment logs, LevelDB, TCP links.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { freePorts } from "../../bench/ports.ts";
import type { Clock } from "../../src/base/clock.ts";
import { replicaId, type GroupId, type NodeId } from "../../src/base/ids.ts";
import type { Logger } from "../../src/base/logger.ts";
import { PayloadMemory } from "../../src/base/payload-memory.ts";
import { Prng } from "../../src/base/prng.ts";
import { NodeDisk } from "../../src/log/node-disk.ts";
import { SegmentLog } from "../../src/log/segment-log.ts";
import type { Machine } from "../../src/machine/machine.ts";
import { machineFor, type MachineKind } from "../../src/machine/registry.ts";
import { RULES_VERSION } from "../../src/machine/versions.ts";
import { writeRecordsHeader, RECORDS_HEADER_BYTES } from "../../src/machine/stream/records-codec.ts";
import type { StreamMachine } from "../../src/machine/stream/stream.ts";
import { PeerLinks } from "../../src/peer/links.ts";
import { tcpNetwork } from "../../src/peer/network.ts";
import type { Lane } from "../../src/peer/transport.ts";
import { ENTRY_COMMAND, ENTRY_RECORDS, type EntryKind } from "../../src/raft/types.ts";
import { ReplicaHost } from "../../src/replica/host.ts";
import type { Replica } from "../../src/replica/replica.ts";
import { DURABILITY_FSYNC, HOST_DEFAULTS, type HostSettings } from "../../src/replica/types.ts";
import { systemClock } from "../../src/server/system-clock.ts";
import { Checkpoints } from "../../src/store/checkpoints.ts";
import { LOG_CATALOG, LOG_DATA, segmentKeys } from "../../src/store/keys.ts";
import { LevelKv } from "../../src/store/level-kv.ts";

/** The group that every test host opens. */
export const GROUP = 1 as GroupId;
const SEGMENT_BYTES = 64 * 1024;
const EVENTUALLY_MS = 15_000;

/** Polls, because what is waited for spans hosts. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + EVENTUALLY_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`did not happen within ${EVENTUALLY_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** An entry of `count` records without a producer; the body is opaque to the machine. */
export function records(count: number, body: Uint8Array): Uint8Array {
  const payload = new Uint8Array(RECORDS_HEADER_BYTES + body.length);
  writeRecordsHeader(payload, 0, { producerId: 0, producerEpoch: 0, sequence: 0, count });
  payload.set(body, RECORDS_HEADER_BYTES);
  return payload;
}

export class TestHost {
  readonly id: NodeId;
  readonly directory: string;
  readonly port: number;
  host!: ReplicaHost;
  links!: PeerLinks;
  checkpoints!: Checkpoints;
  /** Added to the wall clock of this host. */
  wallOffsetMs = 0;
  /** Links to peers that were lost. */
  downs = 0;
  /** Called before a frame of a peer is handled; false: it is lost. The bytes may be changed. */
  onFrame: (from: NodeId, lane: Lane, frame: Uint8Array) => boolean | void = () => {};
  /** Of the release that it runs. */
  rulesVersion = RULES_VERSION;
  /** It takes the others for releases that compare what they have applied, if they are. */
  compares = true;
  machineOf: (kind: MachineKind) => Machine = machineFor;
  /** What was logged, newest last: the event and its fields. */
  readonly logged: { event: string; fields: Record<string, unknown> }[] = [];
  private kv!: LevelKv;
  private logs: SegmentLog[] = [];
  private incarnation = 0;

  constructor(id: number, directory: string, port: number) {
    this.id = id as NodeId;
    this.directory = directory;
    this.port = port;
  }

  get replica(): Replica {
    return this.host.get(GROUP)!;
  }

  get stream(): StreamMachine {
    return this.replica.machine as StreamMachine;
  }

  count(event: string): number {
    return this.logged.filter((line) => line.event === event).length;
  }

  async start(members: readonly TestHost[], settings: Partial<HostSettings> = {}, groups = 1): Promise<void> {
    const random = new Prng(this.id * 1_000 + this.incarnation++);
    const disk = new NodeDisk();
    this.kv = await LevelKv.open(join(this.directory, "store"));
    const logger = this.logger();
    const open = (name: string, log: typeof LOG_DATA | typeof LOG_CATALOG): Promise<SegmentLog> =>
      SegmentLog.open(
        { directory: join(this.directory, name), segmentBytes: SEGMENT_BYTES },
        { disk, store: this.kv, keys: segmentKeys(log), random, logger },
      );
    const [catalogLog, dataLog] = [await open("catalog", LOG_CATALOG), await open("log", LOG_DATA)];
    this.logs = [catalogLog, dataLog];
    const clock: Clock = { ...systemClock, wallMs: () => systemClock.wallMs() + this.wallOffsetMs };
    const fatal = (error: Error): void => {
      this.logged.push({ event: "fatal", fields: { error } });
    };
    this.links = new PeerLinks(
      {
        clusterId: "test",
        nodeId: this.id,
        storeId: `store-${this.id}`,
        incarnation: this.incarnation,
        rulesVersion: this.rulesVersion,
        listenHost: "127.0.0.1",
        listenPort: this.port,
        livenessTimeoutMs: 500,
      },
      {
        network: tcpNetwork(),
        clock,
        random,
        logger,
        memory: new PayloadMemory(1024 * 1024, 8 * 1024 * 1024),
        admit: () => null,
        state: () => ({ joining: false, used: true }),
        handler: {
          onFrame: (from, lane, frame) => {
            if (this.onFrame(from, lane, frame) !== false) this.host.links.onFrame(from, lane, frame);
          },
          onUp: (peer, greeting) => this.host.links.onUp(peer, { ...greeting, compares: greeting.compares && this.compares }),
          onBulkUp: (peer) => this.host.links.onBulkUp(peer),
          onDown: (peer) => {
            this.downs += 1;
            this.host.links.onDown(peer);
          },
          onDrain: () => {},
          onRefused: (_peer, code, reason) => fatal(new Error(`${code}: ${reason}`)),
        },
      },
    );
    this.host = new ReplicaHost(
      { ...HOST_DEFAULTS, nodeId: this.id, tickMs: 10, tailCacheBytesMax: 32 * 1024 * 1024, rulesVersion: this.rulesVersion, ...settings },
      {
        catalogLog,
        dataLog,
        store: (this.checkpoints = new Checkpoints(this.kv)),
        transport: this.links,
        clock,
        random,
        logger,
        machineOf: this.machineOf,
        crc32,
        events: {
          worked: () => {},
          advanced: () => {},
          catalogChanged: () => {},
          leaderChanged: () => {},
          damaged: () => {},
          forwarded: () => {},
          peerUp: () => {},
          peerDown: () => {},
          fatal,
        },
      },
    );
    const voters = members.map(({ id }) => replicaId(id, 0));
    for (let group: number = GROUP; group < GROUP + groups; group++) {
      await this.host.open({
        group: group as GroupId,
        kind: "stream",
        self: replicaId(this.id, 0),
        members: { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
        preferred: voters[0] === replicaId(this.id, 0),
        durability: DURABILITY_FSYNC,
      });
    }
    this.host.start();
    await this.links.start();
    for (const member of members) if (member !== this) this.links.setPeer(member.id, "127.0.0.1", member.port);
  }

  async stop(): Promise<void> {
    await this.links[Symbol.asyncDispose]();
    await this.host.stop();
    for (const log of this.logs) await log.close();
    await this.kv.close();
  }

  /** Ends without saving any state, as a killed process does: all since the last checkpoint is to be replayed. */
  async kill(): Promise<void> {
    for (const replica of this.host.groups()) replica.checkpointing = true;
    await this.stop();
  }

  propose(kind: EntryKind, payload: Uint8Array, group: GroupId = GROUP): Promise<{ code: number; value: number }> {
    return new Promise((resolve) => this.host.propose(group, kind, payload, (code, value) => resolve({ code, value })));
  }

  publish(count: number, body: Uint8Array): Promise<{ code: number; value: number }> {
    return this.propose(ENTRY_RECORDS, records(count, body));
  }

  command(payload: Uint8Array): Promise<{ code: number; value: number }> {
    return this.propose(ENTRY_COMMAND, payload);
  }

  private logger(): Logger {
    const note = (fields: object, event: string): void => {
      this.logged.push({ event, fields: fields as Record<string, unknown> });
    };
    const logger: Logger = { error: note, warn: note, info: note, debug: note, child: () => logger };
    return logger;
  }
}

export class HostCluster {
  readonly hosts: readonly TestHost[];
  private readonly running = new Set<TestHost>();
  private readonly settings: Partial<HostSettings>;
  private readonly groups: number;

  private constructor(hosts: readonly TestHost[], settings: Partial<HostSettings>, groups: number) {
    this.hosts = hosts;
    this.settings = settings;
    this.groups = groups;
  }

  /** `groups`: from GROUP on. */
  static async start(size: number, settings: Partial<HostSettings> = {}, groups = 1): Promise<HostCluster> {
    const hosts: TestHost[] = [];
    const ports = await freePorts(size);
    for (const [at, port] of ports.entries()) hosts.push(new TestHost(at + 1, await mkdtemp(join(tmpdir(), "flotilla-host-")), port));
    const cluster = new HostCluster(hosts, settings, groups);
    for (const host of hosts) await cluster.start(host);
    return cluster;
  }

  async start(host: TestHost): Promise<void> {
    await host.start(this.hosts, this.settings, this.groups);
    this.running.add(host);
  }

  async stop(host: TestHost): Promise<void> {
    this.running.delete(host);
    await host.stop();
  }

  async kill(host: TestHost): Promise<void> {
    this.running.delete(host);
    await host.kill();
  }

  /** The running host that leads and has applied all that it knows to be committed. */
  async leader(): Promise<TestHost> {
    const leading = (): TestHost | undefined => [...this.running].find(({ replica }) => replica.isLeader);
    await eventually(() => leading() !== undefined, "one host leads");
    return leading()!;
  }

  /** Every running host has applied as much as the leader. */
  async settled(): Promise<void> {
    const leader = await this.leader();
    await eventually(() => [...this.running].every(({ replica }) => replica.applied >= leader.replica.applied), "all hosts have caught up");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.running) await host.stop();
    for (const { directory } of this.hosts) await rm(directory, { recursive: true, force: true });
  }
}
