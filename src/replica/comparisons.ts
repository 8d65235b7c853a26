// Replicas of a group compare what they have applied. The leader names an index that nobody has passed yet, each member says
// what it has there once it comes by, and the leader looks whether a majority of the voters agrees: who contradicts that is
// damaged and leaves service, the leader as well. Without a majority nobody does, and it is only reported.
//
//   leader                       follower
//   ASK(index F)  ------------>  applies up to F
//   applies up to F              ANSWER(F, finding)
//   judges        <------------
//   VERDICT(F, majority's) --->  is damaged, or moves its sum to where the leader's begins
//
// Groups at rest are asked by the slow round through what is stored, for their whole state; nobody wakes for it.

import { nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import { jointVote, VOTE_WON } from "../raft/quorum.ts";
import { Message, MSG_DIGEST_ANSWER, MSG_DIGEST_ASK, MSG_DIGEST_VERDICT, type PeerId } from "../raft/types.ts";
import { contradicts, describe, distance, isSame, stateDigest, type Comparison, type Finding } from "./digest.ts";
import type { Replica } from "./replica.ts";

/** Ticks between two comparisons of a group in which something happens. */
const COMPARE_TICKS = 40;

export type ComparisonsComponents = {
  readonly logger: Logger;
  readonly crc32: (bytes: Uint8Array) => number;
  readonly isUp: (peer: PeerId) => boolean;
  readonly post: (replica: Replica, message: Message) => void;
  readonly damaged: (replica: Replica, reason: string) => void;
};

export class Comparisons {
  private readonly components: ComparisonsComponents;
  private readonly restTicks: number;
  /** Nodes whose releases know these messages. */
  private readonly able = new Set<NodeId>();
  /** Groups led here of which it was said that nobody can tell who is right; bounded by the groups of the node. */
  private readonly undecided = new Set<GroupId>();
  /** Answers that were held against the leader's own since the start, and how often some contradicted each other. */
  compared = 0;
  mismatches = 0;

  constructor({ restTicks }: { readonly restTicks: number }, components: ComparisonsComponents) {
    this.components = components;
    this.restTicks = restTicks;
  }

  heard(node: NodeId, isAble: boolean): void {
    if (isAble) this.able.add(node);
    else this.able.delete(node);
  }

  isAble(node: NodeId): boolean {
    return this.able.has(node);
  }

  /** A tick of a group that is led here and awake: compared now and then, and once it falls quiet. */
  ticked(replica: Replica): void {
    if (replica.raft.lastIndex === replica.comparedTo) return;
    replica.ticksUncompared += 1;
    if (replica.ticksUncompared >= COMPARE_TICKS || replica.idleTicks === this.restTicks >> 1) this.ask(replica, false);
  }

  /** Has all members, whom this node must lead, say what they have at the end of the log; with `wantsState` of their whole state. */
  ask(replica: Replica, wantsState: boolean): void {
    const { isUp, post } = this.components;
    const { raft, descriptor } = replica;
    if (!replica.isLeader) return;
    const index = raft.lastIndex;
    const waiting = new Set<PeerId>();
    for (const { peer } of raft.members())
      if (peer !== descriptor.self && isUp(peer) && this.able.has(nodeOfReplica(peer as ReplicaId))) waiting.add(peer);
    replica.comparedTo = index;
    replica.ticksUncompared = 0;
    if (replica.comparison !== null) this.finish(replica, replica.comparison);
    if (waiting.size === 0) return;
    for (const peer of waiting) {
      const message = new Message(MSG_DIGEST_ASK, descriptor.self, peer, raft.term);
      message.index = index;
      message.context = wantsState ? 1 : 0;
      post(replica, message);
    }
    waiting.add(descriptor.self);
    replica.comparison = { index, waiting, findings: new Map(), differs: false };
    this.asked(replica, descriptor.self, index, wantsState);
  }

  /** One of the messages of above, in the term of the replica. */
  receive(replica: Replica, message: Message): void {
    const { raft } = replica;
    if (message.term !== raft.term) return;
    if (message.kind === MSG_DIGEST_ANSWER) this.answered(replica, message.from, message.index, findingOf(message));
    else if (message.from !== raft.leader) return;
    else if (message.kind === MSG_DIGEST_ASK) this.asked(replica, message.from, message.index, message.context === 1);
    else this.judged(replica, message);
  }

  /** The replica has applied exactly what it was asked about. */
  reached(replica: Replica): void {
    const { crc32, post } = this.components;
    const { question, descriptor, raft } = replica;
    replica.askedAt = 0;
    if (question === null) return;
    const state = question.wantsState ? stateDigest(replica.machine, crc32) : 0;
    const finding = { ...replica.digest.saved, state };
    question.finding = finding;
    if (question.from === descriptor.self) {
      this.answered(replica, descriptor.self, question.index, finding);
      return;
    }
    const message = new Message(MSG_DIGEST_ANSWER, descriptor.self, question.from, raft.term);
    message.index = question.index;
    putFinding(message, finding);
    post(replica, message);
  }

  private asked(replica: Replica, from: PeerId, index: number, wantsState: boolean): void {
    replica.question = { from, index, wantsState, finding: null };
    // What it has passed it cannot tell any more; there will be another question.
    replica.askedAt = index > replica.applied ? index : 0;
    if (index === replica.applied) this.reached(replica);
  }

  private answered(replica: Replica, from: PeerId, index: number, finding: Finding): void {
    const { comparison, isLeader, descriptor } = replica;
    if (!isLeader || comparison === null || comparison.index !== index || !comparison.waiting.delete(from)) return;
    comparison.findings.set(from, finding);
    const own = comparison.findings.get(descriptor.self);
    if (own === undefined) return;
    if (from === descriptor.self) for (const [peer, other] of [...comparison.findings]) this.align(replica, comparison, own, peer, other);
    else this.align(replica, comparison, own, from, finding);
    this.judge(replica, comparison);
    if (comparison.waiting.size === 0 && replica.comparison === comparison) this.finish(replica, comparison);
  }

  /** A sum that begins elsewhere says nothing; it is moved, so that it does the next time. */
  private align(replica: Replica, { index, findings }: Comparison, own: Finding, peer: PeerId, finding: Finding): void {
    if (finding.origin === own.origin) {
      if (peer !== replica.descriptor.self) this.compared += 1;
      return;
    }
    findings.delete(peer);
    const message = new Message(MSG_DIGEST_VERDICT, replica.descriptor.self, peer, replica.raft.term);
    message.index = index;
    putFinding(message, { ...distance(finding, own), state: 0 });
    this.components.post(replica, message);
  }

  /** As soon as a majority of the voters agrees, whoever contradicts it is told. */
  private judge(replica: Replica, comparison: Comparison): void {
    const { findings, index } = comparison;
    const { self } = replica.descriptor;
    const own = findings.get(self);
    if (own === undefined || [...findings.values()].every((finding) => !contradicts(finding, own))) return;
    if (!comparison.differs) this.mismatches += 1;
    comparison.differs = true;
    const right = majorityOf(replica, findings);
    if (right === null) return;
    for (const [peer, finding] of [...findings]) {
      if (peer === self || !contradicts(finding, right)) continue;
      findings.delete(peer);
      this.condemn(replica, peer, index, finding, right);
    }
    // Itself last: it would no longer be heard.
    if (contradicts(own, right)) this.components.damaged(replica, reasonOf(index, own, right));
    else comparison.differs = false;
  }

  private condemn(replica: Replica, peer: PeerId, index: number, finding: Finding, right: Finding): void {
    const { logger, post } = this.components;
    logger.error(
      { group: replica.group, replica: peer, index, digest: describe(finding), majority: describe(right) },
      "a replica differs from the majority of its group",
    );
    const message = new Message(MSG_DIGEST_VERDICT, replica.descriptor.self, peer, replica.raft.term);
    message.index = index;
    message.reject = true;
    putFinding(message, right);
    post(replica, message);
  }

  /** The leader's word on what was answered. */
  private judged(replica: Replica, message: Message): void {
    const { question, digest } = replica;
    if (question === null || question.finding === null || question.index !== message.index || question.from !== message.from) return;
    const finding = findingOf(message);
    const own = question.finding;
    question.finding = null;
    if (message.reject) {
      if (contradicts(own, finding)) this.components.damaged(replica, reasonOf(message.index, own, finding));
    } else if (digest.saved.origin === own.origin) digest.adopt(finding);
  }

  private finish(replica: Replica, { differs, index, findings }: Comparison): void {
    replica.comparison = null;
    const { group } = replica;
    if (!differs) {
      this.undecided.delete(group);
      return;
    }
    if (this.undecided.has(group)) return;
    this.undecided.add(group);
    this.components.logger.error(
      { group, index, digests: Object.fromEntries([...findings].map(([peer, finding]) => [peer, describe(finding)])) },
      "replicas differ, and no majority says which of them is right",
    );
  }
}

/** What a majority of the voters found, of both halves in a joint configuration; null when none agrees. */
function majorityOf(replica: Replica, findings: ReadonlyMap<PeerId, Finding>): Finding | null {
  const { voters, votersOutgoing } = replica.configuration;
  for (const candidate of findings.values()) {
    const votes = (peer: PeerId): boolean | undefined => {
      const finding = findings.get(peer);
      return finding === undefined ? undefined : isSame(finding, candidate);
    };
    if (jointVote(voters, votersOutgoing, votes) === VOTE_WON) return candidate;
  }
  return null;
}

function reasonOf(index: number, own: Finding, right: Finding): string {
  const what = own.a === right.a && own.b === right.b ? "the state" : "what was applied";
  return `${what} up to index ${index} differs from a majority of the group: digest ${describe(own)}, theirs is ${describe(right)}`;
}

function putFinding(message: Message, { origin, a, b, state }: Finding): void {
  message.hint = origin;
  message.logTerm = a;
  message.commit = b;
  message.context = state;
}

function findingOf({ hint, logTerm, commit, context }: Message): Finding {
  return { origin: hint, a: logTerm, b: commit, state: context };
}
