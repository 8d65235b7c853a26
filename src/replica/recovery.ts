// Who is brought up to date next, and how fast. Everything that a lagging node is sent from disk, old entries and
// snapshots alike, asks here for each piece: few groups at a time per node, the catalog before all others, those with
// little to fetch before those with much, learners last; so many bytes under way per node that lags, confirmed by it
// once it has them on disk; and a rate that leaves the live load its share.
//
//   job -> wants -> (a place among the groups, credit, tokens) -> send -> sized -> ... answered -> wants -> ... leave

import { assert } from "../base/assert.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { NodeId } from "../base/ids.ts";
import {
  RECOVERY_BYTES_MAX,
  RECOVERY_GROUPS_MAX,
  RECOVERY_PIECE_BYTES,
  RECOVERY_TARGET_BYTES_MAX,
  SNAPSHOTS_SENDING_MAX,
} from "../base/limits.ts";
import { TokenBucket } from "./token-bucket.ts";

/** An active group of which nothing was heard for so long begins anew: an answer was lost, or the other disk hangs. */
const ANSWER_MS = 10_000;

export interface RecoveryJob {
  readonly node: NodeId;
  /** The smallest is served first. */
  readonly rank: number;
  /** Has a place of its own. */
  readonly isCatalog: boolean;
  readonly isSnapshot: boolean;
  /** Sends one piece of about RECOVERY_PIECE_BYTES, now or after a read; tells the slot its size, 0 if there was none. */
  send(): void;
  /** What was sent and not confirmed is to be taken as lost; `isUp`: what is sent again may arrive. */
  lost(isUp: boolean): void;
}

type Target = {
  /** There is a bulk lane. */
  isUp: boolean;
  /** In turn. */
  active: RecoverySlot[];
  /** By rank. */
  waiting: RecoverySlot[];
  /** Read for this node, or about to be, and not confirmed. */
  bytes: number;
};

export type RecoveryComponents = { readonly clock: Clock };

export class Recovery {
  private readonly clock: Clock;
  private readonly targets = new Map<NodeId, Target>();
  private readonly bucket: TokenBucket;
  private bytes = 0;
  /** Since the start. */
  bytesSent = 0;
  private timer: Timer | null = null;
  private isPumping = false;
  private mustPumpAgain = false;

  /** `bytesPerSecond`: how much faster than new entries come lagging nodes are sent old ones; 0 = as fast as they take it. */
  constructor(bytesPerSecond: number, components: RecoveryComponents) {
    this.clock = components.clock;
    const burstBytes = Math.min(RECOVERY_TARGET_BYTES_MAX, Math.max(RECOVERY_PIECE_BYTES, bytesPerSecond / 4));
    this.bucket = new TokenBucket(bytesPerSecond, burstBytes, this.clock.monotonicMs());
  }

  /** Lines up; `job.send` is called when it may send its first piece. */
  enter(job: RecoveryJob): RecoverySlot {
    const { waiting } = this.targetOf(job.node);
    const slot = new RecoverySlot(this, job);
    let at = waiting.length;
    while (at > 0 && waiting[at - 1]!.job.rank > job.rank) at -= 1;
    waiting.splice(at, 0, slot);
    return slot;
  }

  /** A new bulk lane: whatever was on the old one and is not confirmed may be lost. */
  laneUp(node: NodeId): void {
    const target = this.targetOf(node);
    target.isUp = true;
    for (const { job } of [...target.active]) job.lost(true);
    this.pump();
  }

  nodeDown(node: NodeId): void {
    const target = this.targets.get(node);
    if (target === undefined) return;
    target.isUp = false;
    for (const { job } of [...target.active, ...target.waiting]) job.lost(false);
  }

  /** New entries came in here: a node that lags has so much more to fetch, and may fetch it, or it would never be done. */
  earned(bytes: number): void {
    let lagging = 0;
    for (const { active } of this.targets.values()) if (active.length > 0) lagging += 1;
    if (lagging > 0) this.bucket.add(lagging * bytes);
  }

  /** Groups of which `node` is sent old entries or a snapshot, or will be. */
  groupsOf(node: NodeId): number {
    const target = this.targets.get(node);
    return target === undefined ? 0 : target.active.length + target.waiting.length;
  }

  /** Nodes with such groups. */
  nodes(): NodeId[] {
    return [...this.targets.keys()].filter((node) => this.groupsOf(node) > 0);
  }

  /** Bytes read, or about to be, and not confirmed. Invariant: the sum over all slots. */
  get bytesUnderWay(): number {
    return this.bytes;
  }

  /** Ends the wait of those who will not be answered. Call it every tick. */
  tick(): void {
    const now = this.clock.monotonicMs();
    for (const { active } of this.targets.values()) {
      if (active.length === 0) continue;
      for (const slot of [...active]) if (!slot.isWanting && now - slot.heardMs > ANSWER_MS) slot.job.lost(true);
    }
  }

  stop(): void {
    this.timer?.cancel();
    for (const target of this.targets.values()) target.isUp = false;
  }

  /** Gives out pieces as long as there are credit and tokens, one per node in turn. */
  pump(): void {
    if (this.isPumping) {
      this.mustPumpAgain = true;
      return;
    }
    this.isPumping = true;
    do {
      this.mustPumpAgain = false;
      for (const target of this.targets.values()) if (target.isUp && this.give(target)) this.mustPumpAgain = true;
    } while (this.mustPumpAgain);
    this.isPumping = false;
  }

  /** For the slots. */
  account(slot: RecoverySlot, bytes: number): void {
    this.targetOf(slot.job.node).bytes += bytes;
    this.bytes += bytes;
    assert(this.bytes >= 0, "only what was given out comes back");
  }

  /** For the slots: more, or less, was sent than the piece that was given out. */
  charge(bytes: number): void {
    this.bucket.take(bytes);
    this.bytesSent += RECOVERY_PIECE_BYTES + bytes;
  }

  /** For the slots. */
  remove(slot: RecoverySlot): void {
    const target = this.targetOf(slot.job.node);
    target.active = target.active.filter((other) => other !== slot);
    target.waiting = target.waiting.filter((other) => other !== slot);
  }

  /** One piece for one of the node's groups. False when nobody wants one or none may be given. */
  private give(target: Target): boolean {
    this.admit(target);
    const at = target.active.findIndex(({ isWanting }) => isWanting);
    if (at < 0) return false;
    if (target.bytes > 0 && target.bytes + RECOVERY_PIECE_BYTES > RECOVERY_TARGET_BYTES_MAX) return false;
    if (this.bytes > 0 && this.bytes + RECOVERY_PIECE_BYTES > RECOVERY_BYTES_MAX) return false;
    const wait = this.bucket.waitMs(this.clock.monotonicMs());
    if (wait > 0) {
      this.pumpLater(wait);
      return false;
    }
    const [slot] = target.active.splice(at, 1);
    target.active.push(slot!);
    this.bucket.take(RECOVERY_PIECE_BYTES);
    slot!.given(this.clock.monotonicMs());
    return true;
  }

  private admit(target: Target): void {
    for (let at = 0; at < target.waiting.length;) {
      const slot = target.waiting[at]!;
      if (!this.hasPlace(target, slot.job)) {
        // Behind a snapshot that has to wait entries may go on; behind a full house nobody.
        if (!slot.job.isSnapshot || placesTaken(target) >= RECOVERY_GROUPS_MAX) return;
        at += 1;
        continue;
      }
      target.waiting.splice(at, 1);
      target.active.push(slot);
      slot.heardMs = this.clock.monotonicMs();
    }
  }

  private hasPlace(target: Target, job: RecoveryJob): boolean {
    if (job.isCatalog) return true;
    if (placesTaken(target) >= RECOVERY_GROUPS_MAX) return false;
    return !job.isSnapshot || (!target.active.some(isSnapshot) && this.snapshotsActive() < SNAPSHOTS_SENDING_MAX);
  }

  private snapshotsActive(): number {
    let count = 0;
    for (const { active } of this.targets.values()) count += active.filter(isSnapshot).length;
    return count;
  }

  private pumpLater(delayMs: number): void {
    if (this.timer !== null) return;
    this.timer = this.clock.schedule(delayMs, () => {
      this.timer = null;
      this.pump();
    });
  }

  private targetOf(node: NodeId): Target {
    let target = this.targets.get(node);
    if (target === undefined) {
      target = { isUp: false, active: [], waiting: [], bytes: 0 };
      this.targets.set(node, target);
    }
    return target;
  }
}

/** One job's place and its account. */
export class RecoverySlot {
  readonly job: RecoveryJob;
  /** The job has something to send and was not yet told to. */
  isWanting = false;
  /** When the job last got something: a piece to send, or an answer. */
  heardMs = 0;
  private readonly recovery: Recovery;
  /** Given out for a piece that is still being read. */
  private reserved = 0;
  private unconfirmed = 0;
  private isOver = false;

  constructor(recovery: Recovery, job: RecoveryJob) {
    this.recovery = recovery;
    this.job = job;
  }

  /** There is a piece to send. */
  wants(): void {
    if (this.isOver || this.isWanting) return;
    this.isWanting = true;
    this.recovery.pump();
  }

  /** For the scheduler. */
  given(nowMs: number): void {
    assert(this.isWanting && this.reserved === 0, "one piece at a time");
    this.isWanting = false;
    this.heardMs = nowMs;
    this.reserved = RECOVERY_PIECE_BYTES;
    this.recovery.account(this, this.reserved);
    this.job.send();
  }

  /** How large the piece became that the job was told to send, and what it holds in memory. */
  sized(bytes: number, heldBytes = bytes): void {
    if (this.isOver || this.reserved === 0) return;
    this.recovery.account(this, heldBytes - this.reserved);
    this.recovery.charge(bytes - this.reserved);
    this.reserved = 0;
    this.unconfirmed += heldBytes;
    if (heldBytes < RECOVERY_PIECE_BYTES) this.recovery.pump();
  }

  /** The other node has so much more of it, as it was held here. */
  answered(bytes: number, nowMs: number): void {
    if (this.isOver) return;
    const freed = Math.min(bytes, this.unconfirmed);
    this.unconfirmed -= freed;
    this.heardMs = nowMs;
    this.recovery.account(this, -freed);
    this.recovery.pump();
  }

  /** What is under way no longer counts: it is lost or will be sent again. */
  forgive(nowMs: number): void {
    this.answered(this.unconfirmed, nowMs);
  }

  leave(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.isWanting = false;
    this.recovery.account(this, -this.reserved - this.unconfirmed);
    this.recovery.remove(this);
    this.recovery.pump();
  }
}

function isSnapshot(slot: RecoverySlot): boolean {
  return slot.job.isSnapshot;
}

function placesTaken(target: Target): number {
  let count = 0;
  for (const { job } of target.active) if (!job.isCatalog) count += 1;
  return count;
}
