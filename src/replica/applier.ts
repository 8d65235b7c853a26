// Applies committed entries to the machines and runs their effects. One object serves all replicas of the node: it is
// the Effects that a machine sees, pointed at one entry at a time.

import { assert, unreachable } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { SharedLog } from "../log/types.ts";
import type { ApplyMeta, Delivery, Effects, Revocation } from "../machine/machine.ts";
import { decodeChange } from "../raft/configuration-codec.ts";
import { ENTRY_COMMAND, ENTRY_CONFIGURATION, ENTRY_NOOP, ENTRY_RECORDS, ENTRY_VERSION, type Entry } from "../raft/types.ts";
import type { Replica } from "./replica.ts";
import { decodeVersion, ReleaseTooOldError } from "./rules.ts";
import type { CommitTimer } from "./timings.ts";
import type { HostEvents, ProposeDone, WorkNews } from "./types.ts";

/** Payload bytes of one read when the machine is behind the cache: after a restart, mostly. */
const READ_BYTES = 1024 * 1024;
/** Entries between two looks at the clock. A command of the catalog can touch every partition of a topic. */
const STRIDE = 16;
const STRIDE_CATALOG = 1;

export type ApplierComponents = {
  readonly clock: Clock;
  readonly logOf: (replica: Replica) => SharedLog;
  readonly events: HostEvents;
  /** A committed entry cannot be read. */
  readonly damaged: (replica: Replica, reason: string) => void;
  /** More is to be applied, or the core has news: run another turn. */
  readonly touched: (replica: Replica) => void;
  readonly commits: CommitTimer;
  /** The replica has applied what it was asked about; it may be closed when this returns. */
  readonly reached: (replica: Replica) => void;
};

export class Applier implements Effects {
  private readonly components: ApplierComponents;
  private readonly meta: ApplyMeta = { index: 0, term: 0, timeMs: 0 };
  private done: ProposeDone | null = null;
  private replica: Replica | null = null;
  /** What the machine answered to the entry. */
  private code = 0;
  private value = 0;
  private endOffset = -1;
  private catalogChanged = false;
  private work: WorkNews | null = null;
  /** An entry came that this release cannot apply. */
  private isStopped = false;

  constructor(components: ApplierComponents) {
    this.components = components;
  }

  /** Applies what is committed, at least a little, until `deadlineMs`. */
  run(replica: Replica, deadlineMs: number): void {
    if (replica.reading || replica.closed || this.isStopped) return;
    const { clock, events } = this.components;
    const stride = replica.descriptor.kind === "catalog" ? STRIDE_CATALOG : STRIDE;
    this.replica = replica;
    this.endOffset = -1;
    this.catalogChanged = false;
    this.work = null;
    let count = 0;
    while (replica.applied < replica.committedTo && !replica.closed) {
      const entry = replica.fromDisk.take(replica.applied + 1) ?? replica.cache.get(replica.applied + 1);
      if (entry === undefined) {
        this.read(replica);
        break;
      }
      if (this.isTooOldFor(replica, entry)) return;
      this.apply(replica, entry);
      count += 1;
      if (count % stride === 0 && clock.monotonicMs() > deadlineMs) break;
    }
    if (!replica.closed) this.applied(replica, events);
  }

  reply(code: number, value: number, detail: Uint8Array | null): void {
    this.code = code;
    this.value = value;
    const done = this.done;
    this.done = null;
    done?.(code, value, detail);
  }

  advanced(endOffset: number): void {
    this.endOffset = endOffset;
  }

  releaseTo(index: number): void {
    const replica = this.replica!;
    if (index > replica.releaseTo) replica.releaseTo = index;
  }

  changed(): void {
    this.catalogChanged = true;
  }

  delivered(subscription: string, delivery: Delivery): void {
    if (this.replica!.isLeader) this.news().deliveries.push({ subscription, ...delivery });
  }

  revoked(subscription: string, revocation: Revocation): void {
    if (this.replica!.isLeader) this.news().revokes.push({ subscription, ...revocation });
  }

  due(atMs: number): void {
    if (this.replica!.isLeader) this.news().dueMs = atMs;
  }

  private news(): WorkNews {
    return (this.work ??= { dueMs: -1, deliveries: [], revokes: [] });
  }

  private applied(replica: Replica, events: HostEvents): void {
    const { clock, commits } = this.components;
    replica.raft.appliedTo(replica.applied);
    commits.applied(replica, () => clock.monotonicMs());
    if (replica.raft.hasReady()) this.components.touched(replica);
    replica.serveReads();
    if (this.endOffset >= 0) events.advanced(replica.group, this.endOffset);
    if (this.work !== null) events.worked(replica.group, this.work);
    if (this.catalogChanged) events.catalogChanged();
  }

  private apply(replica: Replica, entry: Entry): void {
    assert(entry.index === replica.applied + 1, "entries are applied in order, each once");
    if (entry.timestampMs > replica.timeMs) replica.timeMs = entry.timestampMs;
    this.done = replica.pending.size > 0 ? replica.pending.take(entry.index) : null;
    this.code = 0;
    this.value = 0;
    switch (entry.kind) {
      case ENTRY_NOOP:
        break;
      case ENTRY_RECORDS:
      case ENTRY_COMMAND:
        this.meta.index = entry.index;
        this.meta.term = entry.term;
        this.meta.timeMs = replica.timeMs;
        replica.machine.apply(this.meta, entry.kind, entry.payload, this);
        break;
      case ENTRY_CONFIGURATION:
        replica.configuration = replica.raft.applyChange(decodeChange(entry.payload));
        break;
      case ENTRY_VERSION:
        // Two leaders may have proposed the same.
        if (decodeVersion(entry.payload) > replica.machine.version) replica.machine.useVersion(decodeVersion(entry.payload));
        break;
      default:
        unreachable(entry.kind, "entry kind");
    }
    replica.applied = entry.index;
    replica.appliedTerm = entry.term;
    replica.digest.add(entry, this.code, this.value);
    replica.appliedEntriesSinceCheckpoint += 1;
    replica.appliedBytesSinceCheckpoint += entry.payload.length;
    if (this.done !== null) this.reply(0, 0, null);
    if (entry.index === replica.askedAt) this.components.reached(replica);
  }

  /** By the rules that this release knows it would come to another state than the others: it ends. */
  private isTooOldFor(replica: Replica, entry: Entry): boolean {
    if (entry.kind !== ENTRY_VERSION) return false;
    const { newestVersion } = replica.machine;
    const version = decodeVersion(entry.payload);
    if (version <= newestVersion) return false;
    this.isStopped = true;
    this.components.events.fatal(new ReleaseTooOldError(replica.group, version, newestVersion));
    return true;
  }

  /** Reads the next entries from disk; they are applied in the turns that follow, without going through the cache. */
  private read(replica: Replica): void {
    replica.reading = true;
    const first = replica.applied + 1;
    this.components.logOf(replica).read(replica.group, first, replica.committedTo, READ_BYTES, (error, entries) => {
      replica.reading = false;
      if (replica.closed) return;
      if (error !== null) {
        // The same entries may have been replaced by a snapshot while they were read.
        if (replica.applied + 1 === first) this.components.damaged(replica, `entry ${first} is committed: ${error.message}`);
        else this.components.touched(replica);
        return;
      }
      // A snapshot may have arrived meanwhile; then these entries are history.
      if (replica.applied + 1 === first) replica.fromDisk.put(entries);
      this.components.touched(replica);
    });
  }
}
