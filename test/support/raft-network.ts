// A small network of replicas in memory for tests by event: the test says who ticks, what is lost and when writes end.

import { Entry, Message, MSG_APPEND, type Configuration, type MessageKind, type PeerId } from "../../src/raft/types.ts";
import { members, RaftPeer, type Mail, type PeerOptions } from "./raft-peer.ts";

const ROUNDS_MAX = 1_000;

export type NetworkOptions = Omit<PeerOptions, "start"> & { readonly learners?: readonly number[] };

export class RaftNetwork {
  readonly peers = new Map<PeerId, RaftPeer>();
  /** The members at index 0. */
  readonly first: Configuration;
  readonly options: NetworkOptions;
  mail: Mail[] = [];
  /** Everything that was ever sent, for tests that look at messages. */
  sent: Message[] = [];
  /** True = the message is lost. */
  loses: (message: Message) => boolean = () => false;
  /** Replicas whose writes never end until the test says so. */
  readonly slowDisks = new Set<PeerId>();

  /** Replicas 1..count, all voters but the learners. */
  constructor(count: number, options: NetworkOptions = {}) {
    this.options = options;
    const learners = options.learners ?? [];
    const ids = Array.from({ length: count }, (_, at) => at + 1);
    this.first = members(
      ids.filter((id) => !learners.includes(id)),
      learners,
    );
    this.join(...ids);
  }

  /** Starts replicas with nothing but the members at index 0, to which everybody's log applies its changes. */
  join(...ids: readonly PeerId[]): void {
    for (const id of ids)
      this.peers.set(id, new RaftPeer(id, { ...this.options, start: { index: 0, term: 0, configuration: this.first, history: [] } }));
  }

  peer(id: PeerId): RaftPeer {
    const peer = this.peers.get(id);
    if (peer === undefined) throw new Error(`no replica ${id}`);
    return peer;
  }

  get leader(): RaftPeer {
    const leaders = [...this.peers.values()].filter((peer) => peer.node.isLeader);
    leaders.sort((a, b) => b.node.term - a.node.term);
    if (leaders.length === 0) throw new Error("nobody leads");
    return leaders[0]!;
  }

  /** A network whose `id` leads and whose no-op everybody has applied. */
  static led(count: number, options: NetworkOptions = {}, id = 1): RaftNetwork {
    const network = new RaftNetwork(count, options);
    network.elect(id);
    return network;
  }

  elect(id: PeerId): void {
    this.peer(id).node.campaign();
    this.settle();
    if (!this.peer(id).node.isLeader) throw new Error(`replica ${id} was not elected`);
  }

  /** Takes and writes what `id` has ready, once; its messages are under way. */
  process(id: PeerId): void {
    const peer = this.peer(id);
    if (peer.node.hasReady()) this.post(peer.takeReady().mail);
    if (!this.slowDisks.has(id)) this.finishWrites(id);
    // Where nothing is written and nothing vouched for, there is nothing to wait for.
    while (peer.writes[0]?.ready.writeSequence === 0) this.post(peer.finishWrite());
    peer.apply();
  }

  finishWrites(id: PeerId): void {
    const peer = this.peer(id);
    while (peer.writes.length > 0) this.post(peer.finishWrite());
  }

  post(mail: readonly Mail[]): void {
    for (const one of mail) {
      this.sent.push(one.message);
      if (!this.loses(one.message)) this.mail.push(one);
    }
  }

  /** Delivers what is under way now, oldest first. */
  deliver(): void {
    const mail = this.mail;
    this.mail = [];
    for (const one of mail) this.peers.get(one.message.to)?.receive(one);
  }

  /** Until nobody has anything to say. */
  settle(): void {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      let busy = this.mail.length > 0;
      for (const [id, peer] of this.peers) {
        if (!peer.node.hasReady() && (peer.writes.length === 0 || this.slowDisks.has(id))) continue;
        busy = true;
        this.process(id);
      }
      if (!busy) return;
      this.deliver();
    }
    throw new Error("the network never comes to rest");
  }

  tick(id: PeerId, count = 1): void {
    for (let i = 0; i < count; i++) this.peer(id).node.tick();
  }

  /** Time for everybody, with all that follows from it. */
  tickAll(count: number, settle = true): void {
    for (let i = 0; i < count; i++) {
      for (const peer of this.peers.values()) peer.node.tick();
      if (settle) this.settle();
    }
  }

  /** Cuts the links of `ids` to everybody. */
  isolate(...ids: PeerId[]): void {
    this.loses = ({ from, to }) => ids.includes(from) || ids.includes(to);
  }

  heal(): void {
    this.loses = () => false;
  }

  propose(text: string): void {
    if (!this.leader.propose(text)) throw new Error("the leader refused");
    this.settle();
  }

  sentOf(kind: MessageKind): Message[] {
    return this.sent.filter((message) => message.kind === kind);
  }
}

/** A message as another replica would send it. */
export function newMessage(kind: MessageKind, from: PeerId, to: PeerId, term: number, fields: Partial<Message> = {}): Message {
  return Object.assign(new Message(kind, from, to, term), fields);
}

/** Entries `first`, `first + 1`, ... of the given terms. */
export function newEntries(first: number, ...terms: readonly number[]): Entry[] {
  return terms.map((term, at) => new Entry(first + at, term, 1, 0, new TextEncoder().encode(`${term}/${first + at}`), 0));
}

/** An append of `entries` after (index, logTerm). */
export function newAppend(
  from: PeerId,
  to: PeerId,
  term: number,
  index: number,
  logTerm: number,
  entries: readonly Entry[],
  commit = 0,
): Message {
  return newMessage(MSG_APPEND, from, to, term, { index, logTerm, entries, commit, lastEntry: index + entries.length });
}
