// What a group at rest holds in memory. The groups are real replicas with their logs' tables; only disks and links are missing.

import { expect, test } from "vitest";
import { replicaId, type GroupId, type NodeId, type ReplicaId } from "../../src/base/ids.ts";
import { Prng } from "../../src/base/prng.ts";
import { GroupTable } from "../../src/log/group-table.ts";
import { RECORD_STATE } from "../../src/log/segment-format.ts";
import type { SharedLog } from "../../src/log/types.ts";
import { machineFor } from "../../src/machine/registry.ts";
import { Entry, ENTRY_RECORDS, type Message } from "../../src/raft/types.ts";
import { openReplica, type OpenComponents } from "../../src/replica/open.ts";
import { ReadAhead } from "../../src/replica/read-ahead.ts";
import type { Replica } from "../../src/replica/replica.ts";
import { Shared } from "../../src/replica/shared.ts";
import { DURABILITY_FSYNC, HOST_DEFAULTS, type CheckpointStore } from "../../src/replica/types.ts";
import { heapBytes } from "../support/memory.ts";

/** So many that what the code itself takes as it runs does not count. */
const GROUPS = 1_200;
const NODES = [1, 2, 3] as NodeId[];
/** On one node, on the heap. It was 5.2 KiB when each group had lists and maps of its own for work that it did not have. */
const REPLICA_BYTES_MAX = 3_072;

class MemoryNode {
  readonly self: ReplicaId;
  private readonly table = new GroupTable();
  private readonly components: OpenComponents;

  constructor(node: NodeId) {
    this.self = replicaId(node, 0);
    const { table } = this;
    const log: Partial<SharedLog> = {
      groups: () => table.groups,
      entryBytes: () => 0,
      begin: (group, replica, index, term) => {
        table.groupOf(group).replica = replica;
        table.groupOf(group).reset(index, term);
      },
    };
    const store: Partial<CheckpointStore> = { save: () => Promise.resolve() };
    this.components = {
      log: log as SharedLog,
      store: store as CheckpointStore,
      random: new Prng(node),
      machineOf: machineFor,
      shared: new Shared(HOST_DEFAULTS),
    };
  }

  open(group: GroupId): Promise<Replica> {
    const voters = NODES.map((node) => replicaId(node, 0));
    const members = { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    const { self } = this;
    return openReplica({ group, kind: "stream", self, members, preferred: false, durability: DURABILITY_FSYNC }, this.components);
  }

  /** Takes what is ready as a host would, with a disk that is done at once. */
  collect(replica: Replica, send: (message: Message) => void): void {
    const ready = replica.raft.ready();
    const sink = this.table.sink(1);
    for (const { index, term, payload } of ready.entries) sink.entry(replica.group, index, term, replica.group * 64, payload.length);
    if (ready.hardState !== null)
      sink.state({
        type: RECORD_STATE,
        group: replica.group,
        replica: this.self,
        ...ready.hardState,
        trimIndex: 1,
        trimTerm: 0,
        lastIndex: replica.raft.lastIndex,
      });
    if (ready.entries.length > 0) replica.cacheEntries(ready.entries);
    replica.committedTo = Math.max(replica.committedTo, ready.committedTo);
    for (const message of ready.messages) {
      if (message.lastEntry > message.index) message.entries = replica.cache.range(message.index + 1, message.lastEntry);
      send(message);
    }
    if (ready.writeSequence > 0) replica.raft.persisted(ready.writeSequence);
    ready.messagesAfterPersist.forEach(send);
    replica.applied = replica.committedTo;
    replica.raft.appliedTo(replica.applied);
  }
}

function settle(nodes: readonly MemoryNode[], replicas: readonly Replica[]): void {
  const send = (message: Message): void => replicas.find(({ descriptor }) => descriptor.self === message.to)!.raft.step(message);
  while (replicas.some(({ raft }) => raft.hasReady()))
    for (const [at, replica] of replicas.entries()) if (replica.raft.hasReady()) nodes[at]!.collect(replica, send);
}

test("idle memory: a replica at rest holds next to nothing, and works as before", async () => {
  const nodes = NODES.map((node) => new MemoryNode(node));
  const groups: Replica[][] = [];
  const make = async (group: number): Promise<void> => {
    const replicas = await Promise.all(nodes.map((node) => node.open(group as GroupId)));
    replicas[group % 3]!.raft.campaign();
    settle(nodes, replicas);
    for (const replica of replicas) replica.slimDown();
    groups.push(replicas);
  };
  // The code itself takes memory when it first runs.
  for (let group = 1; group <= 50; group++) await make(group);
  const before = heapBytes();
  for (let group = 51; group <= 50 + GROUPS; group++) await make(group);
  const perReplica = (heapBytes() - before) / GROUPS / NODES.length;
  expect(perReplica).toBeLessThan(REPLICA_BYTES_MAX);
  const [first] = groups;
  expect(first!.map(({ raft, cache }) => [raft.commitIndex, cache.lastIndex])).toEqual([
    [2, 0],
    [2, 0],
    [2, 0],
  ]);
  const leader = first!.find(({ isLeader }) => isLeader)!;
  leader.propose(ENTRY_RECORDS, new Uint8Array(8), 0, () => {});
  leader.flushProposals(1);
  settle(nodes, first!);
  expect(first!.map(({ raft }) => raft.commitIndex)).toEqual([3, 3, 3]);
  for (const replica of first!) replica.slimDown();
  expect(leader.cache.lastIndex, "records stay for readers at the tail").toBe(3);
});

test("idle memory: of a read for the machine nothing is held once its last entry was taken", () => {
  const held = new ReadAhead();
  const read = (): WeakRef<object> => {
    const bytes = new Uint8Array(1024 * 1024);
    held.put([2, 3].map((index) => new Entry(index, 1, ENTRY_RECORDS, 0, bytes.subarray(index, index + 1), 0)));
    return new WeakRef(bytes.buffer);
  };
  const memory = read();
  expect(held.take(2)?.index).toBe(2);
  expect(held.take(3)?.index).toBe(3);
  return new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    heapBytes();
    expect(memory.deref()).toBeUndefined();
  });
});
