// Takes a damaged replica out of service: from then on it neither votes nor leads nor acknowledges, and no byte of it is
// served. Whoever looks after the catalog gives it a successor.

import type { GroupId, ReplicaId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import { Message, MSG_HEARTBEAT, MSG_TIMEOUT_NOW } from "../raft/types.ts";
import type { Replica } from "./replica.ts";

export type Damage = { readonly replica: ReplicaId; readonly reason: string };

export type QuarantineComponents = {
  readonly logger: Logger;
  readonly isUp: (peer: number) => boolean;
  readonly post: (replica: Replica, message: Message) => void;
};

export class Quarantine {
  private readonly components: QuarantineComponents;
  private readonly damages = new Map<GroupId, Damage>();
  /** Replicas taken out of service since the start. */
  count = 0;

  constructor(components: QuarantineComponents) {
    this.components = components;
  }

  get size(): number {
    return this.damages.size;
  }

  of(group: GroupId): Damage | undefined {
    return this.damages.get(group);
  }

  all(): IterableIterator<[GroupId, Damage]> {
    return this.damages.entries();
  }

  note(group: GroupId, replica: ReplicaId, reason: string): void {
    this.damages.set(group, { replica, reason });
    this.count += 1;
    this.components.logger.error({ group, replica, reason }, "replica is damaged and out of service; a successor will take its place");
  }

  /** Another replica took its place, or the group is gone. */
  forget(group: GroupId): void {
    this.damages.delete(group);
  }

  /** A leader tells the follower that has most to stand for election now; all others wake up and see for themselves. */
  leave(replica: Replica): void {
    const { raft, descriptor } = replica;
    if (!replica.isLeader) return;
    const others = raft.status().filter(({ peer, learner }) => peer !== descriptor.self && !learner && this.components.isUp(peer));
    const most = Math.max(...others.map(({ match }) => match));
    const best = others.find(({ match }) => match === most);
    for (const { peer } of others) {
      const message = new Message(peer === best?.peer ? MSG_TIMEOUT_NOW : MSG_HEARTBEAT, descriptor.self, peer, raft.term);
      this.components.post(replica, message);
    }
  }
}
