import { CATALOG_GROUP, type GroupId, type NodeId } from "../base/ids.ts";
import { LANE_RAFT, type PeerTransport } from "../peer/transport.ts";
import { RaftFrameWriter } from "../peer/frames.ts";
import { MSG_APPEND, type Message } from "../raft/types.ts";

/** Bytes of one frame of one turn; what is more goes into the next frame, so that votes never wait behind megabytes. */
const FRAME_BYTES_MAX = 2 * 1024 * 1024;

type Mail = {
  readonly writer: RaftFrameWriter;
  groups: { group: GroupId; to: number }[];
  listed: boolean;
  /** Somebody waits for an answer to what is in the frame. */
  isUrgent: boolean;
  /** Appends without entries, the newest of each group: they only tell how far the log is committed. */
  news: Map<GroupId, Message>;
};

/**
 * What all groups have to say to the other nodes in one turn: one frame per node, sent with one call. News of commits, for which nobody
 * waits, goes along with the next frame or append, or alone after a while.
 */
export class Outbox {
  private readonly transport: PeerTransport;
  private readonly unreachable: (group: GroupId, to: number) => void;
  private readonly mails = new Map<NodeId, Mail>();
  private waiting: NodeId[] = [];
  /** Since when the oldest news waits; infinite = none does. */
  private newsMs = Number.POSITIVE_INFINITY;

  constructor(transport: PeerTransport, unreachable: (group: GroupId, to: number) => void) {
    this.transport = transport;
    this.unreachable = unreachable;
  }

  add(node: NodeId, group: GroupId, message: Message, nowMs: number): void {
    let mail = this.mails.get(node);
    if (mail === undefined) {
      mail = { writer: new RaftFrameWriter(), groups: [], listed: false, isUrgent: false, news: new Map() };
      this.mails.set(node, mail);
    }
    if (!mail.listed) {
      mail.listed = true;
      this.waiting.push(node);
    }
    if (message.kind === MSG_APPEND) {
      // One life of a replica may just take the place of another on the same node: what is meant for the one says nothing to the other.
      const before = mail.news.get(group);
      if (before !== undefined && before.to !== message.to) this.write(mail, group, before);
      if (message.lastEntry === message.index && group !== CATALOG_GROUP) {
        mail.news.set(group, message);
        this.newsMs = Math.min(this.newsMs, nowMs);
        return;
      }
      // It says the same, and more.
      mail.news.delete(group);
    }
    this.write(mail, group, message);
    mail.isUrgent = true;
    if (mail.writer.bytes >= FRAME_BYTES_MAX) this.send(node, mail);
  }

  /** How long news of commits has waited; -1 = there is none. */
  newsWaits(nowMs: number): number {
    return this.newsMs === Number.POSITIVE_INFINITY ? -1 : nowMs - this.newsMs;
  }

  /**
   * Sends every frame that somebody waits for; with `all` also those that only tell how far the log is committed. A node
   * that does not take its frame is reported unreachable to the groups in it: never buffered.
   */
  flush(all: boolean): void {
    if (this.waiting.length === 0) return;
    const nodes = this.waiting;
    this.waiting = [];
    for (const node of nodes) {
      const mail = this.mails.get(node)!;
      if (!all && !mail.isUrgent) {
        this.waiting.push(node);
        continue;
      }
      mail.listed = false;
      if (mail.isUrgent || mail.news.size > 0) this.send(node, mail);
    }
    if (this.waiting.length === 0) this.newsMs = Number.POSITIVE_INFINITY;
  }

  private write(mail: Mail, group: GroupId, message: Message): void {
    mail.writer.add(group, message);
    mail.groups.push({ group, to: message.to });
  }

  private send(node: NodeId, mail: Mail): void {
    for (const [group, message] of mail.news) this.write(mail, group, message);
    mail.news.clear();
    const taken = this.transport.send(node, LANE_RAFT, mail.writer.parts());
    const groups = mail.groups;
    mail.groups = [];
    mail.isUrgent = false;
    mail.writer.reset();
    if (!taken) for (const { group, to } of groups) this.unreachable(group, to);
  }
}
