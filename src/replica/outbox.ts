import type { GroupId, NodeId } from "../base/ids.ts";
import { LANE_RAFT, type PeerTransport } from "../peer/transport.ts";
import { RaftFrameWriter } from "../peer/frames.ts";
import { MSG_APPEND, type Message } from "../raft/types.ts";

/** Bytes of one frame of one turn; what is more goes into the next frame, so that votes never wait behind megabytes. */
const FRAME_BYTES_MAX = 2 * 1024 * 1024;

type Mail = {
  readonly writer: RaftFrameWriter;
  groups: { group: GroupId; to: number }[];
  listed: boolean;
  /** More than news of commits is in it: somebody waits for an answer to it. */
  isUrgent: boolean;
};

/** What all groups have to say to the other nodes in one turn: one frame per node, sent with one call. */
export class Outbox {
  private readonly transport: PeerTransport;
  private readonly unreachable: (group: GroupId, to: number) => void;
  private readonly mails = new Map<NodeId, Mail>();
  private waiting: NodeId[] = [];

  constructor(transport: PeerTransport, unreachable: (group: GroupId, to: number) => void) {
    this.transport = transport;
    this.unreachable = unreachable;
  }

  add(node: NodeId, group: GroupId, message: Message): void {
    let mail = this.mails.get(node);
    if (mail === undefined) {
      mail = { writer: new RaftFrameWriter(), groups: [], listed: false, isUrgent: false };
      this.mails.set(node, mail);
    }
    if (!mail.listed) {
      mail.listed = true;
      this.waiting.push(node);
    }
    mail.writer.add(group, message);
    mail.groups.push({ group, to: message.to });
    if (message.kind !== MSG_APPEND || message.lastEntry > message.index) mail.isUrgent = true;
    if (mail.writer.bytes >= FRAME_BYTES_MAX) this.send(node, mail);
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
      if (mail.groups.length > 0) this.send(node, mail);
    }
  }

  private send(node: NodeId, mail: Mail): void {
    const taken = this.transport.send(node, LANE_RAFT, mail.writer.parts());
    const groups = mail.groups;
    mail.groups = [];
    mail.isUrgent = false;
    mail.writer.reset();
    if (!taken) for (const { group, to } of groups) this.unreachable(group, to);
  }
}
