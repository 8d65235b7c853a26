// The turn, the only place where time, disk and network meet consensus. Everything that arrives goes into the cores at once,
// which only take notes; one turn then collects the notes of every group it touched: messages into one frame per node, entries
// into one write with one sync, committed entries into the machines.

import type { Clock, Timer } from "../base/clock.ts";
import type { Worked } from "../base/work.ts";
import type { ApplyQueue } from "./apply-queue.ts";
import { DirtyList } from "./dirty-list.ts";
import type { Elections } from "./elections.ts";
import type { Lane } from "./lane.ts";
import type { Messages } from "./messages.ts";
import type { Pulse } from "./pulse.ts";
import type { Recovery } from "./recovery.ts";
import type { Replica } from "./replica.ts";
import type { Snapshots } from "./snapshots.ts";
import type { TailBudget } from "./tail-budget.ts";
import type { HostEvents } from "./types.ts";

/** Milliseconds of one turn for applying and saving, of all groups together, before the loop lets sockets and timers in. */
const SLICE_MS = 8;
/** Applying may give a core more to say (a single voter commits its own entries): so often in one turn. */
const ROUNDS_MAX = 4;
/** Ticks between two looks through what the tail caches are accounted for. */
const SWEEP_TICKS = 20;

export type TurnComponents = {
  readonly clock: Clock;
  readonly events: HostEvents;
  readonly worked?: Worked;
  readonly lanes: readonly Lane[];
  readonly laneOf: (replica: Replica) => Lane;
  readonly messages: Messages;
  readonly applyQueue: ApplyQueue;
  readonly elections: Elections;
  readonly pulse: Pulse;
  readonly recovery: Recovery;
  readonly snapshots: Snapshots;
  readonly tailBudget: TailBudget;
};

export class Turn {
  private readonly tickMs: number;
  private readonly components: TurnComponents;
  /** Groups that have notes to collect. */
  private readonly dirty = new DirtyList();
  /** Those of them whose lane is full: they ask for no turn, as none could do anything before a write is done, and that one runs one. */
  private held: Replica[] = [];
  private scheduled = false;
  private running = false;
  private stopped = false;
  private tickDue = false;
  private ticks = 0;
  private tickTimer: Timer | null = null;
  /** Terms that groups entered here since the start, and with a leader known: elections, as this node saw them. */
  termsBegun = 0;

  constructor({ tickMs }: { readonly tickMs: number }, components: TurnComponents) {
    this.tickMs = tickMs;
    this.components = components;
  }

  start(): void {
    const tick = (): void => {
      this.tickDue = true;
      this.request();
      this.tickTimer = this.components.clock.schedule(this.tickMs, tick);
    };
    this.tickTimer = this.components.clock.schedule(this.tickMs, tick);
  }

  /** No tick and no turn comes any more. */
  stop(): void {
    this.stopped = true;
    this.tickTimer?.cancel();
  }

  /** Something happens in the group. */
  touch(replica: Replica): void {
    replica.idleTicks = 0;
    this.wake(replica);
  }

  /** Something happens in the group, and there is nothing to collect; with `beforeTurn` there is, and a turn is about to do so. */
  heard(replica: Replica, beforeTurn = false): void {
    replica.idleTicks = 0;
    this.components.pulse.wake(replica);
    if (beforeTurn) this.dirty.add(replica);
  }

  /** The group ticks again, and there may be something to collect. */
  wake(replica: Replica): void {
    this.components.pulse.wake(replica);
    this.note(replica);
  }

  /** There is something to collect, which does not wake the group. */
  note(replica: Replica): void {
    this.dirty.add(replica);
    this.request();
  }

  /** A turn comes once what has arrived is read. */
  request(): void {
    if (this.scheduled || this.running) return;
    this.scheduled = true;
    this.components.clock.defer(() => {
      this.scheduled = false;
      this.run(true);
    });
  }

  /**
   * Only a turn that comes after all that has arrived (`inputsRead`) may tick: after a stall the heartbeats that lie unread go
   * first, and however long it was, it counts as one tick.
   */
  run(inputsRead = false): void {
    if (this.running || this.stopped) return;
    this.running = true;
    const { clock, messages, lanes, applyQueue, elections } = this.components;
    if (this.tickDue && inputsRead) this.tick();
    const deadlineMs = clock.monotonicMs() + SLICE_MS;
    for (let round = 0; round < ROUNDS_MAX && (!this.dirty.isEmpty || round === 0); round++) {
      this.collectAll();
      messages.flush(false);
      for (const lane of lanes) lane.start();
      this.release();
      applyQueue.run(deadlineMs);
    }
    elections.pump();
    // Who published hears of a commit before the followers do.
    messages.flush(false);
    messages.flushNews();
    this.running = false;
    if (!this.dirty.isEmpty || !applyQueue.isEmpty || this.tickDue) this.request();
  }

  private tick(): void {
    const { pulse, tailBudget, lanes, recovery, snapshots } = this.components;
    this.tickDue = false;
    pulse.tick();
    if (++this.ticks % SWEEP_TICKS === 0) tailBudget.sweep();
    for (const lane of lanes) lane.tick(this.tickMs);
    recovery.tick();
    snapshots.tick();
  }

  /** Lanes that have begun to write have room again. */
  private release(): void {
    if (this.held.length === 0) return;
    const { held } = this;
    this.held = [];
    for (const replica of held) {
      if (this.components.laneOf(replica).isFull) this.held.push(replica);
      else {
        replica.dirty = false;
        this.dirty.add(replica);
      }
    }
  }

  private collectAll(): void {
    const { clock, laneOf, worked } = this.components;
    const beganMs = clock.monotonicMs();
    const wallMs = clock.wallMs();
    for (const replica of this.dirty.take()) {
      replica.dirty = false;
      if (replica.closed) continue;
      if (laneOf(replica).isFull) {
        replica.dirty = true;
        this.held.push(replica);
        continue;
      }
      this.collect(replica, replica.logMs(wallMs, beganMs));
    }
    worked?.("collecting what groups have to write and to send", beganMs);
  }

  private collect(replica: Replica, nowMs: number): void {
    const { snapshots, tailBudget, recovery, messages, laneOf, applyQueue } = this.components;
    if (replica.flushProposals(nowMs)) this.note(replica);
    if (replica.raft.hasReady()) {
      const ready = replica.raft.ready();
      if (ready.snapshot !== null) snapshots.install(replica, ready.snapshot);
      if (ready.entries.length > 0) {
        const bytes = replica.cacheEntries(ready.entries);
        tailBudget.added(replica, ready.entries[ready.entries.length - 1]!.index, bytes);
        if (replica.isLeader) recovery.earned(bytes);
      }
      for (const message of ready.messages) messages.dispatch(replica, message);
      laneOf(replica).add(replica, ready);
      if (ready.committedTo > replica.committedTo) replica.committedTo = ready.committedTo;
      if (ready.reads.length > 0 || ready.readsDropped.length > 0) replica.readsConfirmed(ready.reads, ready.readsDropped);
    }
    this.noticeLeader(replica);
    applyQueue.add(replica);
  }

  private noticeLeader(replica: Replica): void {
    const leader = replica.leaderNode;
    const { isLeader } = replica;
    if (replica.wasLeader && !isLeader) replica.leadershipLost();
    replica.wasLeader = isLeader;
    if (leader === replica.knownLeader && replica.raft.term === replica.knownTerm) return;
    if (replica.raft.term !== replica.knownTerm) this.termsBegun += 1;
    replica.knownLeader = leader;
    replica.knownTerm = replica.raft.term;
    this.components.events.leaderChanged(replica.group, leader, replica.raft.term);
  }
}
