// Sends one checkpoint to one replica, piece by piece as recovery.ts lets it. It asks first how much of it the other side
// holds already, and asks again after everything that may have lost a piece: so a broken link costs what was on it.

import type { Clock } from "../base/clock.ts";
import { CATALOG_GROUP, nodeOfReplica, type NodeId, type ReplicaId } from "../base/ids.ts";
import { RECOVERY_PIECE_BYTES, SNAPSHOT_BYTES_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import { ROLE_LEADER, type Message } from "../raft/types.ts";
import type { Recovery, RecoveryJob, RecoverySlot } from "./recovery.ts";
import type { Replica } from "./replica.ts";
import {
  ANSWER_AGAIN,
  ANSWER_DONE,
  ANSWER_GO,
  ANSWER_REFUSED,
  encodeCheckpoint,
  encodeChunk,
  type Answer,
  type Chunk,
} from "./snapshot-codec.ts";
import type { Checkpoint } from "./types.ts";

/** Attempts without a new byte on the other side, after which the core is told to see for itself. */
const ATTEMPTS_MAX = 5;
/** After a refusal: the replica over there may be about to open. */
const REFUSED_MS = 500;
const NOTHING = new Uint8Array(0);

export type SnapshotSenderComponents = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly recovery: Recovery;
  readonly crc32: (bytes: Uint8Array) => number;
  /** The checkpoint at an index; undefined when it is not there. */
  readonly read: (index: number) => Promise<Checkpoint | undefined>;
  /** The node's release knows of digests. */
  readonly compares: (node: NodeId) => boolean;
  readonly transmit: (node: NodeId, parts: readonly Uint8Array[]) => boolean;
  readonly fatal: (error: Error) => void;
  /** Once: all of it is durable over there, or not. */
  readonly done: (ok: boolean) => void;
};

export class SnapshotSender implements RecoveryJob {
  readonly node: NodeId;
  readonly rank: number;
  readonly isCatalog: boolean;
  readonly isSnapshot = true;
  private readonly replica: Replica;
  private readonly message: Message;
  private readonly components: SnapshotSenderComponents;
  private readonly slot: RecoverySlot;
  private body: Uint8Array | null = null;
  private crc = 0;
  private attempt = 1;
  /** Attempts since the other side last had more. */
  private vain = 0;
  /** This attempt's question was answered. */
  private isAnswered = false;
  /** Invariant: confirmed <= sentTo; bytes in between are on their way. */
  private confirmed = 0;
  private sentTo = 0;
  private isOver = false;

  constructor(replica: Replica, message: Message, components: SnapshotSenderComponents) {
    this.replica = replica;
    this.message = message;
    this.components = components;
    this.node = nodeOfReplica(message.to as ReplicaId);
    this.isCatalog = replica.group === CATALOG_GROUP;
    // What follows the snapshot counts as well; a replica that has nothing yet is a learner, mostly.
    const isLearner = replica.configuration.learners.includes(message.to);
    this.rank = replica.raft.lastIndex - message.index + (isLearner ? 2 ** 52 : 0);
    this.slot = components.recovery.enter(this);
  }

  start(): void {
    this.slot.wants();
  }

  send(): void {
    if (!this.isCurrent) this.finish(false);
    else if (this.body === null) this.load();
    else if (this.isAnswered) this.sendChunk();
    else this.ask();
  }

  answered(answer: Answer): void {
    if (this.isOver || answer.attempt !== this.attempt) return;
    const nowMs = this.components.clock.monotonicMs();
    if (answer.verdict === ANSWER_DONE) {
      this.finish(true);
    } else if (answer.verdict === ANSWER_REFUSED) {
      this.slot.leave();
      this.components.clock.schedule(REFUSED_MS, () => this.finish(false));
    } else if (answer.verdict === ANSWER_AGAIN) {
      this.again();
    } else if (answer.verdict === ANSWER_GO && answer.filled <= this.body!.length) {
      if (answer.filled > this.confirmed) this.vain = 0;
      if (this.isAnswered) this.slot.answered(answer.filled - this.confirmed, nowMs);
      else this.sentTo = answer.filled;
      this.isAnswered = true;
      this.confirmed = answer.filled;
      if (this.sentTo < this.body!.length) this.slot.wants();
    }
  }

  lost(isUp: boolean): void {
    if (isUp) this.again();
    else this.finish(false);
  }

  /** Ends it without a word to the core. */
  stop(): void {
    this.isOver = true;
    this.body = null;
    this.slot.leave();
  }

  private get isCurrent(): boolean {
    const { closed, raft } = this.replica;
    return !closed && raft.role === ROLE_LEADER && raft.term === this.message.term;
  }

  private load(): void {
    const { read, crc32, logger, fatal } = this.components;
    const { group } = this.replica;
    const { index } = this.message;
    read(index).then((checkpoint) => {
      if (this.isOver) return;
      this.slot.sized(0);
      const body = checkpoint === undefined ? null : encodeCheckpoint(checkpoint, this.components.compares(this.node));
      if (body === null || body.length > SNAPSHOT_BYTES_MAX) {
        logger.error({ group, index, bytes: body?.length ?? 0 }, "the checkpoint at the start of the log is missing or too large");
        this.finish(false);
        return;
      }
      this.body = body;
      this.crc = crc32(body);
      logger.info({ group, to: this.node, index, bytes: body.length }, "sending a snapshot");
      this.slot.wants();
    }, fatal);
  }

  private ask(): void {
    this.slot.sized(0);
    this.transmit(0, NOTHING);
  }

  private sendChunk(): void {
    const bytes = this.body!.subarray(this.sentTo, this.sentTo + RECOVERY_PIECE_BYTES);
    const offset = this.sentTo;
    this.slot.sized(bytes.length);
    this.sentTo += bytes.length;
    this.transmit(offset, bytes);
    if (!this.isOver && this.isAnswered && this.sentTo < this.body!.length) this.slot.wants();
  }

  private transmit(offset: number, bytes: Uint8Array): void {
    const { group } = this.replica;
    const { from, to, term, index } = this.message;
    const { attempt, crc } = this;
    const total = this.body!.length;
    const chunk: Chunk = { group, from, to, term, attempt, index, total, crc, offset, chunkCrc: this.components.crc32(bytes), bytes };
    // Not taken: the lane is down, and its successor will say so.
    this.components.transmit(this.node, encodeChunk(chunk));
  }

  private again(): void {
    this.attempt += 1;
    this.vain += 1;
    this.isAnswered = false;
    if (this.vain > ATTEMPTS_MAX) {
      this.finish(false);
      return;
    }
    this.slot.forgive(this.components.clock.monotonicMs());
    if (this.body !== null) this.slot.wants();
  }

  private finish(ok: boolean): void {
    if (this.isOver) return;
    this.stop();
    this.components.done(ok);
  }
}
