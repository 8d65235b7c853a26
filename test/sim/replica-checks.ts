// Invariants of the replicas themselves, looked at after every event of a node.

import { crc32 } from "node:zlib";
import type { Machine } from "../../src/machine/machine.ts";
import type { Configuration } from "../../src/raft/types.ts";
import { Violation } from "./history.ts";

/** What is looked at of one replica; the product's own has it all. */
export type ReplicaView = {
  readonly group: number;
  readonly isLeader: boolean;
  readonly applied: number;
  /** Of a stream also where it begins, and how many bytes it holds. */
  readonly machine: Pick<Machine, "snapshot"> & { readonly startOffset?: number; readonly bytes?: number; readonly isQueue?: boolean };
  /** The members at `applied`. */
  readonly configuration: Configuration;
  readonly raft: { readonly term: number; readonly commitIndex: number; readonly lastIndex: number; readonly applied: number };
};

/**
 * Indexes between two whose state is compared while it runs: what differs once goes on to differ, and a saved state is costly to make.
 * At the end all replicas are compared where they are.
 */
const DIGEST_EVERY = 4;
/** Digests kept of one group: a replica that lags by more is not compared any more. */
const DIGESTS_MAX = 20_000;

/** What is compared at one index. */
type Digest = { readonly state: number; readonly members: string };
/** `ledTerm`: the newest term in which it was seen to lead; -1 = none. */
type Seen = { commit: number; applied: number; term: number; ledTerm: number };

export class ReplicaChecks {
  /** Leaders by group and term. */
  private readonly leaders = new Map<string, string>();
  /** Digests of machines by group, then by applied index. */
  private readonly digests = new Map<number, Map<number, Digest>>();
  private seen = new WeakMap<object, Seen>();
  private readonly retentionBytes: number;
  compared = 0;

  /** What every stream is to keep; 0: all of it. */
  constructor(retentionBytes = 0) {
    this.retentionBytes = retentionBytes;
  }

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
      if (known === undefined || applied !== known.applied) {
        this.retained(node, replica);
        if (applied % DIGEST_EVERY === 0) this.appliedTo(node, replica);
      }
      if (known !== undefined) known.applied = applied;
    }
  }

  /** One that led before it was started again is another leader: what it sent out then, it may not know. */
  private leads(node: string, group: number, term: number): void {
    const key = `${group} ${term}`;
    const other = this.leaders.get(key);
    if (other !== undefined) throw new Violation("R1", `group ${group} has two leaders in term ${term}: ${other} and ${node}`);
    this.leaders.set(key, node);
  }

  /** L0: what retention took leaves as much as it is to leave, at every moment. A queue gives back what is settled: its history judges that. */
  private retained(node: string, { group, machine }: ReplicaView): void {
    const { startOffset = 0, bytes = 0, isQueue = false } = machine;
    if (isQueue || startOffset === 0 || (this.retentionBytes > 0 && bytes >= this.retentionBytes)) return;
    const kept = this.retentionBytes || "all";
    throw new Violation("L0", `group ${group} on ${node} begins at ${startOffset} with ${bytes} bytes, to be kept are ${kept}`);
  }

  /** Compares these replicas with all others, whatever index they are at. */
  compare(node: string, replicas: Iterable<ReplicaView>): void {
    for (const replica of replicas) this.appliedTo(node, replica);
  }

  /** R4, R5 and R2: the state at an index is the same on every replica, however it came there; R6: so are the members. */
  private appliedTo(node: string, replica: ReplicaView): void {
    const { group, applied, machine, raft } = replica;
    // Between a snapshot's acceptance and its installation the members are those that it brings already.
    if (raft.applied > applied) return;
    let digests = this.digests.get(group);
    if (digests === undefined) this.digests.set(group, (digests = new Map()));
    const digest = { state: crc32(machine.snapshot()), members: membersOf(replica.configuration) };
    const known = digests.get(applied);
    if (known === undefined) {
      digests.set(applied, digest);
      if (digests.size > DIGESTS_MAX) digests.delete(digests.keys().next().value!);
      return;
    }
    this.compared += 1;
    if (known.state !== digest.state)
      throw new Violation("R4", `group ${group} on ${node}: the machine at index ${applied} differs from that of others`);
    if (known.members !== digest.members)
      throw new Violation(
        "R6",
        `group ${group} on ${node}: the members at index ${applied} are ${digest.members}, elsewhere ${known.members}`,
      );
  }
}

function membersOf({ voters, votersOutgoing, learners, learnersNext }: Configuration): string {
  return `${voters.join("+")}|${votersOutgoing.join("+")}|${learners.join("+")}|${learnersNext.join("+")}`;
}
