// What becomes of a replica that is behind the start of its leader's log: the leader sends the checkpoint at which its log
// begins, and the replica goes on from there.

import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { GroupId, NodeId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { SharedLog } from "../log/types.ts";
import type { PeerTransport } from "../peer/transport.ts";
import type { Message, SnapshotMeta } from "../raft/types.ts";
import type { Replica } from "./replica.ts";
import { Snapshotter } from "./snapshotter.ts";
import type { Checkpoint, CheckpointStore, HostEvents } from "./types.ts";

export type SnapshotsComponents = {
  readonly store: CheckpointStore;
  readonly transport: PeerTransport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: HostEvents;
  readonly crc32: (bytes: Uint8Array) => number;
  readonly replicaOf: (group: GroupId) => Replica | undefined;
  readonly logOf: (replica: Replica) => SharedLog;
  readonly touched: (replica: Replica) => void;
};

export class Snapshots {
  private readonly components: SnapshotsComponents;
  private readonly snapshotter: Snapshotter;
  /** What the core was shown, by what it will ask for; what it ignores is forgotten with the message. */
  private readonly staged = new WeakMap<SnapshotMeta, Checkpoint>();

  constructor(components: SnapshotsComponents) {
    this.components = components;
    const { transport, clock, logger, crc32 } = components;
    this.snapshotter = new Snapshotter({
      transport,
      clock,
      logger,
      crc32,
      received: (_from, group, message, checkpoint) => this.stage(group, message, checkpoint),
    });
  }

  /** A frame of the bulk lane. Throws DecodeError on nonsense. */
  onFrame(from: NodeId, frame: Uint8Array): void {
    this.snapshotter.onFrame(from, frame);
  }

  /** Carries out MSG_SNAPSHOT of the core: sends the checkpoint at `message.index` and tells the core how it went. */
  async send(replica: Replica, node: NodeId, message: Message): Promise<void> {
    const { store, logger, events, touched } = this.components;
    const report = (ok: boolean): void => {
      if (replica.closed) return;
      replica.raft.snapshotSent(message.to, ok);
      touched(replica);
    };
    try {
      const checkpoint = await store.read(replica.group, message.index);
      if (checkpoint === undefined) {
        logger.error({ group: replica.group, index: message.index }, "the checkpoint at the start of the log is missing");
        report(false);
        return;
      }
      logger.info({ group: replica.group, to: node, index: checkpoint.index, bytes: checkpoint.snapshot.length }, "sending a snapshot");
      this.snapshotter.send(node, replica.group, message, checkpoint, report);
    } catch (error) {
      events.fatal(error as Error);
    }
  }

  /** The core accepted this snapshot: machine, log and configuration become what it says. */
  install(replica: Replica, snapshot: SnapshotMeta): void {
    const { logOf, logger, events } = this.components;
    const checkpoint = this.staged.get(snapshot);
    assert(checkpoint !== undefined, "a snapshot is accepted only after it was staged");
    replica.machine.restore(checkpoint.snapshot);
    replica.applied = checkpoint.index;
    replica.committedTo = Math.max(replica.committedTo, checkpoint.index);
    replica.timeMs = Math.max(replica.timeMs, checkpoint.timeMs);
    replica.configuration = checkpoint.configuration;
    replica.checkpointIndexes = [checkpoint.index];
    replica.releaseTo = checkpoint.index;
    replica.cache.clear();
    logOf(replica).reset(replica.group, checkpoint.index, checkpoint.term);
    logger.info({ group: replica.group, index: checkpoint.index }, "snapshot installed");
    if (replica.descriptor.kind === "catalog") events.catalogChanged();
  }

  /** Saves what arrived, then shows it to the core: it may be installed only when it is durable here. */
  private stage(group: GroupId, message: Message, checkpoint: Checkpoint): void {
    const { store, events, replicaOf, touched } = this.components;
    const replica = replicaOf(group);
    if (replica === undefined || message.to !== replica.descriptor.self || checkpoint.index <= replica.applied) return;
    store.save(group, checkpoint).then(
      () => {
        if (replica.closed || checkpoint.index <= replica.applied) return;
        this.staged.set(message.snapshot!, checkpoint);
        replica.raft.step(message);
        touched(replica);
      },
      (error: unknown) => events.fatal(error as Error),
    );
  }
}
