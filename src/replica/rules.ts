// Which version of their rules the machines of a group go by. Replicas of different releases must come to the same state from
// the same entries, so a new version is in force from an entry of the log on, which the leader proposes once every member is
// known to run a release that knows it (research: ra's machine versions; mixed versions during a rolling upgrade).

import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import { membersOf } from "../raft/membership.ts";
import type { Replica } from "./replica.ts";

/** This release is older than what the group has already agreed on: it must not apply another entry. Start a newer one. */
export class ReleaseTooOldError extends Error {
  override readonly name = "ReleaseTooOldError";

  constructor(group: GroupId, version: number, newest: number) {
    super(
      `group ${group} goes by version ${version} of its rules, this release knows them up to ${newest}: start this node with a newer release`,
    );
  }
}

export class Rules {
  private readonly self: NodeId;
  /** What this release knows. */
  private readonly newest: number;
  /** What the release of each other node knows, as it last said. */
  private readonly peers = new Map<NodeId, number>();

  constructor(self: NodeId, newest: number) {
    this.self = self;
    this.newest = newest;
  }

  heard(peer: NodeId, newest: number): void {
    this.peers.set(peer, newest);
  }

  /** The version that all members of the group know, if it is newer than the one in force; else 0. */
  due(replica: Replica): number {
    const { version } = replica.machine;
    if (version >= this.newest) return 0;
    let common = this.newest;
    for (const member of membersOf(replica.configuration)) {
      const node = nodeOfReplica(member as ReplicaId);
      if (node !== this.self) common = Math.min(common, this.peers.get(node) ?? 0);
    }
    return common > version ? common : 0;
  }
}

export function encodeVersion(version: number): Uint8Array {
  return new ByteWriter(4).u32(version).finish();
}

export function decodeVersion(payload: Uint8Array): number {
  const reader = new ByteReader(payload);
  const version = reader.u32();
  reader.done();
  return version;
}
