// The host of all groups of a node: opens and ends their replicas, puts together the parts that do the work, and is the door
// to what others want of a group. The turn (turn.ts) is where time, disk and network meet consensus.

import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Histogram } from "../base/histogram.ts";
import { CATALOG_GROUP, nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/prng.ts";
import type { Worked } from "../base/work.ts";
import type { LogWatcher, SharedLog } from "../log/types.ts";
import type { Machine } from "../machine/machine.ts";
import type { PeerTransport } from "../peer/transport.ts";
import { ENTRY_RECORDS, ENTRY_VERSION, PROPOSE_OK, type ConfigurationChange, type EntryKind } from "../raft/types.ts";
import { Applier } from "./applier.ts";
import { ApplyQueue } from "./apply-queue.ts";
import { CatchUps } from "./catch-up.ts";
import { Comparisons } from "./comparisons.ts";
import { Checkpointer } from "./checkpointer.ts";
import { Elections } from "./elections.ts";
import { Lane } from "./lane.ts";
import { LinkEvents } from "./link-events.ts";
import { Messages } from "./messages.ts";
import { Recovery } from "./recovery.ts";
import { openReplica, ReplicaAheadError, ReplicaDamagedError } from "./open.ts";
import { Quarantine } from "./quarantine.ts";
import type { Replica } from "./replica.ts";
import { Pulse } from "./pulse.ts";
import { encodeVersion, Rules } from "./rules.ts";
import { Shared } from "./shared.ts";
import { Snapshots } from "./snapshots.ts";
import { TailBudget } from "./tail-budget.ts";
import { CommitTimer } from "./timings.ts";
import { Transfers } from "./transfers.ts";
import { Turn } from "./turn.ts";
import {
  HOST_DISK_FULL,
  HOST_NO_GROUP,
  HOST_STOPPING,
  type CheckpointStore,
  type GroupDescriptor,
  type HostEvents,
  type HostSettings,
  type MachineKind,
  type ProposeDone,
} from "./types.ts";

/** States saved at one time when the host stops. */
const SAVES_AT_STOP = 256;

export type HostComponents = {
  /** Entries of group 0, in a log of its own that is written first. */
  readonly catalogLog: SharedLog;
  /** Entries of all other groups. */
  readonly dataLog: SharedLog;
  readonly store: CheckpointStore;
  readonly transport: PeerTransport;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly events: HostEvents;
  readonly machineOf: (kind: MachineKind) => Machine;
  readonly crc32: (bytes: Uint8Array) => number;
  readonly worked?: Worked;
};

/** Groups that the slow round has compared at one time, so that their questions leave in one frame. */
const COMPARED_AT_ONCE = 32;

export class ReplicaHost {
  readonly settings: HostSettings;
  private readonly components: HostComponents;
  private readonly replicas = new Map<GroupId, Replica>();
  private readonly shared: Shared;
  private readonly rules: Rules;
  private readonly commits = new CommitTimer();
  private readonly catalogLane: Lane;
  private readonly dataLane: Lane;
  private readonly messages: Messages;
  private readonly applyQueue: ApplyQueue;
  private readonly checkpointer: Checkpointer;
  private readonly snapshots: Snapshots;
  /** Who lags, and what they are sent. */
  readonly recovery: Recovery;
  private readonly elections: Elections;
  private readonly transfers: Transfers;
  private readonly catchUps: CatchUps;
  private readonly pulse: Pulse;
  /** Whether the replicas of a group have come to the same. */
  readonly comparisons: Comparisons;
  private readonly tailBudget: TailBudget;
  /** To be told of what comes over the links. */
  readonly links: LinkEvents;
  readonly quarantine: Quarantine;
  /** Asked before records are proposed: whether the disks of this group have room for more. */
  takesRecords: (replica: Replica) => boolean = () => true;
  /** Asked before a leadership is sent to the node: not to one that is still being brought up to date, or about to go. */
  takesLeaders: (node: NodeId) => boolean = () => true;
  private readonly turn: Turn;
  private stopping = false;
  /** Replicas that are being opened. */
  private readonly opening = new Set<Promise<Replica>>();

  constructor(settings: HostSettings, components: HostComponents) {
    this.settings = settings;
    this.components = components;
    this.shared = new Shared(settings);
    this.rules = new Rules(settings.nodeId, settings.rulesVersion);
    const { clock, events, logger } = components;
    const touched = (replica: Replica): void => this.turn.touch(replica);
    const logOf = (replica: Replica): SharedLog => this.laneOf(replica).log;
    const lane = (log: SharedLog): Lane =>
      new Lane({
        log,
        nowMs: () => clock.monotonicMs(),
        commits: this.commits,
        send: (replica, message) => this.messages.dispatch(replica, message),
        touched,
        touchedForTurn: (replica) => this.turn.heard(replica, true),
        turn: () => this.turn.run(),
        fatal: (error) => events.fatal(error),
      });
    this.catalogLane = lane(components.catalogLog);
    this.dataLane = lane(components.dataLog);
    const applier = new Applier({
      clock,
      logOf,
      events,
      touched,
      commits: this.commits,
      damaged: (replica, reason) => this.damaged(replica, reason, true),
      reached: (replica) => this.comparisons.reached(replica),
    });
    this.checkpointer = new Checkpointer(settings, {
      store: components.store,
      logOf,
      logger,
      clock,
      failed: (error) => events.fatal(error),
    });
    this.applyQueue = new ApplyQueue({ clock, applier, checkpointer: this.checkpointer, worked: components.worked ?? ((): void => {}) });
    this.recovery = new Recovery(settings.catchUpBytesPerSecond, { clock });
    this.snapshots = new Snapshots({
      ...components,
      recovery: this.recovery,
      replicaOf: (group) => this.replicas.get(group),
      logOf,
      touched,
      compares: (node) => this.comparisons.isAble(node),
    });
    this.messages = new Messages({
      clock,
      transport: components.transport,
      snapshots: this.snapshots,
      catchUps: () => this.catchUps,
      comparisons: () => this.comparisons,
      replicaOf: (group) => this.replicas.get(group),
      touched,
      heard: (replica) => this.turn.heard(replica),
      wake: (replica) => this.turn.wake(replica),
      news: (replica) => this.turn.note(replica),
      sleep: (replica) => this.pulse.sleep(replica),
      requestTurn: () => this.turn.request(),
    });
    const electionTimeoutMs = settings.electionTicks * settings.tickMs;
    this.elections = new Elections({
      clock,
      random: components.random,
      electionTimeoutMs,
      isUp: (node) => components.transport.isUp(node),
      touched,
      sleep: (replica) => this.pulse.sleep(replica),
      yields: () => !this.takesLeaders(settings.nodeId),
    });
    this.pulse = new Pulse(settings, {
      elections: this.elections,
      isUp: (peer) => this.isPeerUp(peer),
      post: (replica, message) => this.messages.post(replica, message),
      news: (replica) => this.turn.note(replica),
      slept: () => this.tailBudget.released(),
      led: (replica) => this.comparisons.ticked(replica),
    });
    this.comparisons = new Comparisons(settings, {
      logger,
      crc32: components.crc32,
      isUp: (peer) => this.isPeerUp(peer),
      post: (replica, message) => this.messages.post(replica, message),
      damaged: (replica, reason) => this.damaged(replica, reason),
    });
    this.transfers = new Transfers({
      self: settings.nodeId,
      clock,
      electionTimeoutMs,
      isUp: (node) => components.transport.isUp(node),
      takesLeaders: (node) => this.takesLeaders(node),
      replicas: () => this.replicas.values(),
      touched,
    });
    this.catchUps = new CatchUps({
      clock,
      recovery: this.recovery,
      transport: components.transport,
      logOf,
      sendLive: (replica, message) => this.messages.post(replica, message),
      damaged: (replica, reason) => this.damaged(replica, reason),
      touched,
    });
    this.links = new LinkEvents({
      clock,
      worked: components.worked ?? ((): void => {}),
      events,
      messages: this.messages,
      rules: this.rules,
      comparisons: this.comparisons,
      recovery: this.recovery,
      elections: this.elections,
      replicas: () => this.replicas.values(),
      touched,
    });
    const watcher: LogWatcher = {
      committedOf: (group) => this.replicas.get(group)?.raft.commitIndex ?? 0,
      damaged: (group, reason) => {
        const replica = this.replicas.get(group);
        if (replica !== undefined) this.damaged(replica, reason);
      },
    };
    for (const { log } of [this.catalogLane, this.dataLane]) log.attach(watcher);
    this.tailBudget = new TailBudget(settings.tailCacheBytesMax);
    this.quarantine = new Quarantine({
      logger,
      isUp: (peer) => this.isPeerUp(peer),
      post: (replica, message) => this.messages.post(replica, message),
    });
    this.turn = new Turn(settings, {
      ...components,
      lanes: [this.catalogLane, this.dataLane],
      laneOf: (replica) => this.laneOf(replica),
      messages: this.messages,
      applyQueue: this.applyQueue,
      elections: this.elections,
      pulse: this.pulse,
      recovery: this.recovery,
      snapshots: this.snapshots,
      tailBudget: this.tailBudget,
    });
  }

  start(): void {
    this.turn.start();
  }

  /**
   * Opens the replica of a group: a new one, or the one whose log and checkpoints are here. False when that is damaged
   * (it is in quarantine then), or newer than what was asked for.
   */
  async open(descriptor: GroupDescriptor): Promise<boolean> {
    const { group, self } = descriptor;
    assert(!this.replicas.has(group), `group ${group} is open already`);
    if (this.stopping) return false;
    const opening = openReplica(descriptor, { ...this.components, log: this.logFor(group), shared: this.shared });
    this.opening.add(opening);
    let replica: Replica;
    try {
      replica = await opening;
    } catch (error) {
      if (error instanceof ReplicaAheadError) return false;
      if (!(error instanceof ReplicaDamagedError)) throw error;
      this.quarantine.note(group, self, error.message);
      this.components.events.damaged(group, error.message);
      return false;
    } finally {
      this.opening.delete(opening);
    }
    if (this.stopping || this.replicas.has(group)) return false;
    this.quarantine.forget(group);
    this.replicas.set(group, replica);
    this.checkpointer.thin(replica);
    this.turn.touch(replica);
    this.elections.opened(replica);
    return true;
  }

  /**
   * What was read of the replica's log is not what was written: it leaves service at once. Where the others are no majority
   * without it nobody could take its place, so it stays, and only what is damaged is not served; unless it cannot go on.
   */
  damaged(replica: Replica, reason: string, cannotGoOn = false): void {
    if (replica.closed) return;
    if (!cannotGoOn && replica.configuration.voters.length < 3 && replica.configuration.voters.includes(replica.descriptor.self)) {
      this.components.logger.error({ group: replica.group, reason }, "records are damaged, and no majority could bring them back");
      return;
    }
    this.quarantine.note(replica.group, replica.descriptor.self, reason);
    this.retire(replica);
    this.components.events.leaderChanged(replica.group, 0, replica.raft.term);
    this.components.events.damaged(replica.group, reason);
  }

  /** Reads the saved states of all replicas, and has those of the groups led here compared with the others'. */
  async scrub(pace: (bytes: number) => Promise<void>): Promise<void> {
    const all = [...this.replicas.values()];
    for (let at = 0; at < all.length; at += COMPARED_AT_ONCE) {
      const some = all.slice(at, at + COMPARED_AT_ONCE);
      for (const replica of some) {
        const reason = await this.checkpointer.scrub(replica, pace);
        if (reason !== null) this.damaged(replica, reason);
      }
      for (const replica of some) if (!replica.closed) this.comparisons.ask(replica, true);
    }
  }

  /** Ends the work of a replica whose group lives on. If it leads, the others are told: at rest nobody would miss it. */
  retire(replica: Replica): void {
    this.quarantine.leave(replica);
    this.messages.flush(true);
    this.close(replica);
  }

  /** Ends the replica's work here. Its records stay. */
  close(replica: Replica): void {
    this.replicas.delete(replica.group);
    this.pulse.sleep(replica);
    replica.closed = true;
    replica.leadershipLost();
    replica.cache.clear();
    this.tailBudget.released();
  }

  /**
   * The groups were deleted, or their replicas here removed, by a committed command: replicas, records and checkpoints go. No
   * later start may take them for replicas that have yet to begin: the caller remembers which catalog it acted on.
   * The log goes last: what it still holds after a crash is removed again by whoever asks for `heldGroups`. While the node
   * stops nothing goes: the next start finds them again.
   */
  async remove(groups: readonly GroupId[]): Promise<void> {
    if (this.stopping) return;
    for (const group of groups) {
      if (this.replicas.has(group)) this.close(this.replicas.get(group)!);
      this.quarantine.forget(group);
    }
    await this.checkpointer.deleteGroups(groups);
    if (this.stopping) return;
    for (const group of groups) this.logFor(group).destroy(group);
  }

  has(group: GroupId): boolean {
    return this.replicas.has(group);
  }

  get(group: GroupId): Replica | undefined {
    return this.replicas.get(group);
  }

  /** Groups of which records are here, in service or not; without the catalog. */
  heldGroups(): IterableIterator<GroupId> {
    return this.components.dataLog.groups().keys();
  }

  get heldCount(): number {
    return this.components.dataLog.groups().size;
  }

  /** Terms that groups entered here since the start, and with a leader known: elections, as this node saw them. */
  get termsBegun(): number {
    return this.turn.termsBegun;
  }

  get electionCounts(): Elections["counts"] {
    return this.elections.counts;
  }

  /** Which replica of the group is here, in service or not. */
  heldReplica(group: GroupId): ReplicaId | undefined {
    return this.logFor(group).groups().get(group)?.replica;
  }

  /** How long the older of the two writes under way has taken so far, in ms; 0 = none is. */
  oldestWriteMs(): number {
    return Math.max(this.catalogLane.writingMs, this.dataLane.writingMs);
  }

  /** Seconds that writes took, catalog and data; seconds from the log's door to applied, of some entries led here. */
  get timings(): { readonly writes: readonly [catalog: Histogram, data: Histogram]; readonly commits: Histogram } {
    return { writes: [this.catalogLane.writeSeconds, this.dataLane.writeSeconds], commits: this.commits.seconds };
  }

  groups(): IterableIterator<Replica> {
    return this.replicas.values();
  }

  /** Proposes on this node, which must lead the group. `payload` belongs to the log from now on. */
  propose(group: GroupId, kind: EntryKind, payload: Uint8Array, done: ProposeDone): void {
    const replica = this.replicas.get(group);
    if (this.stopping || replica === undefined) {
      done(this.stopping ? HOST_STOPPING : HOST_NO_GROUP, 0, null);
      return;
    }
    // What frees space (trims, offsets, membership) always goes through.
    if (kind === ENTRY_RECORDS && !this.takesRecords(replica)) {
      done(HOST_DISK_FULL, 0, null);
      return;
    }
    if (replica.propose(kind, payload, this.components.crc32(payload), done)) this.turn.touch(replica);
  }

  /** A linearizable read barrier on this node, which must lead the group. */
  readBarrier(group: GroupId, done: (ok: boolean) => void): void {
    const replica = this.replicas.get(group);
    if (replica === undefined) {
      done(false);
      return;
    }
    replica.readBarrier(done);
    this.turn.touch(replica);
  }

  /** False when this node does not lead the group, or the other one is not up to date, in this group and all others. */
  transferLeadership(group: GroupId, to: NodeId): boolean {
    const replica = this.replicas.get(group);
    return replica !== undefined && this.transfers.start(replica, to);
  }

  /** As its leader, has the group go by newer rules, once all its members' releases know them; looked at again and again. */
  raiseVersion(group: GroupId): void {
    const replica = this.replicas.get(group);
    const version = replica?.isLeader === true ? this.rules.due(replica) : 0;
    if (version > 0) this.propose(group, ENTRY_VERSION, encodeVersion(version), () => {});
  }

  /** Proposes a membership change on this node, which must lead the group; false when it cannot be proposed now. */
  proposeChange(group: GroupId, change: ConfigurationChange): boolean {
    const replica = this.replicas.get(group);
    if (replica === undefined || this.stopping) return false;
    const { clock } = this.components;
    const proposed = replica.raft.proposeChange(change, replica.logMs(clock.wallMs(), clock.monotonicMs())) === PROPOSE_OK;
    if (proposed) this.turn.touch(replica);
    return proposed;
  }

  logFor(group: GroupId): SharedLog {
    return group === CATALOG_GROUP ? this.components.catalogLog : this.components.dataLog;
  }

  /**
   * Moves every leadership away, and every one that comes here from now on: the host is about to stop. Resolves with how many are
   * left when none is or time is up.
   */
  handOverLeaders(timeoutMs: number): Promise<number> {
    return this.transfers.all(timeoutMs);
  }

  /** Ends all work: what waits is told so, states are saved. The logs and the store are the caller's to close. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.turn.stop();
    this.transfers.stop();
    this.recovery.stop();
    // They read a store that is about to be closed.
    await Promise.allSettled(this.opening);
    const replicas = [...this.replicas.values()];
    for (const replica of replicas) replica.leadershipLost(HOST_STOPPING);
    // Saves of one time share their writes to the store.
    for (let at = 0; at < replicas.length; at += SAVES_AT_STOP)
      await Promise.all(replicas.slice(at, at + SAVES_AT_STOP).map((replica) => this.checkpointer.save(replica)));
    await this.checkpointer.idle();
    for (const replica of replicas) replica.closed = true;
    // What waited for the write under way belongs to replicas that are closed by now: it ends without being written.
    for (const lane of [this.catalogLane, this.dataLane])
      for (; !lane.isIdle; lane.start()) await new Promise<void>((resolve) => this.components.clock.schedule(1, resolve));
  }

  private laneOf(replica: Replica): Lane {
    return replica.group === CATALOG_GROUP ? this.catalogLane : this.dataLane;
  }

  private isPeerUp(peer: number): boolean {
    return this.components.transport.isUp(nodeOfReplica(peer as ReplicaId));
  }
}
