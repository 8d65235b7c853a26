// Takes in checkpoints that leaders send: each chunk and the whole are checked, and what was taken in stays for a while
// when a link breaks, so that the sender can go on where it stopped. Nothing of it survives a restart.

import type { Clock } from "../base/clock.ts";
import type { GroupId, NodeId } from "../base/ids.ts";
import { SNAPSHOTS_RECEIVING_BYTES_MAX, SNAPSHOTS_RECEIVING_MAX } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import {
  ANSWER_AGAIN,
  ANSWER_DONE,
  ANSWER_GO,
  ANSWER_REFUSED,
  decodeCheckpoint,
  encodeAnswer,
  type Chunk,
  type Verdict,
} from "./snapshot-codec.ts";
import type { Checkpoint } from "./types.ts";

/** What nobody went on with for so long is dropped. */
const PARTIAL_MS = 60_000;

export type SnapshotReceiverComponents = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly crc32: (bytes: Uint8Array) => number;
  readonly transmit: (node: NodeId, parts: readonly Uint8Array[]) => boolean;
  /** Whether the replica here can use it. */
  readonly judge: (chunk: Chunk) => "wanted" | "had" | "refused";
  /** All of it is here and right; `saved` in any case, when it is durable or turned out to be of no use. */
  readonly received: (chunk: Chunk, checkpoint: Checkpoint, saved: () => void) => void;
};

/** One per group. */
type Partial = {
  /** Which snapshot of whom: the same bytes, whoever sends them. */
  readonly key: string;
  readonly total: number;
  bytes: Uint8Array | null;
  filled: number;
  heardMs: number;
  /** Complete and on its way to the store; then answered in the name of the newest attempt. */
  isSaving: boolean;
  latest: { from: NodeId; chunk: Chunk };
};

export class SnapshotReceiver {
  private readonly components: SnapshotReceiverComponents;
  private readonly partials = new Map<GroupId, Partial>();
  /** Of all partials. Invariant: at most SNAPSHOTS_RECEIVING_BYTES_MAX. */
  private bytes = 0;

  constructor(components: SnapshotReceiverComponents) {
    this.components = components;
  }

  onChunk(from: NodeId, chunk: Chunk): void {
    const verdict = this.components.judge(chunk);
    if (verdict !== "wanted") {
      this.drop(chunk.group);
      this.answer(from, chunk, verdict === "had" ? ANSWER_DONE : ANSWER_REFUSED, 0);
      return;
    }
    const key = `${chunk.to}:${chunk.index}:${chunk.total}:${chunk.crc}`;
    let partial = this.partials.get(chunk.group);
    if (partial !== undefined && partial.key !== key && !partial.isSaving) {
      this.drop(chunk.group);
      partial = undefined;
    }
    const isQuestion = chunk.bytes.length === 0;
    if (partial === undefined && isQuestion) partial = this.begin(key, from, chunk);
    if (partial === undefined || (partial.isSaving && partial.key !== key)) {
      this.answer(from, chunk, isQuestion || partial !== undefined ? ANSWER_REFUSED : ANSWER_AGAIN, 0);
      return;
    }
    partial.heardMs = this.components.clock.monotonicMs();
    partial.latest = { from, chunk };
    if (partial.isSaving) return;
    if (isQuestion) this.answer(from, chunk, ANSWER_GO, partial.filled);
    else this.fill(partial, from, chunk);
  }

  /** Call it now and then. */
  tick(): void {
    if (this.partials.size === 0) return;
    const now = this.components.clock.monotonicMs();
    for (const [group, { heardMs, isSaving }] of this.partials) if (!isSaving && now - heardMs > PARTIAL_MS) this.drop(group);
  }

  private begin(key: string, from: NodeId, chunk: Chunk): Partial | undefined {
    const { total, group } = chunk;
    if (this.partials.size >= SNAPSHOTS_RECEIVING_MAX || this.bytes + total > SNAPSHOTS_RECEIVING_BYTES_MAX) return undefined;
    const partial = { key, total, bytes: null, filled: 0, heardMs: 0, isSaving: false, latest: { from, chunk } };
    this.partials.set(group, partial);
    this.bytes += total;
    return partial;
  }

  private fill(partial: Partial, from: NodeId, chunk: Chunk): void {
    const { crc32, logger } = this.components;
    const { group, offset, bytes, total } = chunk;
    const isIntact = crc32(bytes) === chunk.chunkCrc;
    if (!isIntact) logger.warn({ group, from, offset }, "a chunk of a snapshot arrived damaged and is asked for again");
    if (!isIntact || offset !== partial.filled) {
      this.answer(from, chunk, ANSWER_AGAIN, partial.filled);
      return;
    }
    partial.bytes ??= new Uint8Array(total);
    partial.bytes.set(bytes, offset);
    partial.filled += bytes.length;
    if (partial.filled < total) this.answer(from, chunk, ANSWER_GO, partial.filled);
    else this.complete(partial, from, chunk);
  }

  private complete(partial: Partial, from: NodeId, chunk: Chunk): void {
    const { crc32, logger, received } = this.components;
    const { group } = chunk;
    if (crc32(partial.bytes!) !== chunk.crc) {
      logger.warn({ group, from }, "a snapshot arrived damaged and is dropped");
      this.drop(group);
      this.answer(from, chunk, ANSWER_AGAIN, 0);
      return;
    }
    partial.isSaving = true;
    received(chunk, decodeCheckpoint(partial.bytes!), () => {
      if (this.partials.get(group) === partial) this.drop(group);
      this.answer(partial.latest.from, partial.latest.chunk, ANSWER_DONE, partial.total);
    });
  }

  private drop(group: GroupId): void {
    const partial = this.partials.get(group);
    if (partial === undefined) return;
    this.partials.delete(group);
    this.bytes -= partial.total;
  }

  private answer(node: NodeId, { group, from, to, attempt }: Chunk, verdict: Verdict, filled: number): void {
    // Not taken: the lane is down, and the sender asks again on the next.
    this.components.transmit(node, encodeAnswer({ group, from: to, to: from, attempt, verdict, filled }));
  }
}
