// S1: what waits in a node stays within the bounds of base/limits.ts, whatever happens.

import {
  BATCH_BYTES_MAX,
  CHECKPOINTS_PER_GROUP_MAX,
  INFLIGHT_MESSAGES_MAX,
  PRODUCERS_PER_STREAM_MAX,
  TAIL_CACHE_BYTES_MAX,
  UNCOMMITTED_BYTES_MAX,
  UNCOMMITTED_ENTRIES_MAX,
} from "../../src/base/limits.ts";
import type { Core } from "../../src/raft/core.ts";
import type { ReplicaHost } from "../../src/replica/host.ts";
import type { Replica } from "../../src/replica/replica.ts";
import { Violation } from "./history.ts";

/** What is counted of one replica, and what it may come to. */
export type Bounded = { readonly what: string; readonly held: number; readonly most: number };

type ReplicaParts = { readonly queue: readonly unknown[]; readonly queueBytes: number; readonly readWaits: { readonly size: number } };
type MachineParts = { readonly producers?: { readonly size: number } };
type HostParts = { readonly tailBudget: { readonly bytes: number }; readonly replicas: ReadonlyMap<number, unknown> };

/** Events of a node between two looks at what changes slowly. */
const SELDOM = 64;
/** Read barriers of one group (replica/replica.ts). */
const READS_MAX = 10_000;
/** One more batch is let in while nothing else waits, and what frames it. */
const ONE_MORE_BYTES = BATCH_BYTES_MAX + 64 * 1024;

export class MemoryChecks {
  private looks = 0;

  /** `changed`: those that something was proposed to, or whose log moved, since the last look. */
  look(node: string, host: ReplicaHost, changed: Iterable<Replica>): void {
    for (const replica of changed) for (const one of proposalsOf(replica)) check(`group ${replica.group} on ${node}`, one);
    if (this.looks++ % SELDOM !== 0) return;
    for (const replica of host.groups()) for (const one of boundsOf(replica)) check(`group ${replica.group} on ${node}`, one);
    const { tailBudget, replicas } = host as unknown as HostParts;
    const most = TAIL_CACHE_BYTES_MAX + replicas.size * (UNCOMMITTED_BYTES_MAX + ONE_MORE_BYTES);
    check(node, { what: "bytes of cached entries", held: tailBudget.bytes, most });
  }
}

export function check(where: string, { what, held, most }: Bounded): void {
  if (held > most) throw new Violation("S1", `${where}: ${held} ${what}, ${most} are allowed`);
}

/** Of what clients propose: looked at after every event, as a turn empties it. */
function proposalsOf(replica: Replica): readonly Bounded[] {
  const { queue, queueBytes } = replica as unknown as ReplicaParts;
  const { core } = replica.raft as unknown as { readonly core: Core };
  if (queue.length === 0 && core.uncommittedBytes <= UNCOMMITTED_BYTES_MAX) return NONE;
  return [
    { what: "bytes that are not committed", held: core.uncommittedBytes, most: UNCOMMITTED_BYTES_MAX + ONE_MORE_BYTES },
    { what: "bytes of proposals", held: queueBytes, most: UNCOMMITTED_BYTES_MAX + ONE_MORE_BYTES },
    { what: "proposals", held: queue.length + replica.pending.size, most: UNCOMMITTED_ENTRIES_MAX },
  ];
}

const NONE: readonly Bounded[] = [];

function boundsOf(replica: Replica): readonly Bounded[] {
  const { readWaits } = replica as unknown as ReplicaParts;
  const inflight = replica.isLeader ? Math.max(0, ...replica.raft.status().map((one) => one.inflight)) : 0;
  return [
    { what: "appends under way to one member", held: inflight, most: INFLIGHT_MESSAGES_MAX },
    { what: "reads that wait", held: readWaits.size, most: READS_MAX },
    { what: "saved states", held: replica.checkpointIndexes.length, most: CHECKPOINTS_PER_GROUP_MAX },
    { what: "producers", held: (replica.machine as MachineParts).producers?.size ?? 0, most: PRODUCERS_PER_STREAM_MAX },
  ];
}
