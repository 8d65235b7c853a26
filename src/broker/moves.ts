// Which partitions are not yet where the catalog wants them. Only the leader of a group knows who is in it, so all are asked, and
// a partition for which no leader answers is not said to be in place.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { BrokerError } from "../base/errors.ts";
import { nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { CatalogMachine } from "../machine/catalog/catalog.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Replica } from "../replica/replica.ts";
import type { Admin } from "./admin.ts";
import type { Serve } from "./forwarder.ts";
import { isInPlace } from "./membership.ts";
import type { Router } from "./router.ts";
import type { ReplicaMove } from "./types.ts";

export const OP_MOVES = 6;

/** What a group lacks of the members that are wanted. */
type Lack = { readonly members: readonly NodeId[]; readonly done: number; readonly total: number };
/** What a leader tells of its group; `lack` null: all members are those that are wanted, and no change is under way. */
type Told = { readonly group: GroupId; readonly term: number; readonly lack: Lack | null };

/** Nobody leads it: its members may be those that are wanted, or not. */
const UNKNOWN: Lack = { members: [], done: 0, total: 0 };

export type MovesComponents = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly catalog: CatalogMachine;
  readonly router: Router;
  readonly admin: Admin;
  readonly isAlive: (node: NodeId) => boolean;
};

export class Moves {
  private readonly components: MovesComponents;

  constructor(components: MovesComponents) {
    this.components = components;
  }

  /** By the catalog as it is here; every live node is asked, once its own is as new, about what it leads. */
  async list(signal: AbortSignal): Promise<readonly ReplicaMove[]> {
    const { catalog, router, nodeId, isAlive } = this.components;
    const question = new ByteWriter(8).u64(catalog.viewVersion).finish();
    const others = catalog.nodes().filter(({ id }) => id !== nodeId && isAlive(id));
    const answers = await Promise.all(others.map(({ id }) => router.ask(id, OP_MOVES, [question], signal).then(decodeTold)));
    // Of two that take themselves for the leader the later one is it.
    const told = new Map<GroupId, Told>();
    for (const one of [...this.led(), ...answers.flat()]) if ((told.get(one.group)?.term ?? 0) < one.term) told.set(one.group, one);
    const moves: ReplicaMove[] = [];
    for (const { vhost, name, partitions } of catalog.topics()) {
      partitions.forEach(({ group, replicas }, partition) => {
        const known = told.get(group);
        const lack = known === undefined ? UNKNOWN : known.lack;
        if (lack === null) return;
        const { members: fromNodes, done: entriesDone, total: entriesTotal } = lack;
        moves.push({ vhost, topic: name, partition, fromNodes, toNodes: replicas.map(nodeOfReplica), entriesDone, entriesTotal });
      });
    }
    return moves;
  }

  readonly serve: Serve = (_from, body, reply, signal) => {
    const { admin, catalog } = this.components;
    const view = new ByteReader(body).u64();
    admin
      .seen(() => catalog.viewVersion >= view, signal)
      .then(
        () => reply(null, [encodeTold(this.led())]),
        (error: unknown) => {
          if (!(error instanceof BrokerError)) throw error;
          reply(error, []);
        },
      );
  };

  private led(): Told[] {
    const { host, catalog } = this.components;
    const list: Told[] = [];
    for (const replica of host.groups()) {
      const row = catalog.group(replica.group);
      if (!replica.isLeader || row === undefined) continue;
      list.push({ group: replica.group, term: replica.raft.term, lack: lackOf(replica, row.topic.partitions[row.partition]!.replicas) });
    }
    return list;
  }
}

function lackOf({ configuration, raft }: Replica, target: readonly ReplicaId[]): Lack | null {
  if (isInPlace(configuration, { voters: target, learners: [] })) return null;
  const matches = raft.status().filter(({ peer }) => target.includes(peer as ReplicaId));
  const members = [...new Set([...configuration.voters, ...configuration.votersOutgoing])].map((peer) => nodeOfReplica(peer as ReplicaId));
  // Those that are not even members have nothing yet.
  const done = matches.length < target.length ? 0 : Math.min(...matches.map(({ match }) => match));
  return { members, done, total: raft.lastIndex };
}

function encodeTold(list: readonly Told[]): Uint8Array {
  const writer = new ByteWriter(16 * list.length + 8).varint(list.length);
  for (const { group, term, lack } of list) {
    writer
      .u32(group)
      .u64(term)
      .u8(lack === null ? 0 : 1);
    if (lack === null) continue;
    writer.u64(lack.done).u64(lack.total).varint(lack.members.length);
    for (const node of lack.members) writer.varint(node);
  }
  return writer.finish();
}

function decodeTold(body: Uint8Array): Told[] {
  const reader = new ByteReader(body);
  return Array.from({ length: reader.varint() }, () => {
    const [group, term, lacks] = [reader.u32() as GroupId, reader.u64(), reader.u8() === 1];
    if (!lacks) return { group, term, lack: null };
    const [done, total] = [reader.u64(), reader.u64()];
    const members = Array.from({ length: reader.varint() }, () => reader.varint() as NodeId);
    return { group, term, lack: { members, done, total } };
  });
}
