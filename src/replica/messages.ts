// The messages of all groups: those of other nodes into the cores, those of the cores into one frame per node. An append
// whose entries are no longer in memory waits for them in catch-up.ts, a snapshot goes its own way.

import { ByteReader, DecodeError } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import { decodeRaftFrame } from "../peer/frames.ts";
import type { PeerTransport } from "../peer/transport.ts";
import {
  MSG_APPEND,
  MSG_APPEND_RESPONSE,
  MSG_DIGEST_ASK,
  MSG_HEARTBEAT_RESPONSE,
  MSG_REST,
  MSG_SNAPSHOT,
  type Message,
} from "../raft/types.ts";
import type { CatchUps } from "./catch-up.ts";
import type { Comparisons } from "./comparisons.ts";
import { Outbox } from "./outbox.ts";
import type { Replica } from "./replica.ts";
import { acceptRest } from "./rest.ts";
import { BULK_ANSWER, BULK_APPEND, BULK_CHUNK } from "./snapshot-codec.ts";
import type { Snapshots } from "./snapshots.ts";

export type MessagesComponents = {
  readonly clock: Clock;
  readonly transport: PeerTransport;
  readonly snapshots: Snapshots;
  readonly catchUps: () => CatchUps;
  readonly comparisons: () => Comparisons;
  readonly replicaOf: (group: GroupId) => Replica | undefined;
  /** Something happens in the group. */
  readonly touched: (replica: Replica) => void;
  /** The same, but the core has nothing to collect: no turn is needed. */
  readonly heard: (replica: Replica) => void;
  /** The group is awake, and its core has news; but nothing happens in it. */
  readonly wake: (replica: Replica) => void;
  /** The core has news to collect. */
  readonly news: (replica: Replica) => void;
  readonly sleep: (replica: Replica) => void;
  readonly requestTurn: () => void;
};

/** How long news of a commit waits for a frame to go along with. */
const NEWS_MS = 2;

export class Messages {
  private readonly components: MessagesComponents;
  private readonly outbox: Outbox;
  private newsTimer: Timer | null = null;

  constructor(components: MessagesComponents) {
    this.components = components;
    this.outbox = new Outbox(components.transport, (group, to) => this.unreachable(group, to));
  }

  /** A frame of the raft lane. Throws DecodeError on nonsense. */
  onRaft(from: NodeId, frame: Uint8Array): void {
    decodeRaftFrame(frame, (group, message) => this.receive(from, group, message));
  }

  /** A frame of the bulk lane. Throws DecodeError on nonsense. */
  onBulk(from: NodeId, frame: Uint8Array): void {
    const reader = new ByteReader(frame);
    const kind = reader.u8();
    if (kind === BULK_APPEND) this.onRaft(from, frame.subarray(1));
    else if (kind === BULK_CHUNK || kind === BULK_ANSWER) this.components.snapshots.onFrame(from, kind, reader);
    else throw new DecodeError(`bulk frame of kind ${kind}`);
  }

  /** Completes a message of the core and puts it into its node's frame. */
  dispatch(replica: Replica, message: Message): void {
    if (message.kind === MSG_SNAPSHOT) this.components.snapshots.send(replica, message);
    else if (message.kind !== MSG_APPEND || !this.components.catchUps().takes(replica, message)) this.post(replica, message);
  }

  post(replica: Replica, message: Message): void {
    this.outbox.add(nodeOfReplica(message.to as ReplicaId), replica.group, message, this.components.clock.monotonicMs());
    this.components.requestTurn();
  }

  /** Sends what somebody waits for; with `all` also what only tells how far the log is committed. */
  flush(all: boolean): void {
    this.outbox.flush(all);
  }

  /** Sends also what only tells how far logs are committed once that has waited for NEWS_MS: mostly it has gone along with something by then. */
  flushNews(): void {
    const { clock, requestTurn } = this.components;
    const waitedMs = this.outbox.newsWaits(clock.monotonicMs());
    if (waitedMs < 0) return;
    if (waitedMs >= NEWS_MS) this.outbox.flush(true);
    else
      this.newsTimer ??= clock.schedule(NEWS_MS - waitedMs, () => {
        this.newsTimer = null;
        requestTurn();
      });
  }

  private receive(from: NodeId, group: GroupId, message: Message): void {
    const { replicaOf, clock, sleep, touched, heard, wake } = this.components;
    const replica = replicaOf(group);
    // Of a group that is not here (deleted, or not yet created here), or meant for another life of this replica.
    if (replica === undefined || message.to !== replica.descriptor.self || nodeOfReplica(message.from as ReplicaId) !== from) return;
    if (message.kind === MSG_REST) {
      if (acceptRest(replica, message)) sleep(replica);
      return;
    }
    // Neither wakes a group at rest nor keeps one from it.
    if (message.kind >= MSG_DIGEST_ASK) {
      this.components.comparisons().receive(replica, message);
      return;
    }
    replica.raft.step(message);
    const hasNews = replica.raft.hasReady();
    // That a follower is there is no work: it neither wakes a group at rest nor keeps one from it.
    if (message.kind === MSG_HEARTBEAT_RESPONSE) {
      if (hasNews) wake(replica);
    } else if (message.kind === MSG_APPEND_RESPONSE && !hasNews) {
      // The last of the followers to have an entry, or one that knows of the commit now: most answers are such.
      heard(replica);
    } else touched(replica);
    const isAnswer = message.kind === MSG_APPEND_RESPONSE && replica.catchUps.size > 0;
    const catchUp = isAnswer ? replica.catchUps.get(message.from) : undefined;
    if (catchUp === undefined) return;
    // A refusal is no progress: it must not make a pin last.
    if (!message.reject) replica.pins.extend(message.from, clock.monotonicMs());
    catchUp.answered(message);
  }

  private unreachable(group: GroupId, to: number): void {
    const replica = this.components.replicaOf(group);
    if (replica === undefined) return;
    replica.raft.reportUnreachable(to);
    if (replica.raft.hasReady()) this.components.news(replica);
  }
}
