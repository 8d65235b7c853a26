// Random schedules over replicas in memory, reproducible by their seed: loss, duplication, reordering, partitions, slow
// disks and machines, power cuts, membership changes, transfers, snapshots, reads. Every step is checked.

import { Prng } from "../../src/base/prng.ts";
import type { RaftNode } from "../../src/raft/raft-node.ts";
import { MSG_SNAPSHOT, type Change, type ChangeKind, type Entry, type Transition } from "../../src/raft/types.ts";
import { members, RaftPeer, textOf, type Mail } from "./raft-peer.ts";

const PEERS = 5;
const VOTERS = 3;
const MAIL_MAX = 400;

/** An entry that was committed, and the term of the leader that committed it. */
type Committed = { readonly entry: Entry; readonly by: number };

export class SimulationError extends Error {
  override readonly name = "SimulationError";
}

export class RaftSimulation {
  readonly random: Prng;
  readonly peers: RaftPeer[];
  /** What happened, so that a test can tell that it happened at all. */
  readonly counts = { committed: 0, elections: 0, restarts: 0, changes: 0, joint: 0, snapshots: 0, reads: 0, transfers: 0 };
  private mail: Mail[] = [];
  private readonly cut = new Set<number>();
  private readonly leaders = new Map<number, RaftNode>();
  private readonly commits: number[];
  private readonly committed: Committed[] = [];
  /** Log matching: (index, term) to what precedes it and what it holds. */
  private readonly contents = new Map<string, string>();
  /** Reads under way: token to what was committed when it was asked for. */
  private readonly reads = new Map<number, number>();
  /** Of this one no write ends, as long as it is that one's turn; 0 or none of them: of all they do. */
  private slow = 0;
  private nextValue = 1;

  constructor(seed: number) {
    this.random = new Prng(seed);
    const below = (bound: number): number => this.random.below(bound);
    const settings = {
      electionTicks: 10,
      heartbeatTicks: 2,
      preVote: below(4) > 0,
      checkQuorum: below(4) > 0,
      inflightMessagesMax: 1 + below(4),
      inflightBytesMax: 200,
      appendBytesMax: 1 + below(20),
      uncommittedBytesMax: 200,
    };
    const configuration = members(Array.from({ length: VOTERS }, (_, at) => at + 1));
    const start = { index: 0, term: 0, configuration, history: [] };
    this.peers = Array.from({ length: PEERS }, (_, at) => new RaftPeer(at + 1, { settings, start, random: { below } }));
    this.commits = this.peers.map(() => 0);
  }

  /** One random event and all checks. */
  step(): void {
    const peer = this.peers[this.random.below(PEERS)]!;
    const dice = this.random.below(1_000);
    if (dice < 90) peer.node.tick();
    if (dice % 7 === 0) peer.node.slimDown();
    else if (dice < 430) this.deliver();
    else if (dice < 480) this.propose(peer);
    else if (dice < 490) this.change(peer);
    else if (dice < 498) this.read(peer);
    else if (dice < 504) this.transfer(peer);
    else if (dice < 507) this.restart(peer);
    else if (dice < 514) this.compact(peer);
    else if (dice < 517) peer.node.reportUnreachable(1 + this.random.below(PEERS));
    else if (dice < 518) peer.node.campaign();
    else if (dice < 519) peer.node.forgetLeader();
    else if (dice < 521) this.cutOrHeal();
    else if (dice < 700) {
      if (peer.id !== this.slow) this.finishWrite(peer);
    } else this.work(peer);
    this.check(peer);
  }

  /** No more faults: the group must elect a leader, finish what it began, and bring every member up to date. */
  finish(): void {
    this.cut.clear();
    this.slow = 0;
    const value = `last ${this.nextValue}`;
    let proposed = false;
    for (let round = 0; round < 600; round++) {
      for (const peer of this.peers) peer.node.tick();
      for (let pass = 0; pass < 12; pass++) {
        for (const peer of this.peers) {
          this.work(peer);
          while (peer.writes.length > 0) this.finishWrite(peer);
          this.check(peer);
        }
        const mail = this.mail;
        this.mail = [];
        for (const one of mail) this.hand(one);
      }
      const leader = this.leader();
      if (leader === undefined) continue;
      if (leader.node.configuration.votersOutgoing.length > 0) leader.node.proposeChange({ transition: "auto", changes: [] }, 0);
      if (!proposed || !this.has(leader, value)) proposed = leader.node.lastIndex > 0 && leader.propose(value);
      const { voters, votersOutgoing, learners } = leader.node.configuration;
      if (votersOutgoing.length === 0 && [...voters, ...learners].every((id) => this.has(this.peers[id - 1]!, value))) return;
    }
    throw new SimulationError(
      `no progress after the faults: ${this.peers.map(({ node }) => `${node.id}: role ${node.role} term ${node.term} commit ${node.commitIndex}/${node.lastIndex}`).join(", ")}`,
    );
  }

  private has(peer: RaftPeer, value: string): boolean {
    return peer.history.slice(-50).some((entry) => textOf(entry) === value);
  }

  private leader(): RaftPeer | undefined {
    let best: RaftPeer | undefined;
    for (const peer of this.peers) if (peer.node.isLeader && (best === undefined || peer.node.term > best.node.term)) best = peer;
    return best;
  }

  /** One Ready, and sometimes the machine's work. */
  private work(peer: RaftPeer): void {
    if (peer.node.hasReady()) {
      const { ready, mail } = peer.takeReady();
      for (const entry of ready.entries) this.checkContent(peer, entry);
      if (ready.snapshot !== null) this.counts.snapshots += 1;
      this.post(mail);
      for (const { token, index } of peer.reads.splice(0)) this.checkRead(token, index);
      for (const token of peer.readsDropped.splice(0)) this.reads.delete(token);
      while (peer.writes[0]?.ready.writeSequence === 0) this.post(peer.finishWrite());
    }
    if (this.random.below(3) > 0) {
      const applied = peer.apply();
      for (const entry of applied) this.checkCommitted(peer, entry);
    }
  }

  private finishWrite(peer: RaftPeer): void {
    if (peer.writes.length > 0) this.post(peer.finishWrite(this.random.below(2) === 0));
  }

  private post(mail: readonly Mail[]): void {
    for (const one of mail) {
      const isCut = this.cut.has(one.message.from * 16 + one.message.to) || this.mail.length >= MAIL_MAX || this.random.below(20) === 0;
      if (isCut) this.lost(one);
      else this.mail.push(one);
    }
  }

  private deliver(): void {
    if (this.mail.length === 0) return;
    // Mostly the oldest, as on one connection; now and then any.
    const at = this.random.below(3) === 0 ? this.random.below(this.mail.length) : 0;
    const one = this.mail[at]!;
    if (this.random.below(20) > 0) this.mail.splice(at, 1);
    this.hand(one);
    this.check(this.peers[one.message.to - 1]!);
  }

  private hand(one: Mail): void {
    const { message } = one;
    this.peers[message.to - 1]!.receive(one);
    if (message.kind === MSG_SNAPSHOT) this.peers[message.from - 1]!.node.snapshotSent(message.to, true);
  }

  private lost({ message }: Mail): void {
    if (message.kind === MSG_SNAPSHOT) this.peers[message.from - 1]!.node.snapshotSent(message.to, false);
  }

  private propose(peer: RaftPeer): void {
    if (peer.propose(`v${this.nextValue}`)) this.nextValue += 1;
  }

  private change({ node }: RaftPeer): void {
    if (!node.isLeader) return;
    const isJoint = node.configuration.votersOutgoing.length > 0;
    const changes: Change[] = isJoint
      ? []
      : Array.from({ length: 1 + this.random.below(3) }, () => ({
          kind: this.random.below(3) as ChangeKind,
          peer: 1 + this.random.below(PEERS),
        }));
    const transition = (["auto", "auto", "jointImplicit", "jointExplicit"] as const satisfies Transition[])[this.random.below(4)]!;
    if (node.proposeChange({ transition, changes }, 0) !== 0) return;
    this.counts.changes += 1;
    if (isJoint) this.counts.joint += 1;
  }

  private read({ node }: RaftPeer): void {
    const token = this.nextValue++;
    if (node.readIndex(token)) this.reads.set(token, this.committed.length);
  }

  private transfer({ node }: RaftPeer): void {
    if (node.transferLeadership(1 + this.random.below(PEERS))) this.counts.transfers += 1;
  }

  private restart(peer: RaftPeer): void {
    this.counts.restarts += 1;
    peer.restart(this.random.below(peer.writes.length + 1));
    this.commits[peer.id - 1] = 0;
  }

  private compact(peer: RaftPeer): void {
    const span = peer.applied - peer.cache.base.index;
    if (span > 0) peer.compact(peer.cache.base.index + 1 + this.random.below(span));
  }

  private cutOrHeal(): void {
    this.slow = this.random.below(3 * PEERS);
    if (this.cut.size > 0) {
      this.cut.clear();
      return;
    }
    const one = 1 + this.random.below(PEERS);
    for (let other = 1; other <= PEERS; other++) {
      if (this.random.below(2) > 0) this.cut.add(one * 16 + other);
      if (this.random.below(2) > 0) this.cut.add(other * 16 + one);
    }
  }

  private check(peer: RaftPeer): void {
    const { node, id } = peer;
    if (node.isLeader) this.checkLeader(peer);
    const before = this.commits[id - 1]!;
    const { commitIndex } = node;
    if (commitIndex < before) throw new SimulationError(`replica ${id}: the commit index fell from ${before} to ${commitIndex}`);
    if (commitIndex > node.lastIndex || node.applied > commitIndex)
      throw new SimulationError(`replica ${id}: applied ${node.applied}, commit ${commitIndex}, last ${node.lastIndex}`);
    for (let index = Math.max(before, node.firstIndex - 1) + 1; index <= commitIndex; index++)
      this.checkCommitted(peer, this.entryOf(peer, index));
    this.commits[id - 1] = commitIndex;
  }

  /** The core's own view: entries that no Ready has carried are not in the cache yet, but their terms are known. */
  private entryOf(peer: RaftPeer, index: number): Entry | undefined {
    const entry = peer.cache.get(index);
    return entry?.term === peer.node.termAt(index) ? entry : undefined;
  }

  private checkCommitted({ id, node }: RaftPeer, entry: Entry | undefined): void {
    if (entry === undefined) return; // Looked at again when it is applied.
    const known = this.committed[entry.index - 1];
    if (known === undefined) {
      this.committed[entry.index - 1] = { entry, by: node.term };
      this.counts.committed += 1;
    } else if (known.entry.term !== entry.term || textOf(known.entry) !== textOf(entry)) {
      throw new SimulationError(
        `entry ${entry.index} was committed in term ${known.entry.term}, and by replica ${id} in term ${entry.term}`,
      );
    }
  }

  private checkLeader({ id, node }: RaftPeer): void {
    const known = this.leaders.get(node.term);
    if (known === node) return;
    // One that was started again is another leader.
    if (known !== undefined) throw new SimulationError(`replicas ${known.id} and ${id} both lead in term ${node.term}`);
    this.leaders.set(node.term, node);
    this.counts.elections += 1;
    // Leader completeness. A leader of an older term that is elected late may lack what later leaders committed.
    for (let at = node.firstIndex - 1; at < this.committed.length; at++) {
      const one = this.committed[at];
      if (one !== undefined && one.by < node.term && node.termAt(one.entry.index) !== one.entry.term) {
        throw new SimulationError(`leader ${id} of term ${node.term} lacks entry ${one.entry.index} of term ${one.entry.term}`);
      }
    }
  }

  private checkContent({ id, node }: RaftPeer, entry: Entry): void {
    const key = `${entry.index} ${entry.term}`;
    const before = node.termAt(entry.index - 1);
    const content = `${before} ${entry.kind} ${textOf(entry)}`;
    const known = this.contents.get(key);
    if (known !== undefined && known !== content) throw new SimulationError(`replica ${id} has ${content} at ${key}, others ${known}`);
    this.contents.set(key, content);
  }

  private checkRead(token: number, index: number): void {
    const atLeast = this.reads.get(token);
    this.reads.delete(token);
    if (atLeast === undefined) return; // Asked for before a restart.
    this.counts.reads += 1;
    if (index < atLeast) throw new SimulationError(`a read sees ${index}, but ${atLeast} was committed when it was asked for`);
  }
}
