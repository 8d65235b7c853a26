// What becomes of a replica that is behind the start of its leader's log: the leader sends the checkpoint at which its log
// begins, and the replica goes on from there.

import { assert } from "../base/assert.ts";
import type { ByteReader } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { nodeOfReplica, type GroupId, type NodeId, type ReplicaId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { SharedLog } from "../log/types.ts";
import { LANE_BULK, type PeerTransport } from "../peer/transport.ts";
import { Message, MSG_SNAPSHOT, type SnapshotMeta } from "../raft/types.ts";
import { ReleaseTooOldError } from "./rules.ts";
import type { Recovery } from "./recovery.ts";
import type { Replica } from "./replica.ts";
import { ANSWER_AGAIN, ANSWER_REFUSED, BULK_ANSWER, BULK_CHUNK, decodeAnswer, decodeChunk, type Chunk } from "./snapshot-codec.ts";
import { SnapshotReceiver } from "./snapshot-receiver.ts";
import { SnapshotSender } from "./snapshot-sender.ts";
import type { Checkpoint, CheckpointStore, HostEvents } from "./types.ts";

export type SnapshotsComponents = {
  readonly store: CheckpointStore;
  readonly transport: PeerTransport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: HostEvents;
  readonly crc32: (bytes: Uint8Array) => number;
  readonly recovery: Recovery;
  readonly replicaOf: (group: GroupId) => Replica | undefined;
  readonly logOf: (replica: Replica) => SharedLog;
  readonly touched: (replica: Replica) => void;
  /** The node's release knows of digests. */
  readonly compares: (node: NodeId) => boolean;
};

export class Snapshots {
  private readonly components: SnapshotsComponents;
  private readonly receiver: SnapshotReceiver;
  /** What the core was shown, by what it will ask for; what it ignores is forgotten with the message. */
  private readonly staged = new WeakMap<SnapshotMeta, Checkpoint>();

  constructor(components: SnapshotsComponents) {
    this.components = components;
    const { clock, logger, crc32, transport } = components;
    this.receiver = new SnapshotReceiver({
      clock,
      logger,
      crc32,
      transmit: (node, parts) => transport.send(node, LANE_BULK, parts),
      judge: (chunk) => this.judge(chunk),
      received: (chunk, checkpoint, saved) => this.stage(chunk, checkpoint, saved),
    });
  }

  /** A frame of the bulk lane, after its first byte. Throws DecodeError on nonsense. */
  onFrame(from: NodeId, kind: typeof BULK_CHUNK | typeof BULK_ANSWER, reader: ByteReader): void {
    if (kind === BULK_CHUNK) {
      const chunk = decodeChunk(reader);
      if (nodeOfReplica(chunk.from as ReplicaId) === from) this.receiver.onChunk(from, chunk);
      return;
    }
    const answer = decodeAnswer(reader);
    if (nodeOfReplica(answer.from as ReplicaId) !== from) return;
    const replica = this.components.replicaOf(answer.group);
    if (replica === undefined || answer.to !== replica.descriptor.self) return;
    if (answer.verdict === ANSWER_REFUSED) replica.pins.drop(answer.from);
    else if (answer.verdict !== ANSWER_AGAIN) replica.pins.extend(answer.from, this.components.clock.monotonicMs());
    replica.snapshotsSending.get(answer.from)?.answered(answer);
  }

  /** Call it every tick. */
  tick(): void {
    this.receiver.tick();
  }

  /** Carries out MSG_SNAPSHOT of the core: sends the checkpoint at `message.index` and tells the core how it went. */
  send(replica: Replica, message: Message): void {
    const { store, events, touched, clock, transport } = this.components;
    const peer = message.to;
    replica.snapshotsSending.get(peer)?.stop();
    // The checkpoint must not go before it was sent, nor what follows it before the follower has had a chance to fetch it.
    replica.pins.hold(peer, message.index);
    const sender = new SnapshotSender(replica, message, {
      ...this.components,
      read: (index) => {
        replica.pins.release(peer, clock.monotonicMs());
        return store.read(replica.group, index);
      },
      transmit: (node, parts) => transport.send(node, LANE_BULK, parts),
      fatal: (error) => events.fatal(error),
      done: (ok) => {
        if (replica.snapshotsSending.get(peer) === sender) replica.snapshotsSending.delete(peer);
        replica.pins.release(peer, clock.monotonicMs());
        if (replica.closed) return;
        replica.raft.snapshotSent(peer, ok);
        touched(replica);
      },
    });
    replica.snapshotsSending.set(peer, sender);
    sender.start();
  }

  /** The core accepted this snapshot: machine, log and configuration become what it says. */
  install(replica: Replica, snapshot: SnapshotMeta): void {
    const { logOf, logger, events } = this.components;
    const checkpoint = this.staged.get(snapshot);
    assert(checkpoint !== undefined, "a snapshot is accepted only after it was staged");
    const { machine } = replica;
    if (checkpoint.machineVersion > machine.newestVersion)
      throw new ReleaseTooOldError(replica.group, checkpoint.machineVersion, machine.newestVersion);
    machine.useVersion(checkpoint.machineVersion);
    machine.restore(checkpoint.snapshot);
    replica.applied = checkpoint.index;
    replica.committedTo = Math.max(replica.committedTo, checkpoint.index);
    replica.digest.restore(checkpoint.index, checkpoint.digest);
    replica.timeMs = Math.max(replica.timeMs, checkpoint.timeMs);
    replica.configuration = checkpoint.configuration;
    replica.checkpointIndexes = [checkpoint.index];
    replica.releaseTo = checkpoint.index;
    replica.cache.clear();
    logOf(replica).reset(replica.group, checkpoint.index, checkpoint.term);
    logger.info({ group: replica.group, index: checkpoint.index }, "snapshot installed");
    if (replica.descriptor.kind === "catalog") events.catalogChanged();
  }

  private judge({ group, to, index }: Chunk): "wanted" | "had" | "refused" {
    const replica = this.components.replicaOf(group);
    if (replica === undefined || to !== replica.descriptor.self) return "refused";
    return index <= replica.applied ? "had" : "wanted";
  }

  /** Saves what arrived, then shows it to the core: it may be installed only when it is durable here. */
  private stage({ group, from, to, term }: Chunk, checkpoint: Checkpoint, saved: () => void): void {
    const { store, events, replicaOf, touched } = this.components;
    const replica = replicaOf(group)!;
    store.save(group, checkpoint).then(
      () => {
        saved();
        if (replica.closed || checkpoint.index <= replica.applied) return;
        const message = new Message(MSG_SNAPSHOT, from, to, term);
        message.index = checkpoint.index;
        message.logTerm = checkpoint.term;
        message.snapshot = { index: checkpoint.index, term: checkpoint.term, configuration: checkpoint.configuration };
        this.staged.set(message.snapshot, checkpoint);
        replica.raft.step(message);
        touched(replica);
      },
      (error: unknown) => events.fatal(error as Error),
    );
  }
}
