// Invariants of the replicas themselves, looked at after every event of a node.

import { crc32 } from "node:zlib";
import type { Machine } from "../../src/machine/machine.ts";
import { Violation } from "./history.ts";

/** What is looked at of one replica; the product's own has it all. */
export type ReplicaView = {
  readonly group: number;
  readonly isLeader: boolean;
  readonly applied: number;
  readonly machine: Pick<Machine, "snapshot">;
  readonly raft: { readonly term: number; readonly commitIndex: number; readonly lastIndex: number };
};

/** Indexes between two whose state is compared: what differs once goes on to differ, and a saved state is costly to make. */
const DIGEST_EVERY = 4;
/** Digests kept of one group: a replica that lags by more is not compared any more. */
const DIGESTS_MAX = 20_000;

/** `ledTerm`: the newest term in which it was seen to lead; -1 = none. */
type Seen = { commit: number; applied: number; term: number; ledTerm: number };

export class ReplicaChecks {
  /** Leaders by group and term. */
  private readonly leaders = new Map<string, string>();
  /** Digests of machines by group, then by applied index. */
  private readonly digests = new Map<number, Map<number, number>>();
  private seen = new WeakMap<object, Seen>();
  compared = 0;

  look(node: string, replicas: Iterable<ReplicaView>): void {
    for (const replica of replicas) {
      const { raft, group, applied } = replica;
      const known = this.seen.get(replica);
      const { isLeader } = replica;
      if (isLeader && known?.ledTerm !== raft.term) this.leads(node, group, raft.term);
      if (known !== undefined) {
        if (raft.commitIndex < known.commit)
          throw new Violation("L6", `group ${group} on ${node}: the commit index fell from ${known.commit} to ${raft.commitIndex}`);
        if (raft.term < known.term)
          throw new Violation("R1", `group ${group} on ${node}: the term fell from ${known.term} to ${raft.term}`);
        if (applied < known.applied)
          throw new Violation("R4", `group ${group} on ${node}: applied fell from ${known.applied} to ${applied}`);
      }
      if (applied > raft.commitIndex)
        throw new Violation("R2", `group ${group} on ${node}: ${applied} is applied, only ${raft.commitIndex} is committed`);
      if (known === undefined)
        this.seen.set(replica, { commit: raft.commitIndex, applied, term: raft.term, ledTerm: isLeader ? raft.term : -1 });
      else {
        known.commit = raft.commitIndex;
        known.term = raft.term;
        if (isLeader) known.ledTerm = raft.term;
      }
      if ((known === undefined || applied !== known.applied) && applied % DIGEST_EVERY === 0) this.appliedTo(node, replica);
      if (known !== undefined) known.applied = applied;
    }
  }

  private leads(node: string, group: number, term: number): void {
    const key = `${group} ${term}`;
    const other = this.leaders.get(key);
    if (other === undefined) this.leaders.set(key, node);
    else if (other !== node) throw new Violation("R1", `group ${group} has two leaders in term ${term}: ${other} and ${node}`);
  }

  /** R4, R5 and R2: the state at an index is the same on every replica, however it came there. */
  private appliedTo(node: string, { group, applied, machine }: ReplicaView): void {
    let digests = this.digests.get(group);
    if (digests === undefined) this.digests.set(group, (digests = new Map()));
    const digest = crc32(machine.snapshot());
    const known = digests.get(applied);
    if (known === undefined) {
      digests.set(applied, digest);
      if (digests.size > DIGESTS_MAX) digests.delete(digests.keys().next().value!);
      return;
    }
    this.compared += 1;
    if (known !== digest)
      throw new Violation("R4", `group ${group} on ${node}: the machine at index ${applied} differs from that of others`);
  }
}
