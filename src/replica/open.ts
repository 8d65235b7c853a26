// Brings a replica back from its log and checkpoints, or makes a new one. A gap between the two is damage, never a
// reason to start empty: an emptied voter could elect a leader without what was acknowledged.

import { lifeOfReplica, type GroupId } from "../base/ids.ts";
import { APPEND_BYTES_MAX, ENTRY_FRAME_BYTES, INFLIGHT_BYTES_MAX, INFLIGHT_MESSAGES_MAX, UNCOMMITTED_BYTES_MAX } from "../base/limits.ts";
import type { Random } from "../base/prng.ts";
import type { GroupLogState, SharedLog } from "../log/types.ts";
import type { Machine } from "../machine/machine.ts";
import { EMPTY_CONFIGURATION } from "../raft/membership.ts";
import { RaftNode } from "../raft/raft-node.ts";
import { Replica } from "./replica.ts";
import type { Checkpoint, CheckpointStore, GroupDescriptor, HostSettings, MachineKind } from "./types.ts";

export type OpenComponents = {
  readonly log: SharedLog;
  readonly store: CheckpointStore;
  readonly random: Random;
  readonly machineOf: (kind: MachineKind) => Machine;
};

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

export async function openReplica(descriptor: GroupDescriptor, settings: HostSettings, components: OpenComponents): Promise<Replica> {
  const { group, self } = descriptor;
  const { log, store } = components;
  const machine = components.machineOf(descriptor.kind);
  const state = await stateOf(descriptor, components);
  const checkpoint = await startingPoint(descriptor, state, machine, store);
  if (checkpoint.index > FOUNDING_INDEX) machine.restore(checkpoint.snapshot);
  const commit = Math.max(state.hardState.commit, checkpoint.index);
  if (commit > state.lastIndex)
    throw new ReplicaDamagedError(group, `entries up to ${commit} were committed, the log ends at ${state.lastIndex}`);
  const hardState = { ...state.hardState, commit };
  const raft = new RaftNode(
    {
      id: self,
      electionTicks: settings.electionTicks,
      heartbeatTicks: settings.heartbeatTicks,
      preVote: true,
      checkQuorum: true,
      inflightMessagesMax: INFLIGHT_MESSAGES_MAX,
      inflightBytesMax: INFLIGHT_BYTES_MAX,
      appendBytesMax: APPEND_BYTES_MAX,
      uncommittedBytesMax: UNCOMMITTED_BYTES_MAX,
    },
    { random: components.random, entryBytes: (index) => log.entryBytes(group, index) + ENTRY_FRAME_BYTES },
    {
      hardState,
      configuration: checkpoint.configuration,
      compacted: state.trimmed,
      termRuns: state.termRuns,
      lastIndex: state.lastIndex,
      applied: checkpoint.index,
    },
  );
  const replica = new Replica(descriptor, raft, machine, {
    applied: checkpoint.index,
    timeMs: checkpoint.timeMs,
    configuration: checkpoint.configuration,
    hardState,
  });
  replica.checkpointIndexes = (await store.list(group)).filter((index) => index >= state.trimmed.index && index <= state.lastIndex);
  if (state.trimmed.index > 0 && replica.checkpointIndexes[0] !== state.trimmed.index)
    throw new ReplicaDamagedError(group, `the checkpoint at ${state.trimmed.index}, where the log begins, is missing`);
  return replica;
}

/** What the log holds of this replica; of one that is new here, an empty log that is begun now. */
async function stateOf(descriptor: GroupDescriptor, { log, store }: OpenComponents): Promise<GroupLogState> {
  const { group, self } = descriptor;
  const held = log.groups().get(group);
  // Without a hard state nobody knows whose entries these are.
  if (held !== undefined && (held.replica === self || held.replica === 0)) {
    const damage = log.damageOf(group);
    if (damage !== null) throw new ReplicaDamagedError(group, damage);
    return held;
  }
  if (held !== undefined && lifeOfReplica(held.replica) > lifeOfReplica(self))
    throw new ReplicaAheadError(`group ${group}: replica ${held.replica} is here, the catalog names ${self}`);
  // Of another life, which the catalog has replaced: nothing of it counts any more.
  if (held !== undefined) await store.deleteGroups([group]);
  log.begin(group, self, descriptor.members === null ? 0 : FOUNDING_INDEX, 0);
  return log.groups().get(group)!;
}

/** The newest checkpoint that the log continues; of a new group the founding one, which is written here. */
async function startingPoint(
  descriptor: GroupDescriptor,
  state: GroupLogState,
  machine: Machine,
  store: CheckpointStore,
): Promise<Checkpoint> {
  const { group, members } = descriptor;
  const newest = await newestOf(group, state, store);
  if (newest !== undefined && newest.index >= state.trimmed.index) return newest;
  const founding = { term: 0, machineVersion: machine.version, timeMs: 0, snapshot: machine.snapshot() };
  if (state.trimmed.index === 0) return { ...founding, index: 0, configuration: EMPTY_CONFIGURATION };
  if (state.trimmed.index !== FOUNDING_INDEX || members === null)
    throw new ReplicaDamagedError(group, `the log begins after ${state.trimmed.index}, and there is no checkpoint from there on`);
  const first: Checkpoint = { ...founding, index: FOUNDING_INDEX, configuration: members };
  await store.save(group, first);
  return first;
}

/**
 * The newest checkpoint whose entry the log holds. One of another term came from a leader and was to replace the log when
 * the process died: the entries here are not those that it continues.
 */
async function newestOf(group: GroupId, state: GroupLogState, store: CheckpointStore): Promise<Checkpoint | undefined> {
  let newest = await store.latest(group, state.lastIndex);
  while (newest !== undefined && newest.index > state.trimmed.index && newest.term !== termOf(state, newest.index))
    newest = await store.latest(group, newest.index - 1);
  return newest;
}

function termOf({ termRuns }: GroupLogState, index: number): number {
  let term = 0;
  for (const run of termRuns) if (run.firstIndex <= index) ({ term } = run);
  return term;
}
