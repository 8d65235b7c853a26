// Archives what retention is about to trim, and trims it then: one file at a time on a node, the partitions in turn.

import type { ArchiveFile, Archive } from "../log/archive-files.ts";
import type { Clock } from "../base/clock.ts";
import type { GroupId } from "../base/ids.ts";
import { BrokerError } from "../base/errors.ts";
import { ARCHIVE_READ_BYTES } from "../base/limits.ts";
import type { Logger } from "../base/logger.ts";
import type { Pacer } from "../base/pacer.ts";
import { isNoSpace } from "../log/disk.ts";
import { encodeTrim } from "../machine/stream/commands.ts";
import type { StreamMachine } from "../machine/stream/stream.ts";
import { ENTRY_COMMAND } from "../raft/types.ts";
import type { ReplicaHost } from "../replica/host.ts";
import type { Replica } from "../replica/replica.ts";
import type { Led } from "./retention.ts";
import { StreamReader } from "./stream-reader.ts";

/** Between two warnings of the same. */
const WARN_MS = 60_000;
const WHAT_TO_DO =
  "move files of the folder archive in the node's data to another disk, or have the topic's records deleted (--retention-policy delete)";

export type ArchiverComponents = {
  readonly host: ReplicaHost;
  readonly archive: Archive;
  /** Bytes after which a file ends, about; a single batch may go beyond. */
  readonly fileBytesMax: number;
  readonly pacer: Pacer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly fatal: (error: Error) => void;
};
export type ArchiverCounts = { readonly files: number; readonly bytes: number; readonly waiting: number };

type Job = Led & { readonly target: number };

export class Archiver {
  private readonly components: ArchiverComponents;
  private readonly reader: StreamReader;
  /** In the order in which it is their turn. */
  private jobs = new Map<GroupId, Job>();
  /** Wanted in the round that goes on. */
  private wanted = new Set<GroupId>();
  private working: Promise<void> | null = null;
  private stopped = false;
  private files = 0;
  private bytes = 0;
  /** Partitions of which nothing could be archived when it was tried last. */
  private stuck = new Set<GroupId>();
  private warnedMs = Number.NEGATIVE_INFINITY;

  constructor(components: ArchiverComponents) {
    this.components = components;
    this.reader = new StreamReader(components.host, components.pacer);
  }

  /** `waiting`: partitions whose trim waits because nothing can be archived. */
  get counts(): ArchiverCounts {
    return { files: this.files, bytes: this.bytes, waiting: this.stuck.size };
  }

  /** Partitions that are not wanted again in this round are none of this node's business any more. */
  round(): void {
    this.wanted = new Set();
  }

  /** The partition's records below `target` are to be archived and trimmed. */
  want(led: Led, target: number): void {
    this.wanted.add(led.group);
    this.jobs.set(led.group, { ...led, target });
  }

  /** Does what is wanted, unless it is at it. */
  work(): void {
    for (const group of this.jobs.keys()) if (!this.wanted.has(group)) this.jobs.delete(group);
    for (const group of this.stuck) if (!this.wanted.has(group)) this.stuck.delete(group);
    if (this.jobs.size === 0 || this.stopped) return;
    this.working ??= this.workThrough()
      .catch((error: unknown) => this.components.fatal(error as Error))
      .finally(() => (this.working = null));
  }

  /** Resolves when no file is touched any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.working;
  }

  private async workThrough(): Promise<void> {
    const failed = new Set<GroupId>();
    for (let job = this.next(failed); job !== undefined && !this.stopped; job = this.next(failed)) {
      try {
        if (!(await this.archive(job))) {
          this.waits("the disk is nearly full", job, [...this.jobs.keys()]);
          return;
        }
        this.stuck.delete(job.group);
      } catch (error) {
        const isOfPartition = error instanceof BrokerError;
        // Neither the partition's fault nor the disk's: a bug.
        if (!isOfPartition && (error as NodeJS.ErrnoException).code === undefined) throw error;
        // The records are in the log as before: the next round begins the file anew.
        this.waits(
          isNoSpace(error) ? "the disk is full" : (error as Error).message,
          job,
          isOfPartition ? [job.group] : [...this.jobs.keys()],
        );
        if (!isOfPartition) return;
        failed.add(job.group);
      }
    }
  }

  private next(failed: ReadonlySet<GroupId>): Job | undefined {
    for (const job of this.jobs.values()) if (!failed.has(job.group)) return job;
    return undefined;
  }

  private waits(reason: string, { topic, partition }: Job, stuck: readonly GroupId[]): void {
    const { clock, logger } = this.components;
    for (const group of stuck) this.stuck.add(group);
    if (clock.monotonicMs() - this.warnedMs < WARN_MS) return;
    this.warnedMs = clock.monotonicMs();
    const where = { vhost: topic.vhost, topic: topic.name, partition };
    logger.warn({ reason, ...where, partitions: stuck.length, advice: WHAT_TO_DO }, "records cannot be archived, so they are not trimmed");
  }

  /** One file of the partition, which then goes to the end of the queue if more is to go. False: there is no room. */
  private async archive(job: Job): Promise<boolean> {
    const { host, archive } = this.components;
    const { group, topic, partition, target } = job;
    const replica = host.get(group);
    const first = replica === undefined ? 0 : (replica.machine as StreamMachine).startOffset;
    if (replica === undefined || !replica.isLeader || first >= target) {
      this.jobs.delete(group);
      return true;
    }
    const file = await archive.begin({ vhost: topic.vhost, topic: topic.name, partition, group }, first);
    if (file === null) return false;
    let end: number;
    try {
      end = await this.fill(file, replica, first, target);
      if (end < 0) await file.abandon();
      else await file.finish(end);
    } catch (error) {
      await file.abandon();
      throw error;
    }
    this.jobs.delete(group);
    if (end < 0) return true;
    this.files += 1;
    this.bytes += file.bytes;
    const trimTo = Math.min(end, target);
    await new Promise<void>((resolve) => host.propose(group, ENTRY_COMMAND, encodeTrim(trimTo), () => resolve()));
    // It may be wanted anew by now, further than before.
    if (trimTo < target && !this.jobs.has(group)) this.jobs.set(group, job);
    return true;
  }

  /** Where the file ends; -1: somebody else leads by now, or has trimmed it. */
  private async fill(file: ArchiveFile, replica: Replica, first: number, target: number): Promise<number> {
    const { fileBytesMax } = this.components;
    let at = first;
    while (at < target && file.bytes < fileBytesMax) {
      if (this.stopped || !replica.isLeader) return -1;
      const batches = await this.reader.read(replica, at, target, Math.min(ARCHIVE_READ_BYTES, fileBytesMax - file.bytes));
      const last = batches.at(-1);
      if (last === undefined) return -1;
      await file.add(batches);
      at = last.baseOffset + last.count;
    }
    return at;
  }
}
