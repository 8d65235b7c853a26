// Sends append messages whose entries are no longer in memory: reads them from the log, in order, one read at a time per
// follower. Messages that follow wait behind, so that the follower never sees a gap of our making.

import { APPEND_BYTES_MAX } from "../base/limits.ts";
import type { SharedLog } from "../log/types.ts";
import { isDamage } from "../log/errors.ts";
import { Message, MSG_APPEND, ROLE_LEADER, type Entry, type PeerId } from "../raft/types.ts";
import type { Replica } from "./replica.ts";

export type CatchUpComponents = {
  readonly log: SharedLog;
  readonly send: (message: Message) => void;
  /** An entry that the log must hold cannot be read. */
  readonly damaged: (reason: string) => void;
};

export class CatchUp {
  private readonly replica: Replica;
  private readonly peer: PeerId;
  private readonly components: CatchUpComponents;
  /** Bounded by the core's window of in-flight messages. */
  private waiting: Message[] = [];

  constructor(replica: Replica, peer: PeerId, components: CatchUpComponents) {
    this.replica = replica;
    this.peer = peer;
    this.components = components;
  }

  add(message: Message): void {
    this.waiting.push(message);
    if (this.waiting.length === 1) this.next();
  }

  private next(): void {
    while (this.waiting.length > 0) {
      const message = this.waiting[0]!;
      if (!this.isCurrent(message)) {
        this.waiting.shift();
        continue;
      }
      const cached = message.lastEntry === message.index ? [] : this.replica.cache.range(message.index + 1, message.lastEntry);
      if (cached === null) {
        this.read(message);
        return;
      }
      this.waiting.shift();
      message.entries = cached;
      this.components.send(message);
    }
    this.replica.catchUps.delete(this.peer);
  }

  /** Research, raft.md point 16: what was read counts only while this replica still leads in the message's term. */
  private isCurrent(message: Message): boolean {
    return !this.replica.closed && this.replica.raft.role === ROLE_LEADER && this.replica.raft.term === message.term;
  }

  private read(message: Message): void {
    this.components.log.read(this.replica.group, message.index + 1, message.lastEntry, APPEND_BYTES_MAX, (error, entries) => {
      if (!this.isCurrent(message)) return this.next();
      if (error !== null) {
        this.waiting.shift();
        this.replica.raft.reportUnreachable(message.to);
        // Trimmed meanwhile: the next append finds the log begin later and becomes a snapshot.
        if (isDamage(error)) this.components.damaged(error.message);
        return this.next();
      }
      this.sendPart(message, entries);
      this.next();
    });
  }

  /** Sends what was read; what is left of the message stays first in line. */
  private sendPart(message: Message, entries: readonly Entry[]): void {
    const last = entries[entries.length - 1]!;
    if (last.index === message.lastEntry) {
      this.waiting.shift();
      message.entries = entries;
      this.components.send(message);
      return;
    }
    const part = new Message(MSG_APPEND, message.from, message.to, message.term);
    part.index = message.index;
    part.logTerm = message.logTerm;
    part.commit = message.commit;
    part.lastEntry = last.index;
    part.entries = entries;
    this.components.send(part);
    message.index = last.index;
    message.logTerm = last.term;
  }
}
