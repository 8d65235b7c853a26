// Retention is the leader's decision, carried out by every replica as a replicated trim: at any time, or when a schedule is due; at once,
// or once the leader has archived what goes.

import type { Clock } from "../base/clock.ts";
import type { GroupId } from "../base/ids.ts";
import { ARCHIVE_BYTES_MIN, ARCHIVE_WAIT_MS_MAX } from "../base/limits.ts";
import type { TopicRow } from "../machine/catalog/catalog.ts";
import { encodeTrim } from "../machine/stream/commands.ts";
import type { StreamMachine } from "../machine/stream/stream.ts";
import { ENTRY_COMMAND } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Archiver } from "./archiver.ts";
import { RetentionDue } from "./retention-due.ts";

/** A partition that is led here. */
export type Led = { readonly group: GroupId; readonly topic: TopicRow; readonly partition: number };

export type RetentionComponents = {
  readonly host: ReplicaHost;
  readonly clock: Clock;
  readonly archiver: Archiver;
};

/** What this node, as its leader, is about with a partition. Those that are trimmed at any time, at once, need none. */
type State = {
  /** Of the configuration that it goes by: another one has nothing to do with what was due before. */
  readonly configuredMs: number;
  /** The last time that was due and is done. It begins where the configuration was set, or here and now if that was by a clock ahead. */
  doneMs: number;
  /** To be trimmed up to here, for this time; whatever gets too old meanwhile is for the next one. -1 = nothing is. */
  target: number;
  dueMs: number;
  /** Without a schedule: since when there has been something to archive; 0 = there is nothing. */
  wantedMs: number;
};

export class Retention {
  private readonly components: RetentionComponents;
  private readonly due = new RetentionDue();
  private states = new Map<GroupId, State>();

  constructor(components: RetentionComponents) {
    this.components = components;
  }

  /** Looks at all partitions that are led here, of topics with bounds; once a second. */
  look(led: readonly Led[]): void {
    const before = this.states;
    this.states = new Map();
    this.due.round();
    this.components.archiver.round();
    for (const one of led) this.lookAt(one, before.get(one.group));
    this.components.archiver.work();
  }

  private lookAt(led: Led, before: State | undefined): void {
    const { host, clock, archiver } = this.components;
    const { group, topic } = led;
    const { retentionSchedule, retentionPolicy } = topic.config;
    const replica = host.get(group);
    if (replica === undefined || !replica.isLeader) return;
    const machine = replica.machine as StreamMachine;
    const isArchived = retentionPolicy === 2;
    let target: number;
    if (retentionSchedule === "" && !isArchived) target = candidateOf(machine, topic, clock.wallMs());
    else {
      const state = before?.configuredMs === topic.configuredMs ? before : newState(topic, clock.wallMs());
      this.states.set(group, state);
      if (state.target <= machine.startOffset) this.nextTarget(topic, machine, state);
      target = state.target;
    }
    if (target < 0) return;
    if (isArchived) archiver.want(led, target);
    else host.propose(group, ENTRY_COMMAND, encodeTrim(target), () => {});
  }

  /** What was to go is gone. */
  private nextTarget(topic: TopicRow, machine: StreamMachine, state: State): void {
    const nowMs = this.components.clock.wallMs();
    const { retentionSchedule, retentionTimeZone } = topic.config;
    if (state.target >= 0) state.doneMs = state.dueMs;
    state.target = -1;
    if (retentionSchedule === "") {
      const candidate = candidateOf(machine, topic, nowMs);
      state.wantedMs = candidate < 0 ? 0 : state.wantedMs || nowMs;
      // A file for each second's worth would be thousands of files.
      const isWorthIt = machine.bytesBelow(candidate) >= ARCHIVE_BYTES_MIN || nowMs - state.wantedMs >= ARCHIVE_WAIT_MS_MAX;
      if (candidate < 0 || !isWorthIt) return;
      state.wantedMs = 0;
      state.target = candidate;
      return;
    }
    const spec = { cron: retentionSchedule, timeZone: retentionTimeZone };
    state.dueMs = this.due.dueMs(spec, state.doneMs, nowMs);
    if (state.dueMs === 0) return;
    state.target = candidateOf(machine, topic, state.dueMs);
    if (state.target < 0) state.doneMs = state.dueMs;
  }
}

/** There are topics whose records stay for ever: of those there may be thousands, at rest. */
export function isBounded({ config }: TopicRow): boolean {
  return config.retentionMs > 0 || config.retentionBytes > 0;
}

function newState({ configuredMs }: TopicRow, nowMs: number): State {
  return { configuredMs, doneMs: Math.min(configuredMs, nowMs), target: -1, dueMs: 0, wantedMs: 0 };
}

function candidateOf(machine: StreamMachine, { config }: TopicRow, nowMs: number): number {
  return machine.retentionCandidate({ nowMs, retentionMs: config.retentionMs, retentionBytes: config.retentionBytes });
}
