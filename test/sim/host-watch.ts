// Which replicas of a host have changed since the last look, in anything that the checks look at after each event. An event
// touches one group or none, so to ask all checks about all replicas would cost more than the event.

import type { ReplicaHost } from "../../src/replica/host.ts";
import type { Replica } from "../../src/replica/replica.ts";
import type { Configuration } from "../../src/raft/types.ts";

/** What is behind the types of the product. */
type HostParts = { readonly replicas: Map<number, Replica> };
type ReplicaParts = { readonly queue: { readonly length: number } };

/** A replica as it was when it was last looked at. */
class Watched {
  readonly replica: Replica;
  readonly parts: ReplicaParts;
  term = -1;
  role = -1;
  commit = -1;
  last = -1;
  applied = -1;
  membership: Configuration | null = null;

  constructor(replica: Replica) {
    this.replica = replica;
    this.parts = replica as unknown as ReplicaParts;
  }

  /** True when it is not as it was, or something waits in it: how much does not count here. */
  hasChanged(): boolean {
    const { raft, applied } = this.replica;
    const { term, role, commitIndex, lastIndex, configuration } = raft;
    if (
      term === this.term &&
      role === this.role &&
      commitIndex === this.commit &&
      lastIndex === this.last &&
      applied === this.applied &&
      configuration === this.membership &&
      this.parts.queue.length === 0
    )
      return false;
    this.term = term;
    this.role = role;
    this.commit = commitIndex;
    this.last = lastIndex;
    this.applied = applied;
    this.membership = configuration;
    return true;
  }
}

export class HostWatch {
  private readonly host: ReplicaHost;
  private watched: Watched[] = [];
  private isStale = true;
  private changed: Replica[] = [];

  constructor(host: ReplicaHost) {
    this.host = host;
    const { replicas } = host as unknown as HostParts;
    const set = replicas.set.bind(replicas);
    const remove = replicas.delete.bind(replicas);
    replicas.set = (group, replica) => {
      this.isStale = true;
      return set(group, replica);
    };
    replicas.delete = (group) => {
      this.isStale = true;
      return remove(group);
    };
  }

  /** Those that have changed since the last call, new ones included. Good until the next call. */
  look(): readonly Replica[] {
    if (this.isStale) this.listAnew();
    if (this.changed.length > 0) this.changed = [];
    for (const one of this.watched) if (one.hasChanged()) this.changed.push(one.replica);
    return this.changed;
  }

  private listAnew(): void {
    this.isStale = false;
    const known = new Map(this.watched.map((one) => [one.replica, one]));
    this.watched = [...this.host.groups()].map((replica) => known.get(replica) ?? new Watched(replica));
  }
}
