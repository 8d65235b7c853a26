// Brings a follower from where it stands to the entries that are still in memory: reads old ones from the log and sends
// them on the bulk lane, as fast as recovery.ts lets it. The core's newer appends wait here as mere numbers. When the
// next one is in memory and everything sent before it is confirmed, the rest goes the usual way: so nothing overtakes
// anything, and no entry stays in memory for a follower that lags.

import { RECOVERY_PIECE_BYTES } from "../base/limits.ts";
import { CATALOG_GROUP, nodeOfReplica, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Clock } from "../base/clock.ts";
import { isDamage } from "../log/errors.ts";
import type { SharedLog } from "../log/types.ts";
import { RaftFrameWriter } from "../peer/frames.ts";
import { LANE_BULK, type PeerTransport } from "../peer/transport.ts";
import { Message, MSG_APPEND, ROLE_LEADER, type Entry, type PeerId } from "../raft/types.ts";
import type { Recovery, RecoveryJob, RecoverySlot } from "./recovery.ts";
import type { Replica } from "./replica.ts";
import { BULK_APPEND } from "./snapshot-codec.ts";

const APPEND_KIND = new Uint8Array([BULK_APPEND]);
/** Learners come after all voters, however much those have to fetch. */
const LEARNER_RANK = 2 ** 52;

export type CatchUpComponents = {
  readonly clock: Clock;
  readonly recovery: Recovery;
  readonly transport: PeerTransport;
  readonly logOf: (replica: Replica) => SharedLog;
  /** With the appends of all groups. */
  readonly sendLive: (replica: Replica, message: Message) => void;
  /** An entry that the log must hold cannot be read. */
  readonly damaged: (replica: Replica, reason: string) => void;
  /** The core has news. */
  readonly touched: (replica: Replica) => void;
};

export class CatchUps {
  private readonly components: CatchUpComponents;

  constructor(components: CatchUpComponents) {
    this.components = components;
  }

  /** Fills an append with its entries; true when it has to wait for those from disk, or behind others that do. */
  takes(replica: Replica, message: Message): boolean {
    let catchUp = replica.catchUps.get(message.to);
    if (catchUp === undefined) {
      message.entries = message.lastEntry === message.index ? [] : replica.cache.range(message.index + 1, message.lastEntry);
      if (message.entries !== null) return false;
      catchUp = new CatchUp(replica, message, this.components);
      replica.catchUps.set(message.to, catchUp);
    }
    catchUp.add(message);
    return true;
  }
}

type Sent = { readonly last: number; readonly heldBytes: number };

export class CatchUp implements RecoveryJob {
  readonly node: NodeId;
  readonly rank: number;
  readonly isCatalog: boolean;
  readonly isSnapshot = false;
  private readonly replica: Replica;
  private readonly peer: PeerId;
  private readonly components: CatchUpComponents;
  /** Appends without their entries, one behind the other; bounded by the core's window of messages. */
  private waiting: Message[] = [];
  /** Pieces on the bulk lane that are not confirmed, oldest first. */
  private sent: Sent[] = [];
  private sentTo = 0;
  private slot: RecoverySlot | null = null;
  private isReading = false;
  /** Rises when the core goes back: a piece that is being read then is of no use. */
  private epoch = 0;
  private isOver = false;

  constructor(replica: Replica, first: Message, components: CatchUpComponents) {
    this.replica = replica;
    this.peer = first.to;
    this.components = components;
    this.node = nodeOfReplica(first.to as ReplicaId);
    this.isCatalog = replica.group === CATALOG_GROUP;
    const bytes = (replica.raft.lastIndex - first.index) * components.logOf(replica).entryBytes(replica.group, first.index + 1);
    this.rank = bytes + (replica.configuration.learners.includes(first.to) ? LEARNER_RANK : 0);
    this.sentTo = first.index;
  }

  /** An append of the core, in the order in which it made them. */
  add(message: Message): void {
    const newest = this.waiting[this.waiting.length - 1];
    const end = newest?.lastEntry ?? this.sentTo;
    if (message.index !== end || (newest !== undefined && newest.term !== message.term)) {
      // The core was told that something is missing and begins again at another place.
      this.waiting = [];
      this.forget();
    } else if (message.lastEntry === message.index && (newest !== undefined || this.sent.length > 0)) {
      // Says nothing but how far is committed. Heartbeats do, too.
      if (newest !== undefined) newest.commit = message.commit;
      return;
    }
    this.waiting.push(message);
    this.proceed();
  }

  /** The follower's answer to an append. */
  answered(message: Message): void {
    if (message.reject) this.forget();
    else {
      let bytes = 0;
      while (this.sent.length > 0 && this.sent[0]!.last <= message.index) bytes += this.sent.shift()!.heldBytes;
      this.slot?.answered(bytes, this.components.clock.monotonicMs());
    }
    // The turn that follows the answer may bring the next appends.
    this.components.clock.defer(() => this.proceed());
  }

  send(): void {
    const head = this.waiting[0];
    if (head === undefined || !this.isCurrent(head) || this.isCached(head)) {
      this.slot!.sized(0);
      this.proceed();
      return;
    }
    const { epoch } = this;
    this.isReading = true;
    this.components.logOf(this.replica).read(this.replica.group, head.index + 1, head.lastEntry, RECOVERY_PIECE_BYTES, (error, entries) => {
      this.isReading = false;
      if (this.isOver) return;
      // Research, raft.md point 16: what was read counts only while this replica still leads in the message's term.
      if (epoch !== this.epoch || !this.isCurrent(head)) this.slot!.sized(0);
      else if (error === null) this.sendPiece(head, entries);
      else {
        this.lost();
        // Cut meanwhile: the next append finds the log begin later and becomes a snapshot.
        if (isDamage(error)) this.components.damaged(this.replica, error.message);
      }
      this.proceed();
    });
  }

  lost(): void {
    if (this.isOver) return;
    this.stop();
    this.replica.raft.reportUnreachable(this.peer);
    this.components.touched(this.replica);
  }

  /** Ends it without a word to the core. */
  stop(): void {
    this.isOver = true;
    this.waiting = [];
    this.sent = [];
    this.slot?.leave();
    if (this.replica.catchUps.get(this.peer) === this) this.replica.catchUps.delete(this.peer);
  }

  private proceed(): void {
    if (this.isOver || this.isReading) return;
    const head = this.waiting[0];
    if (head === undefined) {
      if (this.sent.length === 0) this.stop();
    } else if (!this.isCurrent(head)) this.stop();
    else if (!this.isCached(head)) {
      this.slot ??= this.components.recovery.enter(this);
      this.slot.wants();
    } else if (this.sent.length === 0) this.sendFromMemory();
  }

  private sendFromMemory(): void {
    while (this.waiting.length > 0 && this.isCached(this.waiting[0]!)) {
      const message = this.waiting.shift()!;
      this.sentTo = message.lastEntry;
      message.entries = message.lastEntry === message.index ? [] : this.replica.cache.range(message.index + 1, message.lastEntry);
      this.components.sendLive(this.replica, message);
    }
    this.proceed();
  }

  /** Sends what was read; what is left of the message stays first in line. */
  private sendPiece(head: Message, entries: readonly Entry[]): void {
    const last = entries[entries.length - 1]!;
    let bytes = 0;
    for (const { payload } of entries) bytes += payload.length;
    const heldBytes = heldBy(entries);
    this.slot!.sized(bytes, heldBytes);
    const piece = new Message(MSG_APPEND, head.from, head.to, head.term);
    piece.index = head.index;
    piece.logTerm = head.logTerm;
    piece.commit = head.commit;
    piece.lastEntry = last.index;
    piece.entries = entries;
    this.sent.push({ last: last.index, heldBytes });
    this.sentTo = last.index;
    if (last.index === head.lastEntry) this.waiting.shift();
    else {
      head.index = last.index;
      head.logTerm = last.term;
    }
    const writer = new RaftFrameWriter();
    writer.add(this.replica.group, piece);
    if (!this.components.transport.send(this.node, LANE_BULK, [APPEND_KIND, ...writer.parts()])) this.lost();
  }

  private forget(): void {
    this.epoch += 1;
    this.sent = [];
    this.slot?.forgive(this.components.clock.monotonicMs());
  }

  private isCurrent(message: Message): boolean {
    return !this.replica.closed && this.replica.raft.role === ROLE_LEADER && this.replica.raft.term === message.term;
  }

  private isCached(message: Message): boolean {
    if (message.lastEntry === message.index) return true;
    const { firstIndex, lastIndex } = this.replica.cache;
    return firstIndex !== 0 && firstIndex <= message.index + 1 && message.lastEntry <= lastIndex;
  }
}

/** Bytes of memory that entries as they were read keep: what of other groups lies between them as well. */
function heldBy(entries: readonly Entry[]): number {
  let bytes = 0;
  let buffer: ArrayBufferLike | null = null;
  let end = 0;
  for (const { payload } of entries) {
    const payloadEnd = payload.byteOffset + payload.length;
    bytes += payload.buffer === buffer && payload.byteOffset >= end ? payloadEnd - end : payload.length;
    buffer = payload.buffer;
    end = payloadEnd;
  }
  return bytes;
}
