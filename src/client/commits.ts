// Commits of one consumer: one at a time, so that an older one never overtakes a newer one.

import type { Channels } from "./channels.ts";
import { FlotillaError } from "./errors.ts";
import type { PartitionReader } from "./partition-reader.ts";

type Answer = { partitions: { partition: number; error: { reason: string; message: string; retryable: boolean } | null }[] };

export class Commits {
  private readonly channels: Channels;
  private readonly place: { readonly vhost: string; readonly topic: string; readonly subscription: string };
  private readonly committed = new Map<number, number>();
  private last: Promise<void> = Promise.resolve();

  constructor(channels: Channels, place: { vhost: string; topic: string; subscription: string }) {
    this.channels = channels;
    this.place = place;
  }

  /** Commits what moved since the last commit; `offsetOf` tells the offset, or -1 for none, when its turn has come. */
  commit(readers: Iterable<PartitionReader>, offsetOf: (reader: PartitionReader) => number): Promise<void> {
    const run = this.last.then(() => this.send([...readers], offsetOf));
    this.last = run.catch(() => {});
    return run;
  }

  private async send(readers: readonly PartitionReader[], offsetOf: (reader: PartitionReader) => number): Promise<void> {
    const moved = readers
      .map((reader) => ({ reader, offset: offsetOf(reader), reset: reader.wasMoved }))
      .filter(({ reader, offset }) => offset >= 0 && this.committed.get(reader.partition) !== offset);
    if (moved.length === 0) return;
    const offsets = moved.map(({ reader: { partition }, offset, reset }) => ({ partition, offset, metadata: "", reset }));
    const { partitions } = await this.channels.call<object, Answer>("flotilla.v1.Messaging", "CommitOffsets", { ...this.place, offsets });
    const refused = new Map(partitions.flatMap(({ partition, error }) => (error === null ? [] : [[partition, error] as const])));
    for (const { reader, offset, reset } of moved) {
      if (refused.has(reader.partition)) continue;
      this.committed.set(reader.partition, offset);
      if (reset) reader.wasMoved = false;
    }
    for (const [partition, { reason, message, retryable }] of refused) {
      throw new FlotillaError(reason as never, `partition ${partition}: ${message}`, {
        retryable,
        details: { partition: String(partition) },
      });
    }
  }
}
