// What replicas say and do, held against what is durable (durable-log.ts): R3 (a vote, a term and an acknowledgement are on disk before
// they leave, and a restart finds them), L6 and R2 (what a leader commits is of its term, and a majority of the voters has it on
// disk), R6 (one change of the members at a time, none in effect before its commit is on disk, and majorities of neighbouring
// memberships meet), R7 (no life and no group number comes back).

import { lifeOfReplica, nodeOfReplica, type ReplicaId } from "../../src/base/ids.ts";
import { MSG_APPEND_RESPONSE, MSG_VOTE_RESPONSE, type Configuration, type Message } from "../../src/raft/types.ts";
import { emptyView, holds, type DurableReplicas, type View } from "./durable-log.ts";
import { Violation } from "./history.ts";

/** Of a replica, what is looked at here. */
export type Promising = {
  readonly group: number;
  readonly self: number;
  readonly term: number;
  readonly vote: number;
  readonly commitIndex: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly termAt: (index: number) => number;
};

export class PromiseChecks {
  private readonly replicas: DurableReplicas;
  /** The replica of the newest life, by group and node. */
  private readonly latest = new Map<string, number>();
  /** Memberships by group and the index of the entry that made them. */
  private readonly memberships = new Map<string, string>();
  /** What each group number stands for. */
  private readonly groups = new Map<number, string>();

  constructor(replicas: DurableReplicas) {
    this.replicas = replicas;
  }

  /**
   * A replica was opened on a node. From `tornFrom` on damage may have taken its entries, as if a crash had torn them.
   * Returns what is durable of it from now on.
   */
  opened(node: string, replica: Promising, tornFrom: number): View {
    const { group, self, term, vote, lastIndex } = replica;
    const known = this.replicas.of(group, self);
    const where = `group ${group} on ${node}: replica ${self}`;
    const key = `${group} ${nodeOfReplica(self as ReplicaId)}`;
    const latest = this.latest.get(key) ?? self;
    // One of which nothing was on disk has promised nothing: the process that had opened it is forgotten.
    if (lifeOfReplica(self as ReplicaId) < lifeOfReplica(latest as ReplicaId) && this.replicas.of(group, latest)?.isBegun === true)
      throw new Violation("R7", `${where} comes back, though replica ${latest} was here`);
    this.latest.set(key, self);
    if (known !== undefined) {
      if (term < known.promisedTerm)
        throw new Violation("R3", `${where} begins in term ${term}, and has answered in ${known.promisedTerm}`);
      if (term === known.promisedTerm && known.promisedVote !== 0 && vote !== known.promisedVote)
        throw new Violation("R3", `${where} voted for ${known.promisedVote} in term ${term}, and knows of ${vote}`);
      if (lastIndex < Math.min(known.acked, tornFrom - 1))
        throw new Violation("R3", `${where} acknowledged up to ${known.acked}, and its log ends at ${lastIndex}`);
    }
    const { commitIndex: commit, firstIndex } = replica;
    const view: View = { ...(known ?? emptyView(self)), term, vote, commit, trim: firstIndex - 1, lastIndex, terms: new Map() };
    for (let index = replica.firstIndex; index <= lastIndex; index++) view.terms.set(index, replica.termAt(index));
    view.acked = Math.min(view.acked, lastIndex);
    view.isBegun ||= term > 0 || lastIndex > 0;
    return view;
  }

  /** A message leaves. `isSynced`: the topic wants entries on disk before they are acknowledged. */
  sent(node: string, group: number, message: Message, isSynced: boolean): void {
    if (message.reject || (message.kind !== MSG_VOTE_RESPONSE && message.kind !== MSG_APPEND_RESPONSE)) return;
    const view = this.replicas.of(group, message.from);
    if (view === undefined) return;
    const where = `group ${group} on ${node}: replica ${message.from}`;
    if (view.term < message.term) throw new Violation("R3", `${where} answers in term ${message.term}, on disk is ${view.term}`);
    if (message.term > view.promisedTerm) {
      view.promisedTerm = message.term;
      view.promisedVote = 0;
    }
    if (message.kind === MSG_VOTE_RESPONSE) {
      if (view.term === message.term && view.vote !== message.to)
        throw new Violation("R3", `${where} votes for ${message.to} in term ${message.term}, on disk is ${view.vote}`);
      if (message.term === view.promisedTerm) view.promisedVote = message.to;
      return;
    }
    if (!isSynced) return;
    if (message.index > view.lastIndex)
      throw new Violation("R3", `${where} acknowledges up to ${message.index}, on disk are ${view.lastIndex} entries`);
    view.acked = Math.max(view.acked, message.index);
  }

  /** A leader's commit index rose; `memberships`: those that it went by meanwhile, one of which must have agreed. */
  committed(node: string, { group, term, commitIndex, termAt }: Promising, memberships: readonly Configuration[]): void {
    const at = termAt(commitIndex);
    const where = `group ${group} on ${node}`;
    if (at !== term && at >= 0)
      throw new Violation("R2", `${where}: the leader of term ${term} commits entry ${commitIndex} of term ${at}`);
    const has = (voter: number): boolean => at < 0 || holds(this.replicas.of(group, voter), commitIndex, at);
    const agrees = ({ voters, votersOutgoing }: Configuration): boolean =>
      isMajority(voters, has) && (votersOutgoing.length === 0 || isMajority(votersOutgoing, has));
    if (!memberships.some(agrees))
      throw new Violation("L6", `${where}: entry ${commitIndex} of term ${at} is committed, and no majority has it on disk`);
  }

  /** The entry at `index` made these the members, in place of those before. */
  changed(node: string, group: number, index: number, before: Configuration, after: Configuration): void {
    const where = `group ${group} on ${node}`;
    const text = JSON.stringify([after.voters, after.votersOutgoing, after.learners, after.learnersNext]);
    const key = `${group} ${index}`;
    const known = this.memberships.get(key);
    if (known !== undefined && known !== text)
      throw new Violation("R6", `${where}: the members at ${index} are ${text}, elsewhere ${known}`);
    this.memberships.set(key, text);
    if (before.voters.length > 0 && !meet(before, after))
      throw new Violation("R6", `${where}: the change at ${index} lets a majority decide that none before it meets: ${text}`);
  }

  /** A replica goes by the change at `index` from now on: a restart must not forget that it is committed. */
  takesEffect(node: string, group: number, self: number, index: number): void {
    const view = this.replicas.of(group, self);
    if (view === undefined || index <= view.commit) return;
    throw new Violation(
      "R6",
      `group ${group} on ${node}: the change at ${index} takes effect, on disk is that ${view.commit} is committed`,
    );
  }

  /** A leader's log holds so many changes that are not committed. */
  pendingChanges(node: string, group: number, count: number): void {
    if (count > 1) throw new Violation("R6", `group ${group} on ${node}: ${count} changes of the members are under way at one time`);
  }

  /** A replica takes in a message. */
  received(node: string, group: number, self: number, message: Message): void {
    if (message.to !== self) throw new Violation("R7", `group ${group} on ${node}: replica ${self} takes what is meant for ${message.to}`);
  }

  /** A catalog names a group: for ever the same partition of the same topic. */
  named(group: number, identity: string): void {
    const known = this.groups.get(group);
    if (known === undefined) this.groups.set(group, identity);
    else if (known !== identity) throw new Violation("R7", `group ${group} was ${known} and is ${identity}`);
  }
}

/** Counted here, as the product's own way of counting is among what is checked. */
function isMajority(voters: readonly number[], has: (voter: number) => boolean): boolean {
  return 2 * voters.filter(has).length > voters.length;
}

/** Every majority of one membership has a voter in every majority of the other: one voter differs, or a joint one is between. */
function meet(before: Configuration, after: Configuration): boolean {
  const halves = ({ voters, votersOutgoing }: Configuration): readonly (readonly number[])[] =>
    votersOutgoing.length === 0 ? [voters] : [voters, votersOutgoing];
  return halves(before).some((old) => halves(after).some((now) => differences(old, now) <= 1));
}

function differences(one: readonly number[], other: readonly number[]): number {
  return one.filter((voter) => !other.includes(voter)).length + other.filter((voter) => !one.includes(voter)).length;
}
