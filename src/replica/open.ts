// Brings a replica back from its log and checkpoints, or makes a new one. A gap between the two is damage, never a
// reason to start empty: an emptied voter could elect a leader without what was acknowledged.

import { assert } from "../base/assert.ts";
import type { GroupId } from "../base/ids.ts";
import { APPEND_BYTES_MAX, INFLIGHT_BYTES_MAX, INFLIGHT_MESSAGES_MAX, UNCOMMITTED_BYTES_MAX } from "../base/limits.ts";
import type { Random } from "../base/prng.ts";
import type { GroupLogState, SharedLog } from "../log/types.ts";
import type { Machine } from "../machine/machine.ts";
import { RaftNode } from "../raft/raft-node.ts";
import { Replica } from "./replica.ts";
import type { Checkpoint, CheckpointStore, GroupDescriptor, HostSettings, MachineKind } from "./types.ts";

export type OpenComponents = {
  readonly log: SharedLog;
  readonly store: CheckpointStore;
  readonly random: Random;
  readonly machineOf: (kind: MachineKind) => Machine;
};

/** The group's files on this node do not fit together. */
export class ReplicaDamagedError extends Error {
  override readonly name = "ReplicaDamagedError";
  readonly group: GroupId;

  constructor(group: GroupId, what: string) {
    super(
      `group ${group}: ${what}; restore this node's data directory, or remove the node from the cluster and add it again with an empty one`,
    );
    this.group = group;
  }
}

const NEW_GROUP: GroupLogState = { hardState: { term: 0, vote: 0, commit: 0 }, trimmed: { index: 0, term: 0 }, termRuns: [], lastIndex: 0 };

export async function openReplica(descriptor: GroupDescriptor, settings: HostSettings, components: OpenComponents): Promise<Replica> {
  const { group } = descriptor;
  const { log, store } = components;
  const state = log.groups().get(group) ?? NEW_GROUP;
  const machine = components.machineOf(descriptor.kind);
  const checkpoint = await startingPoint(descriptor, state, machine, store);
  if (checkpoint.index > 0) machine.restore(checkpoint.snapshot);
  const commit = Math.max(state.hardState.commit, checkpoint.index);
  if (commit > state.lastIndex)
    throw new ReplicaDamagedError(group, `entries up to ${commit} were committed, the log ends at ${state.lastIndex}`);
  const hardState = { ...state.hardState, commit };
  const raft = new RaftNode(
    {
      id: descriptor.self,
      electionTicks: settings.electionTicks,
      heartbeatTicks: settings.heartbeatTicks,
      preVote: true,
      checkQuorum: true,
      inflightMessagesMax: INFLIGHT_MESSAGES_MAX,
      inflightBytesMax: INFLIGHT_BYTES_MAX,
      appendBytesMax: APPEND_BYTES_MAX,
      uncommittedBytesMax: UNCOMMITTED_BYTES_MAX,
    },
    { random: components.random, entryBytes: (index) => log.entryBytes(group, index) },
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
  assert(replica.checkpointIndexes[0] === state.trimmed.index || state.trimmed.index === 0, "the log begins at a checkpoint");
  return replica;
}

/** The newest checkpoint that the log continues; of a new group, its first one, which is written here. */
async function startingPoint(
  descriptor: GroupDescriptor,
  state: GroupLogState,
  machine: Machine,
  store: CheckpointStore,
): Promise<Checkpoint> {
  const newest = await newestOf(descriptor.group, state, store);
  if (newest !== undefined) {
    if (newest.index < state.trimmed.index)
      throw new ReplicaDamagedError(
        descriptor.group,
        `the log begins after ${state.trimmed.index}, the newest checkpoint is at ${newest.index}`,
      );
    return newest;
  }
  if (state.trimmed.index > 0)
    throw new ReplicaDamagedError(descriptor.group, `the log begins after ${state.trimmed.index} and there is no checkpoint`);
  const first: Checkpoint = {
    index: 0,
    term: 0,
    configuration: descriptor.members,
    machineVersion: machine.version,
    timeMs: 0,
    snapshot: machine.snapshot(),
  };
  await store.save(descriptor.group, first);
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
