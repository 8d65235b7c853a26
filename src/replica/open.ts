// Brings a replica back from its log and checkpoints, or makes a new one. A gap between the two is damage, never a
// reason to start empty: an emptied voter could elect a leader without what was acknowledged.

import { lifeOfReplica, type GroupId } from "../base/ids.ts";
import { ENTRY_FRAME_BYTES } from "../base/limits.ts";
import type { Random } from "../base/prng.ts";
import type { GroupLogState, SharedLog } from "../log/types.ts";
import type { Machine } from "../machine/machine.ts";
import { EMPTY_CONFIGURATION } from "../raft/membership.ts";
import { RaftNode } from "../raft/raft-node.ts";
import type { RaftComponents } from "../raft/types.ts";
import { Digest } from "./digest.ts";
import { Replica } from "./replica.ts";
import { ReleaseTooOldError } from "./rules.ts";
import type { Shared } from "./shared.ts";
import type { Checkpoint, CheckpointStore, GroupDescriptor, MachineKind } from "./types.ts";

export type OpenComponents = {
  readonly log: SharedLog;
  readonly store: CheckpointStore;
  readonly random: Random;
  readonly machineOf: (kind: MachineKind) => Machine;
  readonly shared: Shared;
};

/** What the core of one group asks of its host. */
class CoreComponents implements RaftComponents {
  readonly random: Random;
  private readonly group: GroupId;
  private readonly log: SharedLog;

  constructor(group: GroupId, { random, log }: OpenComponents) {
    this.random = random;
    this.group = group;
    this.log = log;
  }

  entryBytes(index: number): number {
    return this.log.entryBytes(this.group, index) + ENTRY_FRAME_BYTES;
  }
}

/** The group's files on this node are damaged or do not fit together: the replica may neither vote nor serve. */
export class ReplicaDamagedError extends Error {
  override readonly name = "ReplicaDamagedError";
  readonly group: GroupId;

  constructor(group: GroupId, what: string) {
    super(`group ${group}: ${what}`);
    this.group = group;
  }
}

/** The catalog of this node names an older replica than the one whose log is here: it has yet to catch up. */
export class ReplicaAheadError extends Error {
  override readonly name = "ReplicaAheadError";
}

/**
 * A new group's log begins after this index. What stands at it is the checkpoint with the founding members, so a replica
 * that joins later, with nothing at all, always starts with a snapshot and never has to guess who the members were.
 */
const FOUNDING_INDEX = 1;

export async function openReplica(descriptor: GroupDescriptor, components: OpenComponents): Promise<Replica> {
  const { group, self } = descriptor;
  const { store, shared } = components;
  const machine = components.machineOf(descriptor.kind);
  const { state, isNew } = await stateOf(descriptor, components);
  // Beside a new log a crash may have left some, which its own will write over.
  const saved: number[] = isNew
    ? []
    : (await store.list(group)).filter((index) => index >= state.trimmed.index && index <= state.lastIndex);
  const checkpoint = (await newestOf(group, state, saved, store)) ?? (await firstOf(descriptor, state, machine, store));
  if (checkpoint.machineVersion > machine.newestVersion)
    throw new ReleaseTooOldError(group, checkpoint.machineVersion, machine.newestVersion);
  machine.useVersion(checkpoint.machineVersion);
  if (checkpoint.index > FOUNDING_INDEX) machine.restore(checkpoint.snapshot);
  const commit = Math.max(state.hardState.commit, checkpoint.index);
  if (commit > state.lastIndex)
    throw new ReplicaDamagedError(group, `entries up to ${commit} were committed, the log ends at ${state.lastIndex}`);
  const hardState = { ...state.hardState, commit };
  const configuration = shared.configurationOf(checkpoint.configuration);
  const raft = new RaftNode(shared.settingsOf(self), new CoreComponents(group, components), {
    hardState,
    configuration,
    compacted: state.trimmed,
    termRuns: state.termRuns,
    lastIndex: state.lastIndex,
    applied: checkpoint.index,
  });
  const members = descriptor.members === null ? null : shared.configurationOf(descriptor.members);
  const replica = new Replica({ ...descriptor, members }, raft, machine, {
    applied: checkpoint.index,
    timeMs: checkpoint.timeMs,
    configuration,
    hardState,
    digest: new Digest(checkpoint.index, checkpoint.digest),
  });
  // Those beyond were passed over: they are written again, and nothing may be cut at them meanwhile.
  const usable = saved.filter((index) => index <= checkpoint.index);
  replica.checkpointIndexes = checkpoint.index === 0 || usable.includes(checkpoint.index) ? usable : [checkpoint.index, ...usable];
  if (state.trimmed.index > 0 && replica.checkpointIndexes[0] !== state.trimmed.index)
    throw new ReplicaDamagedError(group, `the checkpoint at ${state.trimmed.index}, where the log begins, is missing`);
  return replica;
}

/** What the log holds of this replica; of one that is new here, an empty log that is begun now. */
async function stateOf(
  descriptor: GroupDescriptor,
  { log, store }: OpenComponents,
): Promise<{ readonly state: GroupLogState; readonly isNew: boolean }> {
  const { group, self } = descriptor;
  const held = log.groups().get(group);
  // Without a hard state nobody knows whose entries these are; only that they are not of one that never was here.
  if (held !== undefined && (held.replica === self || (held.replica === 0 && descriptor.isFresh !== true))) {
    const damage = log.damageOf(group);
    if (damage !== null) throw new ReplicaDamagedError(group, damage);
    return { state: held, isNew: false };
  }
  if (held !== undefined && lifeOfReplica(held.replica) > lifeOfReplica(self))
    throw new ReplicaAheadError(`group ${group}: replica ${held.replica} is here, the catalog names ${self}`);
  // Of another life, which the catalog has replaced: nothing of it counts any more.
  if (held !== undefined) await store.deleteGroups([group]);
  log.begin(group, self, descriptor.members === null ? 0 : FOUNDING_INDEX, 0);
  return { state: log.groups().get(group)!, isNew: true };
}

/** The founding checkpoint, which is written here; of a log that some leader's snapshot is to begin there is none. */
async function firstOf(descriptor: GroupDescriptor, state: GroupLogState, machine: Machine, store: CheckpointStore): Promise<Checkpoint> {
  const { group, members } = descriptor;
  const founding = { term: 0, machineVersion: machine.version, timeMs: 0, digest: null, snapshot: machine.snapshot() };
  if (state.trimmed.index === 0) return { ...founding, index: 0, configuration: EMPTY_CONFIGURATION };
  if (state.trimmed.index !== FOUNDING_INDEX || members === null)
    throw new ReplicaDamagedError(group, `the log begins after ${state.trimmed.index}, and there is no checkpoint from there on`);
  const first: Checkpoint = { ...founding, index: FOUNDING_INDEX, configuration: members };
  await store.save(group, first);
  return first;
}

/**
 * The newest checkpoint that the log continues and whose entry it holds. A damaged one is passed over: an older one replays
 * more. One of another term came from a leader and was to replace the log when the process died: the entries here are not
 * those that it continues.
 */
async function newestOf(
  group: GroupId,
  state: GroupLogState,
  saved: readonly number[],
  store: CheckpointStore,
): Promise<Checkpoint | undefined> {
  for (const index of [...saved].reverse()) {
    const checkpoint = await store.read(group, index);
    if (checkpoint !== undefined && (index === state.trimmed.index || checkpoint.term === termOf(state, index))) return checkpoint;
  }
  return undefined;
}

function termOf({ termRuns }: GroupLogState, index: number): number {
  let term = 0;
  for (const run of termRuns) if (run.firstIndex <= index) ({ term } = run);
  return term;
}
