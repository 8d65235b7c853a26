// Who leads which group, as far as this node knows: from its own replicas, and for groups that have none here from the
// leaders themselves, who tell every node when they take over, and when they step down.

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { toGroupId, type GroupId, type NodeId } from "../base/ids.ts";

type Leader = { node: NodeId | 0; term: number };

export class Leaders {
  private readonly leaders = new Map<GroupId, Leader>();
  private readonly listeners = new Set<(group: GroupId) => void>();

  /** Rises with every change. */
  version = 0;

  of(group: GroupId): NodeId | 0 {
    return this.leaders.get(group)?.node ?? 0;
  }

  termOf(group: GroupId): number {
    return this.leaders.get(group)?.term ?? 0;
  }

  /** News of a term at least as new as what is known; older news is late and ignored. */
  set(group: GroupId, node: NodeId | 0, term: number): void {
    const known = this.leaders.get(group);
    if (
      known !== undefined &&
      (term < known.term || (term === known.term && (node === known.node || node === 0) && known.node !== 0 && node !== 0))
    )
      return;
    this.leaders.set(group, { node, term });
    this.version += 1;
    for (const listener of this.listeners) listener(group);
  }

  /** The node is gone: what it led has no leader until somebody says so. */
  nodeLost(node: NodeId): void {
    for (const [group, leader] of this.leaders) {
      if (leader.node !== node) continue;
      leader.node = 0;
      this.version += 1;
      for (const listener of this.listeners) listener(group);
    }
  }

  /** Forgets groups that are no longer there. */
  retain(exists: (group: GroupId) => boolean): void {
    for (const group of this.leaders.keys()) if (!exists(group)) this.leaders.delete(group);
    this.version += 1;
  }

  get size(): number {
    return this.leaders.size;
  }

  /** Calls `listener` on every change; returns the way to stop. */
  watch(listener: (group: GroupId) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** "I lead these groups in these terms", or "no more since these terms". */
export function encodeLeading(groups: readonly { group: GroupId; term: number }[]): Uint8Array {
  const writer = new ByteWriter(groups.length * 12 + 8).varint(groups.length);
  for (const { group, term } of groups) writer.u32(group).u64(term);
  return writer.finish();
}

export function decodeLeading(body: Uint8Array): { group: GroupId; term: number }[] {
  const reader = new ByteReader(body);
  const groups = [];
  for (let count = reader.varint(); count > 0; count--) groups.push({ group: toGroupId(reader.u32()), term: reader.u64() });
  reader.done();
  return groups;
}
