// Sends append messages whose entries are no longer in memory: reads them from the log, in order, one read at a time per
// follower. Messages that follow wait behind, so that the follower never sees a gap of our making.

import type { NodeId } from "../base/ids.ts";
import { APPEND_BYTES_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { SharedLog } from "../log/types.ts";
import { Message, MSG_APPEND, ROLE_LEADER, type Entry } from "../raft/types.ts";
import type { Replica } from "./replica.ts";

export class CatchUp {
  private readonly replica: Replica;
  private readonly node: NodeId;
  private readonly log: SharedLog;
  private readonly logger: Logger;
  private readonly send: (message: Message) => void;
  /** Bounded by the core's window of in-flight messages. */
  private waiting: Message[] = [];

  constructor(replica: Replica, node: NodeId, log: SharedLog, logger: Logger, send: (message: Message) => void) {
    this.replica = replica;
    this.node = node;
    this.log = log;
    this.logger = logger;
    this.send = send;
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
      this.send(message);
    }
    this.replica.catchUps.delete(this.node);
  }

  /** Research, raft.md point 16: what was read counts only while this replica still leads in the message's term. */
  private isCurrent(message: Message): boolean {
    return !this.replica.closed && this.replica.raft.role === ROLE_LEADER && this.replica.raft.term === message.term;
  }

  private read(message: Message): void {
    this.log.read(this.replica.group, message.index + 1, message.lastEntry, APPEND_BYTES_MAX, (error, entries) => {
      if (!this.isCurrent(message)) return this.next();
      if (error !== null) {
        this.logger.error({ group: this.replica.group, peer: this.node, error: error.message }, "entries for a follower cannot be read");
        this.waiting.shift();
        this.replica.raft.reportUnreachable(message.to);
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
      this.send(message);
      return;
    }
    const part = new Message(MSG_APPEND, message.from, message.to, message.term);
    part.index = message.index;
    part.logTerm = message.logTerm;
    part.commit = message.commit;
    part.lastEntry = last.index;
    part.entries = entries;
    this.send(part);
    message.index = last.index;
    message.logTerm = last.term;
  }
}
